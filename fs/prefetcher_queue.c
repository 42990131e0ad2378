/* The queues of the prefetcher, and the threads that take pieces of tensors from them. */
#include <time.h>

#include "prefetcher_state.h"

/* How often a thread looks whether readers have caught up. */
#define CATCH_UP_MS 20u

/* How often it looks for what is to be dropped. */
#define DROP_MS 1000u

/* ---- Queues; with the lock held ---- */

void prefetcher_enqueue(struct prefetcher *p, struct item *item,
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

void prefetcher_dequeue(struct prefetcher *p, struct item *item)
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

void prefetcher_call_off(struct prefetcher *p, enum prefetch_priority priority)
{
	while (p->queues[priority]) {
		prefetcher_dequeue(p, p->queues[priority]);
		p->called_off++;
	}
}

/* ---- Pieces ---- */

void prefetcher_bring_in(struct prefetcher *p, const struct piece *piece)
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
		prefetcher_add_ahead(p, piece->item, piece->len - cached);
	/* A job says by itself which tensor its pieces are of. */
	if (piece->item)
		placement_enter_tensor(p->setup.placement,
				       (uint32_t)(piece->item - p->items));
	p->setup.cache->ask(piece->file, piece->from, piece->len);
}

/* The next piece of a tensor, which leaves its queue with the last one. */
static void take_from(struct prefetcher *p, struct item *item, struct piece *piece)
{
	const struct tensor *t = prefetcher_tensor(p, item);
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
		prefetcher_dequeue(p, item);
}

/* False if nothing is queued that may go on. With the lock held. */
static bool take_piece(struct prefetcher *p, struct piece *piece)
{
	bool far_ahead = prefetcher_is_far_ahead(p);

	for (unsigned int i = 0; i < PREFETCH_PRIORITY_COUNT; i++) {
		if (!p->queues[i] || (far_ahead && i != PREFETCH_ASKED))
			continue;
		take_from(p, p->queues[i], piece);
		return true;
	}
	return false;
}

/* ---- The threads ---- */

void prefetcher_wait_ms(struct prefetcher *p, unsigned int ms)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms * (long)PREFETCHER_NS_PER_MS;
	until.tv_sec += until.tv_nsec / (long)PREFETCHER_NS_PER_S;
	until.tv_nsec %= (long)PREFETCHER_NS_PER_S;
	(void)pthread_cond_timedwait(&p->wake, &p->lock, &until);
}

/* Until something is queued or, where readers are far behind, until they may have caught
 * up: they are not to take the time to say so. */
static void wait_for_work(struct prefetcher *p)
{
	bool is_queued = p->queues[PREFETCH_WANTED] || p->queues[PREFETCH_PREDICTED];
	bool may_drop = p->setup.drop_unread && atomic_load(&p->ahead_kib) > 0;

	if (prefetcher_is_stalled(p) && (is_queued || may_drop || p->is_given_up))
		prefetcher_write_off(p);
	else if (is_queued)
		prefetcher_wait_ms(p, CATCH_UP_MS);
	else if (may_drop)
		prefetcher_wait_ms(p, DROP_MS);
	else
		(void)pthread_cond_wait(&p->wake, &p->lock);
}

void *prefetcher_run(void *argument)
{
	struct prefetcher *p = argument;
	struct piece piece;

	prefetcher_lock(p);
	while (!p->stopping) {
		bool taken = take_piece(p, &piece);

		if (!taken)
			wait_for_work(p);
		prefetcher_unlock(p);
		prefetcher_look_at_memory(p);
		if (taken)
			prefetcher_bring_in(p, &piece);
		prefetcher_lock(p);
	}
	prefetcher_unlock(p);
	return NULL;
}
