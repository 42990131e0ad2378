/*
 * What push.c and push_reader.c share, and nobody else includes: the pusher's state.
 * push.c has the thread and its life, push_reader.c what it does for one reader.
 */
#ifndef FS_PUSH_STATE_H
#define FS_PUSH_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "content.h"
#include "memory.h"
#include "push.h"
#include "readers.h"

/* Where memory is short nothing is pushed for so long. */
#define PUSH_PAUSE_NS ((uint64_t)1000000000)

/* Files that were asked for and have no slot yet. */
#define PUSH_ASKED_MAX 64u

/* What the thread knows of the reader in a slot of the table. */
struct lane {
	uint64_t ino; /* 0: nobody */
	struct node node;
	struct content_place place;
	uint64_t start; /* of the run; another one is another reader */
	uint64_t begin; /* of what may be pushed: behind the header of a view */
	uint64_t end;
	uint64_t base;   /* where the present stretch begins */
	uint64_t pushed; /* and ends so far */
	uint64_t known;  /* how far the reader was when we last looked */
	uint64_t stored; /* bytes, in all */
	uint64_t used;
	uint64_t news_ns; /* when the reader last came forward */
	bool expected;    /* it was asked for, and needs no evidence */
	bool unknown;     /* the kernel had not heard of the file */
};

struct push {
	struct readers readers; /* first, as it is aligned to cache lines */
	struct weightfs *fs;
	struct fuse_session *session;
	struct watch *watch;
	struct memory *memory;
	pthread_t thread;
	bool started;
	int stop_event;
	int wake_event;
	int memory_events[MEMORY_EVENTS];
	atomic_bool asleep; /* the next READ of a reader that matters wakes the thread */
	atomic_bool halted;

	pthread_mutex_t lock;              /* protects the next three */
	struct node asked[PUSH_ASKED_MAX]; /* a ring */
	unsigned int first_asked;
	unsigned int asked_count;

	/* Only the thread has these. */
	struct lane lanes[READERS_MAX];
	unsigned int doubt;
	uint64_t unmeasured; /* bytes stored since the memory was looked at */
	uint64_t paused_ns;  /* nothing is pushed until then */

	/* Only the thread writes these. */
	atomic_uint_fast64_t reader_count;
	atomic_uint_fast64_t pushed_bytes;
	atomic_uint_fast64_t used_bytes;
	atomic_uint_fast64_t unused_bytes;
};

/* What is best done next: the most urgent of all readers counts. */
enum push_turn {
	TURN_NOTHING, /* sleep */
	TURN_DORMANT, /* wait for a READ, or for its being too late for one */
	TURN_WAITS,   /* look again in a moment */
	TURN_STORED,  /* go on */
};

/* ---- push.c ---- */

uint64_t push_now_ns(void);

/* Nothing is stored for a while: memory is short. */
void push_pause(struct push *push);

/* ---- push_reader.c; only the thread calls these ---- */

/* READs so far from the furthest one belong to the same run. */
uint64_t push_margin(const struct push *push);

/* How long a run is that is believed. */
uint64_t push_evidence(const struct push *push);

/* Does for the reader in a slot what is to be done next. `awaited`: if it is only
 * expected; else if it reads. */
enum push_turn push_take_turn(struct push *push, unsigned int slot, bool awaited);

/* Memory may be short: nothing is pushed for a while if it is. */
void push_heed_memory(struct push *push);

/* Whether there is a slot for another file that will be read. */
bool push_can_expect(const struct push *push);

/* A file that will be read gets a slot; its run needs no evidence. */
void push_expect(struct push *push, struct node node);

#endif
