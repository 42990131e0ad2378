/*
 * Counters of what the daemon was asked. Each thread that serves requests adds to a slot
 * of its own cache line, so that counting costs no shared write; a reader sums the slots.
 */
#ifndef FS_STATS_H
#define FS_STATS_H

#include <stdint.h>

/* One line for each request of the kernel that is counted by name. */
#define STATS_REQUESTS(X)             \
	X(LOOKUP, "lookup")           \
	X(GETATTR, "getattr")         \
	X(OPEN, "open")               \
	X(RELEASE, "release")         \
	X(OPENDIR, "opendir")         \
	X(READ, "read")               \
	X(READDIR, "readdir")         \
	X(READDIRPLUS, "readdirplus") \
	X(GETXATTR, "getxattr")       \
	X(LISTXATTR, "listxattr")     \
	X(READLINK, "readlink")       \
	X(STATFS, "statfs")           \
	X(FORGET, "forget")           \
	X(OTHER, "other")

enum stat_counter {
#define X(name, text) STAT_##name,
	STATS_REQUESTS(X)
#undef X
	STAT_READ_BYTES,
	STAT_READ_ERRORS,
	STAT_COUNT,
};

/* Number of request counters: those below STAT_READ_BYTES. */
#define STATS_REQUEST_COUNT STAT_READ_BYTES

const char *stats_request_name(enum stat_counter counter);

void stats_add(enum stat_counter counter, uint64_t amount);
uint64_t stats_sum(enum stat_counter counter);

#endif
