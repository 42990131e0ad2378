/* What the commands of bench share: lists of byte ranges, the clock, the output. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes of one tensor: in the model file, or in a file of the mount. */
struct range {
	char *path;
	uint64_t offset;
	uint64_t length;
	bool pause; /* after it the loader computes */
};

struct ranges {
	struct range *items;
	size_t count;
	uint64_t bytes; /* of all */
};

/* A list has one "OFFSET LENGTH PATH" a line, and an empty line where a loader computes.
 * These end the program on errors; the list lives until the end. */
struct ranges ranges_read(const char *path);

/* Opens for reading, with further flags. */
int bench_open(const char *path, int flags);
uint64_t bench_size(int fd);
void *bench_map_memory(uint64_t len); /* anonymous, in huge pages, not touched yet */
double bench_now(void);               /* seconds of the monotonic clock */

/* 8 bytes of every line: all of them come in, so the rate is bandwidth. */
uint64_t bench_sum_lines(const uint8_t *bytes, uint64_t len);
uint64_t bench_random_next(uint64_t *state); /* the same numbers in every run */
void bench_pread_fully(const struct range *range, int fd, uint8_t *buffer, uint64_t len,
		       uint64_t at);

/* Numbers of the result that are more than one. */
struct numbers {
	const char *name;
	const double *values;
	size_t count;
};

/* Prints the result, one JSON object, with the faults and the most memory of the process
 * so far. `sum` is over what was read, so that the same bytes give the same sum whatever
 * the way. */
void bench_print(double seconds, uint64_t bytes, uint64_t sum);
void bench_print_numbers(double seconds, uint64_t bytes, uint64_t sum,
			 const struct numbers *numbers, size_t count);

/* The commands get what follows their name. */
void bench_mmap(int argc, char **argv);
void bench_read(int argc, char **argv);
void bench_touch(int argc, char **argv);
void bench_peek(int argc, char **argv);
void bench_open_close(int argc, char **argv);
void bench_load(int argc, char **argv);
void bench_malloc(int argc, char **argv);
void bench_walk(int argc, char **argv);
void bench_pace(int argc, char **argv);
void bench_pread(int argc, char **argv);
void bench_direct(int argc, char **argv);
void bench_cached(int argc, char **argv);
void bench_drop(int argc, char **argv);
void bench_warm(int argc, char **argv);
void bench_random(int argc, char **argv);

#endif
