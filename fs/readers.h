/*
 * Who reads a file of the mount in order, and how far it is: a small table that workers
 * note READs in and that the pusher (fs/push.h) looks at.
 *
 * READs of one reader come from several workers, a few out of order, and the kernel reads
 * around what is touched. So a READ within a slack of the furthest one continues a run.
 * Others are strays: what the reader of a run looks up elsewhere, or another reader. Many
 * strays in a row begin another run.
 *
 * No lock: every field is an atomic of its own. What threads lose by writing one at the
 * same time is a run that is found later, or taken for another length than it has: who
 * acts on it must do no harm where it is wrong.
 */
#ifndef FS_READERS_H
#define FS_READERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Files that are read at the same time. */
#define READERS_MAX 16u

struct reader_slot {
	/* A cache line of its own, so that workers do not meet where readers do not. */
	_Alignas(64) atomic_uint_fast64_t start; /* where the run begins */
	atomic_uint_fast64_t next;               /* end of its furthest READ */
	atomic_uint_fast64_t bytes;              /* of its READs */
	atomic_uint_fast64_t ahead; /* end of what the kernel was given unasked */
	atomic_uint strays;         /* since the last READ of the run */
	atomic_bool passed_over;    /* this run is of no interest */
};

/* All zero in the beginning, but for what readers_tune() sets. */
struct readers {
	atomic_uint_fast64_t inos[READERS_MAX]; /* 0: free */
	struct reader_slot slots[READERS_MAX];
	atomic_uint kept; /* a bit for each slot that no other file may take */
	atomic_uint hand; /* where a slot for another file is looked for */
	atomic_uint_fast64_t slack;
	atomic_uint_fast64_t wanted; /* length of a run that is of interest */
};

/* A run as seen at one moment. */
struct reader_run {
	uint64_t ino; /* 0: nobody reads */
	uint64_t start;
	uint64_t next;
	uint64_t bytes;
};

void readers_tune(struct readers *readers, uint64_t slack, uint64_t wanted);

/* Notes a READ, of fewer than 2^62 bytes in all. Whether the run is of interest. Any
 * thread; no lock, no system call. */
bool readers_note(struct readers *readers, uint64_t ino, uint64_t offset, uint64_t size);

/* ---- For the one thread that acts on runs ---- */

struct reader_run readers_look(const struct readers *readers, unsigned int slot);

/* Whether so much of the run came by as READs that it is one. */
bool reader_run_is_dense(const struct reader_run *run);

/* A run at 0 of a file that will be read, in a slot that is kept: which, or -1: none is
 * free. */
int readers_expect(struct readers *readers, uint64_t ino);

/* No other file may take the slot. The kernel was given what ends at `ahead`: a READ up
 * to there continues the run. */
void readers_keep(struct readers *readers, unsigned int slot, uint64_t ahead);

/* Another file may take the slot; what is read of this one from here on is a new run. */
void readers_restart(struct readers *readers, unsigned int slot);

/* The same, and the run is of no interest, however far it goes on. */
void readers_pass_over(struct readers *readers, unsigned int slot);

#endif
