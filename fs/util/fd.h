/* What the C library leaves to its callers with file descriptors. */
#ifndef UTIL_FD_H
#define UTIL_FD_H

#include <stdint.h>

#include "util/macros.h"

/* Writes all of the bytes, from position `to` of the file on. 0 or a negative errno;
 * then some of them may be written. */
MUST_CHECK int fd_write_fully(int fd, const void *bytes, uint64_t len, uint64_t to);

/* A second description of the same open file, with other flags for open(2); O_CLOEXEC is
 * added. Returns a descriptor or a negative errno: -ENOENT without /proc. */
MUST_CHECK int fd_reopen(int fd, int flags);

#endif
