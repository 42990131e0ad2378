/*
 * The one gate through which bytes of a model file are interpreted: bounds-checked,
 * little-endian reads from a file or from memory.
 *
 * A file is read with pread() into a window of the reader's own, never through a mapping:
 * a file that is cut while it is parsed is an error and not a SIGBUS.
 *
 * Each read says `what` it wants ("tensor count"), so that the error is worded here, with
 * the offset: "tensor count at byte 8: needs 8 bytes, the file ends 3 bytes later".
 * Errors are 0 or -EBADMSG (the file is too short), -EIO (reading failed), -ENOMEM. One
 * thread at a time.
 */
#ifndef PARSERS_READER_H
#define PARSERS_READER_H

#include <stddef.h>
#include <stdint.h>

#include "parsers/diag.h"

struct reader {
	uint64_t pos;  /* offset of the next read; move it with reader_seek() and
			  reader_skip() */
	uint64_t size; /* of the file, taken by the caller from the open descriptor */
	struct diag *diag;
	/* Private. */
	int fd; /* -1: everything is in the window */
	const uint8_t
		*window; /* bytes [window_pos, window_pos + window_len) of the file */
	uint64_t window_pos;
	size_t window_len;
	uint8_t *buffer; /* owned storage behind the window, NULL for memory */
	size_t capacity;
};

/* `fd` stays the caller's and must outlive the reader. `diag` receives the words of a
 * failure. */
void reader_init_fd(struct reader *r, int fd, uint64_t size, struct diag *diag);

/* `bytes` stay the caller's and must outlive the reader. */
void reader_init_memory(struct reader *r, const void *bytes, size_t size,
			struct diag *diag);

void reader_fini(struct reader *r);

static inline uint64_t reader_left(const struct reader *r)
{
	return r->size - r->pos;
}

/* `pos` may be the size (the end) but not above it. */
MUST_CHECK int reader_seek(struct reader *r, const char *what, uint64_t pos);
MUST_CHECK int reader_skip(struct reader *r, const char *what, uint64_t len);

MUST_CHECK int reader_u8(struct reader *r, const char *what, uint8_t *value);
MUST_CHECK int reader_u16(struct reader *r, const char *what, uint16_t *value);
MUST_CHECK int reader_u32(struct reader *r, const char *what, uint32_t *value);
MUST_CHECK int reader_u64(struct reader *r, const char *what, uint64_t *value);

/*
 * The next `len` bytes in one piece; valid until the next call on this reader. For a file
 * this takes memory for `len` bytes once that many are known to exist: the caller bounds
 * `len`.
 */
MUST_CHECK int reader_bytes(struct reader *r, const char *what, uint64_t len,
			    const uint8_t **bytes);

#endif
