/*
 * Maps a file and prints on which NUMA nodes its pages lie, as move_pages(2) tells it: a
 * line "NODE BYTES" for each node that has some. Nothing is asked of whoever serves the
 * file.
 *
 *     page_nodes [-n NODE] [-c] [-r OFFSET:LENGTH] [-s] [-u STOP] FILE
 *
 *     -n  runs on the processors of this node
 *     -c  counts what the page cache has, and brings nothing in; else every page is
 * touched -r  the pages with a byte of this range; else all of the file -s  prints "sum
 * SUM" of the range's bytes as well -u  keeps the file mapped and adds it up again and
 * again until there is a file STOP, then counts once more; "passes N" says how often,
 * "wrong N" how often the sum was another than at first
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_NODES 64
#define AT_ONCE    4096

struct arguments {
	const char *path;
	const char *stop;
	uint64_t offset;
	uint64_t length;
	bool has_range;
	bool cached_only;
	bool sum;
};

struct mapping {
	unsigned char *pages;
	size_t count;
	size_t page;
	const unsigned char *bytes; /* of the range */
	size_t length;
};

/* A list such as "0-3,8". */
static void add_cpus(const char *list, cpu_set_t *cpus)
{
	while (*list >= '0' && *list <= '9') {
		char *end;
		unsigned long first = strtoul(list, &end, 10);
		unsigned long last = *end == '-' ? strtoul(end + 1, &end, 10) : first;

		for (unsigned long cpu = first; cpu <= last && cpu < CPU_SETSIZE; cpu++)
			CPU_SET(cpu, cpus);
		list = *end == ',' ? end + 1 : end;
	}
}

static void run_on_node(const char *node)
{
	char path[128];
	char list[4096];
	FILE *file;
	cpu_set_t cpus;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%s/cpulist", node);
	file = fopen(path, "re");
	if (!file || !fgets(list, sizeof(list), file))
		err(1, "%s", path);
	fclose(file);
	CPU_ZERO(&cpus);
	add_cpus(list, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		err(1, "processors of node %s", node);
}

static void parse_range(struct arguments *args, const char *text)
{
	char *end;

	args->offset = strtoull(text, &end, 10);
	if (*end == ':')
		args->length = strtoull(end + 1, &end, 10);
	if (*end != '\0' || args->length == 0)
		errx(2, "'%s': not OFFSET:LENGTH", text);
	args->has_range = true;
}

static struct mapping map_range(const struct arguments *args)
{
	struct mapping map = { .page = (size_t)sysconf(_SC_PAGESIZE) };
	uint64_t offset = args->offset;
	uint64_t length = args->length;
	struct stat st;
	size_t skew;
	int fd;

	fd = open(args->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", args->path);
	if (!args->has_range) {
		offset = 0;
		length = (uint64_t)st.st_size;
	}
	if (offset > (uint64_t)st.st_size || length > (uint64_t)st.st_size - offset)
		errx(1, "%s: has %jd bytes", args->path, (intmax_t)st.st_size);
	skew = offset % map.page;
	map.length = (size_t)length;
	map.count = (map.length + skew + map.page - 1) / map.page;
	map.pages = mmap(NULL, map.length + skew, PROT_READ, MAP_SHARED, fd,
			 (off_t)(offset - skew));
	if (map.pages == MAP_FAILED)
		err(1, "mmap %s", args->path);
	map.bytes = map.pages + skew;
	close(fd);
	return map;
}

/*
 * A page has to be mapped for move_pages() to see it. Without read-ahead, as a touch of a
 * cached page may set that off for those behind it.
 */
static void touch_pages(const struct mapping *map, bool cached_only)
{
	volatile unsigned char sink = 0;
	unsigned char *cached = calloc(map->count, 1);

	if (!cached)
		err(1, "memory");
	if (cached_only &&
	    (madvise(map->pages, map->count * map->page, MADV_RANDOM) < 0 ||
	     mincore(map->pages, map->count * map->page, cached) < 0))
		err(1, "mincore");
	for (size_t i = 0; i < map->count; i++) {
		if (!cached_only || (cached[i] & 1))
			sink = map->pages[i * map->page];
	}
	(void)sink;
	free(cached);
}

static void print_nodes(const struct mapping *map)
{
	void *pages[AT_ONCE];
	int nodes[AT_ONCE];
	uint64_t bytes[MOST_NODES] = { 0 };
	uint64_t absent = 0;

	for (size_t done = 0; done < map->count;) {
		size_t n = map->count - done < AT_ONCE ? map->count - done : AT_ONCE;

		for (size_t i = 0; i < n; i++)
			pages[i] = map->pages + (done + i) * map->page;
		if (syscall(SYS_move_pages, 0, n, pages, NULL, nodes, 0) < 0)
			err(1, "move_pages");
		for (size_t i = 0; i < n; i++) {
			if (nodes[i] >= 0 && nodes[i] < MOST_NODES)
				bytes[nodes[i]] += map->page;
			else if (nodes[i] == -ENOENT || nodes[i] == -EFAULT)
				absent += map->page;
			else
				errx(1, "move_pages: page: %s", strerror(-nodes[i]));
		}
		done += n;
	}
	for (int node = 0; node < MOST_NODES; node++) {
		if (bytes[node] > 0)
			printf("%d %" PRIu64 "\n", node, bytes[node]);
	}
	printf("absent %" PRIu64 "\n", absent);
}

/* Of words by their place, so that those that are exchanged show. */
static uint64_t add_up(const struct mapping *map)
{
	uint64_t sum = 0;
	uint64_t factor = 1;

	for (size_t i = 0; i + sizeof(uint64_t) <= map->length; i += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, map->bytes + i, sizeof(word));
		sum += word * factor;
		factor += 2;
	}
	return sum;
}

static void keep_mapped(const struct mapping *map, const char *stop)
{
	uint64_t first = add_up(map);
	unsigned passes = 0;
	unsigned wrong = 0;

	/* Whoever waits for the first pass reads that line. */
	printf("mapped\n");
	fflush(stdout);
	while (access(stop, F_OK) < 0) {
		wrong += add_up(map) != first;
		passes++;
	}
	printf("passes %u\nwrong %u\n", passes, wrong);
}

static struct arguments parse_arguments(int argc, char **argv)
{
	struct arguments args = { 0 };
	int option;

	while ((option = getopt(argc, argv, "n:cr:su:")) != -1) {
		switch (option) {
		case 'n':
			run_on_node(optarg);
			break;
		case 'c':
			args.cached_only = true;
			break;
		case 'r':
			parse_range(&args, optarg);
			break;
		case 's':
			args.sum = true;
			break;
		case 'u':
			args.stop = optarg;
			break;
		default:
			exit(2);
		}
	}
	if (optind != argc - 1)
		errx(2,
		     "usage: page_nodes [-n NODE] [-c] [-r OFFSET:LENGTH] [-s] [-u STOP] FILE");
	args.path = argv[optind];
	return args;
}

int main(int argc, char **argv)
{
	struct arguments args = parse_arguments(argc, argv);
	struct mapping map = map_range(&args);

	if (args.stop)
		keep_mapped(&map, args.stop);
	touch_pages(&map, args.cached_only);
	print_nodes(&map);
	if (args.sum)
		printf("sum %" PRIu64 "\n", add_up(&map));
	return 0;
}
