/*
 * Backings: where the bytes of an open tensor file come from.
 *
 * `stream` answers each read of the kernel from the source and needs nothing. The others
 * make a file of their own for an inode, which the kernel then reads by passthrough,
 * without asking the daemon. Each is one const struct backing_ops.
 */
#ifndef FS_BACKING_H
#define FS_BACKING_H

#include "layout.h"

/* Smaller tensors are streamed: they are read in one request, which costs less than a
 * file of their own. */
#define BACKING_LEAST_BYTES ((uint64_t)64 << 10)

struct backing_ops {
	const char *name; /* as in user.weightfs.backing and -o backing= */

	/* Whether it can back this node on this mount. Cheap; any thread. */
	bool (*suits)(const struct weightfs *fs, struct node node);

	/* Makes the file: header and tensor, complete and never written again. May take
	 * as long as reading the tensor takes; runs in a fill thread. Returns a
	 * descriptor, or -EIO (the source changed or cannot be read), -ENOMEM or -ENOSPC
	 * (no memory), or what the file system says. */
	int (*make)(struct weightfs *fs, struct node node);

	/* Bytes of memory that the file takes: what counts against resident_limit. */
	uint64_t (*cost)(const struct weightfs *fs, struct node node);
};

extern const struct backing_ops backing_stream;
extern const struct backing_ops backing_resident;

#endif
