#include "inodes.h"

#include <errno.h>
#include <string.h>

#include "thread.h"
#include "util/hash.h"
#include "util/log.h"

#define FIRST_BUCKETS 256u
#define MOST_THREADS  64u

/* What RELEASE brings back. */
#define HANDLE_STREAM      0u
#define HANDLE_PASSTHROUGH 1u

/* An OPEN that waits for its file. */
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
	const struct backing_ops *backing;
	struct node node;
	enum inode_state state;
	enum fill_priority priority;
	bool pinned;
	uint32_t stream_opens;
	uint32_t passthrough_opens;
	uint64_t cost;
	int fd; /* the file; -1 unless READY */
	int id; /* its number in the kernel; 0 unless READY */
};

struct inodes {
	struct weightfs *fs;
	struct passthrough *passthrough;

	pthread_mutex_t lock; /* protects everything below */
	pthread_cond_t wake;  /* work for a fill thread, or the end */
	struct inode **buckets;
	uint32_t bucket_mask;
	uint32_t count;
	/* Circular lists; the pointer is to the first, which is the oldest. */
	struct inode *queues[FILL_PRIORITY_COUNT];
	struct inode *closed; /* READY and not open */
	bool stopping;
	uint64_t limit;
	struct inodes_summary sums;

	pthread_t threads[MOST_THREADS];
	unsigned int thread_count;
};

/* ---- Lists ---- */

static void list_append(struct inode **list, struct inode *inode)
{
	struct inode *first = *list;

	inode->list = list;
	if (!first) {
		inode->list_next = inode;
		inode->list_prev = inode;
		*list = inode;
		return;
	}
	inode->list_next = first;
	inode->list_prev = first->list_prev;
	first->list_prev->list_next = inode;
	first->list_prev = inode;
}

static void list_remove(struct inode *inode)
{
	if (!inode->list)
		return;
	if (inode->list_next == inode)
		*inode->list = NULL;
	else if (*inode->list == inode)
		*inode->list = inode->list_next;
	inode->list_next->list_prev = inode->list_prev;
	inode->list_prev->list_next = inode->list_next;
	inode->list = NULL;
}

/* ---- The table ---- */

static uint32_t bucket_of(const struct inodes *inodes, struct node node)
{
	uint64_t ino = layout_ino(node);

	return (uint32_t)hash_stable(&ino, sizeof(ino)) & inodes->bucket_mask;
}

static bool same_node(struct node a, struct node b)
{
	return a.kind == b.kind && a.view == b.view && a.index == b.index;
}

static struct inode *find(const struct inodes *inodes, struct node node)
{
	struct inode *inode = inodes->buckets[bucket_of(inodes, node)];

	while (inode && !same_node(inode->node, node))
		inode = inode->bucket_next;
	return inode;
}

/* Without the memory the buckets just get longer. */
static void grow(struct inodes *inodes)
{
	uint32_t old_count = inodes->bucket_mask + 1;
	struct inode **old = inodes->buckets;
	struct inode **buckets = calloc((size_t)old_count * 2, sizeof(struct inode *));

	if (!buckets)
		return;
	inodes->buckets = buckets;
	inodes->bucket_mask = old_count * 2 - 1;
	for (uint32_t i = 0; i < old_count; i++) {
		while (old[i]) {
			struct inode *inode = old[i];
			uint32_t at = bucket_of(inodes, inode->node);

			old[i] = inode->bucket_next;
			inode->bucket_next = buckets[at];
			buckets[at] = inode;
		}
	}
	free(old);
}

static struct inode *find_or_add(struct inodes *inodes, struct node node)
{
	struct inode *inode = find(inodes, node);
	uint32_t at;

	if (inode)
		return inode;
	inode = calloc(1, sizeof(*inode));
	if (!inode)
		return NULL;
	if (inodes->count > inodes->bucket_mask)
		grow(inodes);
	at = bucket_of(inodes, node);
	inode->node = node;
	inode->fd = -1;
	inode->bucket_next = inodes->buckets[at];
	inodes->buckets[at] = inode;
	inodes->count++;
	return inode;
}

/* Nothing is to be remembered of an inode that is closed, not pinned and has no file. */
static void drop_if_idle(struct inodes *inodes, struct inode *inode)
{
	struct inode **link = &inodes->buckets[bucket_of(inodes, inode->node)];

	if (inode->state != INODE_IDLE || inode->pinned || inode->stream_opens > 0)
		return;
	while (*link != inode)
		link = &(*link)->bucket_next;
	*link = inode->bucket_next;
	inodes->count--;
	free(inode);
}

/* ---- Making room ---- */

/* The file of an inode that is no longer reachable; closed outside of the lock. */
struct leftover {
	struct leftover *next;
	int fd;
	int id;
};

static void close_leftovers(struct inodes *inodes, struct leftover *list)
{
	while (list) {
		struct leftover *next = list->next;

		passthrough_unregister(inodes->passthrough, list->id);
		(void)close(list->fd);
		free(list);
		list = next;
	}
}

/* A tensor counts as ready by its raw view, so that it counts once. */
static void count_ready(struct inodes *inodes, const struct inode *inode, int change)
{
	const struct tensor *t =
		model_tensor(inodes->fs->served->model, inode->node.index);

	inodes->sums.files += (uint64_t)change;
	if (inode->node.view != VIEW_RAW)
		return;
	inodes->sums.tensors += (uint64_t)change;
	inodes->sums.tensor_bytes += (uint64_t)change * t->nbytes;
}

/* READY and closed to IDLE. False without the memory to note the file. */
static bool evict(struct inodes *inodes, struct inode *inode, struct leftover **leftovers)
{
	struct leftover *leftover = malloc(sizeof(*leftover));

	if (!leftover)
		return false;
	*leftover =
		(struct leftover){ .next = *leftovers, .fd = inode->fd, .id = inode->id };
	*leftovers = leftover;
	list_remove(inode);
	inodes->sums.used -= inode->cost;
	inodes->sums.evicted++;
	count_ready(inodes, inode, -1);
	inode->state = INODE_IDLE;
	inode->fd = -1;
	inode->id = 0;
	drop_if_idle(inodes, inode);
	return true;
}

/* Evicts until `bytes` more fit the limit. True if they do. */
static bool make_room(struct inodes *inodes, uint64_t bytes, struct leftover **leftovers)
{
	struct inode *inode = inodes->closed;
	struct inode *last = inode ? inode->list_prev : NULL;

	if (bytes > inodes->limit)
		return false;
	while (inode && inodes->sums.used > inodes->limit - bytes) {
		struct inode *next = inode->list_next;
		bool was_last = inode == last;

		if (!inode->pinned && !evict(inodes, inode, leftovers))
			break;
		inode = was_last ? NULL : next;
	}
	return inodes->sums.used <= inodes->limit - bytes;
}

/* ---- Queueing ---- */

static const struct backing_ops *choose_backing(const struct inodes *inodes,
						struct node node)
{
	return backing_resident.suits(inodes->fs, node) ? &backing_resident : NULL;
}

/* IDLE to QUEUED, or to the front of a more urgent queue. */
static int enqueue(struct inodes *inodes, struct inode *inode,
		   enum fill_priority priority, struct leftover **leftovers)
{
	if (inode->state == INODE_QUEUED && priority > inode->priority) {
		list_remove(inode);
		inode->priority = priority;
		list_append(&inodes->queues[priority], inode);
	}
	if (inode->state != INODE_IDLE)
		return 0;
	if (inode->stream_opens > 0)
		return -EBUSY;
	inode->backing = choose_backing(inodes, inode->node);
	if (!inode->backing)
		return -EOPNOTSUPP;
	inode->cost = inode->backing->cost(inodes->fs, inode->node);
	if (!make_room(inodes, inode->cost, leftovers))
		return -ENOSPC;
	inodes->sums.used += inode->cost;
	inodes->sums.queued++;
	inode->state = INODE_QUEUED;
	inode->priority = priority;
	list_append(&inodes->queues[priority], inode);
	(void)pthread_cond_signal(&inodes->wake);
	return 0;
}

/* ---- Opening and closing ---- */

static void reply_stream(fuse_req_t req)
{
	const struct fuse_file_info info = { .fh = HANDLE_STREAM, .keep_cache = 1 };

	(void)fuse_reply_open(req, &info);
}

/* Counts an open; READY files leave the list of closed ones. Returns the number of the
 * file to pass through to, or 0. */
static int count_open(struct inodes *inodes, struct inode *inode)
{
	if (inode->state == INODE_READY && inode->stream_opens == 0) {
		if (inode->passthrough_opens++ == 0)
			list_remove(inode);
		inodes->sums.passthrough_opens++;
		return inode->id;
	}
	inode->stream_opens++;
	inodes->sums.stream_opens++;
	return 0;
}

static void reply_open(fuse_req_t req, int id)
{
	if (id > 0)
		passthrough_reply_open(req, HANDLE_PASSTHROUGH, id);
	else
		reply_stream(req);
}

/* Whether the OPEN now waits for a file that is being made. */
static bool join_waiters(struct inodes *inodes, struct inode *inode, fuse_req_t req,
			 bool wait, struct leftover **leftovers)
{
	struct waiter *waiter;

	if (inode->state == INODE_READY || inode->stream_opens > 0)
		return false;
	if (inode->state == INODE_IDLE && !wait)
		return false;
	if (enqueue(inodes, inode, FILL_WANTED, leftovers) < 0)
		return false;
	waiter = malloc(sizeof(*waiter));
	if (!waiter)
		return false;
	*waiter = (struct waiter){ .next = inode->waiters, .req = req };
	inode->waiters = waiter;
	return true;
}

void inodes_open(struct inodes *inodes, fuse_req_t req, struct node node, bool wait)
{
	struct leftover *leftovers = NULL;
	struct inode *inode;
	bool waits = false;
	int id = 0;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = find_or_add(inodes, node);
	if (inode) {
		waits = join_waiters(inodes, inode, req, wait, &leftovers);
		if (!waits)
			id = count_open(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	close_leftovers(inodes, leftovers);
	if (!inode)
		(void)fuse_reply_err(req, ENOMEM);
	else if (!waits)
		reply_open(req, id);
}

void inodes_release(struct inodes *inodes, struct node node, uint64_t handle)
{
	struct inode *inode;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = find(inodes, node);
	if (inode && handle == HANDLE_PASSTHROUGH) {
		if (--inode->passthrough_opens == 0)
			list_append(&inodes->closed, inode);
	} else if (inode) {
		inode->stream_opens--;
		drop_if_idle(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
}

/* ---- Filling ---- */

static struct inode *next_fill(struct inodes *inodes)
{
	for (int priority = FILL_PRIORITY_COUNT - 1; priority >= 0; priority--) {
		struct inode *inode = inodes->queues[priority];

		if (inode) {
			list_remove(inode);
			inode->state = INODE_FILLING;
			return inode;
		}
	}
	return NULL;
}

/* Makes the file and tells the kernel. 0 or a negative errno. */
static int make_file(struct inodes *inodes, const struct backing_ops *backing,
		     struct node node, int *fd, int *id)
{
	int r = backing->make(inodes->fs, node);

	if (r < 0)
		return r;
	*fd = r;
	*id = passthrough_register(inodes->passthrough, r);
	if (*id > 0)
		return 0;
	(void)close(*fd);
	return *id;
}

static void become_ready(struct inodes *inodes, struct inode *inode, int fd, int id)
{
	inode->state = INODE_READY;
	inode->fd = fd;
	inode->id = id;
	count_ready(inodes, inode, 1);
	inodes->sums.made++;
	inodes->sums.made_bytes += inode->cost;
	list_append(&inodes->closed, inode);
}

static void become_idle(struct inodes *inodes, struct inode *inode)
{
	inode->state = INODE_IDLE;
	inodes->sums.used -= inode->cost;
	inodes->sums.failed++;
}

/* Ends a fill: all who wait are answered alike. */
static void finish_fill(struct inodes *inodes, struct inode *inode, int result, int fd,
			int id)
{
	struct waiter *waiters;
	int passthrough_id = 0;

	(void)pthread_mutex_lock(&inodes->lock);
	inodes->sums.queued--;
	if (result == 0)
		become_ready(inodes, inode, fd, id);
	else
		become_idle(inodes, inode);
	waiters = inode->waiters;
	inode->waiters = NULL;
	for (const struct waiter *w = waiters; w; w = w->next)
		passthrough_id = count_open(inodes, inode);
	drop_if_idle(inodes, inode);
	(void)pthread_mutex_unlock(&inodes->lock);
	while (waiters) {
		struct waiter *next = waiters->next;

		reply_open(waiters->req, passthrough_id);
		free(waiters);
		waiters = next;
	}
}

static void *run_fills(void *argument)
{
	struct inodes *inodes = argument;

	(void)pthread_mutex_lock(&inodes->lock);
	while (!inodes->stopping) {
		struct inode *inode = next_fill(inodes);
		int fd = -1;
		int id = 0;
		int r;

		if (!inode) {
			(void)pthread_cond_wait(&inodes->wake, &inodes->lock);
			continue;
		}
		(void)pthread_mutex_unlock(&inodes->lock);
		r = make_file(inodes, inode->backing, inode->node, &fd, &id);
		finish_fill(inodes, inode, r, fd, id);
		(void)pthread_mutex_lock(&inodes->lock);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	return NULL;
}

/* ---- What others ask for ---- */

int inodes_request(struct inodes *inodes, struct node node, enum fill_priority priority)
{
	struct leftover *leftovers = NULL;
	struct inode *inode;
	int r = -ENOMEM;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = find_or_add(inodes, node);
	if (inode) {
		r = enqueue(inodes, inode, priority, &leftovers);
		drop_if_idle(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	close_leftovers(inodes, leftovers);
	return r;
}

int inodes_pin(struct inodes *inodes, struct node node, bool pinned)
{
	struct inode *inode;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = pinned ? find_or_add(inodes, node) : find(inodes, node);
	if (inode && inode->pinned != pinned) {
		inode->pinned = pinned;
		inodes->sums.pinned += pinned ? 1 : UINT64_MAX;
		drop_if_idle(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	return pinned && !inode ? -ENOMEM : 0;
}

int inodes_evict(struct inodes *inodes, struct node node)
{
	struct leftover *leftovers = NULL;
	struct inode *inode;
	int r = 0;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = find(inodes, node);
	if (inode && inode->state == INODE_READY && inode->passthrough_opens == 0)
		r = evict(inodes, inode, &leftovers) ? 0 : -ENOMEM;
	else if (inode && inode->state != INODE_IDLE)
		r = -EBUSY;
	(void)pthread_mutex_unlock(&inodes->lock);
	close_leftovers(inodes, leftovers);
	return r;
}

uint64_t inodes_shrink(struct inodes *inodes, uint64_t bytes)
{
	struct leftover *leftovers = NULL;
	uint64_t before;
	uint64_t after;

	(void)pthread_mutex_lock(&inodes->lock);
	before = inodes->sums.used;
	(void)make_room(inodes, bytes < inodes->limit ? bytes : inodes->limit,
			&leftovers);
	after = inodes->sums.used;
	(void)pthread_mutex_unlock(&inodes->lock);
	close_leftovers(inodes, leftovers);
	return before - after;
}

const char *inodes_backing_name(struct inodes *inodes, struct node node)
{
	const struct backing_ops *backing = &backing_stream;
	const struct inode *inode;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = find(inodes, node);
	if (inode && inode->state == INODE_READY && inode->stream_opens == 0)
		backing = inode->backing;
	(void)pthread_mutex_unlock(&inodes->lock);
	return backing->name;
}

void inodes_summarise(struct inodes *inodes, struct inodes_summary *summary)
{
	(void)pthread_mutex_lock(&inodes->lock);
	*summary = inodes->sums;
	summary->limit = inodes->limit;
	(void)pthread_mutex_unlock(&inodes->lock);
}

/* ---- Life ---- */

int inodes_new(struct weightfs *fs, struct passthrough *passthrough, uint64_t limit,
	       struct inodes **inodes)
{
	struct inodes *i = calloc(1, sizeof(*i));

	if (!i)
		return -ENOMEM;
	i->buckets = calloc(FIRST_BUCKETS, sizeof(struct inode *));
	if (!i->buckets) {
		free(i);
		return -ENOMEM;
	}
	i->bucket_mask = FIRST_BUCKETS - 1;
	i->fs = fs;
	i->passthrough = passthrough;
	i->limit = limit;
	(void)pthread_mutex_init(&i->lock, NULL);
	(void)pthread_cond_init(&i->wake, NULL);
	*inodes = i;
	return 0;
}

int inodes_start(struct inodes *inodes, unsigned int threads)
{
	if (threads > MOST_THREADS)
		threads = MOST_THREADS;
	while (inodes->thread_count < threads) {
		int r = thread_start(&inodes->threads[inodes->thread_count], run_fills,
				     inodes);

		if (r < 0)
			return r;
		inodes->thread_count++;
	}
	return 0;
}

static void free_inode(struct inode *inode)
{
	while (inode->waiters) {
		struct waiter *next = inode->waiters->next;

		(void)fuse_reply_err(inode->waiters->req, EIO);
		free(inode->waiters);
		inode->waiters = next;
	}
	if (inode->fd >= 0)
		(void)close(inode->fd);
	free(inode);
}

void inodes_free(struct inodes *inodes)
{
	if (!inodes)
		return;
	(void)pthread_mutex_lock(&inodes->lock);
	inodes->stopping = true;
	(void)pthread_cond_broadcast(&inodes->wake);
	(void)pthread_mutex_unlock(&inodes->lock);
	for (unsigned int i = 0; i < inodes->thread_count; i++)
		(void)pthread_join(inodes->threads[i], NULL);
	for (uint32_t i = 0; i <= inodes->bucket_mask; i++) {
		while (inodes->buckets[i]) {
			struct inode *next = inodes->buckets[i]->bucket_next;

			free_inode(inodes->buckets[i]);
			inodes->buckets[i] = next;
		}
	}
	free(inodes->buckets);
	(void)pthread_cond_destroy(&inodes->wake);
	(void)pthread_mutex_destroy(&inodes->lock);
	free(inodes);
}

/* ---- For those who asked ---- */

enum inode_state inodes_state(struct inodes *inodes, struct node node)
{
	const struct inode *inode;
	enum inode_state state = INODE_IDLE;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = find(inodes, node);
	if (inode)
		state = inode->state;
	(void)pthread_mutex_unlock(&inodes->lock);
	return state;
}
