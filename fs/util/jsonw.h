/*
 * A writer of JSON text, compact and streaming: no tree, exact 64-bit integers, strings
 * with a length so that NUL and bytes that are not UTF-8 survive.
 *
 * Bytes that are no valid UTF-8 are written as lone surrogates \udc80 to \udcff, as
 * Python's "surrogateescape" does: os.fsencode() of the parsed string gives the bytes
 * back.
 */
#ifndef UTIL_JSONW_H
#define UTIL_JSONW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/strbuf.h"

struct jsonw {
	struct strbuf *out;
	bool need_comma; /* a value ended just before, in this object or array */
};

void jsonw_init(struct jsonw *w, struct strbuf *out);

void jsonw_begin_object(struct jsonw *w);
void jsonw_end_object(struct jsonw *w);
void jsonw_begin_array(struct jsonw *w);
void jsonw_end_array(struct jsonw *w);

/* The key of the value that is written next. */
void jsonw_key(struct jsonw *w, const char *key);
void jsonw_key_bytes(struct jsonw *w, const char *key, size_t len);

void jsonw_string(struct jsonw *w, const char *text);
void jsonw_string_bytes(struct jsonw *w, const char *text, size_t len);
void jsonw_u64(struct jsonw *w, uint64_t value);
void jsonw_i64(struct jsonw *w, int64_t value);
void jsonw_bool(struct jsonw *w, bool value);
void jsonw_null(struct jsonw *w);

/* The shortest text with `digits` significant digits (9 round-trips a float, 17 a
 * double). JSON has no NaN and no infinity: they become the strings "NaN", "Infinity" and
 * "-Infinity". */
void jsonw_double(struct jsonw *w, double value, int digits);

/* A value that is JSON text already. */
void jsonw_raw(struct jsonw *w, const char *json, size_t len);

#endif
