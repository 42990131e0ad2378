/*
 * What the files prefetcher.c, prefetcher_queue.c and prefetcher_ahead.c share, and
 * nobody else includes: the prefetcher's state. prefetcher.c has what others call, and
 * its life; prefetcher_queue.c the queues and the threads that take pieces from them;
 * prefetcher_ahead.c tells how far ahead they may be.
 */
#ifndef FS_PREFETCHER_STATE_H
#define FS_PREFETCHER_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "prefetcher.h"

#define PREFETCHER_MOST_THREADS 8u

#define PREFETCHER_NS_PER_MS 1000000u
#define PREFETCHER_NS_PER_S  1000000000u

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
	pthread_t threads[PREFETCHER_MOST_THREADS];
	unsigned int thread_count;
};

struct piece {
	const struct source_file *file;
	struct item *item; /* NULL: a job's */
	uint64_t from;
	uint64_t len;
	bool is_ahead; /* of a reader, as far as is known */
};

static inline void prefetcher_lock(struct prefetcher *p)
{
	(void)pthread_mutex_lock(&p->lock);
}

static inline void prefetcher_unlock(struct prefetcher *p)
{
	(void)pthread_mutex_unlock(&p->lock);
}

static inline const struct tensor *prefetcher_tensor(const struct prefetcher *p,
						     const struct item *item)
{
	return model_tensor(p->setup.served->model, (size_t)(item - p->items));
}

static inline uint64_t prefetcher_kib(uint64_t bytes)
{
	return (bytes + 1023) >> 10;
}

uint64_t prefetcher_now_ns(void);

/* ---- prefetcher_queue.c: queues; with the lock held ---- */

void prefetcher_enqueue(struct prefetcher *p, struct item *item,
			enum prefetch_priority priority);
void prefetcher_dequeue(struct prefetcher *p, struct item *item); /* fine if in none */

/* Empties a queue, and counts that. */
void prefetcher_call_off(struct prefetcher *p, enum prefetch_priority priority);

/* Waits for something to be queued; gives up the lock meanwhile. */
void prefetcher_wait_ms(struct prefetcher *p, unsigned int ms);

/* ---- prefetcher_queue.c: pieces and threads; without the lock ---- */

/* Asks for a piece, unless it is cached. The only place that asks the kernel for
 * anything.
 */
void prefetcher_bring_in(struct prefetcher *p, const struct piece *piece);

/* What a thread does until the end, for the prefetcher that is its argument. */
void *prefetcher_run(void *argument);

/* ---- prefetcher_ahead.c: memory ---- */

/* Looks at the memory, unless somebody has a moment ago. Without the lock. */
void prefetcher_look_at_memory(struct prefetcher *p);

/* Whether nothing is to be brought in but what is wanted. */
bool prefetcher_is_short(const struct prefetcher *p);

uint64_t prefetcher_spare_bytes(const struct prefetcher *p);

/* Whether no more may be ahead of its readers. */
bool prefetcher_is_far_ahead(const struct prefetcher *p);

/* ---- prefetcher_ahead.c: bytes that are ahead ---- */

/* So many bytes were asked for. */
void prefetcher_add_ahead(struct prefetcher *p, struct item *item, uint64_t bytes);

/* So many KiB were read, or are not counted any more: as many as there are, at most. */
void prefetcher_remove_ahead(struct prefetcher *p, struct item *item, uint64_t kib);

/* Whether readers have stayed away. */
bool prefetcher_is_stalled(const struct prefetcher *p);

/* Once they have: what is ahead of them is left to the kernel or dropped, and what was
 * queued behind that is not wanted either. With the lock held, which is given up
 * meanwhile. */
void prefetcher_write_off(struct prefetcher *p);

#endif
