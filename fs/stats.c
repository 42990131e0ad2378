#include "stats.h"

#include <stdatomic.h>

/* More threads than slots share them, which is still correct. */
#define SLOTS 64u

/* The counters of the process: the one piece of state that is not part of a mount, so
 * that a thread finds its slot without looking anything up. */
static struct slot {
	_Alignas(64) atomic_uint_fast64_t counters[STAT_COUNT];
} slots[SLOTS];

static struct slot *own_slot(void)
{
	static atomic_uint next;
	static _Thread_local struct slot *mine;

	if (!mine)
		mine = &slots[atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) %
			      SLOTS];
	return mine;
}

void stats_add(enum stat_counter counter, uint64_t amount)
{
	(void)atomic_fetch_add_explicit(&own_slot()->counters[counter], amount,
					memory_order_relaxed);
}

uint64_t stats_sum(enum stat_counter counter)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < SLOTS; i++)
		sum += atomic_load_explicit(&slots[i].counters[counter],
					    memory_order_relaxed);
	return sum;
}

const char *stats_request_name(enum stat_counter counter)
{
	static const char *const names[] = {
#define X(name, text) [STAT_##name] = (text),
		STATS_REQUESTS(X)
#undef X
	};

	return names[counter];
}
