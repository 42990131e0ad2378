/*
 * The one that has the kernel read the source ahead: tensors into its page cache.
 *
 *     reads, opens  --------------> wanted    --+
 *     what is likely to be next --> predicted --+--> threads: a piece at a time, of the
 *     what somebody asked for ----> asked     --+    most urgent tensor that may go on
 *                                                        |
 *     a job of prefetch_pages.c, a piece at a time, ---> ask_piece(): what of it is
 *     when nothing more urgent is queued                 cached? the rest is asked for
 *
 * Asking may take long: the kernel waits for room in the queue of the disk. So threads do
 * it, and few of them.
 *
 * What is wanted or predicted stays within a number of bytes ahead of its readers: bytes
 * that were brought in and that nobody has read since. Where nobody reads any of them for
 * some seconds, what is queued beyond is called off. While memory is short only what is
 * wanted goes on, and nothing once a reserve is touched.
 */
#ifndef FS_PREFETCHER_H
#define FS_PREFETCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"
#include "placement.h"
#include "served.h"

struct prefetcher;

/* The most urgent first. */
enum prefetch_priority {
	PREFETCH_WANTED,    /* somebody reads it, and all of it */
	PREFETCH_PREDICTED, /* somebody may read it soon */
	PREFETCH_ASKED,     /* somebody said so */
	PREFETCH_PRIORITY_COUNT,
};

/* How the page cache is asked; as the functions of pagecache.h. A test has its own. */
struct prefetcher_cache {
	int (*count)(const struct source_file *file, uint64_t from, uint64_t len,
		     uint64_t *bytes);
	void (*ask)(const struct source_file *file, uint64_t from, uint64_t len);
	void (*drop)(const struct source_file *file, uint64_t from, uint64_t len);
};

extern const struct prefetcher_cache prefetcher_pagecache;

struct prefetcher_setup {
	const struct served *served; /* outlives the prefetcher */
	const struct memory_roots *roots;
	const struct prefetcher_cache *cache;
	const struct placement *placement; /* outlives the prefetcher; NULL is fine */
	uint64_t ahead_max; /* bytes that may be ahead of their readers; less where half
			       of the memory that is spare is less */
	bool drop_unread;   /* what nobody has come to read does not stay cached */
};

/* Opens what tells how much memory there is; before the sandbox. `setup` is copied,
 * `roots` used only during the call. 0 or a negative errno. */
MUST_CHECK int prefetcher_new(const struct prefetcher_setup *setup,
			      struct prefetcher **prefetcher);

/* Starts that many threads, at most 8. 0 or a negative errno: some may run then. */
MUST_CHECK int prefetcher_start(struct prefetcher *prefetcher, unsigned int threads);

/* Stops the threads, which give up at the next piece; NULL is fine. No other call may be
 * in progress. */
void prefetcher_free(struct prefetcher *prefetcher);

/* ---- Any thread; NULL is fine ---- */

/* Queues a tensor, or makes it more urgent. 0; -EALREADY: all of it is cached or it is
 * queued as urgently; -ENOSPC: too much is ahead, or memory is short; -EOPNOTSUPP: there
 * is no prefetcher. Fine to repeat. */
MUST_CHECK int prefetcher_ask(struct prefetcher *prefetcher, uint32_t tensor,
			      enum prefetch_priority priority);

/* Asks for a piece of a file in the caller's thread, unless it is cached, as if it had
 * been queued with PREFETCH_ASKED: what is more urgent goes first, for a moment at least.
 */
void prefetcher_ask_piece(struct prefetcher *prefetcher, const struct source_file *file,
			  uint64_t from, uint64_t len);

/* The bytes that one piece has. */
#define PREFETCHER_PIECE ((uint64_t)2 << 20)

/* So many bytes of a tensor were read, or none: it was opened. One that is queued becomes
 * wanted. No lock but for that, once a tensor. */
void prefetcher_note_use(struct prefetcher *prefetcher, uint32_t tensor, uint64_t bytes);

/* Calls off what was only predicted and is queued still. */
void prefetcher_withdraw(struct prefetcher *prefetcher, uint32_t tensor);

/* Takes a tensor out of the queue; what was asked for comes nevertheless. */
void prefetcher_forget(struct prefetcher *prefetcher, uint32_t tensor);

struct prefetcher_summary {
	uint64_t queued[PREFETCH_PRIORITY_COUNT]; /* tensors */
	uint64_t ahead;        /* bytes that were brought in for readers, and not read */
	uint64_t asked_bytes;  /* since the mount: that were not cached */
	uint64_t cached_bytes; /* that were, and so were not asked for */
	uint64_t called_off; /* tensors: nobody came, memory was short, or the prediction
				was wrong */
};

void prefetcher_summarise(struct prefetcher *prefetcher,
			  struct prefetcher_summary *summary);

#endif
