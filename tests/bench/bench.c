/*
 * The measuring half of bench.py: each command does one thing once, and prints seconds,
 * bytes and a sum of what it read as JSON.
 */
#include "bench.h"

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((uint64_t)2 << 20)

static const struct {
	const char *name;
	int least; /* arguments */
	void (*run)(int argc, char **argv);
	const char *usage;
} commands[] = {
	{ "mmap", 1, bench_mmap, "LIST [hold]     scan through fresh mappings" },
	{ "read", 1, bench_read, "LIST            scan through read()" },
	{ "touch", 3, bench_touch, "LIST COUNT SEED one byte of random pages" },
	{ "peek", 2, bench_peek, "LIST BYTES      open each and read its first bytes" },
	{ "open", 2, bench_open_close, "FILE COUNT      open and close" },
	{ "load", 2, bench_load, "LIST THREADS    open and close each file once" },
	{ "pread", 2, bench_pread, "LIST THREADS    read into huge pages" },
	{ "direct", 2, bench_direct, "FILE THREADS    read around the page cache" },
	{ "cached", 1, bench_cached, "LIST            bytes in the page cache" },
	{ "drop", 1, bench_drop, "FILE            drop it from the page cache" },
	{ "warm", 1, bench_warm, "BYTES           touch so much memory and free it" },
	{ "random", 3, bench_random, "FILE BYTES SEED append pseudo-random bytes" },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

double bench_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void bench_print(double seconds, uint64_t bytes, uint64_t sum)
{
	printf("{\"seconds\": %.9f, \"bytes\": %" PRIu64 ", \"sum\": \"%016" PRIx64
	       "\"}\n",
	       seconds, bytes, sum);
	(void)fflush(stdout);
}

int bench_open(const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

uint64_t bench_size(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		err(1, "fstat");
	return (uint64_t)st.st_size;
}

/* A huge page more, so that the start can be moved to the boundary of one. */
void *bench_map_memory(uint64_t len)
{
	char *map = mmap(NULL, len + HUGE_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		err(1, "map %" PRIu64 " bytes", len);
	map += HUGE_PAGE - (uintptr_t)map % HUGE_PAGE;
	if (madvise(map, len, MADV_HUGEPAGE) < 0)
		warn("huge pages");
	return map;
}

static void add_range(struct ranges *ranges, const char *line)
{
	struct range range;
	char *end;

	range.offset = strtoull(line, &end, 10);
	range.length = strtoull(end, &end, 10);
	range.path = *end == ' ' ? strdup(end + 1) : NULL;
	ranges->items = realloc(ranges->items, (ranges->count + 1) * sizeof(range));
	if (!range.path || !ranges->items)
		errx(1, "bad line in the list: %s", line);
	ranges->items[ranges->count++] = range;
	ranges->bytes += range.length;
}

struct ranges ranges_read(const char *path)
{
	struct ranges ranges = { 0 };
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	FILE *file = fopen(path, "re");

	if (!file)
		err(1, "%s", path);
	while ((n = getline(&line, &size, file)) > 0) {
		line[n - 1] = '\0';
		add_range(&ranges, line);
	}
	free(line);
	(void)fclose(file);
	return ranges;
}

static void print_usage(void)
{
	(void)fprintf(stderr, "usage: bench COMMAND ...\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		(void)fprintf(stderr, "  %-7s %s\n", commands[i].name, commands[i].usage);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < COMMAND_COUNT; i++) {
		if (strcmp(argv[1], commands[i].name) != 0 ||
		    argc - 2 < commands[i].least)
			continue;
		commands[i].run(argc - 2, argv + 2);
		return 0;
	}
	print_usage();
	return 2;
}
