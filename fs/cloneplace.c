#include "cloneplace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "util/errtext.h"
#include "util/log.h"

static int make_file(int dir)
{
	int fd = openat(dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0400);

	return fd < 0 ? -errno : fd;
}

int cloneplace_file(const struct cloneplace *place)
{
	return place->dir < 0 ? place->dir : make_file(place->dir);
}

int cloneplace_share(int fd, uint64_t to, const struct source_file *file, uint64_t from,
		     uint64_t len)
{
	const struct file_clone_range range = {
		.src_fd = file->fd,
		.src_offset = from,
		.src_length = len,
		.dest_offset = to,
	};

	return ioctl(fd, FICLONERANGE, &range) < 0 ? -errno : 0;
}

/* ---- Finding places ---- */

/* Whether a block of this file can be cloned into a file made in `dir`. */
static int try_clone(int dir, const struct source_file *file, uint64_t block)
{
	CLEANUP(close_fd) int fd = make_file(dir);

	if (fd < 0)
		return fd;
	return cloneplace_share(fd, 0, file, 0, file->size < block ? file->size : block);
}

/* The directory that the file is in, by the path it was opened with. */
static int open_parent(const struct source_file *file)
{
	const char *slash = strrchr(file->path, '/');
	char *dir = strndup(file->path, slash ? (size_t)(slash - file->path) + 1 : 0);
	int fd;

	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	free(dir);
	return fd;
}

/* Whoever owns the directory around it can put another in its place meanwhile. */
static bool is_ours(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & 077);
}

/* Makes a directory, opens it and takes its name away. */
static int open_nameless_dir(int parent)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/.weightfs-XXXXXX", parent);
	if (!mkdtemp(path))
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		fd = -errno;
	} else if (!is_ours(fd)) {
		(void)close(fd);
		fd = -EPERM;
	}
	if (rmdir(path) < 0)
		log_warning("%s: remove: %s", path, errtext(errno));
	return fd;
}

/* Returns a descriptor or a negative errno. */
static int open_place(struct cloneplace *place, const struct source_file *file)
{
	CLEANUP(close_fd) int parent = open_parent(file);
	struct statfs fs;
	int fd;
	int r;

	if (parent < 0 || fstatfs(file->fd, &fs) < 0)
		return parent < 0 ? parent : -errno;
	place->block = (uint64_t)fs.f_bsize;
	/* First without a trace: most file systems cannot. */
	r = try_clone(parent, file, place->block);
	if (r < 0)
		return r;
	fd = open_nameless_dir(parent);
	if (fd < 0)
		return fd;
	r = try_clone(fd, file, place->block);
	if (r == 0)
		return fd;
	(void)close(fd);
	return r;
}

/* The position of the place on this file's file system, which is looked for once. */
static uint8_t find_place(struct cloneplaces *places, const struct source_file *file)
{
	struct cloneplace *place;
	uint8_t i = 0;

	while (i < places->count && places->places[i].dev != file->dev)
		i++;
	if (i < places->count || i == CLONEPLACE_MOST)
		return i;
	place = &places->places[places->count++];
	*place = (struct cloneplace){ .dev = file->dev };
	place->dir = open_place(place, file);
	if (place->dir < 0)
		log_debug("%s: clone: %s: tensors are not cloned", file->path,
			  errtext(place->dir));
	return i;
}

static bool any_is_open(const struct cloneplaces *places)
{
	for (unsigned int i = 0; i < places->count; i++)
		if (places->places[i].dir >= 0)
			return true;
	return false;
}

int cloneplace_open(const struct served *served, struct cloneplaces **places)
{
	size_t shards = model_shard_count(served->model);
	struct cloneplaces *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (!p)
		return r;
	p->shards = shards;
	p->by_shard = calloc(shards, sizeof(*p->by_shard));
	p->refused = calloc(shards, sizeof(*p->refused));
	if (p->by_shard && p->refused) {
		for (size_t i = 0; i < shards; i++)
			p->by_shard[i] = find_place(
				p, &served->source->files[served->shard_files[i]]);
		r = any_is_open(p) ? 0 : p->places[0].dir;
	}
	if (r < 0)
		cloneplace_close(p);
	else
		*places = p;
	return r;
}

void cloneplace_close(struct cloneplaces *places)
{
	if (!places)
		return;
	for (unsigned int i = 0; i < places->count; i++)
		close_fd(&places->places[i].dir);
	free(places->by_shard);
	free(places->refused);
	free(places);
}

/* ---- While mounted ---- */

const struct cloneplace *cloneplace_of(const struct cloneplaces *places, uint16_t shard)
{
	const uint8_t i = places->by_shard[shard];

	if (i == CLONEPLACE_MOST || places->places[i].dir < 0 ||
	    atomic_load_explicit(&places->refused[shard], memory_order_relaxed))
		return NULL;
	return &places->places[i];
}

void cloneplace_refuse(struct cloneplaces *places, const struct source_file *file,
		       uint16_t shard, int err)
{
	atomic_store(&places->error, err);
	if (!atomic_exchange_explicit(&places->refused[shard], true,
				      memory_order_relaxed))
		log_debug("%s: clone: %s: its tensors are not cloned any more",
			  file->path, errtext(err));
}

int cloneplace_error(const struct cloneplaces *places)
{
	for (size_t i = 0; i < places->shards; i++)
		if (cloneplace_of(places, (uint16_t)i))
			return 0;
	return atomic_load(&places->error);
}
