/*
 * What a plain file system on libfuse's low-level API gives, as a baseline: default
 * settings, one read-only file, each read a pread() into a buffer and a reply from it.
 *
 *     plain_lowlevel SOURCE OFFSET LENGTH MOUNTPOINT [libfuse options]
 *
 * shows LENGTH bytes of SOURCE from OFFSET on as MOUNTPOINT/data.
 */
#define FUSE_USE_VERSION 312

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INO_DATA 2
#define NAME     "data"

/* Until the mount ends. */
#define TIMEOUT_S 86400.0

struct served {
	int fd;
	off_t offset;
	off_t length;
};

static const struct served *served_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static int fill_attr(fuse_req_t req, fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	if (ino == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0555;
		st->st_nlink = 2;
	} else if (ino == INO_DATA) {
		st->st_mode = S_IFREG | 0444;
		st->st_nlink = 1;
		st->st_size = served_of(req)->length;
	} else {
		return -ENOENT;
	}
	return 0;
}

static void plain_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	if (fill_attr(req, ino, &st) < 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_attr(req, &st, TIMEOUT_S);
}

static void plain_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = {
		.ino = INO_DATA,
		.attr_timeout = TIMEOUT_S,
		.entry_timeout = TIMEOUT_S,
	};

	if (parent != FUSE_ROOT_ID || strcmp(name, NAME) != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	(void)fill_attr(req, INO_DATA, &entry.attr);
	fuse_reply_entry(req, &entry);
}

static void plain_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fuse_reply_open(req, fi);
}

static void plain_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	const struct served *served = served_of(req);
	char *buffer;
	ssize_t got;

	(void)ino;
	(void)fi;
	if (offset >= served->length) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (size > (size_t)(served->length - offset))
		size = (size_t)(served->length - offset);
	buffer = malloc(size);
	if (!buffer) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	got = pread(served->fd, buffer, size, served->offset + offset);
	if (got < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, buffer, (size_t)got);
	free(buffer);
}

static const struct fuse_lowlevel_ops plain_ops = {
	.lookup = plain_lookup,
	.getattr = plain_getattr,
	.open = plain_open,
	.read = plain_read,
};

static int serve(struct fuse_session *session, const char *mountpoint)
{
	struct fuse_loop_config *config;
	int ret;

	if (fuse_set_signal_handlers(session) != 0)
		return 1;
	if (fuse_session_mount(session, mountpoint) != 0)
		return 1;
	if (fuse_daemonize(0) != 0)
		return 1;
	config = fuse_loop_cfg_create();
	ret = fuse_session_loop_mt(session, config);
	fuse_loop_cfg_destroy(config);
	fuse_session_unmount(session);
	return ret != 0;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct served served;
	struct fuse_session *session;
	int ret;

	if (argc < 5)
		errx(2,
		     "usage: plain_lowlevel SOURCE OFFSET LENGTH MOUNTPOINT [options]");
	served.fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (served.fd < 0)
		err(1, "%s", argv[1]);
	served.offset = (off_t)strtoull(argv[2], NULL, 10);
	served.length = (off_t)strtoull(argv[3], NULL, 10);
	fuse_opt_add_arg(&args, argv[0]);
	for (int i = 5; i < argc; i++)
		fuse_opt_add_arg(&args, argv[i]);
	session = fuse_session_new(&args, &plain_ops, sizeof(plain_ops), &served);
	if (!session)
		return 1;
	ret = serve(session, argv[4]);
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	close(served.fd);
	return ret;
}
