/*
 * A strict pull scanner for JSON text in memory (RFC 8259), for headers that may be
 * hostile and large: no tree, no recursion, exact unsigned 64-bit numbers.
 *
 * The caller knows the document and asks for one piece after the other:
 *
 *     json_scan_begin_object(s);
 *     while (json_scan_next_key(s, &more, &key) == 0 && more)
 *             json_scan_u64(s, &value) or json_scan_skip(s) or ...
 *     json_scan_end(s);
 *
 * Refused: a byte order mark, comments, trailing commas, bytes other than white space
 * behind the document, raw control characters, invalid UTF-8, lone surrogates in escapes
 * (so that each string is valid UTF-8), more than JSON_SCAN_NESTING levels of brackets.
 * Duplicate keys are the caller's to find. A skipped value is checked just as strictly.
 *
 * Functions return 0, -EBADMSG (malformed), -E2BIG (too deep) or -ENOMEM; the words stand
 * in the diag, with the offset in the file: "header at byte 57: expected ':', found '}'".
 * After an error only json_scan_fini() may be called. One thread at a time.
 */
#ifndef PARSERS_JSON_SCAN_H
#define PARSERS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parsers/diag.h"
#include "util/arena.h"

#define JSON_SCAN_NESTING 16

/* `len` bytes of valid UTF-8, not terminated; NUL may occur. Not NULL when empty. It lies
 * in the scanned text or, when that has escapes, in memory of the scanner: valid as long
 * as both. */
struct json_text {
	const char *bytes;
	size_t len;
};

enum json_kind {
	JSON_NOTHING, /* the end of the text, or a byte that starts no value */
	JSON_OBJECT,
	JSON_ARRAY,
	JSON_STRING,
	JSON_NUMBER,
	JSON_LITERAL, /* true, false or null */
};

struct json_scan {
	/* Private. */
	const char *text;
	size_t len;
	size_t pos;
	uint64_t file_pos; /* offset in the file of the first byte of the text */
	const char *what;
	struct diag *diag;
	unsigned int depth;   /* open brackets */
	uint32_t object_bits; /* bit N: the bracket at depth N is an object's */
	bool fresh;           /* the innermost bracket was just opened */
	struct arena decoded; /* strings that had escapes */
};

/* The text is called `what` in errors and starts at `file_pos` of its file. It stays the
 * caller's and must outlive the scanner. */
void json_scan_init(struct json_scan *s, const void *text, size_t len, const char *what,
		    uint64_t file_pos, struct diag *diag);
void json_scan_fini(struct json_scan *s);

/* Offset in the file of what is scanned next. */
uint64_t json_scan_pos(const struct json_scan *s);

/* What the next value is, from its first byte. */
enum json_kind json_scan_peek(struct json_scan *s);

/* Each takes one value of that type, or only its opening bracket. With `text` NULL a
 * string is only checked. */
MUST_CHECK int json_scan_begin_object(struct json_scan *s);
MUST_CHECK int json_scan_begin_array(struct json_scan *s);
MUST_CHECK int json_scan_string(struct json_scan *s, struct json_text *text);
MUST_CHECK int json_scan_null(struct json_scan *s);

/* A whole number from 0 to 2^64 - 1, digits only. */
MUST_CHECK int json_scan_u64(struct json_scan *s, uint64_t *value);

/* A value of any type. */
MUST_CHECK int json_scan_skip(struct json_scan *s);

/* The next key of the innermost object (`key` NULL: only checked); its value is what is
 * scanned next. `more` false: the object has ended. */
MUST_CHECK int json_scan_next_key(struct json_scan *s, bool *more, struct json_text *key);

/* Whether the innermost array goes on; then an element is what is scanned next. */
MUST_CHECK int json_scan_next_element(struct json_scan *s, bool *more);

/* Only white space is left. */
MUST_CHECK int json_scan_end(struct json_scan *s);

#endif
