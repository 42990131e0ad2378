/* Room: how many bytes and files there may be, and what is given up for others. */
#include <errno.h>

#include "inodes_state.h"

/* ---- Giving up files ---- */

void inodes_close_files(struct inodes *inodes, struct inode_file *files)
{
	while (files) {
		struct inode_file *next = files->next;

		inodes->setup.kernel->unregister_file(inodes->setup.passthrough,
						      files->id);
		(void)close(files->fd);
		free(files);
		files = next;
	}
}

/* A tensor counts as ready by its raw view in the main tree, so that it counts once. */
void inodes_count_ready(struct inodes *inodes, const struct inode *inode, int change)
{
	struct backing_sums *sums = &inodes->sums.by[inode->choice];

	sums->files += (uint64_t)change;
	if (inode->node.view != VIEW_RAW || inode->node.copy != 0)
		return;
	sums->tensors += (uint64_t)change;
	sums->tensor_bytes +=
		(uint64_t)change *
		model_tensor(inodes->setup.fs->served->model, inode->node.index)->nbytes;
}

void inodes_give_up(struct inodes *inodes, struct inode *inode,
		    struct inode_file **to_close)
{
	inode->file->next = *to_close;
	*to_close = inode->file;
	inode->file = NULL;
	inodes_list_remove(inode);
	inodes_count_ready(inodes, inode, -1);
	inodes->sums.by[inode->choice].evicted++;
	inodes_unreserve(inodes, inode->choice, inode->cost);
	inode->state = INODE_IDLE;
	inode->choice = BACKING_STREAM;
	inode->cost = 0;
}

/* ---- Making room ---- */

/* What is too much: to be given up before something fits. */
struct excess {
	uint64_t bytes;
	uint64_t files;
};

static uint64_t above(uint64_t value, uint64_t limit)
{
	return value > limit ? value - limit : 0;
}

static bool is_left(const struct excess *excess)
{
	return excess->bytes > 0 || excess->files > 0;
}

static void take_off(struct excess *excess, const struct inode *inode)
{
	excess->bytes = above(excess->bytes, inode->cost);
	excess->files = above(excess->files, 1);
}

static struct inode *next_closed(const struct pool *pool, const struct inode *inode)
{
	return inode->list_next == pool->closed ? NULL : inode->list_next;
}

/* Whether giving the file up would free nothing: clients map it that have closed it. */
static bool is_mapped(const struct inodes *inodes, const struct inode *inode)
{
	const struct inodes_kernel *kernel = inodes->setup.kernel;

	return inode->cost > 0 && kernel->is_mapped && kernel->is_mapped(inode->file->fd);
}

static bool could_be_evicted(const struct inodes *inodes, const struct pool *pool,
			     struct excess excess)
{
	const struct inode *inode = pool->closed;

	while (inode && is_left(&excess)) {
		if (!inode->pinned && !is_mapped(inodes, inode))
			take_off(&excess, inode);
		inode = next_closed(pool, inode);
	}
	return !is_left(&excess);
}

/* As far as that is possible. Returns the bytes that were given up. */
static uint64_t evict(struct inodes *inodes, const struct pool *pool,
		      struct excess *excess, struct inode_file **to_close)
{
	struct inode *inode = pool->closed;
	uint64_t bytes = 0;

	while (inode && is_left(excess)) {
		struct inode *next = next_closed(pool, inode);

		/* What takes no memory does not help where memory is wanted. */
		if (!inode->pinned && (inode->cost > 0 || excess->files > 0) &&
		    !is_mapped(inodes, inode)) {
			bytes += inode->cost;
			take_off(excess, inode);
			inodes_give_up(inodes, inode, to_close);
			inodes_drop_if_idle(inodes, inode);
		}
		inode = next;
	}
	return bytes;
}

bool inodes_reserve(struct inodes *inodes, enum backing_choice choice, uint64_t cost,
		    struct inode_file **to_close)
{
	const uint64_t limit = inodes->setup.limit;
	const uint64_t most_files = inodes->setup.most_files[choice];
	struct backing_sums *sums = &inodes->sums.by[choice];
	struct pool *pool = &inodes->pools[choice];
	struct excess excess = { 0 };
	uint64_t evicted;

	if (cost > limit || most_files == 0)
		return false;
	if (cost > 0)
		excess.bytes = above(inodes->sums.used, limit - cost);
	excess.files = above(pool->reserved, most_files - 1);
	if (!could_be_evicted(inodes, pool, excess))
		return false;
	evicted = sums->evicted;
	(void)evict(inodes, pool, &excess, to_close);
	sums->evicted_for_room += sums->evicted - evicted;
	inodes->sums.used += cost;
	pool->reserved++;
	return true;
}

void inodes_unreserve(struct inodes *inodes, enum backing_choice choice, uint64_t cost)
{
	inodes->sums.used -= cost;
	inodes->pools[choice].reserved--;
}

/* Evicts from all backings until no more than `most` bytes are used. */
static uint64_t evict_down_to(struct inodes *inodes, uint64_t most,
			      struct inode_file **to_close)
{
	struct excess excess = { .bytes = above(inodes->sums.used, most) };
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < BACKING_CHOICE_COUNT; i++)
		bytes += evict(inodes, &inodes->pools[i], &excess, to_close);
	return bytes;
}

uint64_t inodes_shrink(struct inodes *inodes, uint64_t bytes)
{
	struct inode_file *to_close = NULL;
	uint64_t given_up;

	(void)pthread_mutex_lock(&inodes->lock);
	given_up = evict_down_to(inodes, above(inodes->setup.limit, bytes), &to_close);
	(void)pthread_mutex_unlock(&inodes->lock);
	inodes_close_files(inodes, to_close);
	return given_up;
}

/* Calls off what is queued and would not fit, the least urgent first. Nobody may be
 * waiting for it. */
static void cancel_excess(struct inodes *inodes)
{
	for (unsigned int i = 0; i < FILL_WANTED; i++) {
		while (inodes->queues[i] && inodes->sums.used > inodes->setup.limit) {
			struct inode *last = inodes->queues[i]->list_prev;

			inodes_cancel(inodes, last);
			inodes_drop_if_idle(inodes, last);
		}
	}
}

uint64_t inodes_set_limit(struct inodes *inodes, uint64_t limit)
{
	struct inode_file *to_close = NULL;
	uint64_t given_up;

	(void)pthread_mutex_lock(&inodes->lock);
	inodes->setup.limit = limit;
	given_up = evict_down_to(inodes, limit, &to_close);
	cancel_excess(inodes);
	(void)pthread_mutex_unlock(&inodes->lock);
	inodes_close_files(inodes, to_close);
	return given_up;
}

/* ---- Single files ---- */

int inodes_pin(struct inodes *inodes, struct node node, bool pinned)
{
	struct inode *inode;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = pinned ? inodes_find_or_add(inodes, node) : inodes_find(inodes, node);
	if (inode && inode->pinned != pinned) {
		inode->pinned = pinned;
		inodes->sums.pinned += pinned ? 1 : UINT64_MAX;
		inodes_drop_if_idle(inodes, inode);
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	return pinned && !inode ? -ENOMEM : 0;
}

static int evict_one(struct inodes *inodes, struct inode *inode,
		     struct inode_file **to_close)
{
	if (inode->state == INODE_FILLING || inode->waiters ||
	    inode->passthrough_opens > 0 ||
	    (inode->state == INODE_READY && is_mapped(inodes, inode)))
		return -EBUSY;
	if (inode->state == INODE_READY)
		inodes_give_up(inodes, inode, to_close);
	else if (inode->state == INODE_QUEUED)
		inodes_cancel(inodes, inode);
	inodes_drop_if_idle(inodes, inode);
	return 0;
}

bool inodes_is_mapped(struct inodes *inodes, struct node node)
{
	const struct inodes_kernel *kernel = inodes->setup.kernel;
	const struct inode *inode;
	bool mapped;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = inodes_find(inodes, node);
	mapped = inode && inode->state == INODE_READY && kernel->is_mapped &&
		 kernel->is_mapped(inode->file->fd);
	(void)pthread_mutex_unlock(&inodes->lock);
	return mapped;
}

int inodes_evict(struct inodes *inodes, struct node node)
{
	struct inode_file *to_close = NULL;
	struct inode *inode;
	int r = 0;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = inodes_find(inodes, node);
	if (inode)
		r = evict_one(inodes, inode, &to_close);
	(void)pthread_mutex_unlock(&inodes->lock);
	inodes_close_files(inodes, to_close);
	return r;
}
