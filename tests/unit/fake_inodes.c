#include "fake_inodes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "unit.h"

#define MOST_FDS    4096
#define MOST_COPIES 2
#define MOST_NODES  ((size_t)FAKE_TENSORS * VIEW_COUNT * MOST_COPIES)

/* A file, by its descriptor. */
struct file {
	struct node node;
	bool exists;
	bool complete;
	bool registered;
};

/* What the kernel knows of an inode. */
struct kernel_inode {
	unsigned int cached_opens;
	unsigned int passthrough_opens;
	int id; /* of those */
};

static struct fake {
	struct weightfs fs;
	struct served served;
	struct inodes *inodes;
	unsigned int open_fds; /* before anything was made */

	pthread_mutex_t lock; /* protects the rest */
	pthread_cond_t changed;
	bool ends; /* files may be closed while they are open */
	bool hold;
	struct fake_errors errors;
	unsigned int makes;
	unsigned int registers;
	unsigned int begun;
	unsigned int begun_at[FAKE_TENSORS];
	unsigned int unanswered;
	struct file files[MOST_FDS]; /* by descriptor; ids are descriptors + 1 */
	struct kernel_inode kernel[MOST_NODES];
	const char *blame;
} fake = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static _Thread_local unsigned int made_here;

static void lock(void)
{
	(void)pthread_mutex_lock(&fake.lock);
}

static void unlock(void)
{
	(void)pthread_cond_broadcast(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
}

/* ---- Rules ---- */

static void expect(bool holds, const char *rule)
{
	if (!holds && !fake.blame)
		fake.blame = rule;
}

void fake_blame(const char *rule)
{
	lock();
	expect(false, rule);
	unlock();
}

static struct kernel_inode *kernel_inode(struct node node)
{
	return &fake.kernel[(node.index * VIEW_COUNT + node.view) * MOST_COPIES +
			    node.copy];
}

static bool same_node(struct node a, struct node b)
{
	return a.kind == b.kind && a.view == b.view && a.index == b.index &&
	       a.copy == b.copy;
}

/* ---- Backings ---- */

static const struct tensor *tensor_of(const struct weightfs *fs, struct node node)
{
	return model_tensor(fs->served->model, node.index);
}

static bool is_large(const struct weightfs *fs, struct node node)
{
	return tensor_of(fs, node)->nbytes >= BACKING_LEAST_BYTES;
}

static bool has_header(const struct weightfs *fs, struct node node)
{
	return is_large(fs, node) && node.view != VIEW_RAW;
}

static uint64_t cost_of(const struct weightfs *fs, struct node node)
{
	return tensor_of(fs, node)->nbytes;
}

static uint64_t no_cost(const struct weightfs *fs, struct node node)
{
	(void)fs;
	(void)node;
	return 0;
}

static bool fails_now(unsigned int *count)
{
	++*count;
	return fake.errors.every == 0 || *count % fake.errors.every == 0;
}

static int make_file(struct node node)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct file *file = &fake.files[fd];

	if (fd < 0 || fd >= MOST_FDS)
		abort();
	*file = (struct file){ .node = node, .exists = true, .complete = true };
	made_here++;
	return fd;
}

static int make(struct node node)
{
	int r;

	lock();
	r = fake.errors.make && fails_now(&fake.makes) ? fake.errors.make
						       : make_file(node);
	unlock();
	return r;
}

static int make_clone(struct weightfs *fs, struct node node, int like)
{
	(void)fs;
	(void)like;
	return make(node);
}

static int make_resident(struct weightfs *fs, struct node node, int like)
{
	(void)fs;
	(void)like;
	lock();
	fake.begun_at[node.index] = ++fake.begun;
	(void)pthread_cond_broadcast(&fake.changed);
	while (fake.hold)
		(void)pthread_cond_wait(&fake.changed, &fake.lock);
	unlock();
	return make(node);
}

static const struct backing_ops fake_clone = {
	.name = "clone",
	.quick = true,
	.suits = has_header,
	.make = make_clone,
	.cost = no_cost,
};

static const struct backing_ops fake_resident = {
	.name = "resident",
	.suits = is_large,
	.make = make_resident,
	.cost = cost_of,
};

static const struct backing_ops *const fake_backings[BACKING_CHOICE_COUNT] = {
	[BACKING_STREAM] = &backing_stream,
	[BACKING_CLONE] = &fake_clone,
	[BACKING_RESIDENT] = &fake_resident,
};

/* ---- The kernel ---- */

static int register_file(struct passthrough *passthrough, int fd)
{
	int r = fd + 1;

	(void)passthrough;
	lock();
	expect(fake.files[fd].complete, "a file was registered before it was complete");
	if (fake.errors.register_file && fails_now(&fake.registers))
		r = fake.errors.register_file;
	else
		fake.files[fd].registered = true;
	/* It is closed next, and the number used again by anybody. */
	if (r < 0)
		fake.files[fd].exists = false;
	unlock();
	return r;
}

/* The file is closed next. */
static void unregister_file(struct passthrough *passthrough, int id)
{
	struct file *file = &fake.files[id - 1];
	const struct kernel_inode *inode;

	(void)passthrough;
	lock();
	inode = kernel_inode(file->node);
	expect(file->registered, "a file was unregistered twice");
	expect(fake.ends || inode->passthrough_opens == 0 || inode->id != id,
	       "a file was given up while it was open");
	*file = (struct file){ .exists = false };
	unlock();
}

static void note_open(const struct fake_open *open)
{
	struct kernel_inode *inode = kernel_inode(open->node);

	if (open->id == 0) {
		expect(inode->passthrough_opens == 0, "stream beside passthrough");
		inode->cached_opens++;
		return;
	}
	/* At the end a file may be closed between its being made and the answer. */
	expect(fake.ends || fake.files[open->id - 1].registered,
	       "an open got a file that is gone");
	expect(fake.ends || same_node(fake.files[open->id - 1].node, open->node),
	       "an open got another inode's file");
	expect(inode->cached_opens == 0, "passthrough beside stream");
	expect(inode->passthrough_opens == 0 || inode->id == open->id,
	       "two files of one inode at a time");
	inode->passthrough_opens++;
	inode->id = open->id;
}

static void answer(struct fake_open *open, uint64_t handle, int id, int err)
{
	expect(open->answers == 0, "an open was answered twice");
	open->answers++;
	open->handle = handle;
	open->id = id;
	open->err = err;
	fake.unanswered--;
	if (err == 0 && !open->called_off)
		note_open(open);
}

static int reply_open(fuse_req_t req, uint64_t handle, int id)
{
	struct fake_open *open = (void *)req;
	bool called_off;

	lock();
	called_off = open->called_off;
	answer(open, handle, id, 0);
	unlock();
	return called_off ? -ENOENT : 0;
}

static void reply_error(fuse_req_t req, int err)
{
	lock();
	answer((void *)req, 0, 0, err);
	unlock();
}

static void watch_open(fuse_req_t req, void (*interrupted)(fuse_req_t req, void *data),
		       void *data)
{
	struct fake_open *open = (void *)req;

	lock();
	open->on_interrupt = interrupted;
	open->data = data;
	unlock();
}

static bool is_interrupted(fuse_req_t req)
{
	const struct fake_open *open = (void *)req;
	bool interrupted;

	lock();
	interrupted = open->interrupted;
	unlock();
	return interrupted;
}

static const struct inodes_kernel fake_kernel = {
	.register_file = register_file,
	.unregister_file = unregister_file,
	.reply_open = reply_open,
	.reply_error = reply_error,
	.watch_open = watch_open,
	.is_interrupted = is_interrupted,
};

/* ---- Clients ---- */

static struct fake_open *open_as(struct fake_open as)
{
	struct fake_open *open = malloc(sizeof(*open));

	if (!open)
		abort();
	*open = as;
	lock();
	fake.unanswered++;
	unlock();
	inodes_open(fake.inodes, (void *)open, open->node);
	return open;
}

struct fake_open *fake_open(struct node node)
{
	return open_as((struct fake_open){ .node = node });
}

struct fake_open *fake_open_called_off(struct node node)
{
	return open_as((struct fake_open){ .node = node, .called_off = true });
}

struct fake_open *fake_open_interrupted(struct node node)
{
	return open_as((struct fake_open){ .node = node, .interrupted = true });
}

void fake_interrupt(struct fake_open *open)
{
	bool waits;

	lock();
	open->interrupted = true;
	waits = open->answers == 0;
	unlock();
	/* An answer may come in between, as in libfuse. */
	if (waits)
		open->on_interrupt((void *)open, open->data);
}

bool fake_is_answered(struct fake_open *open)
{
	bool answered;

	lock();
	answered = open->answers > 0;
	unlock();
	return answered;
}

void fake_wait_answer(struct fake_open *open)
{
	lock();
	while (open->answers == 0)
		(void)pthread_cond_wait(&fake.changed, &fake.lock);
	unlock();
}

/* The kernel first, then the daemon hears of it. */
int fake_close(struct fake_open *open)
{
	struct kernel_inode *inode = kernel_inode(open->node);
	int r;

	fake_wait_answer(open);
	lock();
	r = open->err ? -open->err : open->id;
	if (open->err == 0 && open->id == 0)
		inode->cached_opens--;
	else if (open->err == 0)
		inode->passthrough_opens--;
	unlock();
	if (open->err == 0)
		inodes_release(fake.inodes, open->node, open->handle);
	free(open);
	return r;
}

void fake_drop(struct fake_open *open)
{
	fake_wait_answer(open);
	free(open);
}

/* ---- The whole ---- */

static void build_model(void)
{
	struct model *model;
	struct diag diag;
	uint64_t offset = 0;
	uint16_t shard;

	ck_assert_int_eq(model_new("fake", &model), 0);
	ck_assert_int_eq(model_add_shard(model, "fake", 1000 * FAKE_MIB, &shard, &diag),
			 0);
	for (uint32_t i = 0; i < FAKE_TENSORS; i++) {
		const uint64_t nbytes = i == 0 ? 100 : i * FAKE_MIB;
		char name[8];
		const struct tensor t = {
			.name = name,
			.name_len = (uint32_t)snprintf(name, sizeof(name), "t%u", i),
			.shape = &nbytes,
			.rank = 1,
			.dtype = DTYPE_U8,
			.offset = offset,
			.nbytes = nbytes,
			.shard = shard,
		};

		ck_assert_int_eq(model_add_tensor(model, &t, &diag), 0);
		offset += nbytes;
	}
	ck_assert_int_eq(model_seal(model), 0);
	fake.served.model = model;
}

static unsigned int count_fds(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < MOST_FDS; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

void fake_start(enum backing_choice backing, uint64_t limit, uint64_t most_clones)
{
	const struct inodes_setup setup = {
		.fs = &fake.fs,
		.kernel = &fake_kernel,
		.backings = fake_backings,
		.limit = limit,
		.most_files = { [BACKING_CLONE] = most_clones,
				[BACKING_RESIDENT] = 1000 },
	};

	fake.open_fds = count_fds();
	fake.ends = false;
	memset(fake.kernel, 0, sizeof(fake.kernel));
	build_model();
	fake.fs.served = &fake.served;
	fake.fs.mountpoint = "fake";
	fake.fs.options.backing = backing;
	ck_assert_int_eq(inodes_new(&setup, &fake.inodes), 0);
}

void fake_end(void)
{
	lock();
	fake.ends = true;
	unlock();
	/* It does not wait for what is held. */
	inodes_shut(fake.inodes);
	fake_hold(false);
}

void fake_stop(void)
{
	fake_end();
	inodes_free(fake.inodes);
	model_unref(fake.served.model);
	ck_assert_msg(!fake.blame, "%s", fake.blame);
	ck_assert_uint_eq(fake_files(), 0);
	ck_assert_uint_eq(count_fds(), fake.open_fds);
	ck_assert_uint_eq(fake.unanswered, 0);
}

struct inodes *fake_inodes(void)
{
	return fake.inodes;
}

struct node fake_node(uint32_t tensor, enum view view)
{
	return (struct node){ .kind = NODE_TENSOR, .view = view, .index = tensor };
}

void fake_set_errors(struct fake_errors errors)
{
	lock();
	fake.errors = errors;
	unlock();
}

void fake_hold(bool hold)
{
	lock();
	fake.hold = hold;
	unlock();
}

void fake_wait_begun(unsigned int count)
{
	lock();
	while (fake.begun < count)
		(void)pthread_cond_wait(&fake.changed, &fake.lock);
	unlock();
}

unsigned int fake_begun(uint32_t tensor)
{
	unsigned int at;

	lock();
	at = fake.begun_at[tensor];
	unlock();
	return at;
}

unsigned int fake_made_here(void)
{
	return made_here;
}

unsigned int fake_files(void)
{
	unsigned int count = 0;

	lock();
	for (int i = 0; i < MOST_FDS; i++)
		count += fake.files[i].exists;
	unlock();
	return count;
}

struct inodes_summary fake_summary(void)
{
	struct inodes_summary summary;

	inodes_summarise(fake.inodes, &summary);
	return summary;
}

void fake_wait_quiet(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	while (fake_summary().queued > 0)
		(void)nanosleep(&pause, NULL);
}
