/*
 * A byte string under construction. The first failure is kept in `err` and every later
 * addition does nothing, so that a writer checks once, at the end.
 *
 * Three kinds share the functions that add, so that one piece of code can write a text,
 * measure it without memory, or write it into storage on the stack: growing
 * (strbuf_init), counting and fixed.
 */
#ifndef UTIL_STRBUF_H
#define UTIL_STRBUF_H

#include <stddef.h>

#include "util/macros.h"

enum strbuf_kind {
	STRBUF_GROWING,
	STRBUF_COUNTING,
	STRBUF_FIXED,
};

struct strbuf {
	char *data; /* terminated with NUL once something was added; NULL when counting */
	size_t len;
	size_t capacity;
	int err; /* 0; -ENOMEM; -ENOBUFS when a fixed one is full */
	enum strbuf_kind kind;
};

void strbuf_init(struct strbuf *buf);

/* Only `len` grows; nothing is stored or allocated. */
void strbuf_init_counting(struct strbuf *buf);

/* Writes into `storage`, which stays the caller's; the last byte is for the NUL. */
void strbuf_init_fixed(struct strbuf *buf, char *storage, size_t capacity);

/* Frees what the string owns. Needed for growing ones only. */
void strbuf_fini(struct strbuf *buf);

void strbuf_add(struct strbuf *buf, const void *bytes, size_t len);
void strbuf_add_str(struct strbuf *buf, const char *text);
void strbuf_add_char(struct strbuf *buf, char c);
PRINTF_LIKE(2, 3) void strbuf_addf(struct strbuf *buf, const char *format, ...);

/* Hands the bytes over to the caller, who frees them; the buffer is empty afterwards.
 * NULL if nothing was added or an allocation failed. */
char *strbuf_steal(struct strbuf *buf);

#endif
