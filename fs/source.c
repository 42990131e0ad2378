#include "source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "source_name.h"
#include "util/errtext.h"
#include "util/log.h"

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
static int add_file(struct source *s, int fd, char *name, char *path,
		    const struct stat *st, struct diag *diag)
{
	struct source_file *file;

	if (s->file_count == s->file_capacity) {
		uint32_t capacity = s->file_capacity ? s->file_capacity * 2 : 16;
		struct source_file *files =
			reallocarray(s->files, capacity, sizeof(*files));

		if (files) {
			s->files = files;
			s->file_capacity = capacity;
		}
	}
	if (s->file_count == s->file_capacity || !name || !path) {
		(void)close(fd);
		free(name);
		free(path);
		return fail_memory(diag);
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
	return map_file(file, diag);
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

/* A file, or a link to one. What is none of both, cannot be opened, leads out of the
 * model's directory or has a path above 4 KiB, which the kernel does not tell, is left
 * out. Takes over `name`. */
static int scan_file(struct scan *scan, int dir_fd, const char *entry, char *name)
{
	struct stat st = { 0 };
	int fd = open_to_read(dir_fd, entry, &st);
	char *path;

	if (fd < 0 || !S_ISREG(st.st_mode)) {
		int r = fd < 0 ? fail_open(scan, fd, name) : 0;

		scan->source->broken_link_count += fd == -ENOENT;
		scan->source->forbidden_count += fd == -EACCES || fd == -EPERM;
		close_fd(&fd);
		free(name);
		return r;
	}
	path = fd_path(fd);
	if (!path) {
		int r = fail_open(scan, -errno, name);

		(void)close(fd);
		free(name);
		return r;
	}
	if (!is_below(path, scan->source->root)) {
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
	return add_file(scan->source, fd, name, path, &st, scan->diag);
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

static int scan_tree(struct scan *scan)
{
	struct source *s = scan->source;
	char *top = strdup("");
	int r;

	if (!top)
		return fail_memory(scan->diag);
	r = push_dir(scan, top, 0);
	while (r == 0 && scan->pending_count > 0) {
		struct pending dir = scan->pending[--scan->pending_count];

		r = scan_dir(scan, s->dir_fd, &dir);
		free(dir.path);
	}
	while (scan->pending_count > 0)
		free(scan->pending[--scan->pending_count].path);
	free(scan->pending);
	if (s->file_count > 1)
		qsort(s->files, s->file_count, sizeof(*s->files), compare_files);
	s->sorted_count = s->file_count;
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

int source_seal(struct source *s, struct diag *diag)
{
	int r = nametree_new(s->file_count, &s->names);

	close_fd(&s->dir_fd);
	s->dir_fd = -1;
	for (uint32_t i = 0; r == 0 && i < s->file_count; i++)
		r = place_file(s->names, i, s->files[i].name);
	if (r == 0)
		r = nametree_seal(s->names);
	return r < 0 ? fail_memory(diag) : 0;
}

/* ---- SOURCE ---- */

/* Where links may lead to: anywhere below the directory, or below the repository of the
 * hub cache that it is a snapshot of. */
static int find_root(struct source *s, const char *dir, struct diag *diag)
{
	size_t repository = source_name_hub_len(dir);

	s->root = repository ? strndup(dir, repository) : strdup(dir);
	return s->root ? 0 : fail_memory(diag);
}

static int open_dir(struct source *s, int fd, struct diag *diag)
{
	struct scan scan = { .source = s, .diag = diag };
	int r;

	s->is_dir = true;
	s->name = source_name_of_dir(s->path);
	if (!s->name)
		return fail_memory(diag);
	s->dir_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (s->dir_fd < 0)
		return diag_fail(diag, -errno, "open: %s", errtext(errno));
	r = find_root(s, s->path, diag);
	return r < 0 ? r : scan_tree(&scan);
}

/* The directory stays open as well: the file may name others in it. */
static int open_file(struct source *s, int fd, const struct stat *st, struct diag *diag)
{
	CLEANUP(free_ptr) char *dir = source_name_parent(s->path);
	int copy;
	int r;

	s->name = source_name_of_file(s->path);
	if (!s->name || !dir)
		return fail_memory(diag);
	s->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	copy = s->dir_fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return diag_fail(diag, -errno, "open: %s", errtext(errno));
	r = find_root(s, dir, diag);
	if (r < 0) {
		(void)close(copy);
		return r;
	}
	return add_file(s, copy, strdup(source_name_base(s->path)), fd_path(fd), st,
			diag);
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
		named = join(strcmp(resolved, "/") == 0 ? "" : resolved,
			     source_name_base(path));
	free(dir);
	return named;
}

static int open_any(struct source *s, const char *path, struct diag *diag)
{
	struct stat st = { 0 };
	CLEANUP(close_fd) int fd = open_to_read(AT_FDCWD, path, &st);

	if (fd == -EINVAL)
		return diag_fail(diag, fd, "neither a regular file nor a directory");
	if (fd < 0)
		return diag_fail(diag, fd, "open: %s", errtext(fd));
	s->path = S_ISREG(st.st_mode) ? named_path(path) : fd_path(fd);
	if (!s->path)
		return diag_fail(diag, -errno, "read its path: %s", errtext(errno));
	return S_ISDIR(st.st_mode) ? open_dir(s, fd, diag) : open_file(s, fd, &st, diag);
}

int source_open(const char *path, struct source **source, struct diag *diag)
{
	struct source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return fail_memory(diag);
	s->dir_fd = -1;
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

/* ---- Files that others name ---- */

/* What was scanned is sorted; what was asked for later stands behind it. */
static bool find_file(const struct source *s, const char *name, uint32_t *index)
{
	const struct source_file key = { .name = name };
	const struct source_file *found =
		s->sorted_count == 0 ? NULL
				     : bsearch(&key, s->files, s->sorted_count,
					       sizeof(*s->files), compare_files);

	for (uint32_t i = s->sorted_count; !found && i < s->file_count; i++)
		if (strcmp(s->files[i].name, name) == 0)
			found = &s->files[i];
	if (found)
		*index = (uint32_t)(found - s->files);
	return found != NULL;
}

/* The path is that of the open descriptor: where a link leads cannot change any more. */
static int check_place(const struct source *s, const char *path, struct diag *diag)
{
	if (!path)
		return diag_fail(diag, -errno, "read its path: %s", errtext(errno));
	if (!is_below(path, s->root))
		return diag_fail(diag, -EPERM,
				 "is a link that leads out of the model's directory");
	return 0;
}

/* Who copies a snapshot of the hub cache without its blobs has such links. */
static int fail_needed(const struct source *s, const char *name, int err,
		       struct diag *diag)
{
	struct stat st;

	if (err == -ENOENT && fstatat(s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return diag_fail(diag, err,
				 "open: is a link to a file that does not exist");
	return diag_fail(diag, err, "open: %s", errtext(err));
}

int source_need_file(struct source *s, const char *name, uint32_t *index,
		     struct diag *diag)
{
	struct stat st = { 0 };
	char *path;
	int fd;
	int r;

	if (find_file(s, name, index))
		return 0;
	fd = open_to_read(s->dir_fd, name, &st);
	if (fd == -EINVAL || (fd >= 0 && !S_ISREG(st.st_mode))) {
		close_fd(&fd);
		return diag_fail(diag, -EINVAL, "not a regular file");
	}
	if (fd < 0)
		return fail_needed(s, name, fd, diag);
	path = fd_path(fd);
	r = check_place(s, path, diag);
	if (r < 0) {
		(void)close(fd);
		free(path);
		return r;
	}
	r = add_file(s, fd, strdup(name), path, &st, diag);
	if (r == 0)
		*index = s->file_count - 1;
	return r;
}

/* ---- Closing ---- */

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
	close_fd(&source->dir_fd);
	free(source->root);
	if (source->changed_event >= 0)
		(void)close(source->changed_event);
	free_string(source->path);
	free_string(source->name);
	free(source);
}
