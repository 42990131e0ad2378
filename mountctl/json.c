#include "mountctl/json.h"

#include <ctype.h>
#include <errno.h>

#include "mountctl/text.h"
#include "util/utf8.h"

static const char *skip_space(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at;
}

/* The skip functions return the place behind what starts at `at`, or NULL. */
static const char *skip_string(const char *at, const char *end)
{
	for (at++; at < end; at++) {
		if (*at == '"')
			return at + 1;
		if (*at == '\\' && at + 1 < end)
			at++;
	}
	return NULL;
}

static const char *skip_scalar(const char *at, const char *end)
{
	const char *start = at;

	while (at < end &&
	       (isalnum((unsigned char)*at) || (*at != '\0' && strchr("+-.", *at))))
		at++;
	return at > start ? at : NULL;
}

static const char *skip_container(const char *at, const char *end)
{
	size_t depth = 0;

	while (at && at < end) {
		if (*at == '"') {
			at = skip_string(at, end);
			continue;
		}
		if (*at == '{' || *at == '[')
			depth++;
		else if ((*at == '}' || *at == ']') && --depth == 0)
			return at + 1;
		at++;
	}
	return NULL;
}

static const char *skip_value(const char *at, const char *end)
{
	if (at >= end)
		return NULL;
	if (*at == '{' || *at == '[')
		return skip_container(at, end);
	if (*at == '"')
		return skip_string(at, end);
	return skip_scalar(at, end);
}

int json_parse(const char *text, size_t len, struct json *value)
{
	const char *end = text + len;
	const char *start = skip_space(text, end);
	const char *behind = skip_value(start, end);

	if (!behind || skip_space(behind, end) != end)
		return -EBADMSG;
	*value = (struct json){ .at = start, .len = (size_t)(behind - start) };
	return 0;
}

enum json_type json_type(struct json value)
{
	if (!value.at)
		return JSON_NONE;
	switch (*value.at) {
	case '{':
		return JSON_OBJECT;
	case '[':
		return JSON_ARRAY;
	case '"':
		return JSON_STRING;
	default:
		return isalpha((unsigned char)*value.at) ? JSON_LITERAL : JSON_NUMBER;
	}
}

struct json_iter json_iter(struct json container)
{
	enum json_type type = json_type(container);

	if (type != JSON_OBJECT && type != JSON_ARRAY)
		return (struct json_iter){ 0 };
	return (struct json_iter){
		.at = container.at + 1,
		.end = container.at + container.len - 1,
		.in_object = type == JSON_OBJECT,
	};
}

static const char *take_value(const char *at, const char *end, struct json *value)
{
	const char *behind = skip_value(at, end);

	if (behind)
		*value = (struct json){ .at = at, .len = (size_t)(behind - at) };
	return behind;
}

bool json_next(struct json_iter *iter, struct json *key, struct json *value)
{
	const char *at = skip_space(iter->at, iter->end);
	const char *end = iter->end;
	struct json name = { 0 };

	iter->at = end;
	if (iter->in_object) {
		at = take_value(at, end, &name);
		at = at ? skip_space(at, end) : end;
		if (json_type(name) != JSON_STRING || at == end || *at != ':')
			return false;
		at = skip_space(at + 1, end);
	}
	at = take_value(at, end, value);
	if (!at)
		return false;
	if (key)
		*key = name;
	at = skip_space(at, end);
	if (at < end && *at == ',')
		iter->at = at + 1;
	return true;
}

struct json json_get(struct json object, const char *name)
{
	struct json_iter iter = json_iter(object);
	struct json key;
	struct json value;

	while (iter.in_object && json_next(&iter, &key, &value))
		if (json_equals(key, name))
			return value;
	return (struct json){ 0 };
}

uint64_t json_count(struct json container)
{
	struct json_iter iter = json_iter(container);
	struct json value;
	uint64_t count = 0;

	while (json_next(&iter, NULL, &value))
		count++;
	return count;
}

uint64_t json_u64(struct json value)
{
	uint64_t number = 0;

	for (size_t i = 0; i < value.len; i++)
		if (!isdigit((unsigned char)value.at[i]) ||
		    __builtin_mul_overflow(number, 10u, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(value.at[i] - '0'),
					   &number))
			return 0;
	return number;
}

double json_double(struct json value)
{
	char text[64];

	if (json_type(value) != JSON_NUMBER || value.len >= sizeof(text))
		return 0;
	memcpy(text, value.at, value.len);
	text[value.len] = '\0';
	return strtod(text, NULL);
}

bool json_is_true(struct json value)
{
	return value.len == 4 && memcmp(value.at, "true", 4) == 0;
}

/* The value of a hexadecimal digit, or -1. */
static int hex_value(char c)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	const char *digit = c ? strchr(digits, c) : NULL;

	return digit ? (int)((digit - digits) % 16) : -1;
}

/* Reads the four digits of \uXXXX; false if they are not there. */
static bool take_hex4(const char **at, const char *end, uint32_t *code)
{
	*code = 0;
	if (end - *at < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		int digit = hex_value((*at)[i]);

		if (digit < 0)
			return false;
		*code = *code << 4 | (uint32_t)digit;
	}
	*at += 4;
	return true;
}

static bool take_low_surrogate(const char **at, const char *end, uint32_t *code)
{
	const char *low_at = *at + 2;
	uint32_t low;

	if (end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u' ||
	    !take_hex4(&low_at, end, &low) || low < 0xdc00 || low > 0xdfff)
		return false;
	*code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
	*at = low_at;
	return true;
}

static const char *add_unicode_escape(struct strbuf *out, const char *at, const char *end)
{
	char utf8[4];
	uint32_t code;

	if (!take_hex4(&at, end, &code))
		return end;
	if (code >= 0xdc80 && code <= 0xdcff) {
		strbuf_add_char(out, (char)(code - 0xdc00));
		return at;
	}
	if (code >= 0xd800 && code <= 0xdfff &&
	    (code >= 0xdc00 || !take_low_surrogate(&at, end, &code)))
		code = 0xfffd;
	strbuf_add(out, utf8, utf8_encode(code, utf8));
	return at;
}

static const char *add_escape(struct strbuf *out, const char *at, const char *end)
{
	static const char letters[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	const char *letter;

	if (at >= end)
		return end;
	if (*at == 'u')
		return add_unicode_escape(out, at + 1, end);
	letter = *at != '\0' ? strchr(letters, *at) : NULL;
	strbuf_add(out, letter ? &meanings[letter - letters] : at, 1);
	return at + 1;
}

void json_add_string(struct strbuf *out, struct json string)
{
	const char *at;
	const char *end;

	if (json_type(string) != JSON_STRING || string.len < 2)
		return;
	at = string.at + 1;
	end = string.at + string.len - 1;
	while (at < end) {
		const char *escape = memchr(at, '\\', (size_t)(end - at));
		const char *run_end = escape ? escape : end;

		strbuf_add(out, at, (size_t)(run_end - at));
		at = escape ? add_escape(out, escape + 1, end) : end;
	}
}

char *json_dup_printable(struct json string)
{
	CLEANUP(strbuf_fini) struct strbuf decoded = { 0 };
	struct strbuf printable = { 0 };

	json_add_string(&decoded, string);
	strbuf_add(&printable, "", 0);
	text_escape(&printable, decoded.data, decoded.len);
	if (decoded.err)
		printable.err = decoded.err;
	return strbuf_steal(&printable);
}

bool json_equals(struct json string, const char *text)
{
	size_t len = strlen(text);

	return json_type(string) == JSON_STRING && string.len == len + 2 &&
	       memcmp(string.at + 1, text, len) == 0;
}
