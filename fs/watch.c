#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include "layout.h"
#include "ops.h"
#include "thread.h"
#include "util/errtext.h"
#include "util/log.h"

struct watch {
	struct weightfs *fs;
	struct fuse_session *session;
	pthread_t thread;
	int stop_event;
	int inotify; /* -1 where there is none: reads and lookups still notice changes */
	pthread_mutex_t lock;   /* protects the next two */
	pthread_cond_t idle;    /* no notification is under way */
	unsigned int notifying; /* threads with one under way */
	bool quiet;             /* no more notifications */
	int *watch_ids;         /* by file of the source; -1 where it is not watched */
	bool *forgotten;        /* by file: the kernel was told */
};

/* Watches the open inode, whatever happens to its names. */
static int add_watch(const struct watch *w, const struct source_file *file)
{
	char path[64];
	int id;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	id = inotify_add_watch(w->inotify, path, IN_MODIFY | IN_ATTRIB);
	if (id < 0)
		log_warning("%s: watch: %s: a change is noticed at the next read only",
			    file->path, errtext(errno));
	return id;
}

/* Several names of one inode share one watch. Where events were lost, any file may have
 * changed. */
static void handle_event(const struct watch *w, const struct inotify_event *event)
{
	const struct source *source = w->fs->served->source;

	if (event->mask & IN_Q_OVERFLOW) {
		for (uint32_t i = 0; i < source->file_count; i++)
			(void)source_file_unchanged(&source->files[i]);
		return;
	}
	for (uint32_t i = 0; i < source->file_count; i++) {
		if (w->watch_ids[i] != event->wd)
			continue;
		if (event->mask & IN_MODIFY)
			source_file_set_changed(&source->files[i]);
		else
			(void)source_file_unchanged(&source->files[i]);
	}
}

static void read_events(const struct watch *w)
{
	_Alignas(struct inotify_event) char bytes[4096];
	ssize_t len = read(w->inotify, bytes, sizeof(bytes));
	ssize_t at = 0;

	while (at < len) {
		const struct inotify_event *event = (const void *)(bytes + at);

		handle_event(w, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

bool watch_begin(struct watch *watch)
{
	bool begun;

	(void)pthread_mutex_lock(&watch->lock);
	begun = !watch->quiet;
	if (begun)
		watch->notifying++;
	(void)pthread_mutex_unlock(&watch->lock);
	return begun;
}

void watch_end(struct watch *watch)
{
	(void)pthread_mutex_lock(&watch->lock);
	if (--watch->notifying == 0)
		(void)pthread_cond_signal(&watch->idle);
	(void)pthread_mutex_unlock(&watch->lock);
}

/* ENOENT, the usual answer, means that the kernel has none. */
void watch_forget_pages(struct watch *watch, struct node node)
{
	if (!watch_begin(watch))
		return;
	(void)fuse_lowlevel_notify_inval_inode(watch->session, layout_ino(node), 0, 0);
	watch_end(watch);
}

/* In all trees. */
static void forget_tensor(struct watch *w, struct node node)
{
	const struct numa_mirror *mirror = &w->fs->mirror;

	for (unsigned int i = 0; i < numa_mirror_file_count(mirror); i++) {
		node.copy = numa_mirror_file_at(mirror, i);
		watch_forget_pages(w, node);
	}
}

static void forget_file(struct watch *w, uint32_t index)
{
	const struct served *served = w->fs->served;

	watch_forget_pages(w, (struct node){ .kind = NODE_FILE, .index = index });
	if (served->file_tensor_bytes[index] == 0)
		return;
	for (uint32_t i = 0; i < model_tensor_count(served->model); i++) {
		if (served->shard_files[model_tensor(served->model, i)->shard] != index)
			continue;
		for (unsigned int view = 0; view < VIEW_COUNT; view++)
			forget_tensor(w, layout_tensor((enum view)view, i));
	}
}

/* Drops every name below the root: the next open looks it up, and learns that it is
 * stale. */
static void forget_names(struct watch *w)
{
	const struct node root = { .kind = NODE_ROOT };
	char name[PATH_NAME_MAX + 1];
	struct node child;

	for (uint64_t i = 0; layout_child(w->fs, root, i, &child, name); i++) {
		if (!layout_is_dir(child) || !watch_begin(w))
			continue;
		(void)fuse_lowlevel_notify_inval_entry(w->session, layout_ino(root), name,
						       strlen(name));
		watch_end(w);
	}
}

static void forget_changed(struct watch *w)
{
	const struct source *source = w->fs->served->source;
	uint64_t count;

	if (read(source->changed_event, &count, sizeof(count)) < 0)
		return;
	forget_names(w);
	for (uint32_t i = 0; i < source->file_count; i++) {
		if (!atomic_load(&source->files[i].changed) || w->forgotten[i])
			continue;
		w->forgotten[i] = true;
		forget_file(w, i);
	}
}

static void *run(void *argument)
{
	struct watch *w = argument;
	struct pollfd fds[] = {
		{ .fd = w->stop_event, .events = POLLIN },
		{ .fd = w->fs->served->source->changed_event, .events = POLLIN },
		{ .fd = w->inotify, .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		if (fds[2].revents)
			read_events(w);
		if (fds[1].revents)
			forget_changed(w);
	}
}

static void free_watch(struct watch *w)
{
	if (w->stop_event >= 0)
		(void)close(w->stop_event);
	if (w->inotify >= 0)
		(void)close(w->inotify);
	(void)pthread_cond_destroy(&w->idle);
	(void)pthread_mutex_destroy(&w->lock);
	free(w->watch_ids);
	free(w->forgotten);
	free(w);
}

static int init_watch(struct watch *w)
{
	const struct source *source = w->fs->served->source;

	w->watch_ids = calloc(source->file_count, sizeof(*w->watch_ids));
	w->forgotten = calloc(source->file_count, sizeof(*w->forgotten));
	w->stop_event = eventfd(0, EFD_CLOEXEC);
	if (!w->watch_ids || !w->forgotten || w->stop_event < 0)
		return -ENOMEM;
	w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->inotify < 0)
		log_warning("%s: watch: %s: changes are noticed at the next read only",
			    source->path, errtext(errno));
	for (uint32_t i = 0; i < source->file_count; i++)
		w->watch_ids[i] = w->inotify < 0 ? -1 : add_watch(w, &source->files[i]);
	return thread_start(&w->thread, run, w);
}

int watch_start(struct weightfs *fs, struct fuse_session *session, struct watch **watch)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	*w = (struct watch){
		.fs = fs, .session = session, .stop_event = -1, .inotify = -1
	};
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->idle, NULL);
	r = init_watch(w);
	if (r < 0) {
		free_watch(w);
		return r;
	}
	*watch = w;
	return 0;
}

/* How long a notification is waited for: it may need an answer that nobody gives any
 * more, until the unmount ends it. */
#define QUIET_S 1

bool watch_silence(struct watch *watch)
{
	struct timespec until;
	int r = 0;

	if (!watch)
		return true;
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += QUIET_S;
	(void)pthread_mutex_lock(&watch->lock);
	watch->quiet = true;
	while (watch->notifying > 0 && r == 0)
		r = pthread_cond_timedwait(&watch->idle, &watch->lock, &until);
	(void)pthread_mutex_unlock(&watch->lock);
	return r == 0;
}

void watch_stop(struct watch *watch)
{
	if (!watch)
		return;
	thread_stop(watch->thread, watch->stop_event);
	free_watch(watch);
}
