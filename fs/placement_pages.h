/*
 * Pages of files in memory: on which NUMA nodes they lie, as the kernel tells, and moving
 * them. Nothing is read in for that. Any thread; nothing here takes a lock.
 */
#ifndef FS_PLACEMENT_PAGES_H
#define FS_PLACEMENT_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "placement.h"

/* What is looked at or moved in one call: a huge page. */
#define PLACEMENT_CHUNK ((uint64_t)2 << 20)

struct placement_tally {
	uint64_t bytes[NUMA_MOST_NODES];
	uint64_t moved; /* bytes that were not where they belong, and now are */
	uint64_t left;  /* bytes that are still not */
};

/* How much of a range of a file is in memory. 0, or -ENOSYS or -EPERM where the kernel
 * does not tell. */
MUST_CHECK int placement_cached(int fd, uint64_t from, uint64_t len, uint64_t *bytes);

/* Adds what is in memory of chunk number `chunk` of a file of `size` bytes. 0 or a
 * negative errno: -ENOSYS or -EPERM as above, -EACCES (this process may not ask), or
 * what move_pages(2) says. */
MUST_CHECK int placement_count_chunk(int fd, uint64_t size, uint64_t chunk,
				     struct placement_tally *tally);

struct placement_target {
	struct placement_policy policy;
	uint64_t step; /* bytes that lie together where they are spread over nodes: those
			  of a huge page, which cannot lie on two, or of a page */
};

/* Moves what of a range within one chunk is not where it belongs, also while clients have
 * it mapped. `from` and `len` are widened to pages. Counts in `moved` and `left`; as
 * placement_count_chunk(). */
MUST_CHECK int placement_move_range(int fd, uint64_t from, uint64_t len,
				    const struct placement_target *target,
				    struct placement_tally *tally);

#endif
