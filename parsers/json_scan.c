#include "parsers/json_scan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "util/utf8.h"

void json_scan_init(struct json_scan *s, const void *text, size_t len, const char *what,
		    uint64_t file_pos, struct diag *diag)
{
	*s = (struct json_scan){
		.text = text, .len = len, .what = what, .file_pos = file_pos, .diag = diag
	};
}

void json_scan_fini(struct json_scan *s)
{
	arena_fini(&s->decoded);
}

/* ---- Errors ---- */

static int fail_at(struct json_scan *s, size_t pos, const char *why)
{
	return diag_fail(s->diag, -EBADMSG, "%s at byte %" PRIu64 ": %s", s->what,
			 s->file_pos + pos, why);
}

static int fail_memory(struct json_scan *s)
{
	return diag_fail(s->diag, -ENOMEM, "out of memory");
}

/* The byte at the position is not what the grammar wants there. */
static int fail_expected(struct json_scan *s, const char *expected)
{
	char found[32];
	unsigned char c;

	if (s->pos == s->len) {
		(void)snprintf(found, sizeof(found), "the end of the %s", s->what);
	} else {
		c = (unsigned char)s->text[s->pos];
		(void)snprintf(found, sizeof(found),
			       c > 0x20 && c < 0x7f ? "'%c'" : "byte 0x%02x", c);
	}
	return diag_fail(s->diag, -EBADMSG,
			 "%s at byte %" PRIu64 ": expected %s, found %s", s->what,
			 s->file_pos + s->pos, expected, found);
}

/* ---- Bytes ---- */

static void skip_space(struct json_scan *s)
{
	while (s->pos < s->len) {
		char c = s->text[s->pos];

		if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
			return;
		s->pos++;
	}
}

/* The byte at the position, or -1 at the end. */
static int byte_here(const struct json_scan *s)
{
	return s->pos < s->len ? (unsigned char)s->text[s->pos] : -1;
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static int take_byte(struct json_scan *s, char c, const char *expected)
{
	skip_space(s);
	if (byte_here(s) != c)
		return fail_expected(s, expected);
	s->pos++;
	return 0;
}

uint64_t json_scan_pos(const struct json_scan *s)
{
	return s->file_pos + s->pos;
}

/* ---- Strings ---- */

/* The value of four hexadecimal digits, or -1. */
static int32_t hex4(const char *text, size_t len)
{
	int32_t value = 0;

	if (len < 4)
		return -1;
	for (unsigned int i = 0; i < 4; i++) {
		char c = text[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + (c - '0');
		else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
			value = value * 16 + ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return value;
}

/* The escape at `text` (behind the backslash): its code point, or -1, and its length. */
static int32_t read_escape(const char *text, size_t len, size_t *used)
{
	static const char names[] = "\"\\/bfnrt";
	static const char values[] = "\"\\/\b\f\n\r\t";
	const char *name;
	int32_t high;
	int32_t low;

	if (len == 0)
		return -1;
	if (text[0] != 'u') {
		name = text[0] ? strchr(names, text[0]) : NULL;
		*used = 1;
		return name ? values[name - names] : -1;
	}
	high = hex4(text + 1, len - 1);
	*used = 5;
	if (high < 0xd800 || high > 0xdfff)
		return high;
	if (high > 0xdbff || len < 11 || text[5] != '\\' || text[6] != 'u')
		return -1;
	low = hex4(text + 7, len - 7);
	*used = 11;
	if (low < 0xdc00 || low > 0xdfff)
		return -1;
	return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Takes a whole string and gives what stands between the quotes, checked but with its
 * escapes. */
static int scan_raw_string(struct json_scan *s, const char *expected,
			   struct json_text *raw, bool *escaped)
{
	size_t start;
	size_t used;
	int err;

	err = take_byte(s, '"', expected);
	if (err < 0)
		return err;
	start = s->pos;
	*escaped = false;
	for (;;) {
		while (s->pos < s->len && is_plain((unsigned char)s->text[s->pos]))
			s->pos++;
		switch (byte_here(s)) {
		case -1:
			return fail_expected(s, "'\"' behind a string");
		case '"':
			*raw = (struct json_text){ s->text + start, s->pos - start };
			s->pos++;
			return 0;
		case '\\':
			if (read_escape(s->text + s->pos + 1, s->len - s->pos - 1,
					&used) < 0)
				return fail_at(s, s->pos, "invalid escape in a string");
			*escaped = true;
			s->pos += 1 + used;
			break;
		default:
			used = utf8_char_len(s->text + s->pos, s->len - s->pos);
			if (used == 0)
				return fail_at(s, s->pos, "invalid UTF-8 in a string");
			if (used == 1)
				return fail_at(s, s->pos,
					       "raw control character in a string");
			s->pos += used;
		}
	}
}

/* Resolves the escapes of a string that scan_raw_string() has checked. */
static int decode(struct json_scan *s, struct json_text raw, struct json_text *text)
{
	/* No escape is shorter than what it stands for. */
	char *out = arena_alloc(&s->decoded, raw.len);
	size_t len = 0;

	if (!out)
		return fail_memory(s);
	for (size_t i = 0; i < raw.len;) {
		const char *escape = memchr(raw.bytes + i, '\\', raw.len - i);
		size_t run = escape ? (size_t)(escape - raw.bytes) - i : raw.len - i;
		size_t used;

		memcpy(out + len, raw.bytes + i, run);
		len += run;
		i += run;
		if (i < raw.len) {
			char utf8[4];
			size_t n = utf8_encode(
				(uint32_t)read_escape(escape + 1, raw.len - i - 1, &used),
				utf8);

			memcpy(out + len, utf8, n);
			len += n;
			i += 1 + used;
		}
	}
	*text = (struct json_text){ out, len };
	return 0;
}

static int scan_string(struct json_scan *s, const char *expected, struct json_text *text)
{
	struct json_text raw;
	bool escaped;
	int err;

	err = scan_raw_string(s, expected, &raw, &escaped);
	if (err < 0 || !text)
		return err;
	if (escaped)
		return decode(s, raw, text);
	*text = raw;
	return 0;
}

int json_scan_string(struct json_scan *s, struct json_text *text)
{
	return scan_string(s, "a string", text);
}

/* ---- Numbers and literals ---- */

int json_scan_u64(struct json_scan *s, uint64_t *value)
{
	uint64_t v = 0;
	size_t start;
	int c;

	skip_space(s);
	start = s->pos;
	if (!is_digit(byte_here(s)))
		return fail_expected(s, "a whole number");
	while (is_digit(c = byte_here(s))) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(c - '0'), &v))
			return fail_at(s, start, "number above 2^64 - 1");
		s->pos++;
	}
	if (s->text[start] == '0' && s->pos - start > 1)
		return fail_at(s, start, "number with a leading zero");
	if (c == '.' || c == 'e' || c == 'E')
		return fail_at(s, start, "number with a fraction or an exponent");
	*value = v;
	return 0;
}

static int skip_digits(struct json_scan *s)
{
	if (!is_digit(byte_here(s)))
		return fail_expected(s, "a digit");
	while (is_digit(byte_here(s)))
		s->pos++;
	return 0;
}

/* Any number of JSON; the position is at its first byte. */
static int skip_number(struct json_scan *s)
{
	size_t start;
	int err;

	if (byte_here(s) == '-')
		s->pos++;
	start = s->pos;
	err = skip_digits(s);
	if (err < 0)
		return err;
	if (s->text[start] == '0' && s->pos - start > 1)
		return fail_at(s, start, "number with a leading zero");
	if (byte_here(s) == '.') {
		s->pos++;
		err = skip_digits(s);
		if (err < 0)
			return err;
	}
	if (byte_here(s) == 'e' || byte_here(s) == 'E') {
		s->pos++;
		if (byte_here(s) == '+' || byte_here(s) == '-')
			s->pos++;
		return skip_digits(s);
	}
	return 0;
}

static bool take_literal(struct json_scan *s, const char *literal)
{
	size_t len = strlen(literal);

	if (s->len - s->pos < len || memcmp(s->text + s->pos, literal, len) != 0)
		return false;
	s->pos += len;
	return true;
}

int json_scan_null(struct json_scan *s)
{
	skip_space(s);
	return take_literal(s, "null") ? 0 : fail_expected(s, "null");
}

/* ---- Brackets ---- */

static int open_bracket(struct json_scan *s, bool object)
{
	if (s->depth == JSON_SCAN_NESTING)
		return diag_fail(s->diag, -E2BIG,
				 "%s at byte %" PRIu64
				 ": nested deeper than %d levels of brackets",
				 s->what, s->file_pos + s->pos - 1, JSON_SCAN_NESTING);
	s->depth++;
	s->object_bits &= ~((uint32_t)1 << s->depth);
	s->object_bits |= (uint32_t)object << s->depth;
	s->fresh = true;
	return 0;
}

int json_scan_begin_object(struct json_scan *s)
{
	int err = take_byte(s, '{', "'{'");

	return err < 0 ? err : open_bracket(s, true);
}

int json_scan_begin_array(struct json_scan *s)
{
	int err = take_byte(s, '[', "'['");

	return err < 0 ? err : open_bracket(s, false);
}

/* Takes the closing bracket (`more` is false) or what separates two members. */
static int next_member(struct json_scan *s, char bracket, bool *more)
{
	bool fresh = s->fresh;

	s->fresh = false;
	skip_space(s);
	if (byte_here(s) == bracket) {
		s->pos++;
		s->depth--;
		*more = false;
		return 0;
	}
	*more = true;
	if (fresh)
		return 0;
	return take_byte(s, ',', bracket == '}' ? "',' or '}'" : "',' or ']'");
}

int json_scan_next_key(struct json_scan *s, bool *more, struct json_text *key)
{
	int err;

	assert(s->depth > 0 && s->object_bits >> s->depth & 1);
	err = next_member(s, '}', more);
	if (err < 0 || !*more)
		return err;
	err = scan_string(s, "a key in quotes", key);
	if (err < 0)
		return err;
	return take_byte(s, ':', "':' behind a key");
}

int json_scan_next_element(struct json_scan *s, bool *more)
{
	assert(s->depth > 0 && !(s->object_bits >> s->depth & 1));
	return next_member(s, ']', more);
}

int json_scan_end(struct json_scan *s)
{
	skip_space(s);
	return s->pos == s->len ? 0 : fail_expected(s, "nothing but white space");
}

/* ---- Any value ---- */

enum json_kind json_scan_peek(struct json_scan *s)
{
	int c;

	skip_space(s);
	c = byte_here(s);
	switch (c) {
	case '{':
		return JSON_OBJECT;
	case '[':
		return JSON_ARRAY;
	case '"':
		return JSON_STRING;
	case 't':
	case 'f':
	case 'n':
		return JSON_LITERAL;
	default:
		return is_digit(c) || c == '-' ? JSON_NUMBER : JSON_NOTHING;
	}
}

/* A value that is no array and no object, or the opening bracket of one. */
static int skip_scalar(struct json_scan *s)
{
	switch (json_scan_peek(s)) {
	case JSON_OBJECT:
		return json_scan_begin_object(s);
	case JSON_ARRAY:
		return json_scan_begin_array(s);
	case JSON_STRING:
		return json_scan_string(s, NULL);
	case JSON_NUMBER:
		return skip_number(s);
	case JSON_LITERAL:
		if (take_literal(s, "true") || take_literal(s, "false") ||
		    take_literal(s, "null"))
			return 0;
		break;
	case JSON_NOTHING:
		break;
	}
	return fail_expected(s, "a value");
}

static int skip_to_member(struct json_scan *s, bool *more)
{
	bool object = s->object_bits >> s->depth & 1;

	return object ? json_scan_next_key(s, more, NULL)
		      : json_scan_next_element(s, more);
}

int json_scan_skip(struct json_scan *s)
{
	unsigned int outside = s->depth;
	bool more = true;
	int err;

	do {
		err = more ? skip_scalar(s) : 0;
		if (err == 0 && s->depth > outside)
			err = skip_to_member(s, &more);
	} while (err == 0 && s->depth > outside);
	return err;
}
