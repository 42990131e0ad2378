/* What clients do with tensors: map, read, touch, open. */
#include "bench.h"

#include <err.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE       4096u
#define READ_BYTES ((uint64_t)1 << 20)

/* ---- Mappings ---- */

/* Maps the file of a range as a whole, or goes on with the mapping of the range before
 * where that has the same file. Mappings stay, as those of a loader do. */
static const uint8_t *map_range(const struct ranges *ranges, size_t at,
				const uint8_t *last)
{
	const struct range *range = &ranges->items[at];
	uint64_t size;
	void *map;
	int fd;

	if (at > 0 && strcmp(range[-1].path, range->path) == 0)
		return last - range[-1].offset + range->offset;
	fd = bench_open(range->path, 0);
	size = bench_size(fd);
	if (range->offset > size || range->length > size - range->offset)
		errx(1, "%s: the file has %llu bytes", range->path,
		     (unsigned long long)size);
	map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		err(1, "map %s", range->path);
	(void)close(fd);
	return (const uint8_t *)map + range->offset;
}

static void wait_for_end_of_input(void)
{
	char c;

	while (read(STDIN_FILENO, &c, 1) > 0)
		;
}

void bench_mmap(int argc, char **argv)
{
	const struct ranges ranges = ranges_read(argv[0]);
	const uint8_t *bytes = NULL;
	double start = bench_now();
	uint64_t sum = 0;

	for (size_t i = 0; i < ranges.count; i++) {
		bytes = map_range(&ranges, i, bytes);
		sum += bench_sum_lines(bytes, ranges.items[i].length);
	}
	bench_print(bench_now() - start, ranges.bytes, sum);
	if (argc > 1)
		wait_for_end_of_input();
}

/* Any page of any range with the same chance. */
static const volatile uint8_t *pick_page(const struct ranges *ranges,
					 const uint8_t *const *starts, uint64_t *state)
{
	uint64_t at = bench_random_next(state) % (ranges->bytes / PAGE) * PAGE;
	size_t i = 0;

	while (i + 1 < ranges->count && at >= ranges->items[i].length)
		at -= ranges->items[i++].length;
	return starts[i] + at % ranges->items[i].length;
}

void bench_touch(int argc, char **argv)
{
	const struct ranges ranges = ranges_read(argv[0]);
	size_t count = strtoull(argv[1], NULL, 10);
	uint64_t state = strtoull(argv[2], NULL, 10) | 1;
	const uint8_t **starts = calloc(ranges.count, sizeof(*starts));
	const volatile uint8_t **pages = calloc(count, sizeof(*pages));
	uint64_t sum = 0;
	double start;

	(void)argc;
	if (!starts || !pages)
		err(1, "touch");
	for (size_t i = 0; i < ranges.count; i++)
		starts[i] = map_range(&ranges, i, i > 0 ? starts[i - 1] : NULL);
	for (size_t i = 0; i < count; i++)
		pages[i] = pick_page(&ranges, starts, &state);
	start = bench_now();
	for (size_t i = 0; i < count; i++)
		sum += *pages[i];
	bench_print(bench_now() - start, count, sum);
	free(pages);
	free(starts);
}

/* ---- read() ---- */

void bench_read(int argc, char **argv)
{
	const struct ranges ranges = ranges_read(argv[0]);
	uint8_t *buffer = malloc(READ_BYTES);
	double start = bench_now();
	uint64_t sum = 0;

	(void)argc;
	if (!buffer)
		err(1, "read");
	for (size_t i = 0; i < ranges.count; i++) {
		const struct range *range = &ranges.items[i];
		int fd = bench_open(range->path, 0);

		for (uint64_t at = 0; at < range->length; at += READ_BYTES) {
			uint64_t n = range->length - at;

			n = n < READ_BYTES ? n : READ_BYTES;
			bench_pread_fully(range, fd, buffer, n, range->offset + at);
			sum += bench_sum_lines(buffer, n);
		}
		(void)close(fd);
	}
	bench_print(bench_now() - start, ranges.bytes, sum);
	free(buffer);
}

/* What many loaders do: memory of its own for each tensor. All of it is kept. */
void bench_malloc(int argc, char **argv)
{
	const struct ranges ranges = ranges_read(argv[0]);
	double start = bench_now();
	uint64_t sum = 0;

	(void)argc;
	for (size_t i = 0; i < ranges.count; i++) {
		const struct range *range = &ranges.items[i];
		uint8_t *memory = malloc(range->length);
		int fd = bench_open(range->path, 0);

		if (!memory)
			err(1, "malloc");
		bench_pread_fully(range, fd, memory, range->length, range->offset);
		sum += bench_sum_lines(memory, range->length);
		(void)close(fd);
	}
	bench_print(bench_now() - start, ranges.bytes, sum);
}

void bench_peek(int argc, char **argv)
{
	const struct ranges ranges = ranges_read(argv[0]);
	uint64_t most = strtoull(argv[1], NULL, 10);
	uint8_t *buffer = calloc(1, most);
	double start = bench_now();
	uint64_t sum = 0;

	(void)argc;
	if (!buffer)
		err(1, "peek");
	for (size_t i = 0; i < ranges.count; i++) {
		const struct range *range = &ranges.items[i];
		uint64_t n = range->length < most ? range->length : most;
		int fd = bench_open(range->path, 0);

		bench_pread_fully(range, fd, buffer, n, range->offset);
		sum += bench_sum_lines(buffer, n);
		(void)close(fd);
	}
	bench_print(bench_now() - start, ranges.count * most, sum);
	free(buffer);
}

/* ---- open() ---- */

void bench_open_close(int argc, char **argv)
{
	uint64_t count = strtoull(argv[1], NULL, 10);
	double start = bench_now();

	(void)argc;
	for (uint64_t i = 0; i < count; i++)
		(void)close(bench_open(argv[0], 0));
	bench_print(bench_now() - start, count, 0);
}

struct opening {
	struct ranges ranges;
	atomic_size_t next;
};

static void *open_next(void *argument)
{
	struct opening *opening = argument;
	size_t i;

	while ((i = atomic_fetch_add(&opening->next, 1)) < opening->ranges.count)
		(void)close(bench_open(opening->ranges.items[i].path, 0));
	return NULL;
}

void bench_load(int argc, char **argv)
{
	struct opening opening = { .ranges = ranges_read(argv[0]) };
	unsigned long count = strtoul(argv[1], NULL, 10);
	pthread_t *threads = calloc(count, sizeof(*threads));
	double start = bench_now();

	(void)argc;
	if (!threads)
		err(1, "load");
	for (unsigned long i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, open_next, &opening) != 0)
			errx(1, "no thread");
	for (unsigned long i = 0; i < count; i++)
		(void)pthread_join(threads[i], NULL);
	bench_print(bench_now() - start, opening.ranges.bytes, 0);
	free(threads);
}
