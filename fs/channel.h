/*
 * The way of replies to the kernel.
 *
 * Large pieces of a source file are spliced: the kernel copies them from the file's page
 * cache into the client's, and the daemon's mapping is not used. That measured 7 % faster
 * than writing from a mapping (which costs a page fault for each 64 KiB), needs no page
 * tables for what was read, and a file that was cut is a short count instead of a fault.
 * Everything else, and file systems that cannot splice, is written from memory.
 */
#ifndef FS_CHANNEL_H
#define FS_CHANNEL_H

#include "ops.h"
#include "source.h"
#include "util/macros.h"

/* Largest read that the kernel is told to ask for: what fits a pipe of the size that
 * every user may have (1 MiB), with room for headers and a start inside of a page. */
#define CHANNEL_READ_MAX (512u << 10)

/* Prepares a session that is not mounted yet. 0 or a negative errno. Main thread. */
MUST_CHECK int channel_attach(struct fuse_session *session);

/*
 * Answers a READ with `count` pieces of memory, none empty. Where `source_fd` is not
 * negative the last piece is the mapping of that file at `offset`. Returns 0 or -EIO (the
 * file was cut, and the client was told). Exactly one reply. Any of the session's
 * threads.
 */
MUST_CHECK int channel_reply(fuse_req_t req, const struct iovec *pieces, int count,
			     int source_fd, uint64_t offset);

/*
 * Puts `len` bytes (at most CHANNEL_READ_MAX) of a source file, from `from` on, into the
 * kernel's cache of the inode, at `offset`. `fd` is the session's. 0; -ENOENT: the kernel
 * does not know the inode; or another negative errno, with which part of it may be there.
 * Waits for pages that a READ is under way for: never from a thread that answers those.
 */
MUST_CHECK int channel_store(int fd, uint64_t ino, uint64_t offset,
			     const struct source_file *file, uint64_t from, size_t len);

#endif
