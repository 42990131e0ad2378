#include "inodes.h"

#include <errno.h>
#include <fcntl.h>

#include "inodes_state.h"

static void reply_error(fuse_req_t req, int err)
{
	(void)fuse_reply_err(req, err);
}

static int reply_open(fuse_req_t req, uint64_t handle, int id)
{
	const struct fuse_file_info info = { .fh = handle, .keep_cache = 1 };

	return id > 0 ? passthrough_reply_open(req, handle, id)
		      : fuse_reply_open(req, &info);
}

static bool is_interrupted(fuse_req_t req)
{
	return fuse_req_interrupted(req) != 0;
}

/* A mapping by passthrough holds the file behind it and not the one of the mount, for
 * which RELEASE comes while it is still mapped. A write lease is refused while anybody
 * else has the file open, and mapped is open. */
static bool is_mapped(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		return errno == EAGAIN;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

const struct inodes_kernel inodes_fuse = {
	.register_file = passthrough_register,
	.unregister_file = passthrough_unregister,
	.reply_open = reply_open,
	.reply_error = reply_error,
	.is_mapped = is_mapped,
	.watch_open = fuse_req_interrupt_func,
	.is_interrupted = is_interrupted,
};

const char *inodes_backing_name(struct inodes *inodes, struct node node)
{
	enum backing_choice choice = BACKING_STREAM;
	const struct inode *inode;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = inodes_find(inodes, node);
	if (inode && inode->state == INODE_READY && inode->stream_opens == 0)
		choice = inode->choice;
	(void)pthread_mutex_unlock(&inodes->lock);
	return inodes->setup.backings[choice]->name;
}

void inodes_summarise(struct inodes *inodes, struct inodes_summary *summary)
{
	(void)pthread_mutex_lock(&inodes->lock);
	*summary = inodes->sums;
	summary->limit = inodes->setup.limit;
	for (unsigned int i = 0; i < BACKING_CHOICE_COUNT; i++)
		summary->by[i].most_files = inodes->setup.most_files[i];
	(void)pthread_mutex_unlock(&inodes->lock);
}

int inodes_new(const struct inodes_setup *setup, struct inodes **inodes)
{
	struct inodes *i = calloc(1, sizeof(*i));

	if (!i)
		return -ENOMEM;
	i->setup = *setup;
	if (inodes_table_init(i) < 0) {
		free(i);
		return -ENOMEM;
	}
	(void)pthread_mutex_init(&i->lock, NULL);
	(void)pthread_cond_init(&i->wake, NULL);
	*inodes = i;
	return 0;
}

/* Takes the files of all inodes. */
static struct inode_file *take_files(struct inodes *inodes)
{
	struct inode_file *files = NULL;

	for (uint32_t i = 0; i <= inodes->bucket_mask; i++) {
		for (struct inode *inode = inodes->buckets[i]; inode;
		     inode = inode->bucket_next) {
			if (inode->state != INODE_READY)
				continue;
			inode->passthrough_opens = 0;
			inodes_give_up(inodes, inode, &files);
		}
	}
	return files;
}

void inodes_shut(struct inodes *inodes)
{
	struct inode_file *files;

	if (!inodes)
		return;
	(void)pthread_mutex_lock(&inodes->lock);
	inodes->stopping = true;
	(void)pthread_cond_broadcast(&inodes->wake);
	files = take_files(inodes);
	(void)pthread_mutex_unlock(&inodes->lock);
	inodes_close_files(inodes, files);
}

static void free_inode(struct inodes *inodes, struct inode *inode)
{
	while (inode->waiters) {
		struct waiter *next = inode->waiters->next;

		inodes->setup.kernel->reply_error(inode->waiters->req, EIO);
		free(inode->waiters);
		inode->waiters = next;
	}
	inodes_close_files(inodes, inode->file);
	free(inode);
}

void inodes_free(struct inodes *inodes)
{
	if (!inodes)
		return;
	inodes_shut(inodes);
	inodes_join(inodes);
	for (uint32_t i = 0; i <= inodes->bucket_mask; i++) {
		while (inodes->buckets[i]) {
			struct inode *next = inodes->buckets[i]->bucket_next;

			free_inode(inodes, inodes->buckets[i]);
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
	inode = inodes_find(inodes, node);
	if (inode)
		state = inode->state;
	(void)pthread_mutex_unlock(&inodes->lock);
	return state;
}

int inodes_borrow(struct inodes *inodes, struct node node, enum backing_choice choice)
{
	const struct inode *inode;
	int r = -ENOENT;

	(void)pthread_mutex_lock(&inodes->lock);
	inode = inodes_find(inodes, node);
	if (inode && inode->state == INODE_READY && inode->choice == choice) {
		r = fcntl(inode->file->fd, F_DUPFD_CLOEXEC, 0);
		r = r < 0 ? -errno : r;
	}
	(void)pthread_mutex_unlock(&inodes->lock);
	return r;
}
