#include "parsers/reader.h"

#include <errno.h>
#include <inttypes.h>

#include "util/errtext.h"

/* What is read at a time. The first time it is less: many files are only looked at, and
 * the header of a shard is not longer. */
#define WINDOW_BYTES       ((size_t)256 << 10)
#define FIRST_WINDOW_BYTES ((size_t)64 << 10)

void reader_init_fd(struct reader *r, int fd, uint64_t size, struct diag *diag)
{
	*r = (struct reader){ .fd = fd, .size = size, .diag = diag };
}

void reader_init_memory(struct reader *r, const void *bytes, size_t size,
			struct diag *diag)
{
	*r = (struct reader){
		.fd = -1, .size = size, .diag = diag, .window = bytes, .window_len = size
	};
}

void reader_fini(struct reader *r)
{
	free(r->buffer);
	r->buffer = NULL;
	r->window = NULL;
	r->window_len = 0;
}

static int fail_short(struct reader *r, const char *what, uint64_t len)
{
	return diag_fail(r->diag, -EBADMSG,
			 "%s at byte %" PRIu64 ": needs %" PRIu64
			 " bytes, the file ends %" PRIu64 " bytes later",
			 what, r->pos, len, reader_left(r));
}

/* Reads exactly `len` bytes at `pos`, which the file held when it was opened. */
static int read_fully(struct reader *r, uint8_t *buffer, size_t len, uint64_t pos)
{
	while (len > 0) {
		ssize_t n = pread(r->fd, buffer, len, (off_t)pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return diag_fail(r->diag, -EIO, "read at byte %" PRIu64 ": %s",
					 pos, errtext(errno));
		if (n == 0)
			return diag_fail(r->diag, -EBADMSG,
					 "read at byte %" PRIu64
					 ": the file became shorter while it was read",
					 pos);
		buffer += n;
		pos += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int grow_buffer(struct reader *r, size_t need)
{
	size_t capacity = r->capacity == 0 ? FIRST_WINDOW_BYTES : WINDOW_BYTES;
	uint8_t *buffer;

	if (capacity > reader_left(r))
		capacity = (size_t)reader_left(r);
	if (capacity < need)
		capacity = need;
	if (r->capacity >= capacity)
		return 0;
	buffer = malloc(capacity);
	if (!buffer)
		return diag_fail(r->diag, -ENOMEM, "out of memory for %zu bytes",
				 capacity);
	free(r->buffer);
	r->buffer = buffer;
	r->capacity = capacity;
	r->window_len = 0;
	return 0;
}

/* Moves the window so that it starts at the read position and holds at least `len` bytes.
 */
static int refill(struct reader *r, size_t len)
{
	uint64_t left = reader_left(r);
	size_t want;
	int err;

	err = grow_buffer(r, len);
	if (err < 0)
		return err;
	want = left < r->capacity ? (size_t)left : r->capacity;
	r->window_len = 0;
	err = read_fully(r, r->buffer, want, r->pos);
	if (err < 0)
		return err;
	r->window = r->buffer;
	r->window_pos = r->pos;
	r->window_len = want;
	return 0;
}

int reader_bytes(struct reader *r, const char *what, uint64_t len, const uint8_t **bytes)
{
	uint64_t into;

	if (len > reader_left(r))
		return fail_short(r, what, len);
	into = r->pos - r->window_pos;
	if (r->pos < r->window_pos || into > r->window_len ||
	    len > r->window_len - into) {
		int err = refill(r, (size_t)len);

		if (err < 0)
			return err;
		into = 0;
	}
	*bytes = r->window + into;
	r->pos += len;
	return 0;
}

int reader_seek(struct reader *r, const char *what, uint64_t pos)
{
	if (pos > r->size)
		return diag_fail(r->diag, -EBADMSG,
				 "%s: starts at byte %" PRIu64 ", the file has %" PRIu64
				 " bytes",
				 what, pos, r->size);
	r->pos = pos;
	return 0;
}

int reader_skip(struct reader *r, const char *what, uint64_t len)
{
	if (len > reader_left(r))
		return fail_short(r, what, len);
	r->pos += len;
	return 0;
}

/* The next `len` (at most 8) bytes as a little-endian number. */
static int read_number(struct reader *r, const char *what, unsigned int len,
		       uint64_t *value)
{
	const uint8_t *bytes;
	uint64_t v = 0;
	int err;

	err = reader_bytes(r, what, len, &bytes);
	if (err < 0)
		return err;
	for (unsigned int i = len; i-- > 0;)
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): set on success. */
		v = v << 8 | bytes[i];
	*value = v;
	return 0;
}

#define DEFINE_READ(function, type)                                   \
	int function(struct reader *r, const char *what, type *value) \
	{                                                             \
		uint64_t wide;                                        \
		int err = read_number(r, what, sizeof(type), &wide);  \
                                                                      \
		if (err < 0)                                          \
			return err;                                   \
		*value = (type)wide;                                  \
		return 0;                                             \
	}

DEFINE_READ(reader_u8, uint8_t)
DEFINE_READ(reader_u16, uint16_t)
DEFINE_READ(reader_u32, uint32_t)
DEFINE_READ(reader_u64, uint64_t)
