/* Checks of the file system that a model lies on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "mountctl/doctor.h"
#include "util/errtext.h"

/* What is read to see whether it works: the largest block size in use. */
#define BLOCK 4096u

/* Not in <linux/magic.h> of every kernel. */
#define XFS_MAGIC      0x58465342
#define BCACHEFS_MAGIC 0xca451a4e
#define ZFS_MAGIC      0x2fc12fc1

struct file_system {
	long magic;
	const char *name;
	bool reflinks; /* as a rule */
};

static const struct file_system file_systems[] = {
	{ XFS_MAGIC, "xfs", true },
	{ BTRFS_SUPER_MAGIC, "btrfs", true },
	{ BCACHEFS_MAGIC, "bcachefs", true },
	{ EXT4_SUPER_MAGIC, "ext4", false },
	{ TMPFS_MAGIC, "tmpfs", false },
	{ OVERLAYFS_SUPER_MAGIC, "overlayfs", false },
	{ NFS_SUPER_MAGIC, "nfs", false },
	{ SMB2_SUPER_MAGIC, "cifs", false },
	{ FUSE_SUPER_MAGIC, "fuse", false },
	{ ZFS_MAGIC, "zfs", false },
	{ F2FS_SUPER_MAGIC, "f2fs", false },
};

/* Puts the path of the first regular file of a directory that is not empty into `file`. 0
 * or a negative errno, -ENODATA where there is no such file. */
static int find_file(const char *dir, char *file)
{
	struct dirent *entry;
	int r = -ENODATA;
	struct stat st;
	DIR *list = opendir(dir);

	if (!list)
		return -errno;
	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while (r < 0 && (entry = readdir(list)))
		if (snprintf(file, PATH_MAX, "%s/%s", dir, entry->d_name) < PATH_MAX &&
		    stat(file, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
			r = 0;
	(void)closedir(list);
	return r;
}

/* The directory that a file is in: "a" is in ".". */
static void cut_last_name(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash)
		memcpy(path, ".", 2);
	else if (slash == path)
		path[1] = '\0';
	else
		*slash = '\0';
}

/* Opens the model file, or a file of its directory; `dir` becomes the directory that it
 * is in. Both have room for PATH_MAX bytes. A descriptor or a negative errno. */
static int open_source(const char *source, char *file, char *dir)
{
	struct stat st;
	int fd;
	int r;

	if (stat(source, &st) < 0)
		return -errno;
	(void)snprintf(file, PATH_MAX, "%s", source);
	(void)snprintf(dir, PATH_MAX, "%s", source);
	if (S_ISDIR(st.st_mode)) {
		r = find_file(source, file);
		if (r < 0)
			return r;
	} else {
		cut_last_name(dir);
	}
	fd = open(file, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static const struct file_system *find_file_system(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(file_systems); i++)
		if (file_systems[i].magic == (long)fs.f_type)
			return &file_systems[i];
	return NULL;
}

static void cannot_read(struct finding *f, int err)
{
	if (err == -ENODATA)
		FOUND(f, "holds no model");
	else
		FOUND(f, "cannot be read: %s", errtext(err));
	finding_set(f, MARK_MISSING, "the model cannot be mounted", NULL);
}

/* ---- O_DIRECT ---- */

/* 0 or a negative errno. */
static int read_around_cache(const char *path)
{
	_Alignas(BLOCK) char buffer[BLOCK];
	CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return pread(fd, buffer, sizeof(buffer), 0) < 0 ? -errno : 0;
}

static void find_direct_io(const struct machine *m, struct finding *f)
{
	const struct file_system *fs;
	char file[PATH_MAX];
	char dir[PATH_MAX];
	CLEANUP(close_fd) int fd = open_source(m->source, file, dir);
	int r;

	if (fd < 0) {
		cannot_read(f, fd);
		return;
	}
	fs = find_file_system(fd);
	r = read_around_cache(file);
	if (r == 0) {
		FOUND(f, "O_DIRECT works on this %s", fs ? fs->name : "file system");
		return;
	}
	FOUND(f, "no O_DIRECT on this %s: %s", fs ? fs->name : "file system", errtext(r));
	finding_set(f, MARK_HINT,
		    "what becomes resident is read through the page cache, which then "
		    "holds it twice for a while",
		    "put models on a local file system");
}

const struct check check_direct_io = {
	.id = "direct_io",
	.title = "direct I/O",
	.needs = NEEDS_SOURCE,
	.run = find_direct_io,
};

/* ---- reflinks ---- */

/* Clones the first block into a file without a name, which goes away when it is closed.
 * 0, or a negative errno; -EACCES or -EROFS where no such file can be made. */
static int try_clone(int fd, const char *dir)
{
	struct file_clone_range range = { .src_fd = fd };
	struct statfs fs;
	struct stat st;
	CLEANUP(close_fd)
	int file = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (file < 0)
		return errno == EOPNOTSUPP ? -EACCES : -errno;
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	/* Blocks, or all of a file that has not one. */
	if (st.st_size >= (off_t)fs.f_bsize)
		range.src_length = (unsigned long long)fs.f_bsize;
	return ioctl(file, FICLONERANGE, &range) < 0 ? -errno : 0;
}

static void find_reflink(const struct machine *m, struct finding *f)
{
	const struct file_system *fs;
	const char *name = "file system";
	char file[PATH_MAX];
	char dir[PATH_MAX];
	CLEANUP(close_fd) int fd = open_source(m->source, file, dir);
	int r;

	if (fd < 0) {
		cannot_read(f, fd);
		return;
	}
	fs = find_file_system(fd);
	if (fs)
		name = fs->name;
	r = try_clone(fd, dir);
	if (r == 0) {
		FOUND(f, "%s shares blocks between files", name);
		return;
	}
	if ((r == -EACCES || r == -EROFS || r == -EPERM) && fs && fs->reflinks) {
		FOUND(f, "%s shares blocks as a rule; not tried: %s", name, errtext(r));
		return;
	}
	FOUND(f, "%s does not share blocks between files", name);
	finding_set(f, MARK_HINT,
		    "tensors cannot be mapped from the disk's own pages: they "
		    "are copied into memory, or streamed",
		    "put models on XFS or btrfs");
}

const struct check check_reflink = {
	.id = "reflink",
	.title = "reflinks",
	.needs = NEEDS_SOURCE,
	.run = find_reflink,
};
