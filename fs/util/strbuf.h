/*
 * A growing byte string. The first failed allocation is kept in `err` and every later
 * addition does nothing, so that a writer checks once, at the end.
 */
#ifndef UTIL_STRBUF_H
#define UTIL_STRBUF_H

#include <stddef.h>

#include "util/macros.h"

struct strbuf {
	char *data; /* always terminated with NUL once something was added */
	size_t len;
	size_t capacity;
	int err; /* 0 or -ENOMEM */
};

void strbuf_init(struct strbuf *buf);
void strbuf_fini(struct strbuf *buf);

void strbuf_add(struct strbuf *buf, const void *bytes, size_t len);
void strbuf_add_str(struct strbuf *buf, const char *text);
void strbuf_add_char(struct strbuf *buf, char c);
PRINTF_LIKE(2, 3) void strbuf_addf(struct strbuf *buf, const char *format, ...);

/* Hands the bytes over to the caller, who frees them; the buffer is empty afterwards.
 * NULL if nothing was added or an allocation failed. */
char *strbuf_steal(struct strbuf *buf);

#endif
