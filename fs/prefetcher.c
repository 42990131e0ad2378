#include "prefetcher.h"

#include <errno.h>
#include <stdlib.h>

#include "pagecache.h"
#include "prefetcher_state.h"
#include "thread.h"

/* What was asked for so long ago is the page cache's like all else. */
#define RECENT_NS ((uint64_t)30 * PREFETCHER_NS_PER_S)

/* A job's piece waits so long for what is more urgent. */
#define TURN_MS 20u

const struct prefetcher_cache prefetcher_pagecache = {
	.count = pagecache_count,
	.ask = pagecache_ask,
	.drop = pagecache_drop,
};

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
	uint64_t now = prefetcher_now_ns();

	if (priority != PREFETCH_ASKED) {
		/* Who asks again later finds room. */
		p->is_given_up = prefetcher_is_far_ahead(p) && prefetcher_is_stalled(p);
		if (p->is_given_up)
			(void)pthread_cond_broadcast(&p->wake);
		return !prefetcher_is_far_ahead(p);
	}
	if (now - p->recent_ns > RECENT_NS)
		p->recent_bytes = 0;
	if (bytes > prefetcher_spare_bytes(p) ||
	    p->recent_bytes > prefetcher_spare_bytes(p) - bytes)
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
	prefetcher_dequeue(p, item);
	prefetcher_enqueue(p, item, priority);
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
	prefetcher_look_at_memory(p);
	if (prefetcher_is_short(p) && priority != PREFETCH_WANTED)
		return -ENOSPC;
	prefetcher_lock(p);
	r = put(p, &p->items[tensor], priority, missing);
	prefetcher_unlock(p);
	return r;
}

/* Whether something more urgent than what people ask for may go on. */
static bool is_busy(const struct prefetcher *p)
{
	return (p->queues[PREFETCH_WANTED] || p->queues[PREFETCH_PREDICTED]) &&
	       !prefetcher_is_far_ahead(p);
}

void prefetcher_ask_piece(struct prefetcher *p, const struct source_file *file,
			  uint64_t from, uint64_t len)
{
	const struct piece piece = { .file = file, .from = from, .len = len };

	if (!p)
		return;
	prefetcher_lock(p);
	if (is_busy(p) && !p->stopping)
		prefetcher_wait_ms(p, TURN_MS);
	prefetcher_unlock(p);
	prefetcher_bring_in(p, &piece);
}

/* Somebody reads what was queued for later. */
static void raise_item(struct prefetcher *p, struct item *item)
{
	prefetcher_lock(p);
	if (atomic_load(&item->queued) > PREFETCH_WANTED + 1) {
		prefetcher_dequeue(p, item);
		prefetcher_enqueue(p, item, PREFETCH_WANTED);
		(void)pthread_cond_broadcast(&p->wake);
	}
	prefetcher_unlock(p);
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
	prefetcher_remove_ahead(p, item, prefetcher_kib(bytes));
	atomic_store_explicit(&p->read_ns, prefetcher_now_ns(), memory_order_relaxed);
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
	prefetcher_lock(p);
	if (atomic_load(&item->queued) == PREFETCH_PREDICTED + 1) {
		prefetcher_dequeue(p, item);
		p->called_off++;
	}
	prefetcher_unlock(p);
}

void prefetcher_forget(struct prefetcher *p, uint32_t tensor)
{
	if (!p)
		return;
	prefetcher_lock(p);
	prefetcher_dequeue(p, &p->items[tensor]);
	prefetcher_unlock(p);
	prefetcher_remove_ahead(p, &p->items[tensor], UINT32_MAX);
}

void prefetcher_summarise(struct prefetcher *p, struct prefetcher_summary *summary)
{
	*summary = (struct prefetcher_summary){ .ahead = 0 };
	if (!p)
		return;
	prefetcher_lock(p);
	for (unsigned int i = 0; i < PREFETCH_PRIORITY_COUNT; i++)
		summary->queued[i] = p->counts[i];
	summary->called_off = p->called_off;
	prefetcher_unlock(p);
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

	if (threads > PREFETCHER_MOST_THREADS)
		threads = PREFETCHER_MOST_THREADS;
	while (r == 0 && p->thread_count < threads) {
		r = thread_start(&p->threads[p->thread_count], prefetcher_run, p);
		p->thread_count += r == 0 ? 1 : 0;
	}
	return r;
}

void prefetcher_free(struct prefetcher *p)
{
	if (!p)
		return;
	prefetcher_lock(p);
	p->stopping = true;
	(void)pthread_cond_broadcast(&p->wake);
	prefetcher_unlock(p);
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
