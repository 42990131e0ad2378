#include "prefetcher.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "pagecache.h"
#include "thread.h"

#define MOST_THREADS 8u

#define NS_PER_MS 1000000u
#define NS_PER_S  1000000000u

/* Between two looks at the memory; more than a fast disk fills in it is always spare. */
#define LOOK_NS ((uint64_t)50 * NS_PER_MS)

/* For so long nothing is brought in ahead after the kernel has said that tasks wait for
 * memory. */
#define PAUSE_NS ((uint64_t)NS_PER_S)

/* Nobody has read what is ahead for so long: nobody will. */
#define STALL_NS ((uint64_t)5 * NS_PER_S)

/* What was asked for so long ago is the page cache's like all else. */
#define RECENT_NS ((uint64_t)30 * NS_PER_S)

/* How often a thread looks whether readers have caught up. */
#define CATCH_UP_MS 20u

/* How often it looks for what is to be dropped. */
#define DROP_MS 1000u

/* A job's piece waits so long for what is more urgent. */
#define TURN_MS 20u

/* One for each tensor. The queues are circular lists of them. */
struct item {
	struct item *next; /* in its queue; NULL in none; protected by the lock */
	struct item *prev;
	uint64_t at;              /* so much of it was asked for */
	atomic_uint_fast32_t kib; /* that are ahead */
	atomic_uchar queued;      /* 0, or its queue's priority + 1 */
};

struct prefetcher {
	struct prefetcher_setup setup;
	struct memory *memory;
	int memory_events[MEMORY_EVENTS];
	uint32_t tensor_count;
	struct item *items; /* by index of the tensor */

	pthread_mutex_t lock; /* protects the queues, and what is written with them */
	pthread_cond_t wake;  /* something was queued, or the end */
	struct item *queues[PREFETCH_PRIORITY_COUNT]; /* to the first */
	uint64_t counts[PREFETCH_PRIORITY_COUNT];
	uint64_t recent_bytes; /* asked for by people, of late */
	uint64_t recent_ns;    /* when that was */
	uint64_t called_off;
	bool is_given_up; /* what is ahead: nobody reads it */
	bool stopping;

	atomic_uint_fast64_t ahead_kib; /* of all tensors */
	atomic_uint_fast64_t read_ns;  /* when some of that was last read or brought in */
	atomic_uint_fast64_t look_ns;  /* when to look at the memory again */
	atomic_uint_fast64_t pause_ns; /* until then nothing is brought in ahead */
	atomic_int_fast64_t spare;     /* what the last look has found */
	atomic_uint_fast64_t asked_bytes;
	atomic_uint_fast64_t cached_bytes;

	/* Of the thread that starts and frees. */
	pthread_t threads[MOST_THREADS];
	unsigned int thread_count;
};

const struct prefetcher_cache prefetcher_pagecache = {
	.count = pagecache_count,
	.ask = pagecache_ask,
	.drop = pagecache_drop,
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void lock(struct prefetcher *p)
{
	(void)pthread_mutex_lock(&p->lock);
}

static void unlock(struct prefetcher *p)
{
	(void)pthread_mutex_unlock(&p->lock);
}

static const struct tensor *tensor_of(const struct prefetcher *p, const struct item *item)
{
	return model_tensor(p->setup.served->model, (size_t)(item - p->items));
}

static uint64_t kib_of(uint64_t bytes)
{
	return (bytes + 1023) >> 10;
}

/* ---- Queues; with the lock held ---- */

static void enqueue(struct prefetcher *p, struct item *item,
		    enum prefetch_priority priority)
{
	struct item **queue = &p->queues[priority];

	item->next = *queue ? *queue : item;
	item->prev = *queue ? (*queue)->prev : item;
	item->next->prev = item;
	item->prev->next = item;
	if (!*queue)
		*queue = item;
	atomic_store_explicit(&item->queued, (unsigned char)(priority + 1),
			      memory_order_relaxed);
	p->counts[priority]++;
}

static void dequeue(struct prefetcher *p, struct item *item)
{
	unsigned int priority = atomic_load(&item->queued);
	struct item **queue;

	if (priority == 0)
		return;
	queue = &p->queues[priority - 1];
	p->counts[priority - 1]--;
	if (*queue == item)
		*queue = item->next == item ? NULL : item->next;
	item->prev->next = item->next;
	item->next->prev = item->prev;
	item->next = NULL;
	item->prev = NULL;
	atomic_store_explicit(&item->queued, 0, memory_order_relaxed);
}

static void call_off(struct prefetcher *p, enum prefetch_priority priority)
{
	while (p->queues[priority]) {
		dequeue(p, p->queues[priority]);
		p->called_off++;
	}
}

/* ---- Memory ---- */

/* Whether tasks wait for memory: on the machine, in the daemon's control group. */
static void take_events(const struct prefetcher *p, bool fired[static MEMORY_EVENTS])
{
	struct pollfd fds[MEMORY_EVENTS];

	memory_poll_events(p->memory_events, fds);
	(void)!poll(fds, MEMORY_EVENTS, 0);
	for (unsigned int i = 0; i < MEMORY_EVENTS; i++)
		fired[i] = memory_event_fired(&fds[i]);
}

/* What was only expected to be of use must not push out what is. */
static void back_off(struct prefetcher *p, uint64_t now)
{
	atomic_store(&p->pause_ns, now + PAUSE_NS);
	lock(p);
	call_off(p, PREFETCH_PREDICTED);
	call_off(p, PREFETCH_ASKED);
	unlock(p);
}

/* Looks at the memory, unless somebody has a moment ago. */
static void look_at_memory(struct prefetcher *p)
{
	uint64_t now = now_ns();
	uint_fast64_t due = atomic_load(&p->look_ns);
	struct memory_room room = { .spare = atomic_load(&p->spare) };
	bool fired[MEMORY_EVENTS];

	if (now < due ||
	    !atomic_compare_exchange_strong(&p->look_ns, &due, now + LOOK_NS))
		return;
	if (memory_measure(p->memory, &room) == 0)
		atomic_store(&p->spare, room.spare);
	take_events(p, fired);
	/* Those of the machine may wait at the limit of another container: then only more
	 * has to be left, as in pressure.c. */
	if (room.spare < (fired[0] ? (int64_t)room.reserve : 0) || fired[1])
		back_off(p, now);
}

static bool is_short(const struct prefetcher *p)
{
	return now_ns() < atomic_load(&p->pause_ns);
}

static uint64_t spare_bytes(const struct prefetcher *p)
{
	int64_t spare = atomic_load(&p->spare);

	return spare > 0 ? (uint64_t)spare : 0;
}

/* Whether no more may be ahead of its readers. */
static bool is_far_ahead(const struct prefetcher *p)
{
	uint64_t most = spare_bytes(p) / 2;

	if (most > p->setup.ahead_max)
		most = p->setup.ahead_max;
	return atomic_load(&p->ahead_kib) >= kib_of(most);
}

/* ---- Bytes that are ahead ---- */

/* The sum is never less than its parts: it grows first and shrinks last. */
static void add_ahead(struct prefetcher *p, struct item *item, uint64_t bytes)
{
	uint64_t most = kib_of(tensor_of(p, item)->nbytes);
	uint64_t kib = kib_of(bytes);
	uint64_t before = atomic_load(&item->kib);

	/* What is brought in again was given up meanwhile. */
	if (before + kib > most)
		kib = before < most ? most - before : 0;
	(void)atomic_fetch_add(&p->ahead_kib, kib);
	(void)atomic_fetch_add(&item->kib, (uint_fast32_t)kib);
	atomic_store(&p->read_ns, now_ns());
}

static void remove_ahead(struct prefetcher *p, struct item *item, uint64_t kib)
{
	uint_fast32_t before = atomic_load_explicit(&item->kib, memory_order_relaxed);
	uint_fast32_t taken;

	do
		taken = before < kib ? before : (uint_fast32_t)kib;
	while (!atomic_compare_exchange_weak(&item->kib, &before, before - taken));
	(void)atomic_fetch_sub(&p->ahead_kib, taken);
}

static void drop_unread(struct prefetcher *p, struct item *item)
{
	const struct tensor *t = tensor_of(p, item);

	if (p->setup.drop_unread && atomic_load(&item->kib) > 0)
		p->setup.cache->drop(served_tensor_file(p->setup.served, t), t->offset,
				     t->nbytes);
}

/* Once readers have stayed away: what is ahead of them is left to the kernel or dropped,
 * and what was queued behind that is not wanted either. With the lock held, which is
 * given up meanwhile. */
static void write_off(struct prefetcher *p)
{
	p->is_given_up = false;
	call_off(p, PREFETCH_WANTED);
	call_off(p, PREFETCH_PREDICTED);
	unlock(p);
	for (uint32_t i = 0; i < p->tensor_count; i++) {
		drop_unread(p, &p->items[i]);
		remove_ahead(p, &p->items[i], UINT32_MAX);
	}
	lock(p);
}

static bool is_stalled(const struct prefetcher *p)
{
	return now_ns() - atomic_load(&p->read_ns) > STALL_NS;
}

/* ---- Pieces ---- */

struct piece {
	const struct source_file *file;
	struct item *item; /* NULL: a job's */
	uint64_t from;
	uint64_t len;
	bool is_ahead; /* of a reader, as far as is known */
};

/* The only place that asks the kernel for anything. */
static void ask_piece(struct prefetcher *p, const struct piece *piece)
{
	uint64_t cached;

	/* Where that is not known, what is cached costs the kernel a look. */
	if (p->setup.cache->count(piece->file, piece->from, piece->len, &cached) < 0)
		cached = 0;
	(void)atomic_fetch_add(&p->cached_bytes, cached);
	if (cached >= piece->len)
		return;
	(void)atomic_fetch_add(&p->asked_bytes, piece->len - cached);
	if (piece->is_ahead)
		add_ahead(p, piece->item, piece->len - cached);
	/* A job says by itself which tensor its pieces are of. */
	if (piece->item)
		placement_enter_tensor(p->setup.placement,
				       (uint32_t)(piece->item - p->items));
	p->setup.cache->ask(piece->file, piece->from, piece->len);
}

/* The next piece of a tensor, which leaves its queue with the last one. */
static void take_from(struct prefetcher *p, struct item *item, struct piece *piece)
{
	const struct tensor *t = tensor_of(p, item);
	const struct source_file *file = served_tensor_file(p->setup.served, t);
	uint64_t left = t->nbytes - item->at;

	*piece = (struct piece){
		.file = file,
		.item = item,
		.from = t->offset + item->at,
		.len = left < PREFETCHER_PIECE ? left : PREFETCHER_PIECE,
		.is_ahead = atomic_load(&item->queued) < PREFETCH_ASKED + 1,
	};
	item->at += piece->len;
	if (item->at == t->nbytes ||
	    atomic_load_explicit(&file->changed, memory_order_relaxed))
		dequeue(p, item);
}

/* False if nothing is queued that may go on. With the lock held. */
static bool take_piece(struct prefetcher *p, struct piece *piece)
{
	bool far_ahead = is_far_ahead(p);

	for (unsigned int i = 0; i < PREFETCH_PRIORITY_COUNT; i++) {
		if (!p->queues[i] || (far_ahead && i != PREFETCH_ASKED))
			continue;
		take_from(p, p->queues[i], piece);
		return true;
	}
	return false;
}

/* ---- The threads ---- */

/* With the lock held, which is given up meanwhile. */
static void wait_ms(struct prefetcher *p, unsigned int ms)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms * (long)NS_PER_MS;
	until.tv_sec += until.tv_nsec / (long)NS_PER_S;
	until.tv_nsec %= (long)NS_PER_S;
	(void)pthread_cond_timedwait(&p->wake, &p->lock, &until);
}

/* Until something is queued or, where readers are far behind, until they may have caught
 * up: they are not to take the time to say so. */
static void wait_for_work(struct prefetcher *p)
{
	bool is_queued = p->queues[PREFETCH_WANTED] || p->queues[PREFETCH_PREDICTED];
	bool may_drop = p->setup.drop_unread && atomic_load(&p->ahead_kib) > 0;

	if (is_stalled(p) && (is_queued || may_drop || p->is_given_up))
		write_off(p);
	else if (is_queued)
		wait_ms(p, CATCH_UP_MS);
	else if (may_drop)
		wait_ms(p, DROP_MS);
	else
		(void)pthread_cond_wait(&p->wake, &p->lock);
}

static void *run(void *argument)
{
	struct prefetcher *p = argument;
	struct piece piece;

	lock(p);
	while (!p->stopping) {
		bool taken = take_piece(p, &piece);

		if (!taken)
			wait_for_work(p);
		unlock(p);
		look_at_memory(p);
		if (taken)
			ask_piece(p, &piece);
		lock(p);
	}
	unlock(p);
	return NULL;
}

/* ---- What others call ---- */

static uint64_t missing_bytes(const struct prefetcher *p, const struct tensor *t)
{
	uint64_t cached;

	if (t->nbytes == 0 ||
	    p->setup.cache->count(served_tensor_file(p->setup.served, t), t->offset,
				  t->nbytes, &cached) < 0)
		return t->nbytes;
	return t->nbytes - cached;
}

/* Whether there is room for so many bytes. With the lock held. */
static bool has_room(struct prefetcher *p, enum prefetch_priority priority,
		     uint64_t bytes)
{
	uint64_t now = now_ns();

	if (priority != PREFETCH_ASKED) {
		/* Who asks again later finds room. */
		p->is_given_up = is_far_ahead(p) && is_stalled(p);
		if (p->is_given_up)
			(void)pthread_cond_broadcast(&p->wake);
		return !is_far_ahead(p);
	}
	if (now - p->recent_ns > RECENT_NS)
		p->recent_bytes = 0;
	if (bytes > spare_bytes(p) || p->recent_bytes > spare_bytes(p) - bytes)
		return false;
	p->recent_bytes += bytes;
	p->recent_ns = now;
	return true;
}

static int put(struct prefetcher *p, struct item *item, enum prefetch_priority priority,
	       uint64_t missing)
{
	unsigned int queued = atomic_load(&item->queued);

	if (queued > 0 && queued - 1 <= priority)
		return -EALREADY;
	if (!has_room(p, priority, missing))
		return -ENOSPC;
	if (queued == 0)
		item->at = 0;
	dequeue(p, item);
	enqueue(p, item, priority);
	(void)pthread_cond_broadcast(&p->wake);
	return 0;
}

int prefetcher_ask(struct prefetcher *p, uint32_t tensor, enum prefetch_priority priority)
{
	uint64_t missing;
	int r;

	if (!p)
		return -EOPNOTSUPP;
	missing = missing_bytes(p, model_tensor(p->setup.served->model, tensor));
	if (missing == 0)
		return -EALREADY;
	look_at_memory(p);
	if (is_short(p) && priority != PREFETCH_WANTED)
		return -ENOSPC;
	lock(p);
	r = put(p, &p->items[tensor], priority, missing);
	unlock(p);
	return r;
}

/* Whether something more urgent than what people ask for may go on. */
static bool is_busy(const struct prefetcher *p)
{
	return (p->queues[PREFETCH_WANTED] || p->queues[PREFETCH_PREDICTED]) &&
	       !is_far_ahead(p);
}

void prefetcher_ask_piece(struct prefetcher *p, const struct source_file *file,
			  uint64_t from, uint64_t len)
{
	const struct piece piece = { .file = file, .from = from, .len = len };

	if (!p)
		return;
	lock(p);
	if (is_busy(p) && !p->stopping)
		wait_ms(p, TURN_MS);
	unlock(p);
	ask_piece(p, &piece);
}

/* Somebody reads what was queued for later. */
static void raise_item(struct prefetcher *p, struct item *item)
{
	lock(p);
	if (atomic_load(&item->queued) > PREFETCH_WANTED + 1) {
		dequeue(p, item);
		enqueue(p, item, PREFETCH_WANTED);
		(void)pthread_cond_broadcast(&p->wake);
	}
	unlock(p);
}

void prefetcher_note_use(struct prefetcher *p, uint32_t tensor, uint64_t bytes)
{
	struct item *item;

	if (!p)
		return;
	item = &p->items[tensor];
	if (atomic_load_explicit(&item->queued, memory_order_relaxed) >
	    PREFETCH_WANTED + 1)
		raise_item(p, item);
	if (bytes == 0 || atomic_load_explicit(&item->kib, memory_order_relaxed) == 0)
		return;
	remove_ahead(p, item, kib_of(bytes));
	atomic_store_explicit(&p->read_ns, now_ns(), memory_order_relaxed);
}

void prefetcher_withdraw(struct prefetcher *p, uint32_t tensor)
{
	struct item *item;

	if (!p)
		return;
	item = &p->items[tensor];
	if (atomic_load_explicit(&item->queued, memory_order_relaxed) !=
	    PREFETCH_PREDICTED + 1)
		return;
	lock(p);
	if (atomic_load(&item->queued) == PREFETCH_PREDICTED + 1) {
		dequeue(p, item);
		p->called_off++;
	}
	unlock(p);
}

void prefetcher_forget(struct prefetcher *p, uint32_t tensor)
{
	if (!p)
		return;
	lock(p);
	dequeue(p, &p->items[tensor]);
	unlock(p);
	remove_ahead(p, &p->items[tensor], UINT32_MAX);
}

void prefetcher_summarise(struct prefetcher *p, struct prefetcher_summary *summary)
{
	*summary = (struct prefetcher_summary){ .ahead = 0 };
	if (!p)
		return;
	lock(p);
	for (unsigned int i = 0; i < PREFETCH_PRIORITY_COUNT; i++)
		summary->queued[i] = p->counts[i];
	summary->called_off = p->called_off;
	unlock(p);
	summary->ahead = atomic_load(&p->ahead_kib) << 10;
	summary->asked_bytes = atomic_load(&p->asked_bytes);
	summary->cached_bytes = atomic_load(&p->cached_bytes);
}

/* ---- Life ---- */

static void init_wake(struct prefetcher *p)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&p->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
}

int prefetcher_new(const struct prefetcher_setup *setup, struct prefetcher **prefetcher)
{
	struct prefetcher *p = calloc(1, sizeof(*p));
	size_t count = model_tensor_count(setup->served->model);
	int r;

	if (!p)
		return -ENOMEM;
	p->setup = *setup;
	p->tensor_count = (uint32_t)count;
	(void)pthread_mutex_init(&p->lock, NULL);
	init_wake(p);
	atomic_store(&p->spare, INT64_MAX);
	memory_open_events(setup->roots, p->memory_events);
	r = memory_open(setup->roots, &p->memory);
	p->items = calloc(count > 0 ? count : 1, sizeof(*p->items));
	if (r == 0 && !p->items)
		r = -ENOMEM;
	if (r < 0) {
		prefetcher_free(p);
		return r;
	}
	*prefetcher = p;
	return 0;
}

int prefetcher_start(struct prefetcher *p, unsigned int threads)
{
	int r = 0;

	if (threads > MOST_THREADS)
		threads = MOST_THREADS;
	while (r == 0 && p->thread_count < threads) {
		r = thread_start(&p->threads[p->thread_count], run, p);
		p->thread_count += r == 0 ? 1 : 0;
	}
	return r;
}

void prefetcher_free(struct prefetcher *p)
{
	if (!p)
		return;
	lock(p);
	p->stopping = true;
	(void)pthread_cond_broadcast(&p->wake);
	unlock(p);
	for (unsigned int i = 0; i < p->thread_count; i++)
		(void)pthread_join(p->threads[i], NULL);
	for (unsigned int i = 0; i < MEMORY_EVENTS; i++)
		close_fd(&p->memory_events[i]);
	memory_close(p->memory);
	(void)pthread_cond_destroy(&p->wake);
	(void)pthread_mutex_destroy(&p->lock);
	free(p->items);
	free(p);
}
