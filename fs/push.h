/*
 * The pusher: a thread that puts pages into the kernel's cache of a mounted file, ahead
 * of a client that reads it in order (FUSE_NOTIFY_STORE). The client then finds them
 * there, and has neither to make requests nor to wait for answers.
 *
 *            next                                     next + window
 *     read    |      margin     pushed          |
 *     --------+. . . . . . . .+-----------|hole|-+---------|hole|- - - - ->
 *              the client      start                       ^
 *              reads itself                                its READ tells how far the
 *                                                          client is
 *
 * The daemon hears nothing of a client that finds its pages. So a page is left out now
 * and then, a hole: the READ of it tells where the client is. No more is pushed than it
 * has read so far, and no more than a window; so a client that only looks at the
 * beginning costs no more than it has read. Clients that left pages unused make the
 * thread ask for longer runs.
 *
 * Only files that the daemon answers READs of are pushed: those that are streamed.
 */
#ifndef FS_PUSH_H
#define FS_PUSH_H

#include <stdint.h>

#include "layout.h"

struct fuse_session;
struct push;
struct watch;

/* Before the sandbox. Borrows `fs`. 0 or a negative errno. */
MUST_CHECK int push_new(struct weightfs *fs, struct push **push);

/* Starts the thread, which tells the kernel through `session` and together with `watch`.
 * 0 or a negative errno. */
MUST_CHECK int push_start(struct push *push, struct fuse_session *session,
			  struct watch *watch);

/* Nothing more is pushed, but for what is under way: while others still answer READs,
 * which that may wait for. NULL is fine. */
void push_halt(struct push *push);

/* Stops and joins the thread. After watch_silence(), before watch_stop(); NULL is fine.
 */
void push_stop(struct push *push);

/* Once nobody answers READs any more; NULL is fine. */
void push_free(struct push *push);

/* The daemon has answered a READ of a tensor or a file of the source. No lock and no
 * allocation; a system call when the thread sleeps and has to be woken. Any thread. */
void push_note_read(struct push *push, struct node node, uint64_t offset, uint64_t size);

/* A file will be read soon, from its beginning: it needs no run to be believed, and is
 * pushed before it is read as far as the source is cached. 0; -EALREADY: it was asked
 * for; -ENOSPC: too many were; -ENOTSUP: it is not pushed to. Not from a thread that
 * answers requests. */
MUST_CHECK int push_ask(struct push *push, struct node node);

struct push_summary {
	uint64_t readers; /* files that were pushed to */
	uint64_t pushed_bytes;
	uint64_t used_bytes;   /* of those, found by a client, as far as holes tell */
	uint64_t unused_bytes; /* of those whose client is known to have left */
};

void push_summarise(const struct push *push, struct push_summary *summary);

#endif
