/*
 * The state of every inode that is open or has a file of its own: which backing it has,
 * how often it is open, and what is being made for it. docs/architecture.md draws the
 * states.
 *
 *     IDLE ------> QUEUED ------> FILLING ------> READY
 *      ^  request     |  a fill thread  |  made       |
 *      +--------------+-----------------+-------------+
 *              cancelled, failed, evicted (closed only)
 *
 * The kernel demands that all opens of an inode at a time are served alike. So an inode
 * that is open by stream stays by stream until it is closed, and one that is READY is
 * evicted only when it is closed. A file is never seen before it is complete.
 *
 * One lock protects everything here; it is not held across file I/O, a system call that
 * may wait, or a reply.
 */
#ifndef FS_INODES_H
#define FS_INODES_H

#include "backing.h"
#include "passthrough.h"

struct inodes;

/* How urgently a file is wanted. */
enum fill_priority {
	FILL_PREDICTED, /* somebody may open it soon */
	FILL_ASKED,     /* somebody said so */
	FILL_WANTED,    /* an open is waiting */
	FILL_PRIORITY_COUNT,
};

enum inode_state {
	INODE_IDLE,
	INODE_QUEUED,
	INODE_FILLING,
	INODE_READY,
	INODE_STATE_COUNT,
};

/* `limit`: bytes that all files together may take. `threads`: that many fills at a time.
 * 0 or -ENOMEM. */
MUST_CHECK int inodes_new(struct weightfs *fs, struct passthrough *passthrough,
			  uint64_t limit, struct inodes **inodes);

/* Starts the fill threads. 0 or a negative errno. */
MUST_CHECK int inodes_start(struct inodes *inodes, unsigned int threads);

/* Stops the threads and closes all files; NULL is fine. */
void inodes_free(struct inodes *inodes);

/*
 * Answers an OPEN of a tensor: by passthrough if its file is ready, by stream if it is
 * not. With `wait` a file that can be made is made first, and the reply is sent when it
 * is; the caller does not wait. Exactly one reply, from this or a fill thread.
 */
void inodes_open(struct inodes *inodes, fuse_req_t req, struct node node, bool wait);

/* Takes note of a RELEASE. `handle` is what the reply to OPEN had. */
void inodes_release(struct inodes *inodes, struct node node, uint64_t handle);

/* Asks for a file to be made in the background. 0, -EBUSY (open by stream), -ENOSPC (it
 * would not fit the limit), -EOPNOTSUPP (no backing suits it) or -ENOMEM. Fine to repeat.
 */
MUST_CHECK int inodes_request(struct inodes *inodes, struct node node,
			      enum fill_priority priority);

/* A pinned file is not evicted to make room. Pinning does not make it. */
MUST_CHECK int inodes_pin(struct inodes *inodes, struct node node, bool pinned);

/* Gives up a file. 0 (also when there is none) or -EBUSY (it is open or being made). */
MUST_CHECK int inodes_evict(struct inodes *inodes, struct node node);

/* Evicts closed files that are not pinned, oldest use first, until `bytes` are free of
 * the limit or there are no more. Returns the bytes that were given up. */
uint64_t inodes_shrink(struct inodes *inodes, uint64_t bytes);

/* Name of the backing that an open of this node would get now. */
const char *inodes_backing_name(struct inodes *inodes, struct node node);

struct inodes_summary {
	uint64_t limit;
	uint64_t used;         /* bytes of files that are ready or being made */
	uint64_t files;        /* that are ready, of all views */
	uint64_t tensors;      /* whose raw view is ready */
	uint64_t tensor_bytes; /* of those */
	uint64_t queued;       /* files that are queued or being made */
	uint64_t pinned;
	uint64_t made; /* files, since the mount */
	uint64_t made_bytes;
	uint64_t evicted;
	uint64_t failed;
	uint64_t stream_opens;
	uint64_t passthrough_opens;
};

void inodes_summarise(struct inodes *inodes, struct inodes_summary *summary);

/* Where a file is on its way. One that was asked for and is IDLE again could not be made.
 */
enum inode_state inodes_state(struct inodes *inodes, struct node node);

#endif
