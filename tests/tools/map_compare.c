/*
 * Maps files one after the other, each anew, and compares every byte with what is
 * expected, until the time is over. Prints how many it has compared.
 *
 *     map_compare SECONDS SEED LIST
 *
 * Each line of LIST is "FILE<tab>EXPECTED": two paths. Pages are touched from the front,
 * from the back, or in an order without any. Exit status: 0 fine, 1 wrong bytes or an
 * error.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "util/macros.h"

#define MAX_FILES 4096
#define PAGE      4096u

/* Prime to any number of pages that a test has: steps through all of them. */
#define STRIDE 1000003u

struct pair {
	char *path;
	char *expected;
};

static size_t read_list(const char *list, struct pair *pairs)
{
	FILE *file = fopen(list, "re");
	char *line = NULL;
	size_t room = 0;
	size_t count = 0;

	if (!file)
		err(1, "%s", list);
	while (count < MAX_FILES && getline(&line, &room, file) > 0) {
		char *tab = strchr(line, '\t');

		if (!tab)
			errx(1, "%s: no tab in a line", list);
		*tab = '\0';
		tab[1 + strcspn(tab + 1, "\n")] = '\0';
		pairs[count].path = strdup(line);
		pairs[count].expected = strdup(tab + 1);
		if (!pairs[count].path || !pairs[count].expected)
			err(1, "strdup");
		count++;
	}
	free(line);
	(void)fclose(file);
	return count;
}

static const unsigned char *map(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *bytes;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	*len = (size_t)st.st_size;
	bytes = mmap(NULL, *len, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		err(1, "map %s", path);
	/* The mapping keeps the file open. */
	(void)close(fd);
	return bytes;
}

/* The page that comes as number `i`. */
static size_t page_at(size_t i, size_t pages, unsigned int order)
{
	if (order == 0)
		return i;
	return order == 1 ? pages - 1 - i : (size_t)((uint64_t)i * STRIDE % pages);
}

static void compare(const struct pair *pair, unsigned int order)
{
	size_t len;
	size_t expected_len;
	const unsigned char *bytes = map(pair->path, &len);
	const unsigned char *expected = map(pair->expected, &expected_len);
	size_t pages = (len + PAGE - 1) / PAGE;

	if (len != expected_len)
		errx(1, "%s: has %zu bytes, expected %zu", pair->path, len, expected_len);
	for (size_t i = 0; i < pages; i++) {
		size_t at = page_at(i, pages, order) * PAGE;
		size_t n = len - at < PAGE ? len - at : PAGE;

		if (memcmp(bytes + at, expected + at, n) != 0)
			errx(1, "%s: wrong bytes in the page at %zu", pair->path, at);
	}
	(void)munmap(discard_const(bytes), len);
	(void)munmap(discard_const(expected), len);
}

int main(int argc, char **argv)
{
	static struct pair pairs[MAX_FILES];
	size_t count;
	time_t end;
	uint64_t random;
	unsigned long done = 0;

	if (argc != 4)
		errx(2, "usage: map_compare SECONDS SEED LIST");
	end = time(NULL) + strtol(argv[1], NULL, 10);
	random = strtoull(argv[2], NULL, 10);
	count = read_list(argv[3], pairs);
	if (count == 0)
		errx(1, "%s: empty", argv[3]);
	while (time(NULL) < end || done == 0) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		compare(&pairs[(random >> 33) % count], (unsigned int)(random >> 60) % 3);
		done++;
	}
	(void)printf("%lu\n", done);
	return 0;
}
