/*
 * What the files inodes*.c share, and nobody else includes: the state of the inodes.
 * inodes_table.c finds them, inodes_room.c keeps them within the limits, inodes_fill.c
 * makes their files, inodes_open.c counts their opens.
 *
 * Whoever calls a function of this header holds inodes.lock, unless it says otherwise.
 */
#ifndef FS_INODES_STATE_H
#define FS_INODES_STATE_H

#include "inodes.h"

#define INODES_MOST_THREADS 64u

/* A file that was made. */
struct inode_file {
	struct inode_file *next; /* in a list of files to close */
	int fd;
	int id; /* its number in the kernel */
};

/* An OPEN that waits for a file. */
struct waiter {
	struct waiter *next;
	fuse_req_t req;
};

struct inode {
	struct inode *bucket_next;
	struct inode *list_next; /* in its queue, or in the list of closed files */
	struct inode *list_prev;
	struct inode **list; /* which list it is in; NULL for none */
	struct waiter *waiters;
	struct node node;
	enum inode_state state;
	enum backing_choice choice; /* backing of its file; `stream` while IDLE */
	enum fill_priority priority;
	bool pinned;
	uint32_t stream_opens;
	uint32_t passthrough_opens; /* 0 unless READY */
	uint64_t cost;              /* 0 while IDLE */
	struct inode_file *file;    /* NULL unless READY */
};

/* All files of one backing. */
struct pool {
	struct inode *closed; /* READY and not passed through: the oldest use first */
	uint64_t reserved;    /* files that are ready or being made */
};

struct inodes {
	struct inodes_setup setup; /* immutable, but for `limit` */

	pthread_mutex_t lock; /* protects everything below and `limit` */
	pthread_cond_t wake;  /* work for a fill thread, or the end */
	struct inode **buckets;
	uint32_t bucket_mask;
	uint32_t count;
	struct inode *queues[FILL_PRIORITY_COUNT];
	unsigned int unwanted_fills; /* threads that make what no open waits for */
	struct pool pools[BACKING_CHOICE_COUNT];
	bool stopping;
	struct inodes_summary sums;

	/* Of the thread that starts and frees. */
	pthread_t threads[INODES_MOST_THREADS];
	unsigned int thread_count;
};

/* ---- inodes_table.c: lists and the table ---- */

/* A list is circular; the pointer is to the first. */
void inodes_list_append(struct inode **list, struct inode *inode);
void inodes_list_remove(struct inode *inode); /* fine if it is in none */

int inodes_table_init(struct inodes *inodes);
struct inode *inodes_find(const struct inodes *inodes, struct node node);
struct inode *inodes_find_or_add(struct inodes *inodes, struct node node);

/* Forgets an inode that is closed, not pinned and has no file. */
void inodes_drop_if_idle(struct inodes *inodes, struct inode *inode);

/* ---- inodes_room.c: what there is room for ---- */

/* Takes one more file of a backing into account; evicts for it. False if it does not fit;
 * then nothing is evicted. */
bool inodes_reserve(struct inodes *inodes, enum backing_choice choice, uint64_t cost,
		    struct inode_file **to_close);
void inodes_unreserve(struct inodes *inodes, enum backing_choice choice, uint64_t cost);

/* READY to IDLE, not open; the file is added to `to_close`. */
void inodes_give_up(struct inodes *inodes, struct inode *inode,
		    struct inode_file **to_close);

/* Counts a file that is ready (1) or no more (-1). */
void inodes_count_ready(struct inodes *inodes, const struct inode *inode, int change);

/* Closes files that no inode has any more. Without the lock. */
void inodes_close_files(struct inodes *inodes, struct inode_file *files);

/* ---- inodes_fill.c: making files ---- */

/* Whether the node can have this backing. */
bool inodes_can_have(const struct inodes *inodes, struct node node,
		     enum backing_choice choice);

/* IDLE, or READY and closed with a file of another backing, to QUEUED or, where the
 * caller makes the file, to FILLING. False if there is no room: then nothing changes. */
bool inodes_begin(struct inodes *inodes, struct inode *inode, enum backing_choice choice,
		  enum fill_priority priority, struct inode_file **to_close);

/* Moves a QUEUED inode to a more urgent queue. */
void inodes_raise(struct inodes *inodes, struct inode *inode,
		  enum fill_priority priority);

/* QUEUED to IDLE. */
void inodes_cancel(struct inodes *inodes, struct inode *inode);

/* FILLING to READY or IDLE: makes the file, and answers all who wait. Without the lock.
 */
void inodes_fill(struct inodes *inodes, struct inode *inode);

/* Waits for the threads to end. Without the lock. */
void inodes_join(struct inodes *inodes);

/* ---- inodes_open.c: opening ---- */

/* Counts an open. Returns the number of the file to pass through to, or 0: stream. */
int inodes_count_open(struct inodes *inodes, struct inode *inode);

/* Sends the reply to an open that was counted. Without the lock. */
void inodes_reply(struct inodes *inodes, fuse_req_t req, struct node node, int id);

#endif
