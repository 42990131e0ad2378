/* How far ahead of its readers the prefetcher may be: memory, and what they have not
 * read. */
#include <poll.h>
#include <time.h>

#include "prefetcher_state.h"

/* Between two looks at the memory; more than a fast disk fills in it is always spare. */
#define LOOK_NS ((uint64_t)50 * PREFETCHER_NS_PER_MS)

/* For so long nothing is brought in ahead after the kernel has said that tasks wait for
 * memory. */
#define PAUSE_NS ((uint64_t)PREFETCHER_NS_PER_S)

/* Nobody has read what is ahead for so long: nobody will. */
#define STALL_NS ((uint64_t)5 * PREFETCHER_NS_PER_S)

uint64_t prefetcher_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * PREFETCHER_NS_PER_S + (uint64_t)now.tv_nsec;
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
	prefetcher_lock(p);
	prefetcher_call_off(p, PREFETCH_PREDICTED);
	prefetcher_call_off(p, PREFETCH_ASKED);
	prefetcher_unlock(p);
}

void prefetcher_look_at_memory(struct prefetcher *p)
{
	uint64_t now = prefetcher_now_ns();
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

bool prefetcher_is_short(const struct prefetcher *p)
{
	return prefetcher_now_ns() < atomic_load(&p->pause_ns);
}

uint64_t prefetcher_spare_bytes(const struct prefetcher *p)
{
	int64_t spare = atomic_load(&p->spare);

	return spare > 0 ? (uint64_t)spare : 0;
}

bool prefetcher_is_far_ahead(const struct prefetcher *p)
{
	uint64_t most = prefetcher_spare_bytes(p) / 2;

	if (most > p->setup.ahead_max)
		most = p->setup.ahead_max;
	return atomic_load(&p->ahead_kib) >= prefetcher_kib(most);
}

/* ---- Bytes that are ahead ---- */

/* The sum is never less than its parts: it grows first and shrinks last. */
void prefetcher_add_ahead(struct prefetcher *p, struct item *item, uint64_t bytes)
{
	uint64_t most = prefetcher_kib(prefetcher_tensor(p, item)->nbytes);
	uint64_t kib = prefetcher_kib(bytes);
	uint64_t before = atomic_load(&item->kib);

	/* What is brought in again was given up meanwhile. */
	if (before + kib > most)
		kib = before < most ? most - before : 0;
	(void)atomic_fetch_add(&p->ahead_kib, kib);
	(void)atomic_fetch_add(&item->kib, (uint_fast32_t)kib);
	atomic_store(&p->read_ns, prefetcher_now_ns());
}

void prefetcher_remove_ahead(struct prefetcher *p, struct item *item, uint64_t kib)
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
	const struct tensor *t = prefetcher_tensor(p, item);

	if (p->setup.drop_unread && atomic_load(&item->kib) > 0)
		p->setup.cache->drop(served_tensor_file(p->setup.served, t), t->offset,
				     t->nbytes);
}

void prefetcher_write_off(struct prefetcher *p)
{
	p->is_given_up = false;
	prefetcher_call_off(p, PREFETCH_WANTED);
	prefetcher_call_off(p, PREFETCH_PREDICTED);
	prefetcher_unlock(p);
	for (uint32_t i = 0; i < p->tensor_count; i++) {
		drop_unread(p, &p->items[i]);
		prefetcher_remove_ahead(p, &p->items[i], UINT32_MAX);
	}
	prefetcher_lock(p);
}

bool prefetcher_is_stalled(const struct prefetcher *p)
{
	return prefetcher_now_ns() - atomic_load(&p->read_ns) > STALL_NS;
}
