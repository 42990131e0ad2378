/*
 * How much of the source the page cache has: of all files, and of each tensor.
 *
 * To count takes the kernel as long as there are pages, which for a large model is more
 * than the control thread has. So a thread counts when somebody asks, and who asks looks
 * again until it is done.
 */
#ifndef FS_RESIDENCY_H
#define FS_RESIDENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "served.h"

struct residency;

enum residency_kind {
	RESIDENCY_FILES,   /* all files that have tensors: a system call each */
	RESIDENCY_TENSORS, /* each tensor */
	RESIDENCY_KIND_COUNT,
};

/* Borrows `served`. 0 or -ENOMEM. */
MUST_CHECK int residency_new(const struct served *served, struct residency **residency);

/* Starts the thread. 0 or a negative errno. */
MUST_CHECK int residency_start(struct residency *residency);

/* Stops the thread at the next file or tensor; NULL is fine. */
void residency_free(struct residency *residency);

/* ---- Any thread ---- */

/* Has the thread count, from now on: what it has begun before does not do. Returns the
 * number of the count. */
uint64_t residency_ask(struct residency *residency, enum residency_kind kind);

/* Waits for that, but not longer than so many ms. Whether it is done. */
bool residency_wait(struct residency *residency, enum residency_kind kind, uint64_t count,
		    unsigned int timeout_ms);

struct residency_sums {
	uint64_t bytes;  /* of all files that have tensors */
	uint64_t cached; /* of those, as the last count has found */
	bool known;      /* there was one, and the kernel has told */
};

void residency_summarise(struct residency *residency, struct residency_sums *sums);

/* How much of a tensor was cached at the last count, in percent: 0 and 100 mean none and
 * all of it. RESIDENCY_UNKNOWN where the kernel does not tell, or nobody has asked. */
#define RESIDENCY_UNKNOWN 255u
unsigned int residency_percent(const struct residency *residency, uint32_t tensor);

#endif
