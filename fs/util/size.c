#include "util/size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <strings.h>

static const char units[] = "KMGTPE";

/* What may stand behind the digits: nothing, or a unit, or a unit and "B" or "iB". */
static int parse_unit(const char *text, unsigned int *shift)
{
	const char *unit;

	*shift = 0;
	if (*text == '\0' || strcasecmp(text, "B") == 0)
		return 0;
	unit = strchr(units, *text >= 'a' ? *text - 'a' + 'A' : *text);
	if (!unit)
		return -EINVAL;
	*shift = 10 * ((unsigned int)(unit - units) + 1);
	text++;
	if (*text != '\0' && strcasecmp(text, "B") != 0 && strcasecmp(text, "iB") != 0)
		return -EINVAL;
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

int size_parse(const char *text, uint64_t *bytes)
{
	uint64_t value = 0;
	unsigned int shift;
	int r;

	if (!is_digit(*text))
		return -EINVAL;
	for (; is_digit(*text); text++)
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return -ERANGE;
	r = parse_unit(text, &shift);
	if (r < 0)
		return r;
	if (value > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	*bytes = value << shift;
	return 0;
}

const char *size_format(uint64_t bytes, char text[static SIZE_TEXT_MAX])
{
	double value = (double)bytes;
	int unit = -1;

	/* What would be rounded to 1024.0 is one of the next unit. */
	while (value >= (unit < 0 ? 1024 : 1023.95) && units[unit + 1] != '\0') {
		value /= 1024;
		unit++;
	}
	if (unit < 0)
		(void)snprintf(text, SIZE_TEXT_MAX, "%u B", (unsigned int)bytes);
	else
		(void)snprintf(text, SIZE_TEXT_MAX, "%.1f %ciB", value, units[unit]);
	return text;
}
