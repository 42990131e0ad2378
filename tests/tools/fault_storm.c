/*
 * Many threads fault pages of the same and of different mapped files, throw them out of
 * the page cache again, and compare every byte they touch with the source.
 *
 *     fault_storm SECONDS THREADS SOURCE LIST
 *
 * Each line of LIST is "OFFSET LENGTH PATH": PATH shows these bytes of SOURCE. The first
 * one is hot: every second visit goes to it. Exit status: 0 fine, 1 wrong bytes or an
 * error, 3 a thread made no progress for HANG_S seconds.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILES   4096
#define MAX_THREADS 256
#define HANG_S      30

/* Pages touched in one visit of a file. */
#define TOUCHES 64

#define PAGE 4096u

struct file {
	size_t offset;
	size_t length;
	char *path;
};

struct worker {
	pthread_t thread;
	uint64_t random;
	atomic_ulong visits;
};

static struct {
	const unsigned char *source;
	struct file files[MAX_FILES];
	size_t file_count;
	struct worker workers[MAX_THREADS];
	size_t worker_count;
	atomic_bool stop;
	atomic_bool wrong;
} storm;

/* xorshift64: each thread has its own. */
static uint64_t next_random(struct worker *worker)
{
	uint64_t x = worker->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	worker->random = x;
	return x;
}

static bool same_bytes(const struct file *file, const unsigned char *map, size_t at)
{
	size_t len = file->length - at < PAGE ? file->length - at : PAGE;

	return memcmp(map + at, storm.source + file->offset + at, len) == 0;
}

static void fail(const struct file *file, const char *what)
{
	atomic_store(&storm.wrong, true);
	atomic_store(&storm.stop, true);
	fprintf(stderr, "fault_storm: %s: %s\n", file->path, what);
}

static void touch_pages(struct worker *worker, const struct file *file,
			const unsigned char *map)
{
	size_t pages = (file->length + PAGE - 1) / PAGE;
	size_t from = next_random(worker) % pages;
	bool in_order = next_random(worker) & 1;

	for (size_t i = 0; i < TOUCHES; i++) {
		size_t page = in_order ? from + i : next_random(worker);
		size_t at = page % pages * PAGE;

		if (!same_bytes(file, map, at)) {
			fail(file, "wrong bytes");
			return;
		}
	}
}

/* Maps a file, touches it, and sometimes makes the kernel forget a part of it, so that
 * pages are read again and again while others map them. */
static void visit(struct worker *worker, const struct file *file)
{
	int fd = open(file->path, O_RDONLY | O_CLOEXEC);
	unsigned char *map;

	if (fd < 0) {
		fail(file, strerrorname_np(errno));
		return;
	}
	map = mmap(NULL, file->length, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		fail(file, strerrorname_np(errno));
	} else {
		touch_pages(worker, file, map);
		munmap(map, file->length);
	}
	if (next_random(worker) % 4 == 0)
		posix_fadvise(fd, (off_t)(next_random(worker) % file->length), 0,
			      POSIX_FADV_DONTNEED);
	close(fd);
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	while (!atomic_load(&storm.stop)) {
		size_t which = next_random(worker);

		which = which & 1 ? 0 : (which >> 1) % storm.file_count;
		visit(worker, &storm.files[which]);
		atomic_fetch_add(&worker->visits, 1);
	}
	return NULL;
}

static void map_source(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	storm.source = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (storm.source == MAP_FAILED)
		err(1, "mmap %s", path);
	close(fd);
}

/* "OFFSET LENGTH PATH\n" */
static void add_file(char *line)
{
	struct file *file = &storm.files[storm.file_count++];

	line[strcspn(line, "\n")] = '\0';
	file->offset = strtoull(line, &line, 10);
	file->length = strtoull(line, &line, 10);
	file->path = strdup(line + (*line == ' '));
	if (!file->path || file->length == 0)
		errx(2, "bad line in the list");
}

static void read_list(const char *path)
{
	FILE *list = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;

	if (!list)
		err(1, "%s", path);
	while (storm.file_count < MAX_FILES && getline(&line, &size, list) > 0)
		add_file(line);
	free(line);
	fclose(list);
	if (storm.file_count == 0)
		errx(2, "%s: no files", path);
}

static void start_workers(size_t count)
{
	storm.worker_count = count < MAX_THREADS ? count : MAX_THREADS;
	for (size_t i = 0; i < storm.worker_count; i++) {
		struct worker *worker = &storm.workers[i];

		worker->random = 0x9e3779b97f4a7c15u * (i + 1);
		if (pthread_create(&worker->thread, NULL, work, worker) != 0)
			_exit(1);
	}
}

/* Ends the process at once when a thread hangs: it cannot be joined. */
static void watch(unsigned int seconds)
{
	unsigned long last[MAX_THREADS] = { 0 };
	unsigned int stuck[MAX_THREADS] = { 0 };

	for (unsigned int s = 0; s < seconds && !atomic_load(&storm.stop); s++) {
		(void)poll(NULL, 0, 1000);
		for (size_t i = 0; i < storm.worker_count; i++) {
			unsigned long visits = atomic_load(&storm.workers[i].visits);

			stuck[i] = visits == last[i] ? stuck[i] + 1 : 0;
			last[i] = visits;
			if (stuck[i] < HANG_S)
				continue;
			fprintf(stderr, "fault_storm: thread %zu hangs\n", i);
			_exit(3);
		}
	}
}

/* A thread that does not come back after the end hangs as well. */
static void *end_watch(void *argument)
{
	(void)argument;
	(void)poll(NULL, 0, HANG_S * 1000);
	fprintf(stderr, "fault_storm: threads do not end\n");
	_exit(3);
}

static unsigned long join_workers(void)
{
	unsigned long visits = 0;
	pthread_t watcher;

	atomic_store(&storm.stop, true);
	if (pthread_create(&watcher, NULL, end_watch, NULL) != 0)
		_exit(1);
	for (size_t i = 0; i < storm.worker_count; i++) {
		pthread_join(storm.workers[i].thread, NULL);
		visits += atomic_load(&storm.workers[i].visits);
	}
	return visits;
}

int main(int argc, char **argv)
{
	unsigned long visits;

	if (argc != 5)
		errx(2, "usage: fault_storm SECONDS THREADS SOURCE LIST");
	map_source(argv[3]);
	read_list(argv[4]);
	start_workers(strtoul(argv[2], NULL, 10));
	watch((unsigned int)strtoul(argv[1], NULL, 10));
	visits = join_workers();
	printf("%lu visits, %lu pages compared\n", visits, visits * TOUCHES);
	return atomic_load(&storm.wrong) ? 1 : 0;
}
