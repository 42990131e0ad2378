/*
 * Reads 8 bytes of every 64-byte line of a file through a fresh mapping and prints the
 * rate in bytes a second and the sum of what it read. Every cache line comes in, so the
 * rate is bandwidth and not a count of page faults.
 *
 *     mmap_scan FILE [OFFSET LENGTH]
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE 64

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t sum_lines(const unsigned char *bytes, size_t len)
{
	uint64_t sum = 0;

	for (size_t i = 0; i + sizeof(uint64_t) <= len; i += LINE) {
		uint64_t word;

		memcpy(&word, bytes + i, sizeof(word));
		sum += word;
	}
	return sum;
}

static size_t rest_of_file(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		err(1, "fstat");
	return (size_t)st.st_size;
}

int main(int argc, char **argv)
{
	size_t offset;
	size_t len;
	size_t skew;
	uint64_t sum;
	double start;
	const unsigned char *map;
	int fd;

	if (argc != 2 && argc != 4)
		errx(2, "usage: mmap_scan FILE [OFFSET LENGTH]");
	start = now();
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", argv[1]);
	offset = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
	len = argc == 4 ? strtoull(argv[3], NULL, 10) : rest_of_file(fd);
	/* Mappings start on a page. */
	skew = offset % (size_t)sysconf(_SC_PAGESIZE);
	map = mmap(NULL, len + skew, PROT_READ, MAP_SHARED, fd, (off_t)(offset - skew));
	if (map == MAP_FAILED)
		err(1, "mmap %s", argv[1]);
	sum = sum_lines(map + skew, len);
	printf("%.0f %016" PRIx64 "\n", (double)len / (now() - start), sum);
	return 0;
}
