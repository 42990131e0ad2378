/*
 * Reads JSON where it lies: a value is a span of the text, and is decoded only when asked
 * for.
 *
 * The documents of a mount can be 20 MB (model.json of 92,000 tensors), hold integers
 * above 2^53 and names that are no valid UTF-8 (written as lone surrogates), and --json
 * has to pass them through as they are. A tree with doubles, as cJSON builds it, can do
 * none of that.
 *
 * A value never reaches outside of the text it came from, whatever the text says.
 */
#ifndef MOUNTCTL_JSON_H
#define MOUNTCTL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/strbuf.h"

/* The text of one value; `at` is NULL for no value. The text belongs to whoever read it.
 */
struct json {
	const char *at;
	size_t len;
};

enum json_type {
	JSON_NONE,
	JSON_OBJECT,
	JSON_ARRAY,
	JSON_STRING,
	JSON_NUMBER,
	JSON_LITERAL, /* true, false, null */
};

/* Takes the one value that `text` holds, with white space around it. 0, or -EBADMSG if it
 * ends early or something follows. Members are not looked at. */
MUST_CHECK int json_parse(const char *text, size_t len, struct json *value);

enum json_type json_type(struct json value);

/* The first member of that name, or no value; `name` must need no escapes. */
struct json json_get(struct json object, const char *name);

/* Walks the members of an object or the elements of an array. */
struct json_iter {
	const char *at;
	const char *end;
	bool in_object;
};

struct json_iter json_iter(struct json container);

/* The next value, and for an object its name with the quotes (`key` may be NULL). False
 * at the end, or where the text is no JSON. */
bool json_next(struct json_iter *iter, struct json *key, struct json *value);

/* Elements or members. */
uint64_t json_count(struct json container);

/* The number, exact, if the value is a whole one from 0 to 2^64 - 1, else 0. */
uint64_t json_u64(struct json value);

double json_double(struct json value);
bool json_is_true(struct json value);

/* Appends the characters of a string; a lone surrogate \udc80 to \udcff gives back the
 * byte it stands for. Nothing for any other value. */
void json_add_string(struct strbuf *out, struct json string);

/* A copy of a string, safe to print on a terminal; "" for any other value. The caller
 * frees; NULL when out of memory. */
char *json_dup_printable(struct json string);

/* Whether the value is a string with just these characters (none of them escaped). */
bool json_equals(struct json string, const char *text);

#endif
