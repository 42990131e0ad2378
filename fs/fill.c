#include "fill.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <sys/syscall.h>

/* One write fills one huge page of the target, so that the kernel need not clear it
 * first. */
#define PIECE ((uint64_t)2 << 20)

/* Reads in flight; each buffer holds one of this many bytes. Enough to keep an NVMe disk
 * busy. */
#define DEPTH        8u
#define BUFFER_BYTES ((uint64_t)1 << 20)

/* Offsets, lengths and memory of O_DIRECT: the largest block size in use. */
#define ALIGN 4096u

/* ---- What is in the page cache ---- */

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif

struct cache_range {
	uint64_t offset;
	uint64_t len;
};

struct cache_counts {
	uint64_t cached;
	uint64_t dirty;
	uint64_t writeback;
	uint64_t evicted;
	uint64_t recently_evicted;
};

/* Whether at least half of the range is cached: then reading the rest through the cache
 * costs less than reading all of it around. Kernels that cannot tell are taken to have
 * it. */
static bool is_cached(const struct source_file *file, uint64_t from, uint64_t len)
{
	const struct cache_range range = { .offset = from, .len = len };
	struct cache_counts counts;

	if (syscall(SYS_cachestat, file->fd, &range, &counts, 0) < 0)
		return true;
	return counts.cached * ALIGN * 2 >= len;
}

/* ---- Writing ---- */

/* Writes all of it. Memory that has no page behind it any more (a mapped file that was
 * cut) is EFAULT for the kernel, and -EIO for us. */
static int write_fully(int target, const uint8_t *bytes, uint64_t len, uint64_t to)
{
	while (len > 0) {
		ssize_t n = pwrite(target, bytes, len, (off_t)to);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno != EFAULT ? -errno : -EIO;
		bytes += n;
		len -= (uint64_t)n;
		to += (uint64_t)n;
	}
	return 0;
}

/* A range of the source and where it goes. */
struct job {
	uint64_t from;
	uint64_t len;
	int target;
	uint64_t to;
};

/* ---- Reading around the cache ---- */

struct direct {
	struct io_uring ring;
	bool ready;
	int fd; /* the same file, opened with O_DIRECT */
	uint8_t *buffers;
	uint64_t file_size;
	/* The range that is read, widened to whole blocks. */
	uint64_t begin;
	uint64_t end;
	uint64_t next; /* where the next read starts */
	uint32_t lens[DEPTH];
	bool done[DEPTH];
};

/* A second description of the open file. Without /proc or on a file system without
 * O_DIRECT there is none. */
static int open_direct(const struct source_file *file)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	return open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

static int direct_init(struct direct *d, const struct source_file *file)
{
	d->file_size = file->size;
	d->fd = open_direct(file);
	if (d->fd < 0)
		return -errno;
	d->buffers = aligned_alloc(ALIGN, DEPTH * BUFFER_BYTES);
	if (!d->buffers)
		return -ENOMEM;
	if (io_uring_queue_init(DEPTH, &d->ring, 0) < 0)
		return -ENOSYS;
	d->ready = true;
	return 0;
}

static void direct_fini(struct direct *d)
{
	if (d->ready)
		io_uring_queue_exit(&d->ring);
	free(d->buffers);
	if (d->fd >= 0)
		(void)close(d->fd);
}

/* There is an entry for each slot. -EIO cannot happen, but the compiler does not know. */
static int submit_read(struct direct *d, unsigned int slot)
{
	uint64_t len = d->end - d->next < BUFFER_BYTES ? d->end - d->next : BUFFER_BYTES;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&d->ring);

	if (!sqe)
		return -EIO;
	io_uring_prep_read(sqe, d->fd, d->buffers + slot * BUFFER_BYTES,
			   (unsigned int)len, d->next);
	io_uring_sqe_set_data64(sqe, slot);
	d->lens[slot] = (uint32_t)len;
	d->done[slot] = false;
	d->next += len;
	return 0;
}

/* Waits until the read of this slot has ended. A short one is an error but at the file's
 * end, which lies within the last block. */
static int wait_for_slot(struct direct *d, unsigned int slot, uint64_t start)
{
	while (!d->done[slot]) {
		struct io_uring_cqe *cqe;
		unsigned int ended;
		uint64_t left;
		int r = io_uring_submit_and_wait(&d->ring, 1);

		if (r < 0 && r != -EINTR)
			return r;
		if (io_uring_peek_cqe(&d->ring, &cqe) < 0)
			continue;
		ended = (unsigned int)io_uring_cqe_get_data64(cqe);
		r = cqe->res;
		io_uring_cqe_seen(&d->ring, cqe);
		if (r < 0)
			return r;
		d->done[ended] = true;
		if (ended != slot) {
			d->lens[ended] = (uint32_t)r < d->lens[ended] ? (uint32_t)r
								      : d->lens[ended];
			continue;
		}
		left = d->file_size - start;
		if ((uint32_t)r < d->lens[slot] && (uint64_t)r < left)
			return -EIO;
	}
	return 0;
}

/* Writes the part of a finished buffer that was asked for. `start` is its place in the
 * file. */
static int write_slot(const struct direct *d, unsigned int slot, uint64_t start,
		      const struct job *job)
{
	uint64_t end = job->from + job->len;
	uint64_t begin = start > job->from ? start : job->from;

	if (start + d->lens[slot] < end)
		end = start + d->lens[slot];
	if (end <= begin)
		return -EIO;
	return write_fully(job->target,
			   d->buffers + slot * BUFFER_BYTES + (begin - start),
			   end - begin, job->to + (begin - job->from));
}

static int copy_direct(struct direct *d, const struct job *job)
{
	unsigned int slot = 0;
	uint64_t start;
	int r = 0;

	d->begin = job->from / ALIGN * ALIGN;
	d->end = (job->from + job->len + ALIGN - 1) / ALIGN * ALIGN;
	d->next = d->begin;
	for (unsigned int i = 0; r == 0 && i < DEPTH && d->next < d->end; i++)
		r = submit_read(d, i);
	for (start = d->begin; r == 0 && start < d->end; start += BUFFER_BYTES) {
		r = wait_for_slot(d, slot, start);
		if (r == 0)
			r = write_slot(d, slot, start, job);
		if (r == 0 && d->next < d->end)
			r = submit_read(d, slot);
		slot = (slot + 1) % DEPTH;
	}
	return r;
}

/* ---- All of it ---- */

/* The length of the run of pieces at the start of the range that are alike: cached or
 * not. */
static uint64_t run_of_pieces(const struct source_file *file, uint64_t from, uint64_t len,
			      uint64_t to, bool *cached)
{
	uint64_t n = PIECE - to % PIECE;
	uint64_t run = n < len ? n : len;

	*cached = is_cached(file, from, run);
	while (run < len) {
		n = len - run < PIECE ? len - run : PIECE;
		if (is_cached(file, from + run, n) != *cached)
			break;
		run += n;
		if (*cached)
			break; /* it may be evicted meanwhile: look again after each piece
				*/
	}
	return run;
}

int fill_copy(const struct source_file *file, uint64_t from, uint64_t len, int target,
	      uint64_t to)
{
	struct job job = { .from = from, .len = len, .target = target, .to = to };
	struct direct d = { .fd = -1 };
	int direct = 1; /* not tried yet; then 0 or a negative errno */
	uint64_t end = from + len;
	int r = 0;

	while (r == 0 && job.from < end) {
		bool cached;

		job.len = run_of_pieces(file, job.from, end - job.from, job.to, &cached);
		if (!cached && direct > 0)
			direct = direct_init(&d, file);
		if (cached || direct < 0) {
			uint64_t piece = PIECE - job.to % PIECE;

			job.len = job.len < piece ? job.len : piece;
			r = write_fully(target, file->bytes + job.from, job.len, job.to);
		} else {
			r = copy_direct(&d, &job);
		}
		job.from += job.len;
		job.to += job.len;
	}
	direct_fini(&d);
	return r;
}
