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

/* Smaller tensors are read in a request or two, which costs less than a file of their
 * own. And the rest of a file's last page is at most a twentieth of it. */
#define BACKING_LEAST_BYTES ((uint64_t)80 << 10)

/* Smaller tensors are not cloned unless backing=clone asks for it: a program that looks
 * at thousands of small ones must not make thousands of files. */
#define BACKING_AUTO_CLONE_BYTES ((uint64_t)1 << 20)

struct backing_ops {
	const char *name; /* as in user.weightfs.backing and -o backing= */

	/* make() takes about as long as answering a read: the thread that has an OPEN
	 * calls it. Otherwise a fill thread does. */
	bool quick;

	/* Whether it can back this node on this mount. Cheap; any thread. */
	bool (*suits)(const struct weightfs *fs, struct node node);

	/* Makes the file: header and tensor, complete and never written again. `like` is
	 * a file in memory with the same content, or -1: it may be copied from there.
	 * Returns a descriptor, or -EIO (the source changed or cannot be read), -ENOMEM
	 * or -ENOSPC (no memory), or what the file system says. */
	int (*make)(struct weightfs *fs, struct node node, int like);

	/* Bytes of memory that the file takes: what counts against resident_limit. */
	uint64_t (*cost)(const struct weightfs *fs, struct node node);
};

extern const struct backing_ops backing_stream;
extern const struct backing_ops backing_clone;
extern const struct backing_ops backing_resident;

/* By what -o backing= says; NULL for `auto`, which chooses among them. */
extern const struct backing_ops *const backing_table[BACKING_CHOICE_COUNT];

#endif
