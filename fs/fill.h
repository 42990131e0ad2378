/*
 * Copying a range of a source file into another file, fast and without a second copy in
 * the page cache: what the page cache holds is written from there, the rest is read
 * around it (O_DIRECT, several reads at a time through io_uring).
 */
#ifndef FS_FILL_H
#define FS_FILL_H

#include <stdatomic.h>
#include <stdint.h>

#include "source.h"

/* Writes bytes [from, from + len) of `file` at `to` of the descriptor `target`. Looks at
 * `stop` from time to time, which may be NULL. 0, -ECANCELED (stopped), -EIO (cannot be
 * read, or the file was cut), -ENOMEM, -ENOSPC, or another negative errno of write(2). */
MUST_CHECK int fill_copy(const struct source_file *file, uint64_t from, uint64_t len,
			 int target, uint64_t to, const atomic_bool *stop);

/* The same from the beginning of a file in memory to that of another. */
MUST_CHECK int fill_copy_memory(int from, uint64_t len, int target,
				const atomic_bool *stop);

#endif
