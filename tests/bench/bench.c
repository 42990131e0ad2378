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
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE      64u
#define HUGE_PAGE ((uint64_t)2 << 20)

static const struct {
	const char *name;
	int least; /* arguments */
	void (*run)(int argc, char **argv);
	const char *usage;
} commands[] = {
	{ "mmap", 1, bench_mmap, "LIST [hold]     scan through fresh mappings" },
	{ "read", 1, bench_read, "LIST            scan through read()" },
	{ "malloc", 1, bench_malloc,
	  "LIST           read into malloc'd memory, and scan that" },
	{ "walk", 2, bench_walk,
	  "LIST COMPUTE [willneed|touch SEED] scan as a loader that computes" },
	{ "pace", 1, bench_pace,
	  "LIST            how fast it can be read, part by part" },
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

/* Not ru_maxrss: that begins with what the caller had when it forked. */
static uint64_t most_memory(void)
{
	unsigned long long kib = 0;
	char line[256];
	FILE *file = fopen("/proc/self/status", "re");

	if (!file)
		err(1, "/proc/self/status");
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = strtoull(line + 6, NULL, 10);
	(void)fclose(file);
	return kib << 10;
}

static void print_numbers(const struct numbers *numbers)
{
	printf(", \"%s\": [", numbers->name);
	for (size_t i = 0; i < numbers->count; i++)
		printf("%s%.9f", i > 0 ? ", " : "", numbers->values[i]);
	printf("]");
}

void bench_print_numbers(double seconds, uint64_t bytes, uint64_t sum,
			 const struct numbers *numbers, size_t count)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	printf("{\"seconds\": %.9f, \"bytes\": %" PRIu64 ", \"sum\": \"%016" PRIx64
	       "\", \"most_memory\": %" PRIu64 ", \"minor_faults\": %ld, "
	       "\"major_faults\": %ld",
	       seconds, bytes, sum, most_memory(), usage.ru_minflt, usage.ru_majflt);
	for (size_t i = 0; i < count; i++)
		print_numbers(&numbers[i]);
	printf("}\n");
	(void)fflush(stdout);
}

void bench_print(double seconds, uint64_t bytes, uint64_t sum)
{
	bench_print_numbers(seconds, bytes, sum, NULL, 0);
}

uint64_t bench_sum_lines(const uint8_t *bytes, uint64_t len)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i + sizeof(uint64_t) <= len; i += LINE) {
		uint64_t word;

		memcpy(&word, bytes + i, sizeof(word));
		sum += word;
	}
	return sum;
}

/* xorshift64*. */
uint64_t bench_random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}

void bench_pread_fully(const struct range *range, int fd, uint8_t *buffer, uint64_t len,
		       uint64_t at)
{
	while (len > 0) {
		ssize_t n = pread(fd, buffer, len, (off_t)at);

		if (n <= 0)
			err(1, "read %s", range->path);
		buffer += n;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
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

static void add_line(struct ranges *ranges, const char *line)
{
	struct range range = { 0 };
	char *end;

	if (*line == '\0' && ranges->count > 0) {
		ranges->items[ranges->count - 1].pause = true;
		return;
	}
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
		add_line(&ranges, line);
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
