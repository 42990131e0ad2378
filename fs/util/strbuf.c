#include "util/strbuf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#define FIRST_CAPACITY 256

void strbuf_init(struct strbuf *buf)
{
	*buf = (struct strbuf){ 0 };
}

void strbuf_init_counting(struct strbuf *buf)
{
	*buf = (struct strbuf){ .kind = STRBUF_COUNTING };
}

/* NOLINTNEXTLINE(readability-non-const-parameter): it is written to later. */
void strbuf_init_fixed(struct strbuf *buf, char *storage, size_t capacity)
{
	*buf = (struct strbuf){ .kind = STRBUF_FIXED,
				.data = storage,
				.capacity = capacity };
}

void strbuf_fini(struct strbuf *buf)
{
	if (buf->kind == STRBUF_GROWING)
		free(buf->data);
	strbuf_init(buf);
}

/* Makes room for `more` bytes and the NUL after them. */
static int reserve(struct strbuf *buf, size_t more)
{
	size_t capacity = buf->capacity ? buf->capacity : FIRST_CAPACITY;
	size_t need;
	char *data;

	if (buf->err)
		return buf->err;
	if (__builtin_add_overflow(buf->len, more, &need) || need >= SIZE_MAX / 2)
		return buf->err = -ENOMEM;
	if (need < buf->capacity || buf->kind == STRBUF_COUNTING)
		return 0;
	if (buf->kind == STRBUF_FIXED)
		return buf->err = -ENOBUFS;
	while (capacity <= need)
		capacity *= 2;
	data = realloc(buf->data, capacity);
	if (!data)
		return buf->err = -ENOMEM;
	buf->data = data;
	buf->capacity = capacity;
	return 0;
}

void strbuf_add(struct strbuf *buf, const void *bytes, size_t len)
{
	if (reserve(buf, len) < 0)
		return;
	if (buf->data && len > 0)
		memcpy(buf->data + buf->len, bytes, len);
	buf->len += len;
	if (buf->data)
		buf->data[buf->len] = '\0';
}

void strbuf_add_str(struct strbuf *buf, const char *text)
{
	strbuf_add(buf, text, strlen(text));
}

void strbuf_add_char(struct strbuf *buf, char c)
{
	strbuf_add(buf, &c, 1);
}

void strbuf_addf(struct strbuf *buf, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0) {
		buf->err = -ENOMEM;
		return;
	}
	if (reserve(buf, (size_t)len) < 0)
		return;
	if (buf->data) {
		va_start(args, format);
		(void)vsnprintf(buf->data + buf->len, (size_t)len + 1, format, args);
		va_end(args);
	}
	buf->len += (size_t)len;
}

char *strbuf_steal(struct strbuf *buf)
{
	char *data = buf->err ? NULL : buf->data;

	if (!data)
		free(buf->data);
	strbuf_init(buf);
	return data;
}
