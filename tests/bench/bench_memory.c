/* The page cache, memory and the disk: what tensors are compared with. */
#include "bench.h"

#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE      4096u
#define HUGE_PAGE ((uint64_t)2 << 20)

/* ---- Reading with threads ---- */

/* The work is cut into pieces, and each thread takes the next one. */
struct work {
	const struct ranges *ranges;
	int *fds;         /* of each range */
	uint8_t *memory;  /* where all goes; NULL: a buffer of each thread */
	uint64_t *places; /* of each range in it */
	uint64_t piece;
	uint64_t pieces;
	uint64_t *first; /* piece of each range */
	atomic_uint_fast64_t next;
};

static uint64_t pieces_of(uint64_t len, uint64_t piece)
{
	return (len + piece - 1) / piece;
}

/* The range that a piece belongs to. */
static size_t range_of(const struct work *work, uint64_t piece)
{
	size_t i = work->ranges->count - 1;

	while (work->first[i] > piece)
		i--;
	return i;
}

static void *do_work(void *argument)
{
	struct work *work = argument;
	uint8_t *buffer = work->memory ? NULL : bench_map_memory(work->piece);
	uint64_t piece;

	while ((piece = atomic_fetch_add(&work->next, 1)) < work->pieces) {
		size_t i = range_of(work, piece);
		const struct range *range = &work->ranges->items[i];
		uint64_t at = (piece - work->first[i]) * work->piece;
		uint64_t n = range->length - at;
		uint8_t *to = buffer ? buffer : work->memory + work->places[i] + at;

		n = n < work->piece ? n : work->piece;
		if (pread(work->fds[i], to, n, (off_t)(range->offset + at)) < (ssize_t)n)
			err(1, "read %s", range->path);
	}
	return NULL;
}

static double run_threads(struct work *work, unsigned long count)
{
	pthread_t *threads = calloc(count, sizeof(*threads));
	double start = bench_now();

	if (!threads)
		err(1, "threads");
	for (unsigned long i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, do_work, work) != 0)
			errx(1, "no thread");
	for (unsigned long i = 0; i < count; i++)
		(void)pthread_join(threads[i], NULL);
	free(threads);
	return bench_now() - start;
}

static void work_init(struct work *work, const struct ranges *ranges, uint64_t piece,
		      int flags)
{
	uint64_t place = 0;

	*work = (struct work){ .ranges = ranges, .piece = piece };
	work->fds = calloc(ranges->count, sizeof(*work->fds));
	work->first = calloc(ranges->count, sizeof(*work->first));
	work->places = calloc(ranges->count, sizeof(*work->places));
	if (ranges->count == 0 || !work->fds || !work->first || !work->places)
		errx(1, "nothing to read");
	for (size_t i = 0; i < ranges->count; i++) {
		uint64_t len = ranges->items[i].length;

		work->fds[i] = bench_open(ranges->items[i].path, flags);
		work->first[i] = work->pieces;
		work->pieces += pieces_of(len, piece);
		work->places[i] = place;
		place += pieces_of(len, HUGE_PAGE) * HUGE_PAGE;
	}
}

static void work_fini(struct work *work)
{
	for (size_t i = 0; i < work->ranges->count; i++)
		(void)close(work->fds[i]);
	free(work->fds);
	free(work->first);
	free(work->places);
}

/* What a careful loader does: one pread() for each huge page of fresh memory. */
void bench_pread(int argc, char **argv)
{
	const struct ranges ranges = ranges_read(argv[0]);
	struct work work;
	double seconds;

	(void)argc;
	work_init(&work, &ranges, HUGE_PAGE, 0);
	work.memory = bench_map_memory(ranges.bytes + ranges.count * HUGE_PAGE);
	seconds = run_threads(&work, strtoul(argv[1], NULL, 10));
	bench_print(seconds, ranges.bytes, 0);
	work_fini(&work);
}

/* As dd with iflag=direct and bs=4M, several at a time. */
void bench_direct(int argc, char **argv)
{
	struct range file = { .path = argv[0] };
	struct ranges ranges = { .items = &file, .count = 1 };
	int fd = bench_open(argv[0], 0);
	struct work work;
	double seconds;

	(void)argc;
	file.length = bench_size(fd) / PAGE * PAGE;
	(void)close(fd);
	work_init(&work, &ranges, 2 * HUGE_PAGE, O_DIRECT);
	seconds = run_threads(&work, strtoul(argv[1], NULL, 10));
	bench_print(seconds, file.length, 0);
	work_fini(&work);
}

/* ---- The page cache ---- */

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif

static uint64_t cached_pages(const char *path)
{
	const uint64_t whole[2] = { 0, 0 };
	uint64_t counts[5];
	int fd = bench_open(path, 0);

	if (syscall(SYS_cachestat, fd, whole, counts, 0) < 0)
		err(1, "cachestat %s", path);
	(void)close(fd);
	return counts[0];
}

void bench_cached(int argc, char **argv)
{
	const struct ranges ranges = ranges_read(argv[0]);
	uint64_t pages = 0;

	(void)argc;
	for (size_t i = 0; i < ranges.count; i++)
		if (i == 0 || strcmp(ranges.items[i].path, ranges.items[i - 1].path) != 0)
			pages += cached_pages(ranges.items[i].path);
	bench_print(0, pages * PAGE, 0);
}

/* Pages that are dirty cannot be dropped, so they are written first. */
void bench_drop(int argc, char **argv)
{
	int fd = bench_open(argv[0], 0);

	(void)argc;
	if (fsync(fd) < 0)
		err(1, "%s", argv[0]);
	if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
		errx(1, "%s: cannot be dropped", argv[0]);
	(void)close(fd);
	bench_print(0, cached_pages(argv[0]) * PAGE, 0);
}

/* ---- Memory and files ---- */

/* A virtual machine has no memory behind pages that it never touched: the first touch
 * waits for the host. */
void bench_warm(int argc, char **argv)
{
	uint64_t len = strtoull(argv[0], NULL, 10);
	double start = bench_now();
	volatile uint8_t *memory = bench_map_memory(len);

	(void)argc;
	for (uint64_t i = 0; i < len; i += PAGE)
		memory[i] = 1;
	bench_print(bench_now() - start, len, 0);
}

static void fill_random(uint64_t *words, size_t count, uint64_t *state)
{
	for (size_t i = 0; i < count; i++) {
		*state ^= *state << 13;
		*state ^= *state >> 7;
		*state ^= *state << 17;
		words[i] = *state;
	}
}

void bench_random(int argc, char **argv)
{
	uint64_t left = strtoull(argv[1], NULL, 10);
	uint64_t state = strtoull(argv[2], NULL, 10) | 1;
	uint64_t *words = bench_map_memory(HUGE_PAGE);
	int fd = open(argv[0], O_WRONLY | O_APPEND | O_CLOEXEC);
	double start = bench_now();

	(void)argc;
	if (fd < 0)
		err(1, "%s", argv[0]);
	while (left > 0) {
		uint64_t n = left < HUGE_PAGE ? left : HUGE_PAGE;

		fill_random(words, HUGE_PAGE / sizeof(*words), &state);
		if (write(fd, words, n) != (ssize_t)n)
			err(1, "write %s", argv[0]);
		left -= n;
	}
	(void)close(fd);
	bench_print(bench_now() - start, strtoull(argv[1], NULL, 10), 0);
}
