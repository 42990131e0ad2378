#include "util/jsonw.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "util/utf8.h"

void jsonw_init(struct jsonw *w, struct strbuf *out)
{
	*w = (struct jsonw){ .out = out };
}

static void begin_value(struct jsonw *w)
{
	if (w->need_comma)
		strbuf_add_char(w->out, ',');
	w->need_comma = true;
}

static void open_bracket(struct jsonw *w, char bracket)
{
	begin_value(w);
	strbuf_add_char(w->out, bracket);
	w->need_comma = false;
}

static void close_bracket(struct jsonw *w, char bracket)
{
	strbuf_add_char(w->out, bracket);
	w->need_comma = true;
}

void jsonw_begin_object(struct jsonw *w)
{
	open_bracket(w, '{');
}

void jsonw_end_object(struct jsonw *w)
{
	close_bracket(w, '}');
}

void jsonw_begin_array(struct jsonw *w)
{
	open_bracket(w, '[');
}

void jsonw_end_array(struct jsonw *w)
{
	close_bracket(w, ']');
}

static void add_escape(struct strbuf *out, unsigned char c)
{
	switch (c) {
	case '"':
		strbuf_add(out, "\\\"", 2);
		return;
	case '\\':
		strbuf_add(out, "\\\\", 2);
		return;
	case '\n':
		strbuf_add(out, "\\n", 2);
		return;
	case '\t':
		strbuf_add(out, "\\t", 2);
		return;
	case '\r':
		strbuf_add(out, "\\r", 2);
		return;
	default:
		/* Control characters; bytes from 0x80 become lone low surrogates. */
		strbuf_addf(out, "\\u%04x", c < 0x80 ? c : 0xdc00u + c);
	}
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void add_quoted(struct strbuf *out, const char *text, size_t len)
{
	size_t i = 0;

	strbuf_add_char(out, '"');
	while (i < len) {
		size_t run = i;

		while (run < len && is_plain((unsigned char)text[run]))
			run++;
		strbuf_add(out, text + i, run - i);
		i = run;
		if (i < len) {
			size_t n = utf8_char_len(text + i, len - i);

			if (n > 1)
				strbuf_add(out, text + i, n);
			else
				add_escape(out, (unsigned char)text[i]);
			i += n > 1 ? n : 1;
		}
	}
	strbuf_add_char(out, '"');
}

void jsonw_key_bytes(struct jsonw *w, const char *key, size_t len)
{
	begin_value(w);
	add_quoted(w->out, key, len);
	strbuf_add_char(w->out, ':');
	w->need_comma = false;
}

void jsonw_key(struct jsonw *w, const char *key)
{
	jsonw_key_bytes(w, key, strlen(key));
}

void jsonw_string_bytes(struct jsonw *w, const char *text, size_t len)
{
	begin_value(w);
	add_quoted(w->out, text, len);
}

void jsonw_string(struct jsonw *w, const char *text)
{
	jsonw_string_bytes(w, text, strlen(text));
}

void jsonw_u64(struct jsonw *w, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	begin_value(w);
	strbuf_add(w->out, digits + at, sizeof(digits) - at);
}

void jsonw_i64(struct jsonw *w, int64_t value)
{
	begin_value(w);
	strbuf_addf(w->out, "%" PRId64, value);
}

void jsonw_bool(struct jsonw *w, bool value)
{
	begin_value(w);
	strbuf_add_str(w->out, value ? "true" : "false");
}

void jsonw_null(struct jsonw *w)
{
	begin_value(w);
	strbuf_add_str(w->out, "null");
}

void jsonw_double(struct jsonw *w, double value, int digits)
{
	if (isnan(value))
		jsonw_string(w, "NaN");
	else if (isinf(value))
		jsonw_string(w, value > 0 ? "Infinity" : "-Infinity");
	else {
		begin_value(w);
		strbuf_addf(w->out, "%.*g", digits, value);
	}
}

void jsonw_raw(struct jsonw *w, const char *json, size_t len)
{
	begin_value(w);
	strbuf_add(w->out, json, len);
}
