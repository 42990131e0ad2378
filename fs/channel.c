#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "busy_poll.h"
#include "passthrough.h"
#include "weightfs.h"

/* Smaller replies cost less when they are copied. */
#define LEAST_SPLICED ((size_t)64 << 10)

#define PAGE 4096u

/* Slots for the reply's header and for pages that it and a view's header begin. */
#define SPARE_SLOTS 8u

#define PIPE_BYTES (1 << 20)

/* A pipe of each thread: what is spliced passes through it. */
struct pipe {
	int fds[2];
	unsigned int slots; /* pages that fit; 0: it cannot be used */
	bool tried;
};

/* What the thread's current reply is made of, between channel_reply() and the hook that
 * libfuse calls in it. */
struct outgoing {
	int fd; /* of the source */
	uint64_t offset;
	int result;
};

static _Thread_local struct pipe thread_pipe;
static _Thread_local struct outgoing *current;

static void pipe_open(struct pipe *p)
{
	int size;

	p->tried = true;
	p->slots = 0;
	/* One that is full after all is an error and not the end of the thread. */
	if (pipe2(p->fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return;
	size = fcntl(p->fds[0], F_SETPIPE_SZ, PIPE_BYTES);
	if (size > 0)
		p->slots = (unsigned int)size / PAGE;
}

/* With something left in it a pipe is of no use: it would stand in front of the next
 * reply. */
static void pipe_renew(struct pipe *p)
{
	(void)close(p->fds[0]);
	(void)close(p->fds[1]);
	pipe_open(p);
}

/* Whether this reply is worth a splice and fits the thread's pipe. */
static bool fits(struct pipe *p, const struct outgoing *out, size_t len)
{
	if (len < LEAST_SPLICED)
		return false;
	if (!p->tried)
		pipe_open(p);
	return (out->offset % PAGE + len) / PAGE + SPARE_SLOTS < p->slots;
}

/* Moves a range of the file into the pipe. 0; -EIO where the file ends before; -EINVAL
 * where the file system cannot splice, or only in pieces so small that the pipe is full.
 */
static int fill_pipe(const struct pipe *p, const struct outgoing *out, size_t len)
{
	loff_t offset = (loff_t)out->offset;

	while (len > 0) {
		ssize_t n = splice(out->fd, &offset, p->fds[1], NULL, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EINVAL || errno == ENOSYS || errno == EAGAIN))
			return -EINVAL;
		if (n <= 0)
			return -EIO;
		len -= (size_t)n;
	}
	return 0;
}

/* Answers with an error in place of what was promised. */
static ssize_t write_error(int fd, const struct iovec *iov, int err)
{
	struct fuse_out_header header = *(const struct fuse_out_header *)iov[0].iov_base;

	header.error = err;
	header.len = sizeof(header);
	return write(fd, &header, sizeof(header));
}

static size_t total_len(const struct iovec *iov, int count)
{
	size_t len = 0;

	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	return len;
}

/* Sends what the full pipe holds. -1 with ENOENT where nobody waits for it any more, with
 * EINVAL for any other failure: it can be tried again in another way. */
static ssize_t empty_pipe(struct pipe *p, int fd, size_t len)
{
	ssize_t n = splice(p->fds[0], NULL, fd, NULL, len, 0);
	int err = errno == ENOENT ? ENOENT : EINVAL;

	if (n == (ssize_t)len)
		return n;
	pipe_renew(p);
	errno = err;
	return -1;
}

/* All pieces through the pipe: the last from the file, those in front from memory. -1
 * with EINVAL where that cannot be: nothing was sent then. */
static ssize_t splice_reply(int fd, struct iovec *iov, int count, struct outgoing *out)
{
	struct pipe *p = &thread_pipe;
	size_t front = total_len(iov, count - 1);
	int r = 0;

	if (writev(p->fds[1], iov, count - 1) != (ssize_t)front)
		r = -EINVAL;
	if (r == 0)
		r = fill_pipe(p, out, iov[count - 1].iov_len);
	if (r == 0)
		return empty_pipe(p, fd, front + iov[count - 1].iov_len);
	pipe_renew(p);
	if (r == -EINVAL) {
		errno = EINVAL;
		return -1;
	}
	out->result = r;
	return write_error(fd, iov, r);
}

/*
 * A small piece of the file by way of a buffer. Its mapping is no good for that: the
 * first touch of a place reads megabytes around it, and each place takes a page of page
 * tables, which for a look into each of 92,000 tensors is hundreds of megabytes.
 */
static ssize_t copy_reply(int fd, struct iovec *iov, int count, struct outgoing *out)
{
	char buffer[LEAST_SPLICED];
	struct iovec *last = &iov[count - 1];
	ssize_t n;

	do
		n = pread(out->fd, buffer, last->iov_len, (off_t)out->offset);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)last->iov_len) {
		out->result = -EIO;
		return write_error(fd, iov, -EIO);
	}
	last->iov_base = buffer;
	return writev(fd, iov, count);
}

/* ---- What libfuse calls ---- */

static ssize_t read_request(int fd, void *buffer, size_t size, void *userdata)
{
	struct weightfs *fs = userdata;
	ssize_t n = busy_poll_read(&fs->busy_poll, fd, buffer, size);

	if (fs->passthrough && n > 0)
		passthrough_see_request(fs->passthrough, buffer, (size_t)n);
	return n;
}

static ssize_t write_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct weightfs *fs = userdata;
	struct outgoing *out = current;

	current = NULL;
	if (fs->passthrough)
		passthrough_amend_reply(fs->passthrough, iov, count);
	if (out && count >= 2 && fits(&thread_pipe, out, iov[count - 1].iov_len)) {
		ssize_t n = splice_reply(fd, iov, count, out);

		if (n >= 0 || errno != EINVAL)
			return n;
	}
	if (out && count >= 2 && iov[count - 1].iov_len <= LEAST_SPLICED)
		return copy_reply(fd, iov, count, out);
	return writev(fd, iov, count);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)

/* Opens the channel of another thread. Older libraries do so themselves also where reads
 * and writes are ours. */
static int clone_channel(int fd)
{
	uint32_t original = (uint32_t)fd;
	int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	int err;

	if (clone < 0)
		return -errno;
	if (ioctl(clone, FUSE_DEV_IOC_CLONE, &original) == 0)
		return clone;
	err = -errno;
	(void)close(clone);
	return err;
}

static int set_io(struct fuse_session *session, int placeholder)
{
	const struct fuse_custom_io io = {
		.read = read_request,
		.writev = write_reply,
		.clone_fd = clone_channel,
	};

	return fuse_session_custom_io(session, &io, sizeof(io), placeholder);
}

#else

static int set_io(struct fuse_session *session, int placeholder)
{
	const struct fuse_custom_io io = { .read = read_request, .writev = write_reply };

	return fuse_session_custom_io(session, &io, placeholder);
}

#endif

int channel_attach(struct fuse_session *session)
{
	/* The call wants a descriptor; fuse_session_mount() puts the real one in its
	 * place. */
	CLEANUP(close_fd) int placeholder = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (placeholder < 0)
		return -errno;
	return set_io(session, placeholder);
}

int channel_reply(fuse_req_t req, const struct iovec *pieces, int count, int source_fd,
		  uint64_t offset)
{
	struct outgoing out = { .fd = source_fd, .offset = offset };
	int r;

	current = source_fd >= 0 ? &out : NULL;
	if (count == 1)
		r = fuse_reply_buf(req, pieces[0].iov_base, pieces[0].iov_len);
	else
		r = fuse_reply_iov(req, pieces, count);
	current = NULL;
	/* EFAULT: the mapping has no page behind it any more. The kernel has ended the
	 * request with EIO by itself. */
	return r < 0 ? -EIO : out.result;
}

/* ---- Without a request ---- */

/* 0, -EINVAL where it cannot be spliced (nothing was stored then, or it may be stored
 * again), or another negative errno. */
static int splice_store(int fd, struct iovec *iov, const struct outgoing *out)
{
	struct pipe *p = &thread_pipe;
	size_t front = total_len(iov, 2);
	int r = 0;

	if (!fits(p, out, iov[2].iov_len))
		return -EINVAL;
	if (writev(p->fds[1], iov, 2) != (ssize_t)front)
		r = -EINVAL;
	if (r == 0)
		r = fill_pipe(p, out, iov[2].iov_len);
	if (r < 0)
		pipe_renew(p);
	else if (empty_pipe(p, fd, front + iov[2].iov_len) < 0)
		r = -errno;
	return r;
}

int channel_store(int fd, uint64_t ino, uint64_t offset, const struct source_file *file,
		  uint64_t from, size_t len)
{
	const struct outgoing out = { .fd = file->fd, .offset = from };
	struct fuse_notify_store_out store = { .nodeid = ino,
					       .offset = offset,
					       .size = (uint32_t)len };
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + sizeof(store) + len),
		.error = FUSE_NOTIFY_STORE,
	};
	struct iovec iov[] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = &store, .iov_len = sizeof(store) },
		{ .iov_base = discard_const(file->bytes + from), .iov_len = len },
	};
	int r = splice_store(fd, iov, &out);

	if (r == -EINVAL)
		r = writev(fd, iov, ARRAY_LEN(iov)) < 0 ? -errno : 0;
	return r;
}
