/* A loader that computes between what it loads, and what the disk could do meanwhile. */
#include "bench.h"

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE         4096u
#define DIRECT_BYTES ((uint64_t)4 << 20)

/* Each file is mapped as a whole when it is first needed, and stays mapped. */
struct mapped {
	const char *path;
	const uint8_t *bytes; /* NULL: not yet */
};

struct walk {
	struct ranges ranges;
	struct mapped *files;
	size_t file_count;
	size_t *file_of; /* each range */
	double compute;  /* seconds */
	bool willneed;
	uint64_t seed; /* of the pages that are touched first; 0: none are */

	/* Seconds, by range. */
	double *waits;   /* for all of it, that which follows included */
	double *opens;   /* of these, for opening and mapping */
	double *touches; /* and for the first touch */
};

static size_t find_file(struct walk *walk, const char *path)
{
	size_t i = walk->file_count;

	/* The file of the range before, most often. */
	while (i-- > 0)
		if (strcmp(walk->files[i].path, path) == 0)
			return i;
	walk->files[walk->file_count].path = path;
	return walk->file_count++;
}

static void walk_init(struct walk *walk, int argc, char **argv)
{
	size_t count;

	*walk = (struct walk){ .ranges = ranges_read(argv[0]),
			       .compute = strtod(argv[1], NULL) };
	walk->willneed = argc > 2 && strcmp(argv[2], "willneed") == 0;
	if (argc > 3 && strcmp(argv[2], "touch") == 0)
		walk->seed = strtoull(argv[3], NULL, 10) | 1;
	count = walk->ranges.count;
	walk->files = calloc(count, sizeof(*walk->files));
	walk->file_of = calloc(count, sizeof(*walk->file_of));
	walk->waits = calloc(count, sizeof(*walk->waits));
	walk->opens = calloc(count, sizeof(*walk->opens));
	walk->touches = calloc(count, sizeof(*walk->touches));
	if (count == 0 || !walk->files || !walk->file_of || !walk->waits ||
	    !walk->opens || !walk->touches)
		errx(1, "nothing to walk");
	for (size_t i = 0; i < count; i++)
		walk->file_of[i] = find_file(walk, walk->ranges.items[i].path);
}

static void walk_fini(struct walk *walk)
{
	free(walk->files);
	free(walk->file_of);
	free(walk->waits);
	free(walk->opens);
	free(walk->touches);
}

static void map_file(struct mapped *file, bool willneed)
{
	int fd = bench_open(file->path, 0);
	uint64_t size = bench_size(fd);
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		err(1, "map %s", file->path);
	(void)close(fd);
	if (willneed && madvise(map, size, MADV_WILLNEED) < 0)
		err(1, "advise %s", file->path);
	file->bytes = map;
}

/* The seconds of one access to some page of it. */
static double touch_one(struct walk *walk, const uint8_t *bytes, uint64_t len)
{
	uint64_t at = bench_random_next(&walk->seed) % (len / PAGE) * PAGE;
	double start = bench_now();

	(void)*(const volatile uint8_t *)(bytes + at);
	return bench_now() - start;
}

static uint64_t load(struct walk *walk, size_t i)
{
	const struct range *range = &walk->ranges.items[i];
	struct mapped *file = &walk->files[walk->file_of[i]];
	double start = bench_now();
	uint64_t sum;

	if (!file->bytes)
		map_file(file, walk->willneed);
	walk->opens[i] = bench_now() - start;
	if (walk->seed != 0 && range->length >= PAGE)
		walk->touches[i] =
			touch_one(walk, file->bytes + range->offset, range->length);
	sum = bench_sum_lines(file->bytes + range->offset, range->length);
	walk->waits[i] = bench_now() - start;
	return sum;
}

/* Keeps a processor busy, and leaves memory and disk to others. */
static void compute(double seconds)
{
	double end = bench_now() + seconds;

	while (bench_now() < end)
		;
}

void bench_walk(int argc, char **argv)
{
	struct walk walk;
	double start;
	uint64_t sum = 0;

	walk_init(&walk, argc, argv);
	start = bench_now();
	for (size_t i = 0; i < walk.ranges.count; i++) {
		sum += load(&walk, i);
		if (walk.ranges.items[i].pause)
			compute(walk.compute);
	}
	bench_print_numbers(bench_now() - start, walk.ranges.bytes, sum,
			    (const struct numbers[]){
				    { "waits", walk.waits, walk.ranges.count },
				    { "opens", walk.opens, walk.ranges.count },
				    { "touches", walk.touches, walk.ranges.count },
			    },
			    walk.seed != 0 ? 3 : 2);
	walk_fini(&walk);
}

/* ---- The disk ---- */

static void read_around_cache(const struct range *range, uint8_t *buffer)
{
	uint64_t end = range->offset + range->length;
	int fd = bench_open(range->path, O_DIRECT);

	for (uint64_t at = range->offset / PAGE * PAGE; at < end; at += DIRECT_BYTES) {
		uint64_t n = (end - at + PAGE - 1) / PAGE * PAGE;

		if (pread(fd, buffer, n < DIRECT_BYTES ? n : DIRECT_BYTES, (off_t)at) <=
		    0)
			err(1, "read %s", range->path);
	}
	(void)close(fd);
}

/* One thread, as dd with iflag=direct: the seconds of each part of a list up to where the
 * loader computes. */
void bench_pace(int argc, char **argv)
{
	const struct ranges ranges = ranges_read(argv[0]);
	uint8_t *buffer = bench_map_memory(DIRECT_BYTES);
	double *parts = calloc(ranges.count, sizeof(*parts));
	double start = bench_now();
	double last = start;
	size_t count = 0;

	(void)argc;
	if (!parts)
		err(1, "pace");
	memset(buffer, 1, DIRECT_BYTES);
	for (size_t i = 0; i < ranges.count; i++) {
		double now;

		read_around_cache(&ranges.items[i], buffer);
		now = bench_now();
		if (!ranges.items[i].pause)
			continue;
		parts[count++] = now - last;
		last = now;
	}
	bench_print_numbers(bench_now() - start, ranges.bytes, 0,
			    &(struct numbers){ "parts", parts, count }, 1);
	free(parts);
}
