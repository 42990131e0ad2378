/*
 * What a plain libfuse file system gives, as a baseline: fuse_main() with default
 * settings, one read-only file, each read a pread().
 *
 *     plain_fuse SOURCE OFFSET LENGTH MOUNTPOINT [libfuse options]
 *
 * shows LENGTH bytes of SOURCE from OFFSET on as MOUNTPOINT/data.
 */
#define FUSE_USE_VERSION 312

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH "/data"

struct served {
	int fd;
	off_t offset;
	off_t length;
};

static const struct served *served(void)
{
	return fuse_get_context()->private_data;
}

static int plain_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0555;
		st->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, PATH) != 0)
		return -ENOENT;
	st->st_mode = S_IFREG | 0444;
	st->st_nlink = 1;
	st->st_size = served()->length;
	return 0;
}

static int plain_read(const char *path, char *buffer, size_t size, off_t offset,
		      struct fuse_file_info *fi)
{
	const struct served *s = served();
	ssize_t got;

	(void)path;
	(void)fi;
	if (offset >= s->length)
		return 0;
	if (size > (size_t)(s->length - offset))
		size = (size_t)(s->length - offset);
	got = pread(s->fd, buffer, size, s->offset + offset);
	return got < 0 ? -errno : (int)got;
}

static const struct fuse_operations plain_ops = {
	.getattr = plain_getattr,
	.read = plain_read,
};

int main(int argc, char **argv)
{
	struct served s;

	if (argc < 5)
		errx(2, "usage: plain_fuse SOURCE OFFSET LENGTH MOUNTPOINT [options]");
	s.fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (s.fd < 0)
		err(1, "%s", argv[1]);
	s.offset = (off_t)strtoull(argv[2], NULL, 10);
	s.length = (off_t)strtoull(argv[3], NULL, 10);
	argv[3] = argv[0];
	return fuse_main(argc - 3, argv + 3, &plain_ops, &s);
}
