#include "source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "path.h"
#include "util/errtext.h"
#include "util/log.h"
#include "util/strbuf.h"

/* A model's directory has tens of files and few levels. */
#define MOST_FILES 10000u
#define MOST_DEPTH 8u

/* ---- Identity ---- */

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void source_file_set_changed(struct source_file *file)
{
	const uint64_t one = 1;

	if (atomic_exchange_explicit(&file->changed, true, memory_order_relaxed))
		return;
	log_error("%s: changed while mounted: nothing of it is served any more",
		  file->path);
	/* An eventfd that is full is readable, which is all that is wanted. */
	if (write(file->changed_event, &one, sizeof(one)) < 0)
		log_debug("%s: signal the change: %s", file->path, errtext(errno));
}

bool source_file_unchanged(struct source_file *file)
{
	struct stat st;

	if (atomic_load_explicit(&file->changed, memory_order_relaxed))
		return false;
	if (fstat(file->fd, &st) == 0 && (uint64_t)st.st_size == file->size &&
	    same_time(&st.st_mtim, &file->mtime))
		return true;
	source_file_set_changed(file);
	return false;
}

/* ---- Opening ---- */

struct scan {
	struct source *source;
	struct diag *diag;
	const char *root; /* links may lead to anywhere below it */
	uint32_t file_capacity;
	/* Directories still to be read: a path relative to SOURCE and its depth. */
	struct pending {
		char *path;
		unsigned int depth;
	} * pending;
	size_t pending_count;
	size_t pending_capacity;
};

static int fail_memory(struct diag *diag)
{
	return diag_fail(diag, -ENOMEM, "out of memory");
}

/* The path of an open descriptor, links resolved; for a file that is gone, a path all the
 * same. */
static char *fd_path(int fd)
{
	char link[64];
	char path[PATH_MAX];
	ssize_t len;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return NULL;
	path[len] = '\0';
	return strdup(path);
}

/*
 * Opens a regular file or a directory to be read: a descriptor or a negative errno.
 * Anything else is -EINVAL and is never opened: opening a device can already do
 * something, and a link to one is easily made.
 */
static int open_to_read(int dir_fd, const char *path, struct stat *st)
{
	CLEANUP(close_fd) int place = openat(dir_fd, path, O_PATH | O_CLOEXEC);
	char link[64];
	int fd;

	if (place < 0 || fstat(place, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return -EINVAL;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", place);
	fd = open(link, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int map_file(struct source_file *file, struct diag *diag)
{
	void *bytes;

	if (file->size == 0)
		return 0;
	bytes = mmap(NULL, file->size, PROT_READ, MAP_SHARED, file->fd, 0);
	if (bytes == MAP_FAILED)
		return diag_fail(diag, -errno, "%s: map: %s", file->path, errtext(errno));
	file->bytes = bytes;
	return 0;
}

/* Adds an open file; takes over `fd`, `name` and `path`, also on failure. */
static int add_file(struct scan *scan, int fd, char *name, char *path,
		    const struct stat *st)
{
	struct source *s = scan->source;
	struct source_file *file;

	if (s->file_count == scan->file_capacity) {
		uint32_t capacity = scan->file_capacity ? scan->file_capacity * 2 : 16;
		struct source_file *files =
			reallocarray(s->files, capacity, sizeof(*files));

		if (files) {
			s->files = files;
			scan->file_capacity = capacity;
		}
	}
	if (s->file_count == scan->file_capacity || !name || !path) {
		(void)close(fd);
		free(name);
		free(path);
		return fail_memory(scan->diag);
	}
	file = &s->files[s->file_count++];
	*file = (struct source_file){
		.name = name,
		.path = path,
		.size = (uint64_t)st->st_size,
		.mtime = st->st_mtim,
		.dev = st->st_dev,
		.ino = st->st_ino,
		.fd = fd,
		.changed_event = s->changed_event,
	};
	return map_file(file, scan->diag);
}

static bool is_below(const char *path, const char *root)
{
	size_t len = strlen(root);

	return strncmp(path, root, len) == 0 &&
	       (path[len] == '/' || strcmp(root, "/") == 0);
}

static int note_link(struct scan *scan, char *name)
{
	struct source *s = scan->source;
	char **links =
		reallocarray(s->skipped_links, s->skipped_link_count + 1, sizeof(*links));

	if (!links) {
		free(name);
		return fail_memory(scan->diag);
	}
	s->skipped_links = links;
	links[s->skipped_link_count++] = name;
	return 0;
}

static int push_dir(struct scan *scan, char *path, unsigned int depth)
{
	if (scan->pending_count == scan->pending_capacity) {
		size_t capacity =
			scan->pending_capacity ? scan->pending_capacity * 2 : 16;
		struct pending *grown =
			reallocarray(scan->pending, capacity, sizeof(*grown));

		if (!grown) {
			free(path);
			return fail_memory(scan->diag);
		}
		scan->pending = grown;
		scan->pending_capacity = capacity;
	}
	scan->pending[scan->pending_count++] =
		(struct pending){ .path = path, .depth = depth };
	return 0;
}

static char *join(const char *dir, const char *name)
{
	char *path;

	if (*dir == '\0')
		return strdup(name);
	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* A file that cannot be opened is left out; one for which there is no room is not. */
static int fail_open(struct scan *scan, int err, const char *name)
{
	if (err != -EMFILE && err != -ENFILE && err != -ENOMEM)
		return 0;
	return diag_fail(scan->diag, err, "open %s: %s", DIAG_QUOTED(name, strlen(name)),
			 errtext(err));
}

/* A file, or a link to one. What is none of both, cannot be opened or leads out of the
 * model's directory is left out. Takes over `name`. */
static int scan_file(struct scan *scan, int dir_fd, const char *entry, char *name)
{
	struct stat st = { 0 };
	int fd = open_to_read(dir_fd, entry, &st);
	char *path;

	if (fd < 0 || !S_ISREG(st.st_mode)) {
		int r = fd < 0 ? fail_open(scan, fd, name) : 0;

		close_fd(&fd);
		free(name);
		return r;
	}
	path = fd_path(fd);
	if (path && !is_below(path, scan->root)) {
		(void)close(fd);
		free(path);
		return note_link(scan, name);
	}
	if (scan->source->file_count >= MOST_FILES) {
		(void)close(fd);
		free(path);
		free(name);
		return diag_fail(scan->diag, -E2BIG, "more than %u files below it",
				 MOST_FILES);
	}
	return add_file(scan, fd, name, path, &st);
}

static int scan_entry(struct scan *scan, int dir_fd, const struct pending *dir,
		      const char *entry)
{
	struct stat st;
	char *name;

	if (strcmp(entry, ".") == 0 || strcmp(entry, "..") == 0)
		return 0;
	if (fstatat(dir_fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	name = join(dir->path, entry);
	if (!name)
		return fail_memory(scan->diag);
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
		return scan_file(scan, dir_fd, entry, name);
	if (S_ISDIR(st.st_mode) && entry[0] != '.' && dir->depth < MOST_DEPTH)
		return push_dir(scan, name, dir->depth + 1);
	free(name);
	return 0;
}

static int scan_dir(struct scan *scan, int root_fd, const struct pending *dir)
{
	const char *path = *dir->path ? dir->path : ".";
	int fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!stream) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd);
		/* Somebody else's sub-directory does not stop the model; SOURCE itself
		 * does. */
		return dir->depth > 0 ? fail_open(scan, r, dir->path)
				      : diag_fail(scan->diag, r, "read: %s", errtext(r));
	}
	/* One thread opens a source. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (r == 0 && (entry = readdir(stream)))
		r = scan_entry(scan, fd, dir, entry->d_name);
	(void)closedir(stream);
	return r;
}

static int compare_files(const void *left, const void *right)
{
	return strcmp(((const struct source_file *)left)->name,
		      ((const struct source_file *)right)->name);
}

static int scan_tree(struct scan *scan, int root_fd)
{
	struct source *s = scan->source;
	char *top = strdup("");
	int r;

	if (!top)
		return fail_memory(scan->diag);
	r = push_dir(scan, top, 0);
	while (r == 0 && scan->pending_count > 0) {
		struct pending dir = scan->pending[--scan->pending_count];

		r = scan_dir(scan, root_fd, &dir);
		free(dir.path);
	}
	while (scan->pending_count > 0)
		free(scan->pending[--scan->pending_count].path);
	free(scan->pending);
	if (s->file_count > 1)
		qsort(s->files, s->file_count, sizeof(*s->files), compare_files);
	return r;
}

/* Places "a/b/c" under the directories "a" and "b". */
static int place_file(struct nametree *names, uint32_t leaf, const char *name)
{
	uint32_t dir = NAMETREE_ROOT;
	const char *slash;
	int r;

	while ((slash = strchr(name, '/'))) {
		r = nametree_add_dir(names, dir, name, (size_t)(slash - name), &dir);
		if (r < 0)
			return r;
		name = slash + 1;
	}
	return nametree_place_leaf(names, leaf, dir, name, strlen(name));
}

static int build_names(struct source *s, struct diag *diag)
{
	int r = nametree_new(s->file_count, &s->names);

	for (uint32_t i = 0; r == 0 && i < s->file_count; i++)
		r = place_file(s->names, i, s->files[i].name);
	if (r == 0)
		r = nametree_seal(s->names);
	return r < 0 ? fail_memory(diag) : 0;
}

/* ---- Names ---- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

/*
 * A snapshot of the Hugging Face hub cache, .../models--ORG--NAME/snapshots/REVISION, is
 * a tree of links into .../models--ORG--NAME/blobs. Returns the length of the
 * repository's path, or 0 for any other directory.
 */
static size_t hub_repository_len(const char *path)
{
	static const char snapshots[] = "/snapshots/";
	const char *at = strstr(path, snapshots);
	const char *next;

	while (at && (next = strstr(at + 1, snapshots)))
		at = next;
	if (!at || strchr(at + strlen(snapshots), '/'))
		return 0;
	for (const char *c = at; c > path; c--)
		if (c[-1] == '/')
			/* Something follows: the model's name. */
			return strncmp(c, "models--", 8) == 0 && at > c + 8
				       ? (size_t)(at - path)
				       : 0;
	return 0;
}

/* "models--org--name" becomes "org/name". */
static char *hub_model_name(const char *repository, size_t len)
{
	const char *start = memrchr(repository, '/', len);
	struct strbuf name;

	start = start ? start + 1 : repository;
	start += strlen("models--");
	strbuf_init(&name);
	while (start < repository + len) {
		if (start + 2 <= repository + len && strncmp(start, "--", 2) == 0) {
			strbuf_add_char(&name, '/');
			start += 2;
		} else {
			strbuf_add_char(&name, *start++);
		}
	}
	return strbuf_steal(&name);
}

/* A file's name without its suffix; a directory's name. */
static char *model_name(const char *path, bool is_dir)
{
	const char *base = base_name(path);
	const char *dot = strrchr(base, '.');

	if (is_dir || !dot || dot == base)
		return strdup(base);
	return strndup(base, (size_t)(dot - base));
}

/* ---- SOURCE ---- */

static int open_dir(struct source *s, int fd, struct diag *diag)
{
	size_t repository = hub_repository_len(s->path);
	char *root = repository ? strndup(s->path, repository) : strdup(s->path);
	struct scan scan = { .source = s, .diag = diag, .root = root };
	int r;

	s->is_dir = true;
	s->name = repository ? hub_model_name(s->path, repository)
			     : model_name(s->path, true);
	r = root && s->name ? scan_tree(&scan, fd) : fail_memory(diag);
	free(root);
	return r;
}

static int open_file(struct source *s, int fd, const struct stat *st, struct diag *diag)
{
	struct scan scan = { .source = s, .diag = diag };
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return diag_fail(diag, -errno, "open: %s", errtext(errno));
	s->name = model_name(s->path, false);
	if (!s->name) {
		(void)close(copy);
		return fail_memory(diag);
	}
	return add_file(&scan, copy, strdup(base_name(s->path)), fd_path(fd), st);
}

/* The absolute path of a file as it was named: a last component that is a link stays,
 * because the target's name may say nothing (hub caches link to hashes). */
static char *named_path(const char *path)
{
	char resolved[PATH_MAX];
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	char *named = NULL;

	if (dir && realpath(dir, resolved))
		named = join(strcmp(resolved, "/") == 0 ? "" : resolved, base_name(path));
	free(dir);
	return named;
}

static int open_any(struct source *s, const char *path, struct diag *diag)
{
	struct stat st = { 0 };
	CLEANUP(close_fd) int fd = open_to_read(AT_FDCWD, path, &st);
	int r;

	if (fd == -EINVAL)
		return diag_fail(diag, fd, "neither a regular file nor a directory");
	if (fd < 0)
		return diag_fail(diag, fd, "open: %s", errtext(fd));
	s->path = S_ISREG(st.st_mode) ? named_path(path) : fd_path(fd);
	if (!s->path)
		return diag_fail(diag, -errno, "read its path: %s", errtext(errno));
	r = S_ISDIR(st.st_mode) ? open_dir(s, fd, diag) : open_file(s, fd, &st, diag);
	return r < 0 ? r : build_names(s, diag);
}

int source_open(const char *path, struct source **source, struct diag *diag)
{
	struct source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return fail_memory(diag);
	s->changed_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->changed_event < 0)
		r = diag_fail(diag, -errno, "make an event: %s", errtext(errno));
	else
		r = open_any(s, path, diag);
	if (r < 0) {
		source_close(s);
		return r;
	}
	*source = s;
	return 0;
}

/* The strings are the source's own; outside they are const. */
static void free_string(const char *string)
{
	free(discard_const(string));
}

void source_close(struct source *source)
{
	if (!source)
		return;
	for (uint32_t i = 0; i < source->file_count; i++) {
		struct source_file *file = &source->files[i];

		if (file->bytes)
			(void)munmap(discard_const(file->bytes), file->size);
		(void)close(file->fd);
		free_string(file->name);
		free_string(file->path);
	}
	for (uint32_t i = 0; i < source->skipped_link_count; i++)
		free(source->skipped_links[i]);
	free(source->skipped_links);
	free(source->files);
	nametree_free(source->names);
	if (source->changed_event >= 0)
		(void)close(source->changed_event);
	free_string(source->path);
	free_string(source->name);
	free(source);
}
