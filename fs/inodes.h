/*
 * The state of every inode that is open or has a file of its own: which backing it has,
 * how often it is open, and what is being made for it. docs/architecture.md draws the
 * states.
 *
 *                      a resident file for a closed clone
 *                      +---------------------------------+
 *                      v                                 |
 *     IDLE --------> QUEUED --------> FILLING --------> READY
 *     ^  |  request    |   fill thread   ^ |    made       |
 *     |  +-------------|-----------------+ |               |
 *     |     an OPEN    |   makes a clone   |               |
 *     +----------------+-------------------+---------------+
 *                cancelled, failed, evicted (closed only)
 *
 * The kernel demands that all opens of an inode at a time are served alike. So an inode
 * that is open by stream stays by stream until it is closed, and one that is READY is
 * evicted only when it is closed. A file is never seen before it is complete.
 *
 * One lock protects everything here; it is not held across file I/O, a system call that
 * may wait, or a reply. Any thread may call any function but those that begin and end it.
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

/* How the kernel is told of files and opens. A test has a kernel of its own. */
struct inodes_kernel {
	/* As passthrough_register() and passthrough_unregister(). */
	int (*register_file)(struct passthrough *passthrough, int fd);
	void (*unregister_file)(struct passthrough *passthrough, int id);

	/* Answers an OPEN: reads go to the file `id`, or to the daemon where it is 0.
	 * `handle` comes back in RELEASE. 0; -ENOENT where the OPEN was called off, for
	 * which no RELEASE will come; or another negative errno. */
	int (*reply_open)(fuse_req_t req, uint64_t handle, int id);
	void (*reply_error)(fuse_req_t req, int err);

	/* Whether anybody but us has the file open or mapped. NULL: nobody ever has. */
	bool (*is_mapped)(int fd);

	/* From here until the reply, `interrupted` is called in any thread when the
	 * client of an OPEN gets a signal, and is_interrupted() says whether it got one.
	 * The first must not be called with inodes.lock held, the second may be. */
	void (*watch_open)(fuse_req_t req,
			   void (*interrupted)(fuse_req_t req, void *data), void *data);
	bool (*is_interrupted)(fuse_req_t req);
};

extern const struct inodes_kernel inodes_fuse;

struct inodes_setup {
	struct weightfs *fs;
	struct passthrough *passthrough;
	const struct inodes_kernel *kernel;
	const struct backing_ops *const *backings; /* by enum backing_choice */
	uint64_t limit; /* bytes that all files together may take */
	uint64_t most_files[BACKING_CHOICE_COUNT]; /* of each backing at a time */
};

/* `setup` is copied. 0 or -ENOMEM. */
MUST_CHECK int inodes_new(const struct inodes_setup *setup, struct inodes **inodes);

/* Starts that many fill threads. 0 or a negative errno. */
MUST_CHECK int inodes_start(struct inodes *inodes, unsigned int threads);

/*
 * Closes all files that are ready, whether they are open or not (who has them open keeps
 * them), and begins to stop the threads, without waiting for what they are at. After the
 * last request, while the kernel can still be told: else it holds on to the files for a
 * while, and with them to the file system that clones are on. NULL is fine.
 */
void inodes_shut(struct inodes *inodes);

/* Waits for the threads, answers the opens that still wait with EIO and closes all files;
 * NULL is fine. */
void inodes_free(struct inodes *inodes);

/*
 * Answers an OPEN of a tensor: by passthrough if its file is ready, by stream if there is
 * none. The option backing= says whether one is made first: a quick one by the caller,
 * others by a fill thread, which then sends the reply. A client that gets a signal while
 * it waits for that is streamed at once, so that it can be killed. Exactly one reply.
 */
void inodes_open(struct inodes *inodes, fuse_req_t req, struct node node);

/* Takes note of a RELEASE. `handle` is what the reply to OPEN had. */
void inodes_release(struct inodes *inodes, struct node node, uint64_t handle);

/* Takes note of what the kernel said to a file of this backing. If it would say so to any
 * other, none is made from now on. Returns whether that is so. */
bool inodes_refuse(struct inodes *inodes, enum backing_choice choice, int err);

/* Asks for a resident file to be made in the background; it takes the place of a clone.
 * 0, -EBUSY (it is open in another way), -ENOSPC (it would not fit the limit),
 * -EOPNOTSUPP (it cannot be resident) or -ENOMEM. Fine to repeat. */
MUST_CHECK int inodes_request(struct inodes *inodes, struct node node,
			      enum fill_priority priority);

/* Calls off a request of FILL_PREDICTED that is still queued and that nobody has asked
 * for since. */
void inodes_withdraw(struct inodes *inodes, struct node node);

/* Counts a request that was not made since it would get -ENOSPC. */
void inodes_count_no_room(struct inodes *inodes);

/* A pinned file is not evicted to make room. Pinning does not make it. */
MUST_CHECK int inodes_pin(struct inodes *inodes, struct node node, bool pinned);

/* Gives up a file, or calls off a request that nobody waits for. 0 (also when there is
 * none) or -EBUSY (it is open or being made). */
MUST_CHECK int inodes_evict(struct inodes *inodes, struct node node);

/* Whether any client has the file of this node open or mapped: also one that has closed
 * it, of which RELEASE has come. False where there is none. */
bool inodes_is_mapped(struct inodes *inodes, struct node node);

/* Evicts closed files that are not pinned, oldest use first, until `bytes` are free of
 * the limit or there are no more. Returns the bytes that were given up. */
uint64_t inodes_shrink(struct inodes *inodes, uint64_t bytes);

/* Sets the limit anew. Evicts as inodes_shrink() does until what is left fits it, and
 * calls off requests that do not fit and that nobody waits for. What is open, pinned or
 * being made may stay above it; nothing is added until it fits again. Returns the bytes
 * that were given up. */
uint64_t inodes_set_limit(struct inodes *inodes, uint64_t limit);

/* Name of the backing that this node has now. */
const char *inodes_backing_name(struct inodes *inodes, struct node node);

/* Of one backing. */
struct backing_sums {
	uint64_t most_files;
	int refused;    /* the negative errno with which the kernel takes no such file */
	uint64_t files; /* that are ready, of all views */
	uint64_t tensors;      /* whose raw view is ready */
	uint64_t tensor_bytes; /* of those */
	/* Since the mount: */
	uint64_t opens;
	uint64_t made; /* files */
	uint64_t made_bytes;
	uint64_t evicted;
	uint64_t evicted_for_room; /* of those: others took their room */
	uint64_t no_room;          /* opens and requests that it did not do for */
	uint64_t failed;
};

struct inodes_summary {
	uint64_t limit;
	uint64_t used;   /* bytes of files that are ready or being made */
	uint64_t queued; /* files that are queued or being made */
	uint64_t pinned;
	struct backing_sums by[BACKING_CHOICE_COUNT]; /* stream: only `opens` */
};

void inodes_summarise(struct inodes *inodes, struct inodes_summary *summary);

/* A descriptor of a file of this backing that is ready, to read from: it is not changed,
 * and lasts until the descriptor is closed, whatever becomes of the inode. Or -ENOENT, or
 * what dup(2) says. */
MUST_CHECK int inodes_borrow(struct inodes *inodes, struct node node,
			     enum backing_choice choice);

/* Where a file is on its way. One that was asked for and is IDLE again could not be made.
 */
enum inode_state inodes_state(struct inodes *inodes, struct node node);

#endif
