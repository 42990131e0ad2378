#include "source_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "thread.h"
#include "util/cachestat.h"
#include "util/errtext.h"
#include "util/log.h"

#define PAGE 4096u

/* What is noted and dropped together. The kernel drops a large folio only as a whole;
 * folios are naturally aligned and at most this large, so none lies in two blocks. */
#define BLOCK       ((uint64_t)2 << 20)
#define BLOCK_PAGES 512u

/* How far the kernel may read around what is read: 4 MiB; most disks have 128 KiB. */
#define AROUND_BLOCKS 2u

/* A pass each time, while something is to be dropped. */
#define PASS_MS    250
#define PASS_BYTES ((uint64_t)64 << 20)

/*
 * A word for each block: the pages of it that were ever read, as first and last, and
 *
 *     KEPT -> USED -> LEFT -> KEPT
 *        note    pass    pass, which drops those pages
 *
 * with a way back from LEFT to USED for a block that is read again.
 */
enum block_state {
	BLOCK_KEPT, /* nothing is to be done */
	BLOCK_USED, /* read since the last pass */
	BLOCK_LEFT, /* not read since the last pass */
};

struct block {
	unsigned int first;
	unsigned int last;
	enum block_state state;
	unsigned int tries; /* to drop it again, since it was read */
	bool known;         /* first and last mean something */
};

#define FIELD_MASK  511u
#define LAST_SHIFT  9u
#define STATE_SHIFT 18u
#define STATE_MASK  3u
#define TRIES_SHIFT 20u
#define TRIES_MASK  7u
#define KNOWN_BIT   (1u << 23)

/* Each takes two passes. */
#define MOST_TRIES  TRIES_MASK
#define BLIND_TRIES 1u /* where the kernel does not say what is left */
#define WITHOUT_END UINT_MAX

struct source_cache {
	const struct source *source;
	atomic_uint_fast32_t **words; /* by file of the source, then by block */
	pthread_t thread;
	bool started;
	int stop_event;
	int wake_event;
	atomic_bool asleep; /* the thread has nothing to do, and waits to be woken */
	atomic_uint_fast64_t noted; /* bytes, since the mount */
};

static uint_fast32_t pack(const struct block *b)
{
	return b->first | b->last << LAST_SHIFT | (unsigned int)b->state << STATE_SHIFT |
	       b->tries << TRIES_SHIFT | (b->known ? KNOWN_BIT : 0u);
}

static struct block unpack(uint_fast32_t word)
{
	return (struct block){
		.first = word & FIELD_MASK,
		.last = word >> LAST_SHIFT & FIELD_MASK,
		.state = (enum block_state)(word >> STATE_SHIFT & STATE_MASK),
		.tries = word >> TRIES_SHIFT & TRIES_MASK,
		.known = (word & KNOWN_BIT) != 0,
	};
}

static uint64_t block_count(const struct source_file *file)
{
	return (file->size + BLOCK - 1) / BLOCK;
}

/* ---- Noting ---- */

/* Adds pages to what a block is known to have read, and puts it into a state. Returns
 * whether it was KEPT. */
static bool widen(atomic_uint_fast32_t *word, unsigned int first, unsigned int last,
		  enum block_state state)
{
	uint_fast32_t old = atomic_load_explicit(word, memory_order_relaxed);
	struct block b;
	bool was_kept;

	do {
		b = unpack(old);
		was_kept = b.state == BLOCK_KEPT;
		if (!b.known || first < b.first)
			b.first = first;
		if (!b.known || last > b.last)
			b.last = last;
		b.known = true;
		b.tries = 0;
		b.state = state;
		if (pack(&b) == old)
			break;
	} while (!atomic_compare_exchange_weak(word, &old, pack(&b)));
	return was_kept;
}

/* Whether any block was KEPT. */
static bool widen_range(struct source_cache *c, const struct source_file *file,
			uint64_t offset, uint64_t len, enum block_state state)
{
	atomic_uint_fast32_t *words = c->words[file - c->source->files];
	uint64_t first = offset / PAGE;
	uint64_t last = (offset + len - 1) / PAGE;
	bool was_kept = false;

	while (first <= last) {
		uint64_t block = first / BLOCK_PAGES;
		uint64_t end = (block + 1) * BLOCK_PAGES - 1;

		if (end > last)
			end = last;
		was_kept |= widen(&words[block], (unsigned int)(first % BLOCK_PAGES),
				  (unsigned int)(end % BLOCK_PAGES), state);
		first = end + 1;
	}
	return was_kept;
}

/* From KEPT to USED, where anything was read. */
static void revive(atomic_uint_fast32_t *word)
{
	uint_fast32_t old = atomic_load_explicit(word, memory_order_relaxed);
	struct block b = unpack(old);

	if (!b.known || b.state != BLOCK_KEPT)
		return;
	b.tries = 0;
	b.state = BLOCK_USED;
	(void)atomic_compare_exchange_strong(word, &old, pack(&b));
}

/* The kernel reads around what is read: also what was read before, and dropped. */
static void revive_around(struct source_cache *c, const struct source_file *file,
			  uint64_t offset, uint64_t len)
{
	atomic_uint_fast32_t *words = c->words[file - c->source->files];
	uint64_t first = offset / BLOCK;
	uint64_t last = (offset + len - 1) / BLOCK;
	uint64_t count = block_count(file);

	for (uint64_t i = 1; i <= AROUND_BLOCKS; i++) {
		if (first >= i)
			revive(&words[first - i]);
		if (last + i < count)
			revive(&words[last + i]);
	}
}

static void wake(const struct source_cache *c)
{
	const uint64_t one = 1;

	if (write(c->wake_event, &one, sizeof(one)) < 0)
		log_debug("%s: wake: %s", c->source->path, errtext(errno));
}

void source_cache_note(struct source_cache *cache, const struct source_file *file,
		       uint64_t offset, uint64_t len)
{
	uint64_t before;

	if (!cache || len == 0)
		return;
	if (widen_range(cache, file, offset, len, BLOCK_USED))
		revive_around(cache, file, offset, len);
	before = atomic_fetch_add_explicit(&cache->noted, len, memory_order_relaxed);
	/* The thread says that it is asleep and then looks at the blocks again; here it
	 * is the other way round, so one of the two sees the other. */
	if (atomic_load(&cache->asleep)) {
		if (atomic_exchange(&cache->asleep, false))
			wake(cache);
	} else if (before / PASS_BYTES != (before + len) / PASS_BYTES) {
		wake(cache);
	}
}

/* ---- Dropping ---- */

/* Pages [first, end) of a file that are dropped together. */
struct run {
	const struct source_file *file;
	uint64_t first;
	uint64_t end;
};

/* How often a range is to be tried again that the kernel has not dropped: while it is
 * written to the disk, or read from it for somebody, or a page is in use for a moment.
 * What others have mapped, and large folios of which a part was not read, stay. */
static unsigned int tries_for(const struct run *run, uint64_t offset, uint64_t len)
{
	struct cachestat stat;

	if (cachestat_range(run->file->fd, offset, len, &stat) < 0)
		return BLIND_TRIES;
	if (stat.dirty + stat.writeback > 0)
		return WITHOUT_END;
	return stat.cached > 0 ? MOST_TRIES : 0;
}

/* From KEPT to USED, unless it was tried often enough. One that is used by now is dropped
 * anyway. */
static void try_again(atomic_uint_fast32_t *word, unsigned int most)
{
	uint_fast32_t old = atomic_load_explicit(word, memory_order_relaxed);
	struct block b = unpack(old);

	if (b.state != BLOCK_KEPT || b.tries >= most)
		return;
	if (most != WITHOUT_END)
		b.tries++;
	b.state = BLOCK_USED;
	(void)atomic_compare_exchange_strong(word, &old, pack(&b));
}

static void drop(struct source_cache *c, struct run *run)
{
	atomic_uint_fast32_t *words = c->words[run->file - c->source->files];
	uint64_t offset = run->first * PAGE;
	uint64_t len = (run->end - run->first) * PAGE;
	unsigned int tries;

	if (len == 0)
		return;
	/* Mapped pages are not dropped. What is unmapped here and still needed is mapped
	 * anew. */
	(void)madvise(discard_const(run->file->bytes + offset), len, MADV_DONTNEED);
	(void)posix_fadvise(run->file->fd, (off_t)offset, (off_t)len,
			    POSIX_FADV_DONTNEED);
	tries = tries_for(run, offset, len);
	for (uint64_t page = run->first; tries > 0 && page < run->end;
	     page += BLOCK_PAGES - page % BLOCK_PAGES)
		try_again(&words[page / BLOCK_PAGES], tries);
	*run = (struct run){ .file = run->file };
}

/* Adds a block's pages to the run, which is dropped first where they do not continue it.
 */
static void extend(struct source_cache *c, struct run *run, uint64_t block,
		   const struct block *b)
{
	uint64_t first = block * BLOCK_PAGES + b->first;

	if (first != run->end) {
		drop(c, run);
		run->first = first;
	}
	run->end = block * BLOCK_PAGES + b->last + 1;
}

/* Moves a block on by a state. Returns whether it is to be looked at again. */
static bool pass_block(struct source_cache *c, struct run *run, uint64_t block)
{
	atomic_uint_fast32_t *word = &c->words[run->file - c->source->files][block];
	uint_fast32_t old = atomic_load_explicit(word, memory_order_relaxed);
	struct block b = unpack(old);

	if (b.state == BLOCK_KEPT)
		return false;
	b.state = b.state == BLOCK_USED ? BLOCK_LEFT : BLOCK_KEPT;
	/* Read again meanwhile: the next pass finds it so. */
	if (!atomic_compare_exchange_strong(word, &old, pack(&b)))
		return true;
	if (b.state == BLOCK_KEPT)
		extend(c, run, block, &b);
	return b.state == BLOCK_LEFT;
}

/* Returns whether another pass is needed. */
static bool pass(struct source_cache *c)
{
	bool again = false;

	for (uint32_t i = 0; i < c->source->file_count; i++) {
		struct run run = { .file = &c->source->files[i] };
		uint64_t count = block_count(run.file);

		for (uint64_t block = 0; block < count; block++)
			again |= pass_block(c, &run, block);
		drop(c, &run);
	}
	return again;
}

static bool has_work(const struct source_cache *c)
{
	for (uint32_t i = 0; i < c->source->file_count; i++) {
		uint64_t count = block_count(&c->source->files[i]);

		for (uint64_t block = 0; block < count; block++)
			if (unpack(atomic_load(&c->words[i][block])).state != BLOCK_KEPT)
				return true;
	}
	return false;
}

static void *run_passes(void *argument)
{
	struct source_cache *c = argument;
	struct pollfd fds[] = {
		{ .fd = c->stop_event, .events = POLLIN },
		{ .fd = c->wake_event, .events = POLLIN },
	};

	for (;;) {
		int timeout_ms = PASS_MS;
		uint64_t count;

		if (!pass(c)) {
			atomic_store(&c->asleep, true);
			timeout_ms = has_work(c) ? 0 : -1;
		}
		if (poll(fds, ARRAY_LEN(fds), timeout_ms) < 0 && errno != EINTR)
			return NULL;
		atomic_store(&c->asleep, false);
		if (fds[0].revents)
			return NULL;
		if (fds[1].revents && read(c->wake_event, &count, sizeof(count)) < 0)
			return NULL;
	}
}

/* ---- Life ---- */

/* The headers of model files were read when they were loaded. They go when what follows
 * them in their block goes, but not by themselves. */
static void note_headers(struct source_cache *c, const struct served *served)
{
	size_t count = model_tensor_count(served->model);

	for (size_t i = 0; i < count; i++) {
		const struct tensor *t = model_tensor(served->model, i);
		bool is_first =
			i == 0 || t->shard != model_tensor(served->model, i - 1)->shard;

		if (is_first && t->offset > 0)
			(void)widen_range(c, served_tensor_file(served, t), 0, t->offset,
					  BLOCK_KEPT);
	}
}

static int init_cache(struct source_cache *c)
{
	c->stop_event = eventfd(0, EFD_CLOEXEC);
	c->wake_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->words = calloc(c->source->file_count, sizeof(*c->words));
	if (c->stop_event < 0 || c->wake_event < 0 || !c->words)
		return -ENOMEM;
	for (uint32_t i = 0; i < c->source->file_count; i++) {
		uint64_t count = block_count(&c->source->files[i]);

		c->words[i] = calloc(count, sizeof(**c->words));
		if (count > 0 && !c->words[i])
			return -ENOMEM;
	}
	return 0;
}

int source_cache_new(const struct served *served, struct source_cache **cache)
{
	struct source_cache *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct source_cache){ .source = served->source,
				    .stop_event = -1,
				    .wake_event = -1 };
	r = init_cache(c);
	if (r < 0) {
		source_cache_free(c);
		return r;
	}
	note_headers(c, served);
	*cache = c;
	return 0;
}

int source_cache_start(struct source_cache *cache)
{
	int r = thread_start(&cache->thread, run_passes, cache);

	cache->started = r == 0;
	return r;
}

void source_cache_free(struct source_cache *cache)
{
	if (!cache)
		return;
	if (cache->started)
		thread_stop(cache->thread, cache->stop_event);
	for (uint32_t i = 0; cache->words && i < cache->source->file_count; i++)
		free(cache->words[i]);
	free(cache->words);
	close_fd(&cache->stop_event);
	close_fd(&cache->wake_event);
	free(cache);
}
