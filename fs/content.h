/*
 * The bytes of a file: where a read finds them. The read path: no lock, no allocation, no
 * copy.
 */
#ifndef FS_CONTENT_H
#define FS_CONTENT_H

#include <sys/uio.h>

#include "layout.h"

/* Headers of views that are longer than this are made on the heap: only absurd names have
 * them. */
#define CONTENT_HEADER_MAX 16384

/* Room for the parts of an answer that exist nowhere yet. On the caller's stack. */
struct content_scratch {
	char header[CONTENT_HEADER_MAX];
	char *heap;   /* freed by content_fini(); NULL as a rule */
	void *window; /* unmapped by content_fini(); NULL as a rule */
	size_t window_len;
	/* The file that the last piece is mapped from, and where; NULL for none. */
	const struct source_file *file;
	uint64_t file_offset;
};

/* Where the bytes of a file of the mount stand in the source: behind a header of its own,
 * `len` bytes from `start` on. */
struct content_place {
	struct source_file *file;
	uint64_t header_len;
	uint64_t start;
	uint64_t len;
};

/* False for files whose bytes are not those of the source. Any thread, no lock. */
bool content_place(const struct weightfs *fs, struct node node,
		   struct content_place *place);

/*
 * Describes bytes [offset, offset + size) of a regular file as at most two pieces of
 * memory; fewer bytes at its end. The pieces may lie in a file mapping: pass them to the
 * kernel, do not touch them. They stay valid until content_fini(). Returns the number of
 * pieces, -EIO (the source changed), -EINVAL (no regular file) or -ENOMEM.
 */
MUST_CHECK int content_read(struct weightfs *fs, struct node node, uint64_t offset,
			    size_t size, struct content_scratch *scratch,
			    struct iovec pieces[static 2]);

void content_fini(struct content_scratch *scratch);

#endif
