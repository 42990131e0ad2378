#include "parsers/shard_name.h"

#include <stdio.h>
#include <string.h>

/* Most writers have five digits, the largest published models have one to six. */
#define MOST_DIGITS 8u

static const char of[] = "-of-";

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads the digits at `text`, as many as there are; false for none or too many. */
static bool read_digits(const char *text, uint32_t *value, uint8_t *digits)
{
	uint32_t v = 0;
	uint8_t n = 0;

	while (n < MOST_DIGITS && is_digit(text[n]))
		v = v * 10 + (uint32_t)(text[n++] - '0');
	*value = v;
	*digits = n;
	return n > 0 && !is_digit(text[n]);
}

/* Reads the number around the "-of-" at `at` bytes of the name. */
static bool read_number(const char *name, size_t at, struct shard_name *parsed)
{
	const char *count = name + at + strlen(of);
	size_t start = at;

	while (start > 0 && is_digit(name[start - 1]))
		start--;
	if (start == 0 || name[start - 1] != '-' ||
	    !read_digits(name + start, &parsed->number, &parsed->number_digits) ||
	    !read_digits(count, &parsed->count, &parsed->count_digits))
		return false;
	parsed->stem_len = start - 1;
	parsed->suffix = count + parsed->count_digits;
	return parsed->number >= 1 && parsed->number <= parsed->count &&
	       (*parsed->suffix == '.' || *parsed->suffix == '\0');
}

bool shard_name_parse(const char *name, struct shard_name *parsed)
{
	for (size_t at = strlen(name); at-- > 0;) {
		struct shard_name found;

		if (strncmp(name + at, of, strlen(of)) == 0 &&
		    read_number(name, at, &found)) {
			*parsed = found;
			return true;
		}
	}
	return false;
}

char *shard_name_make(const char *name, const struct shard_name *parsed, uint32_t number)
{
	char *made;

	return asprintf(&made, "%.*s-%0*u-of-%0*u%s", (int)parsed->stem_len, name,
			parsed->number_digits, number, parsed->count_digits,
			parsed->count, parsed->suffix) < 0
		       ? NULL
		       : made;
}

bool shard_name_same_set(const char *a, const struct shard_name *a_parsed, const char *b,
			 const struct shard_name *b_parsed)
{
	return a_parsed->stem_len == b_parsed->stem_len &&
	       a_parsed->count == b_parsed->count &&
	       a_parsed->count_digits == b_parsed->count_digits &&
	       memcmp(a, b, a_parsed->stem_len) == 0 &&
	       strcmp(a_parsed->suffix, b_parsed->suffix) == 0;
}

size_t shard_name_index_len(const char *name)
{
	static const char index[] = ".index.";
	static const char json[] = "json";
	const char *last = strrchr(name, '.');
	const char *at = strstr(name, index);
	const char *next;
	const char *variant;

	while (at && (next = strstr(at + 1, index)))
		at = next;
	if (!at || at == name || strcmp(last + 1, json) != 0)
		return 0;
	variant = at + strlen(index);
	/* "json" itself, or "fp16.json" with one dot. */
	return variant == last + 1 || (variant < last &&
				       !memchr(variant, '.', (size_t)(last - variant)))
		       ? (size_t)(at - name)
		       : 0;
}
