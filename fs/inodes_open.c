/* Opens and releases: which backing an OPEN gets, and when it is answered. */
#include <errno.h>

#include "inodes_state.h"
#include "recorder.h"

/* What RELEASE brings back. */
#define HANDLE_STREAM      0u
#define HANDLE_PASSTHROUGH 1u

/* ---- Counting ---- */

int inodes_count_open(struct inodes *inodes, struct inode *inode)
{
	if (inode->state == INODE_READY && inode->stream_opens == 0) {
		if (inode->passthrough_opens++ == 0)
			inodes_list_remove(inode);
		inodes->sums.by[inode->choice].opens++;
		return inode->file->id;
	}
	inode->stream_opens++;
	inodes->sums.by[BACKING_STREAM].opens++;
	return 0;
}

void inodes_release(struct inodes *inodes, struct node node, uint64_t handle)
{
	struct recorder *recorder = inodes->setup.fs->recorder;
	struct inode *inode;

	if (handle == HANDLE_PASSTHROUGH && recorder)
		recorder_note_release(recorder, node);
	(void)pthread_mutex_lock(&inodes->lock);
	inode = inodes_find(inodes, node);
	if (inode && handle == HANDLE_PASSTHROUGH) {
		/* Not after inodes_shut(). */
		if (inode->state == INODE_READY && --inode->passthrough_opens == 0)
			inodes_list_append(&inodes->pools[inode->choice].closed, inode);
	} else if (inode) {
		inode->stream_opens--;
		inodes_drop_if_idle(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
}

/* An OPEN that the kernel has called off meanwhile has no RELEASE. */
void inodes_reply(struct inodes *inodes, fuse_req_t req, struct node node, int id)
{
	uint64_t handle = id > 0 ? HANDLE_PASSTHROUGH : HANDLE_STREAM;
	struct recorder *recorder = inodes->setup.fs->recorder;

	if (id > 0 && recorder)
		recorder_note_open(recorder, node);
	if (inodes->setup.kernel->reply_open(req, handle, id) == -ENOENT)
		inodes_release(inodes, node, handle);
}

/* ---- Opening ---- */

/* The backing whose file an OPEN makes; `stream` for none. */
static enum backing_choice choose_for_open(const struct inodes *inodes, struct node node)
{
	const struct weightfs *fs = inodes->setup.fs;
	enum backing_choice choice = fs->options.backing;

	if (choice == BACKING_AUTO)
		choice = model_tensor(fs->served->model, node.index)->nbytes >=
					 BACKING_AUTO_CLONE_BYTES
				 ? BACKING_CLONE
				 : BACKING_STREAM;
	return inodes_can_have(inodes, node, choice) ? choice : BACKING_STREAM;
}

/* IDLE: begins what this OPEN then waits for. */
static bool begin_for_open(struct inodes *inodes, struct inode *inode,
			   struct inode_file **to_close)
{
	enum backing_choice choice = choose_for_open(inodes, inode->node);

	return choice != BACKING_STREAM &&
	       inodes_begin(inodes, inode, choice, FILL_WANTED, to_close);
}

static bool must_wait(struct inodes *inodes, struct inode *inode,
		      struct inode_file **to_close)
{
	if (inode->state == INODE_READY || inode->stream_opens > 0)
		return false;
	if (inode->state == INODE_IDLE)
		return begin_for_open(inodes, inode, to_close);
	inodes_raise(inodes, inode, FILL_WANTED);
	return true;
}

/* Notes an OPEN that waits, if it must. `waiter` is taken over then. A signal that comes
 * before this is seen here, a later one by stop_waiting(). */
static bool wait_for_file(struct inodes *inodes, struct inode *inode,
			  struct waiter *waiter, struct inode_file **to_close)
{
	if (inodes->setup.kernel->is_interrupted(waiter->req) ||
	    !must_wait(inodes, inode, to_close))
		return false;
	waiter->next = inode->waiters;
	inode->waiters = waiter;
	return true;
}

/* Takes this request's waiter out of an inode, if it is there. */
static struct waiter *take_waiter(struct inode *inode, fuse_req_t req)
{
	struct waiter **link = &inode->waiters;
	struct waiter *waiter;

	while (*link && (*link)->req != req)
		link = &(*link)->next;
	waiter = *link;
	if (waiter)
		*link = waiter->next;
	return waiter;
}

/* The client of an OPEN got a signal. It comes too late for an OPEN that is being
 * answered: then nobody waits. What is being made goes on. */
static void stop_waiting(fuse_req_t req, void *data)
{
	struct inodes *inodes = data;
	struct waiter *waiter = NULL;
	struct node node = { 0 };
	int id = 0;

	(void)pthread_mutex_lock(&inodes->lock);
	for (uint32_t i = 0; !waiter && i <= inodes->bucket_mask; i++) {
		struct inode *inode = inodes->buckets[i];

		while (inode && !(waiter = take_waiter(inode, req)))
			inode = inode->bucket_next;
		if (waiter) {
			node = inode->node;
			id = inodes_count_open(inodes, inode);
		}
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	if (waiter)
		inodes_reply(inodes, req, node, id);
	free(waiter);
}

void inodes_open(struct inodes *inodes, fuse_req_t req, struct node node)
{
	struct waiter *waiter = calloc(1, sizeof(*waiter));
	struct inode_file *to_close = NULL;
	struct inode *inode;
	bool waits = false;
	bool makes = false; /* this thread */
	int id = 0;

	if (!waiter) {
		inodes->setup.kernel->reply_error(req, ENOMEM);
		return;
	}
	waiter->req = req;
	inodes->setup.kernel->watch_open(req, stop_waiting, inodes);
	(void)pthread_mutex_lock(&inodes->lock);
	inode = inodes_find_or_add(inodes, node);
	if (inode) {
		bool was_idle = inode->state == INODE_IDLE;

		waits = wait_for_file(inodes, inode, waiter, &to_close);
		makes = was_idle && inode->state == INODE_FILLING;
		if (!waits)
			id = inodes_count_open(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	inodes_close_files(inodes, to_close);
	if (!waits)
		free(waiter);
	if (!inode)
		inodes->setup.kernel->reply_error(req, ENOMEM);
	else if (makes)
		inodes_fill(inodes, inode);
	else if (!waits)
		inodes_reply(inodes, req, node, id);
}
