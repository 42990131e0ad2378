#include "parsers/shard_name.h"

#include <stdio.h>

/* "-00002-of-00005": two numbers of five digits. */
#define DIGITS     5u
#define NUMBER_LEN (1 + DIGITS + 4 + DIGITS)

static bool read_digits(const char *text, uint32_t *value)
{
	uint32_t v = 0;

	for (unsigned int i = 0; i < DIGITS; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		v = v * 10 + (uint32_t)(text[i] - '0');
	}
	*value = v;
	return true;
}

/* Reads the number that stands at `text`, which has at least NUMBER_LEN bytes. */
static bool read_number(const char *text, struct shard_name *parsed)
{
	return text[0] == '-' && read_digits(text + 1, &parsed->number) &&
	       memcmp(text + 1 + DIGITS, "-of-", 4) == 0 &&
	       read_digits(text + 1 + DIGITS + 4, &parsed->count) &&
	       parsed->number >= 1 && parsed->number <= parsed->count &&
	       (text[NUMBER_LEN] == '.' || text[NUMBER_LEN] == '\0');
}

bool shard_name_parse(const char *name, struct shard_name *parsed)
{
	size_t len = strlen(name);

	for (size_t at = len < NUMBER_LEN ? 0 : len - NUMBER_LEN + 1; at-- > 0;) {
		struct shard_name found = { .stem_len = at,
					    .suffix = name + at + NUMBER_LEN };

		if (read_number(name + at, &found)) {
			*parsed = found;
			return true;
		}
	}
	return false;
}

char *shard_name_make(const char *name, const struct shard_name *parsed, uint32_t number)
{
	char *made;

	return asprintf(&made, "%.*s-%05u-of-%05u%s", (int)parsed->stem_len, name, number,
			parsed->count, parsed->suffix) < 0
		       ? NULL
		       : made;
}

bool shard_name_same_set(const char *a, const struct shard_name *a_parsed, const char *b,
			 const struct shard_name *b_parsed)
{
	return a_parsed->stem_len == b_parsed->stem_len &&
	       a_parsed->count == b_parsed->count &&
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
