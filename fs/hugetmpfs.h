/*
 * A tmpfs with huge pages that no path leads to: the memory behind resident tensors.
 * Files in it have no names and go away with their last descriptor or mapping.
 */
#ifndef FS_HUGETMPFS_H
#define FS_HUGETMPFS_H

#include <stdint.h>

#include "util/macros.h"

enum huge_pages {
	HUGE_AUTO,   /* huge pages for what fills one, small ones for the rest */
	HUGE_ALWAYS, /* huge pages throughout: a file's end wastes up to one */
	HUGE_NEVER,
};

/* Returns a descriptor of the root directory, or a negative errno: -EPERM without
 * CAP_SYS_ADMIN, -ENOSYS before Linux 5.2. */
MUST_CHECK int hugetmpfs_new(enum huge_pages huge);

/* A file of `size` bytes without a name, open for reading and writing. Takes no memory
 * yet. Returns a descriptor or a negative errno. */
MUST_CHECK int hugetmpfs_file(int root, uint64_t size);

/* Exchanges the descriptor of a finished file for one that cannot write. `fd` is closed,
 * also on failure. Returns a descriptor or a negative errno: -ENOENT without /proc. */
MUST_CHECK int hugetmpfs_read_only(int fd);

#endif
