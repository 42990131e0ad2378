#include "pagecache.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "util/cachestat.h"

/* A larger request is cut to what the disk takes at once, which is at least this. */
#define ASK_BYTES ((uint64_t)128 << 10)

/* A fault maps no more than this around it: what one entry of a page table's upper level
 * is for. */
#define AROUND ((uint64_t)2 << 20)

/* Looked at together. */
#define MAPPED_PAGES 4096u

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* For before Linux 6.5, and where a container forbids cachestat(). To who neither owns
 * the file nor may write it the kernel says that all is there. */
static bool count_mapped(const struct source_file *file, uint64_t first, uint64_t pages,
			 uint64_t *cached)
{
	unsigned char present[MAPPED_PAGES];
	uint64_t page = page_size();
	struct stat st;

	if (!file->bytes || fstat(file->fd, &st) < 0 || st.st_uid != geteuid())
		return false;
	*cached = 0;
	for (uint64_t end = first + pages; first < end;) {
		uint64_t n = end - first < MAPPED_PAGES ? end - first : MAPPED_PAGES;

		if (mincore(discard_const(file->bytes + first * page), n * page,
			    present) < 0)
			return false;
		for (uint64_t i = 0; i < n; i++)
			*cached += present[i] & 1;
		first += n;
	}
	return true;
}

int pagecache_count(const struct source_file *file, uint64_t from, uint64_t len,
		    uint64_t *bytes)
{
	struct cachestat stat;
	uint64_t page = page_size();
	uint64_t pages;
	uint64_t missing;
	int r;

	*bytes = 0;
	if (len == 0) /* which means the rest of the file to the kernel */
		return 0;
	pages = (from + len - 1) / page - from / page + 1;
	if (cachestat_range(file->fd, from, len, &stat) < 0) {
		r = -errno;
		if (!count_mapped(file, from / page, pages, &stat.cached))
			return r;
	}
	missing = stat.cached < pages ? (pages - stat.cached) * page : 0;
	*bytes = len > missing ? len - missing : 0;
	return 0;
}

bool pagecache_has(const struct source_file *file, uint64_t at)
{
	char byte;
	const struct iovec piece = { .iov_base = &byte, .iov_len = 1 };

	return preadv2(file->fd, &piece, 1, (off_t)at, RWF_NOWAIT) == 1;
}

void pagecache_ask(const struct source_file *file, uint64_t from, uint64_t len)
{
	while (len > 0) {
		uint64_t n = len < ASK_BYTES ? len : ASK_BYTES;

		(void)posix_fadvise(file->fd, (off_t)from, (off_t)n, POSIX_FADV_WILLNEED);
		from += n;
		len -= n;
	}
}

/* Has the kernel map the pages, which is one wait for all of them, and takes them out of
 * the mapping again, with those around them that it mapped as well: mapped ones could not
 * be dropped. False before Linux 5.14, and where a page could not be read. */
static bool wait_mapped(const struct source_file *file, uint64_t from, uint64_t len)
{
	uint64_t begin = from / page_size() * page_size();
	uint64_t first = from / AROUND * AROUND;
	uint64_t end = (from + len + AROUND - 1) / AROUND * AROUND;
	bool there;

	if (!file->bytes)
		return false;
	there = madvise(discard_const(file->bytes + begin), from + len - begin,
			MADV_POPULATE_READ) == 0;
	if (end > file->size)
		end = file->size;
	(void)madvise(discard_const(file->bytes + first), end - first, MADV_DONTNEED);
	return there;
}

/* Reads one byte of each page: that waits for the page, and is the one way that tells
 * whether it could be read. */
int pagecache_wait(const struct source_file *file, uint64_t from, uint64_t len)
{
	uint64_t page = page_size();
	uint64_t end = from + len;

	if (len == 0 || wait_mapped(file, from, len))
		return 0;
	while (from < end) {
		char byte;
		ssize_t n = pread(file->fd, &byte, 1, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1)
			return -EIO;
		from += page - from % page;
	}
	return 0;
}

void pagecache_drop(const struct source_file *file, uint64_t from, uint64_t len)
{
	uint64_t page = page_size();
	uint64_t begin = (from + page - 1) / page * page;
	uint64_t end = (from + len) / page * page;

	/* The last page of a file is whole, however few bytes it has. */
	if (from + len == file->size)
		end = (file->size + page - 1) / page * page;
	if (begin >= end)
		return;
	/* What the daemon's own mapping has touched would stay. */
	(void)madvise(discard_const(file->bytes + begin), end - begin, MADV_DONTNEED);
	(void)posix_fadvise(file->fd, (off_t)begin, (off_t)(end - begin),
			    POSIX_FADV_DONTNEED);
}
