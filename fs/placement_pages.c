#include "placement_pages.h"

#include <errno.h>
#include <numaif.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "util/cachestat.h"

/* Of a chunk, where pages are the smallest there are. */
#define MOST_PAGES (PLACEMENT_CHUNK / 4096u)

/* Pages that somebody works on at the moment are not moved: they are tried again. */
#define MOST_TRIES 3u

/* A range of a file that is mapped to be looked at. */
struct window {
	int fd;
	uint64_t page; /* bytes of one */
	uint64_t from; /* of the file; a multiple of a page */
	uint8_t *map;
	unsigned int pages;
	bool present[MOST_PAGES]; /* mapped here: was in memory */
};

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- What is in memory ---- */

int placement_cached(int fd, uint64_t from, uint64_t len, uint64_t *bytes)
{
	struct cachestat stat;

	*bytes = 0;
	if (len == 0) /* which means the rest of the file to the kernel */
		return 0;
	if (cachestat_range(fd, from, len, &stat) < 0)
		return -errno;
	*bytes = stat.cached * page_size();
	if (*bytes > len)
		*bytes = len;
	return 0;
}

/* Before Linux 6.5. Of files of others it says that all is there, which must not be
 * believed: to look at it would read it in. */
static int ask_mincore(struct window *w)
{
	unsigned char there[MOST_PAGES];
	struct stat st;

	if (fstat(w->fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid())
		return -EPERM;
	if (mincore(w->map, w->pages * w->page, there) < 0)
		return -errno;
	for (unsigned int i = 0; i < w->pages; i++)
		w->present[i] = there[i] & 1;
	return 0;
}

/* Halves what is there in part, until it is there as a whole or not at all. */
static int ask_cachestat(struct window *w, unsigned int first, unsigned int count)
{
	struct cachestat stat;
	unsigned int half = count / 2;
	int r;

	if (cachestat_range(w->fd, w->from + first * w->page, count * w->page, &stat) < 0)
		return -errno;
	if (stat.cached == 0)
		return 0;
	if (stat.cached >= count || half == 0) {
		memset(w->present + first, 1, count);
		return 0;
	}
	r = ask_cachestat(w, first, half);
	return r < 0 ? r : ask_cachestat(w, first + half, count - half);
}

/* move_pages(2) knows pages that are mapped here only. */
static int map_present(const struct window *w)
{
	unsigned int i = 0;

	while (i < w->pages) {
		unsigned int run = 1;

		while (i + run < w->pages && w->present[i + run] == w->present[i])
			run++;
		/* A page that is given up meanwhile is read: that one alone. */
		if (w->present[i] &&
		    madvise(w->map + i * w->page, run * w->page, MADV_POPULATE_READ) < 0)
			return -errno;
		i += run;
	}
	return 0;
}

static void close_window(const struct window *w)
{
	if (w->map)
		(void)munmap(w->map, w->pages * w->page);
}

/* Maps what of a range is in memory. */
static int open_window(struct window *w, int fd, uint64_t from, uint64_t len)
{
	uint64_t page = page_size();
	void *map;
	int r;

	*w = (struct window){ .fd = fd, .page = page, .from = from / page * page };
	w->pages = (unsigned int)((from + len - w->from + page - 1) / page);
	map = mmap(NULL, w->pages * w->page, PROT_READ, MAP_SHARED, fd, (off_t)w->from);
	if (map == MAP_FAILED)
		return -errno;
	w->map = map;
	/* No read-ahead, and no word to the kernel that the pages are in use. */
	(void)madvise(map, w->pages * w->page, MADV_RANDOM);
	r = ask_cachestat(w, 0, w->pages);
	if (r == -ENOSYS)
		r = ask_mincore(w);
	return r < 0 ? r : map_present(w);
}

/* ---- Where it lies ---- */

/* Pages by address, and what the kernel says to each: its node, or a negative errno. */
struct pages {
	unsigned long count;
	void *addresses[MOST_PAGES];
	int wanted[MOST_PAGES];
	int nodes[MOST_PAGES];
};

static void list_present(const struct window *w, struct pages *pages)
{
	pages->count = 0;
	for (unsigned int i = 0; i < w->pages; i++)
		if (w->present[i])
			pages->addresses[pages->count++] = w->map + i * w->page;
}

/* -EACCES where the call is forbidden: -EPERM says that of the page cache. */
static int ask_nodes(struct pages *pages)
{
	if (pages->count == 0 ||
	    move_pages(0, pages->count, pages->addresses, NULL, pages->nodes, 0) >= 0)
		return 0;
	return errno == EPERM ? -EACCES : -errno;
}

int placement_count_chunk(int fd, uint64_t size, uint64_t chunk,
			  struct placement_tally *tally)
{
	uint64_t from = chunk * PLACEMENT_CHUNK;
	struct window window = { .map = NULL };
	struct pages pages;
	int r;

	if (from >= size)
		return 0;
	r = open_window(&window, fd, from,
			size - from < PLACEMENT_CHUNK ? size - from : PLACEMENT_CHUNK);
	if (r == 0) {
		list_present(&window, &pages);
		r = ask_nodes(&pages);
	}
	for (unsigned long i = 0; r == 0 && i < pages.count; i++)
		if (pages.nodes[i] >= 0 && pages.nodes[i] < (int)NUMA_MOST_NODES)
			tally->bytes[pages.nodes[i]] += window.page;
	close_window(&window);
	return r;
}

/* ---- Moving it ---- */

static unsigned int count_nodes(uint64_t nodes)
{
	unsigned int count = 0;

	for (; nodes; nodes &= nodes - 1)
		count++;
	return count;
}

/* The node number `turn` of those in the bits, in turn. */
static int node_in_turn(uint64_t nodes, uint64_t turn)
{
	uint64_t left = turn % count_nodes(nodes);

	for (; left > 0; left--)
		nodes &= nodes - 1;
	return __builtin_ctzll(nodes);
}

/* Where a page belongs that lies on `node` now. */
static int wanted_node(const struct placement_target *target, uint64_t offset, int node)
{
	struct placement_policy policy = target->policy;
	bool fits = node >= 0 && node < (int)NUMA_MOST_NODES &&
		    policy.nodes & NUMA_NODE(node);

	if (fits && !policy.interleave)
		return node;
	return node_in_turn(policy.nodes, offset / target->step);
}

/* Keeps of the list what is not where it belongs. Returns how many bytes that is. */
static uint64_t keep_misplaced(const struct window *w,
			       const struct placement_target *target, struct pages *pages)
{
	unsigned long kept = 0;

	for (unsigned long i = 0; i < pages->count; i++) {
		uint8_t *address = pages->addresses[i];
		int node = pages->nodes[i];
		int wanted =
			wanted_node(target, w->from + (uint64_t)(address - w->map), node);

		/* Given up meanwhile. */
		if (node < 0 || node == wanted)
			continue;
		pages->addresses[kept] = address;
		pages->wanted[kept] = wanted;
		kept++;
	}
	pages->count = kept;
	return kept * w->page;
}

/* Without CAP_SYS_NICE only what nobody else has mapped is moved. Where the nodes have no
 * room, what is left is seen by where it lies. */
static int move(struct pages *pages)
{
	if (move_pages(0, pages->count, pages->addresses, pages->wanted, pages->nodes,
		       MPOL_MF_MOVE_ALL) >= 0)
		return 0;
	if (errno == EPERM && move_pages(0, pages->count, pages->addresses, pages->wanted,
					 pages->nodes, MPOL_MF_MOVE) >= 0)
		return 0;
	return errno == ENOMEM ? 0 : -errno;
}

static int move_window(const struct window *w, const struct placement_target *target,
		       struct placement_tally *tally)
{
	struct pages pages;
	uint64_t before;
	uint64_t left;
	int r;

	list_present(w, &pages);
	r = ask_nodes(&pages);
	if (r < 0)
		return r;
	before = keep_misplaced(w, target, &pages);
	left = before;
	for (unsigned int i = 0; i < MOST_TRIES && left > 0 && r == 0; i++) {
		r = move(&pages);
		/* A huge page for which the node had no room is in pieces now, which are
		 * not mapped here. */
		if (r == 0)
			r = map_present(w);
		if (r == 0)
			r = ask_nodes(&pages);
		if (r == 0)
			left = keep_misplaced(w, target, &pages);
	}
	tally->moved += before - left;
	tally->left += left;
	return r;
}

int placement_move_range(int fd, uint64_t from, uint64_t len,
			 const struct placement_target *target,
			 struct placement_tally *tally)
{
	struct window window = { .map = NULL };
	int r;

	if (target->policy.nodes == 0 || len == 0)
		return 0;
	r = open_window(&window, fd, from, len);
	if (r == 0)
		r = move_window(&window, target, tally);
	close_window(&window);
	return r;
}
