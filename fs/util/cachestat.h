/* cachestat(2), Linux 6.5, for which the C library has no wrapper. */
#ifndef UTIL_CACHESTAT_H
#define UTIL_CACHESTAT_H

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* What the page cache has of a range, in pages. */
struct cachestat {
	uint64_t cached;
	uint64_t dirty;
	uint64_t writeback;
	uint64_t evicted;
	uint64_t recently_evicted;
};

/* 0, or -1 with errno: ENOSYS before Linux 6.5, EPERM for a file of somebody else. */
static inline int cachestat_range(int fd, uint64_t offset, uint64_t len,
				  struct cachestat *stat)
{
	const struct {
		uint64_t offset;
		uint64_t len;
	} range = { offset, len };

	return (int)syscall(SYS_cachestat, fd, &range, stat, 0);
}

#endif
