/* Making files: the queues, and the threads that work them off. */
#include <errno.h>

#include "inodes_state.h"
#include "thread.h"
#include "util/errtext.h"
#include "util/log.h"

/* ---- Queueing ---- */

bool inodes_can_have(const struct inodes *inodes, struct node node,
		     enum backing_choice choice)
{
	const struct backing_ops *backing = inodes->setup.backings[choice];

	return inodes->sums.by[choice].refused == 0 &&
	       backing->suits(inodes->setup.fs, node);
}

bool inodes_begin(struct inodes *inodes, struct inode *inode, enum backing_choice choice,
		  enum fill_priority priority, struct inode_file **to_close)
{
	const struct backing_ops *backing = inodes->setup.backings[choice];
	uint64_t cost = backing->cost(inodes->setup.fs, inode->node);

	if (!inodes_reserve(inodes, choice, cost, to_close)) {
		/* Nobody misses what was only predicted. */
		if (priority != FILL_PREDICTED)
			inodes->sums.by[choice].no_room++;
		return false;
	}
	if (inode->state == INODE_READY)
		inodes_give_up(inodes, inode, to_close);
	inode->choice = choice;
	inode->cost = cost;
	inode->priority = priority;
	inodes->sums.queued++;
	if (backing->quick) {
		inode->state = INODE_FILLING;
		return true;
	}
	inode->state = INODE_QUEUED;
	inodes_list_append(&inodes->queues[priority], inode);
	/* All: one that may not take what is only predicted must not be the one that
	 * wakes. */
	(void)pthread_cond_broadcast(&inodes->wake);
	return true;
}

void inodes_raise(struct inodes *inodes, struct inode *inode, enum fill_priority priority)
{
	if (inode->state != INODE_QUEUED || priority <= inode->priority)
		return;
	inodes_list_remove(inode);
	inode->priority = priority;
	inodes_list_append(&inodes->queues[priority], inode);
	(void)pthread_cond_broadcast(&inodes->wake);
}

/* QUEUED or FILLING to IDLE. */
static void become_idle(struct inodes *inodes, struct inode *inode)
{
	inodes_unreserve(inodes, inode->choice, inode->cost);
	inodes->sums.queued--;
	inode->state = INODE_IDLE;
	inode->choice = BACKING_STREAM;
	inode->cost = 0;
}

void inodes_cancel(struct inodes *inodes, struct inode *inode)
{
	inodes_list_remove(inode);
	become_idle(inodes, inode);
}

static int enqueue(struct inodes *inodes, struct inode *inode,
		   enum fill_priority priority, struct inode_file **to_close)
{
	if (inode->choice == BACKING_RESIDENT) {
		inodes_raise(inodes, inode, priority);
		return 0;
	}
	/* A clone that is being made is as good as open: an OPEN waits for it. */
	if (inode->stream_opens > 0 || inode->passthrough_opens > 0 ||
	    inode->state == INODE_FILLING)
		return -EBUSY;
	if (!inodes_can_have(inodes, inode->node, BACKING_RESIDENT))
		return -EOPNOTSUPP;
	if (!inodes_begin(inodes, inode, BACKING_RESIDENT, priority, to_close))
		return -ENOSPC;
	return 0;
}

int inodes_request(struct inodes *inodes, struct node node, enum fill_priority priority)
{
	struct inode_file *to_close = NULL;
	struct inode *inode;
	int r = -ENOMEM;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = inodes_find_or_add(inodes, node);
	if (inode) {
		r = enqueue(inodes, inode, priority, &to_close);
		inodes_drop_if_idle(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	inodes_close_files(inodes, to_close);
	return r;
}

void inodes_withdraw(struct inodes *inodes, struct node node)
{
	struct inode *inode;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = inodes_find(inodes, node);
	if (inode && inode->state == INODE_QUEUED && inode->priority == FILL_PREDICTED) {
		inodes_cancel(inodes, inode);
		inodes_drop_if_idle(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
}

void inodes_count_no_room(struct inodes *inodes)
{
	(void)pthread_mutex_lock(&inodes->lock);
	inodes->sums.by[BACKING_RESIDENT].no_room++;
	(void)pthread_mutex_unlock(&inodes->lock);
}

/* ---- Making one ---- */

/* Whether the kernel would say the same of any other file of this backing. */
static bool is_refusal(int err)
{
	return err == -EPERM || err == -ELOOP || err == -EOPNOTSUPP;
}

bool inodes_refuse(struct inodes *inodes, enum backing_choice choice, int err)
{
	if (!is_refusal(err))
		return false;
	(void)pthread_mutex_lock(&inodes->lock);
	inodes->sums.by[choice].refused = err;
	(void)pthread_mutex_unlock(&inodes->lock);
	return true;
}

/* The file of another memory node is copied from that of the main tree where that is in
 * memory, so that the disk is read once. -1 where it is not. */
static int borrow_main_file(struct inodes *inodes, struct node node)
{
	int fd = -1;

	if (node.copy > 0)
		fd = inodes_borrow(inodes, layout_tensor(node.view, node.index),
				   BACKING_RESIDENT);
	return fd < 0 ? -1 : fd;
}

/* Makes the file and tells the kernel. 0 or a negative errno; `refused` is what the
 * kernel says, where it will pass through to none like it. */
static int make_file(struct inodes *inodes, const struct inode *inode,
		     struct inode_file *file, int *refused)
{
	const struct inodes_setup *setup = &inodes->setup;
	const struct backing_ops *backing = setup->backings[inode->choice];
	CLEANUP(close_fd) int like = borrow_main_file(inodes, inode->node);
	int r = backing->make(setup->fs, inode->node, like);

	if (r < 0)
		return r;
	file->fd = r;
	file->id = setup->kernel->register_file(setup->passthrough, r);
	if (file->id > 0)
		return 0;
	r = file->id < 0 ? file->id : -EIO;
	(void)close(file->fd);
	*refused = is_refusal(r) ? r : 0;
	if (*refused < 0)
		log_info("%s: no %s tensors: the kernel does not pass through to them: "
			 "%s",
			 setup->fs->mountpoint, backing->name, errtext(r));
	return r;
}

static void become_ready(struct inodes *inodes, struct inode *inode,
			 struct inode_file *file)
{
	struct backing_sums *sums = &inodes->sums.by[inode->choice];

	inode->state = INODE_READY;
	inode->file = file;
	inodes->sums.queued--;
	inodes_count_ready(inodes, inode, 1);
	sums->made++;
	sums->made_bytes += inode->cost;
	inodes_list_append(&inodes->pools[inode->choice].closed, inode);
}

static void become_failed(struct inodes *inodes, struct inode *inode, int refused)
{
	inodes->sums.by[inode->choice].failed++;
	if (refused < 0)
		inodes->sums.by[inode->choice].refused = refused;
	become_idle(inodes, inode);
}

/* All who wait are counted as open alike. Returns their list, and the number of the file
 * to pass through to, or 0. */
static struct waiter *take_waiters(struct inodes *inodes, struct inode *inode, int *id)
{
	struct waiter *waiters = inode->waiters;

	inode->waiters = NULL;
	for (const struct waiter *w = waiters; w; w = w->next)
		*id = inodes_count_open(inodes, inode);
	return waiters;
}

void inodes_fill(struct inodes *inodes, struct inode *inode)
{
	const struct node node = inode->node; /* which does not change, as the choice */
	struct inode_file *file = calloc(1, sizeof(*file));
	struct waiter *waiters;
	int refused = 0;
	int id = 0;
	int r = file ? make_file(inodes, inode, file, &refused) : -ENOMEM;

	(void)pthread_mutex_lock(&inodes->lock);
	if (r == 0)
		become_ready(inodes, inode, file);
	else
		become_failed(inodes, inode, refused);
	waiters = take_waiters(inodes, inode, &id);
	inodes_drop_if_idle(inodes, inode);
	(void)pthread_mutex_unlock(&inodes->lock);
	if (r < 0)
		free(file);
	while (waiters) {
		struct waiter *next = waiters->next;

		inodes_reply(inodes, waiters->req, node, id);
		free(waiters);
		waiters = next;
	}
}

/* ---- Threads ---- */

/* Of several threads one is kept free for opens that wait, so that none waits for what
 * was only predicted or asked for. */
static bool may_take(const struct inodes *inodes, enum fill_priority priority)
{
	return priority == FILL_WANTED || inodes->thread_count < 2 ||
	       inodes->unwanted_fills + 1 < inodes->thread_count;
}

static struct inode *next_fill(struct inodes *inodes)
{
	for (int i = FILL_PRIORITY_COUNT - 1; i >= 0; i--) {
		struct inode *inode = inodes->queues[i];

		if (inode && may_take(inodes, (enum fill_priority)i)) {
			inodes_list_remove(inode);
			inode->state = INODE_FILLING;
			return inode;
		}
	}
	return NULL;
}

static void *run_fills(void *argument)
{
	struct inodes *inodes = argument;

	(void)pthread_mutex_lock(&inodes->lock);
	while (!inodes->stopping) {
		struct inode *inode = next_fill(inodes);
		bool unwanted = inode && inode->priority != FILL_WANTED;

		if (!inode) {
			(void)pthread_cond_wait(&inodes->wake, &inodes->lock);
			continue;
		}
		inodes->unwanted_fills += unwanted;
		(void)pthread_mutex_unlock(&inodes->lock);
		inodes_fill(inodes, inode);
		(void)pthread_mutex_lock(&inodes->lock);
		inodes->unwanted_fills -= unwanted;
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	return NULL;
}

int inodes_start(struct inodes *inodes, unsigned int threads)
{
	int r = 0;

	if (threads > INODES_MOST_THREADS)
		threads = INODES_MOST_THREADS;
	(void)pthread_mutex_lock(&inodes->lock);
	while (r == 0 && inodes->thread_count < threads) {
		r = thread_start(&inodes->threads[inodes->thread_count], run_fills,
				 inodes);
		if (r == 0)
			inodes->thread_count++;
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	return r;
}

void inodes_join(struct inodes *inodes)
{
	for (unsigned int i = 0; i < inodes->thread_count; i++)
		(void)pthread_join(inodes->threads[i], NULL);
}
