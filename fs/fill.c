#include "fill.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "pagecache.h"
#include "util/fd.h"

/* One write fills one huge page of the target, so that the kernel need not clear it
 * first. */
#define PIECE ((uint64_t)2 << 20)

#define PAGE 4096u

/* Offsets, lengths and memory of O_DIRECT: the largest block size in use. */
#define ALIGN 4096u

/* Reads in flight: enough to keep an NVMe disk busy while one piece is written. Each has
 * a slot for a piece, widened to whole blocks. */
#define DEPTH      4u
#define SLOT_BYTES (PIECE + ALIGN)

/* A range of the source and where it goes. */
struct job {
	const struct source_file *file;
	uint64_t from;
	uint64_t len;
	int target;
	uint64_t to;
	const atomic_bool *stop;
};

/* A piece is read into a slot and written from there. Writing it from the mapping of the
 * source saves the first copy, which stays in the core's cache, but costs a page fault
 * for each 64 KiB: that measured slower. A mapping of the target would be cleared first.
 */
struct slots {
	struct io_uring ring;
	uint8_t *memory;
	bool ring_ready;
};

/* Of each fill thread; these live as long as the session. */
static _Thread_local struct slots thread_slots;

/* ---- What is in the page cache ---- */

/* Whether all of the range is cached. Where the kernel does not tell (before Linux 6.5,
 * and for a file of somebody else once the daemon has given up its rights) its ends speak
 * for it. A guess that is wrong costs time only. */
static bool is_cached(const struct source_file *file, uint64_t from, uint64_t len)
{
	uint64_t cached;

	if (pagecache_count(file, from, len, &cached) == 0)
		return cached == len;
	return pagecache_has(file, from) && pagecache_has(file, from + len - 1);
}

/* ---- Memory ---- */

/* In huge pages, so that a disk gets a read as one run of memory and not as hundreds. The
 * last bytes of the last slot are beyond the last whole one. */
static int slots_map(struct slots *s)
{
	uint8_t *map;

	if (s->memory)
		return 0;
	map = mmap(NULL, DEPTH * SLOT_BYTES + PIECE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	/* What comes before is never touched. */
	s->memory = map + (PIECE - (uintptr_t)map % PIECE) % PIECE;
	(void)madvise(s->memory, DEPTH * PIECE, MADV_HUGEPAGE);
	return 0;
}

/* Between two fills the kernel may take the memory, but if it did not, the next one finds
 * it cleared already. */
static void slots_rest(const struct slots *s)
{
	if (s->memory)
		(void)madvise(s->memory, DEPTH * SLOT_BYTES, MADV_FREE);
}

/* After a failure of the ring itself reads may still be under way. The kernel holds on to
 * the pages that they go to, so the memory must not be used again. */
static void slots_abandon(struct slots *s)
{
	io_uring_queue_exit(&s->ring);
	s->ring_ready = false;
	(void)munmap(s->memory, DEPTH * SLOT_BYTES);
	s->memory = NULL;
}

static uint8_t *slot_memory(const struct slots *s, unsigned int slot)
{
	return s->memory + slot * SLOT_BYTES;
}

/* ---- Through the page cache ---- */

static int read_fully(const struct source_file *file, uint8_t *bytes, uint64_t len,
		      uint64_t from)
{
	while (len > 0) {
		ssize_t n = pread(file->fd, bytes, len, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EIO;
		bytes += n;
		len -= (uint64_t)n;
		from += (uint64_t)n;
	}
	return 0;
}

/* The length of the piece that starts `done` bytes into the job: to the end of a huge
 * page of the target. */
static uint64_t piece_at(const struct job *job, uint64_t done)
{
	uint64_t len = PIECE - (job->to + done) % PIECE;

	return len < job->len - done ? len : job->len - done;
}

/* 0, or -ECANCELED: nobody wants it any more. */
static int look_for_stop(const struct job *job)
{
	return job->stop && atomic_load_explicit(job->stop, memory_order_relaxed)
		       ? -ECANCELED
		       : 0;
}

static int copy_through_cache(const struct slots *s, const struct job *job)
{
	uint64_t done = 0;
	int r = 0;

	while (r == 0 && done < job->len) {
		uint64_t len = piece_at(job, done);

		r = look_for_stop(job);
		if (r == 0)
			r = read_fully(job->file, s->memory, len, job->from + done);
		if (r == 0)
			r = fd_write_fully(job->target, s->memory, len, job->to + done);
		done += len;
	}
	return r;
}

/* Copies one piece if the cache has all of it, and else gives -EAGAIN. An ordinary read
 * would also start to read ahead, and bring into the cache what comes next: which would
 * then be found there, and so on to the end of the model. */
static int copy_cached(const struct slots *s, const struct job *job)
{
	const struct iovec iov = { .iov_base = s->memory, .iov_len = job->len };
	ssize_t n = preadv2(job->file->fd, &iov, 1, (off_t)job->from, RWF_NOWAIT);

	if (n < 0 && errno == EOPNOTSUPP)
		return copy_through_cache(s, job);
	if (n != (ssize_t)job->len)
		return -EAGAIN;
	return fd_write_fully(job->target, s->memory, job->len, job->to);
}

/* ---- Around the page cache ---- */

/* A read under way or ended. */
struct flight {
	uint64_t done; /* where in the job the piece starts */
	uint64_t len;
	bool ended;
	int result;
};

struct direct {
	struct slots *slots;
	const struct job *job;
	int fd;         /* the same file, opened with O_DIRECT */
	uint64_t ahead; /* bytes of the job whose reads were started */
	unsigned int under_way;
	struct flight flights[DEPTH];
};

/* Starts to read the next piece, in whole blocks. The ring has an entry for each slot. */
static void start_read(struct direct *d, unsigned int slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&d->slots->ring);
	struct flight *flight = &d->flights[slot];
	uint64_t from = d->job->from + d->ahead;
	uint64_t begin = from / ALIGN * ALIGN;
	uint64_t end;

	*flight = (struct flight){ .done = d->ahead, .len = piece_at(d->job, d->ahead) };
	end = (from + flight->len + ALIGN - 1) / ALIGN * ALIGN;
	d->ahead += flight->len;
	flight->ended = !sqe;
	if (!sqe)
		return;
	io_uring_prep_read(sqe, d->fd, slot_memory(d->slots, slot),
			   (unsigned int)(end - begin), begin);
	io_uring_sqe_set_data(sqe, flight);
	d->under_way++;
}

/* Waits until this read has ended. Those that were prepared begin at once, whether it has
 * or not. 0, or what is wrong with the ring. */
static int wait_for(struct direct *d, const struct flight *flight)
{
	int r = io_uring_submit(&d->slots->ring);

	while (!flight->ended) {
		struct io_uring_cqe *cqe;
		struct flight *ended;

		if (r < 0 && r != -EINTR)
			return r;
		r = io_uring_submit_and_wait(&d->slots->ring, 1);
		if (io_uring_peek_cqe(&d->slots->ring, &cqe) < 0)
			continue;
		ended = io_uring_cqe_get_data(cqe);
		ended->result = cqe->res;
		ended->ended = true;
		io_uring_cqe_seen(&d->slots->ring, cqe);
		d->under_way--;
	}
	return 0;
}

/* Writes the piece of a read that has ended. What could not be read around the cache (not
 * aligned to the blocks of this disk, or cut short) is read through it. */
static int write_piece(const struct direct *d, unsigned int slot)
{
	const struct flight *flight = &d->flights[slot];
	uint64_t from = d->job->from + flight->done;
	uint64_t skew = from % ALIGN;
	uint8_t *bytes = slot_memory(d->slots, slot) + skew;
	int r = 0;

	if (flight->result < 0 || (uint64_t)flight->result < skew + flight->len)
		r = read_fully(d->job->file, bytes, flight->len, from);
	if (r < 0)
		return r;
	return fd_write_fully(d->job->target, bytes, flight->len,
			      d->job->to + flight->done);
}

static int copy_direct(struct slots *s, const struct job *job, int fd)
{
	struct direct d = { .slots = s, .job = job, .fd = fd };
	unsigned int slot = 0;
	uint64_t done = 0;
	int broken = 0;
	int r = 0;

	while (slot < DEPTH && d.ahead < job->len)
		start_read(&d, slot++);
	for (slot = 0; r == 0 && broken == 0 && done < job->len;
	     slot = (slot + 1) % DEPTH) {
		broken = wait_for(&d, &d.flights[slot]);
		if (broken == 0)
			r = look_for_stop(job);
		if (broken == 0 && r == 0)
			r = write_piece(&d, slot);
		done += d.flights[slot].len;
		if (r == 0 && broken == 0 && d.ahead < job->len)
			start_read(&d, slot);
	}
	/* None may end in a slot that is in use for something else. */
	for (slot = 0; broken == 0 && d.under_way > 0; slot++)
		broken = wait_for(&d, &d.flights[slot % DEPTH]);
	if (broken < 0)
		slots_abandon(s);
	return broken < 0 ? broken : r;
}

/* ---- All of it ---- */

/* The length of what is to be copied next: a piece that is cached, or all up to the next
 * one that is. */
static uint64_t run_of_pieces(const struct job *job, bool *cached)
{
	uint64_t run = piece_at(job, 0);

	*cached = is_cached(job->file, job->from, run);
	while (!*cached && run < job->len) {
		uint64_t len = piece_at(job, run);

		if (is_cached(job->file, job->from + run, len))
			break;
		run += len;
	}
	return run;
}

/* Whether this thread can read around the cache: not without /proc, or on a file system
 * without O_DIRECT. */
static bool can_read_around(struct slots *s, const struct source_file *file, int *fd)
{
	if (!s->ring_ready)
		s->ring_ready = io_uring_queue_init(DEPTH, &s->ring, 0) == 0;
	if (s->ring_ready && *fd < 0)
		*fd = fd_reopen(file->fd, O_RDONLY | O_DIRECT);
	return *fd >= 0;
}

int fill_copy(const struct source_file *file, uint64_t from, uint64_t len, int target,
	      uint64_t to, const atomic_bool *stop)
{
	struct slots *s = &thread_slots;
	struct job rest = {
		.file = file,
		.from = from,
		.len = len,
		.target = target,
		.to = to,
		.stop = stop,
	};
	CLEANUP(close_fd) int fd = -1;
	int r = 0;

	while (r == 0 && rest.len > 0) {
		struct job run = rest;
		bool cached;

		r = look_for_stop(&rest);
		if (r < 0)
			break;
		run.len = run_of_pieces(&rest, &cached);
		r = slots_map(s);
		if (r == 0)
			r = cached ? copy_cached(s, &run) : -EAGAIN;
		if (r == -EAGAIN && can_read_around(s, file, &fd))
			r = copy_direct(s, &run, fd);
		else if (r == -EAGAIN)
			r = copy_through_cache(s, &run);
		rest.from += run.len;
		rest.to += run.len;
		rest.len -= run.len;
	}
	slots_rest(s);
	return r;
}

int fill_copy_memory(int from, uint64_t len, int target, const atomic_bool *stop)
{
	struct slots *s = &thread_slots;
	const struct source_file file = { .fd = from };
	const struct job job = {
		.file = &file, .len = len, .target = target, .stop = stop
	};
	int r = slots_map(s);

	if (r == 0)
		r = copy_through_cache(s, &job);
	slots_rest(s);
	return r;
}
