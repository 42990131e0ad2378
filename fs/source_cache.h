/*
 * -o source_cache=drop: what a mount has read of its source does not stay in the source's
 * page cache, where it would be held twice: the kernel or a resident file has the bytes.
 *
 * Who reads notes the range; a thread drops it once it has been left alone for a moment.
 * So ranges of readers that go on are kept, and memory held twice is bounded by what is
 * read in two passes of that thread: at most a quarter of a second, or 64 MiB, each.
 * Only what was read is dropped, rounded to pages and, within 2 MiB, gaps.
 */
#ifndef FS_SOURCE_CACHE_H
#define FS_SOURCE_CACHE_H

#include <pthread.h>

#include "served.h"

struct source_cache;

/* Borrows `served`. 0 or a negative errno. */
MUST_CHECK int source_cache_new(const struct served *served, struct source_cache **cache);

/* Starts the thread. 0 or a negative errno. */
MUST_CHECK int source_cache_start(struct source_cache *cache);

/* Stops the thread; what was not dropped yet stays. NULL is fine. */
void source_cache_free(struct source_cache *cache);

/* Takes note that [offset, offset + len) of a file of the source was read and will not be
 * read again soon; NULL is fine: then everything is kept. Any thread: no lock, no
 * allocation, a system call each 64 MiB. */
void source_cache_note(struct source_cache *cache, const struct source_file *file,
		       uint64_t offset, uint64_t len);

#endif
