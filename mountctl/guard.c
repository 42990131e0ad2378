#include "mountctl/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>

/* model.json of a million tensors is 200 MB; a file that is no such document must not
 * fill memory. */
#define FILE_MAX ((size_t)1 << 30)

int guard_read_file(const void *path, struct strbuf *out)
{
	CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char piece[65536];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, piece, sizeof(piece))) > 0) {
		if (out->len + (size_t)n > FILE_MAX)
			return -EFBIG;
		strbuf_add(out, piece, (size_t)n);
	}
	return n < 0 ? -errno : out->err;
}

int guard_read_link(const void *path, struct strbuf *out)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target));

	if (n < 0)
		return -errno;
	strbuf_add(out, target, (size_t)n);
	return out->err;
}

static bool write_all(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

/* The child's answer is what fn() returned, then what it wrote. */
static _Noreturn void be_child(guard_fn *fn, const void *arg, int fd)
{
	struct strbuf out = { 0 };
	int r = fn(arg, &out);
	bool told = write_all(fd, &r, sizeof(r)) &&
		    (r < 0 || write_all(fd, out.data, out.len));

	_exit(told ? 0 : 1);
}

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Reads until the child closes its end. 0, -ETIMEDOUT, or another negative errno. */
static int collect(int fd, int timeout_ms, struct strbuf *out)
{
	int64_t deadline = now_ms() + timeout_ms;
	char piece[65536];

	for (;;) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		int64_t left = deadline - now_ms();
		ssize_t n;

		if (left <= 0 || poll(&ready, 1, (int)left) == 0)
			return -ETIMEDOUT;
		n = read(fd, piece, sizeof(piece));
		if (n < 0)
			return -errno;
		if (n == 0)
			return out->err;
		strbuf_add(out, piece, (size_t)n);
	}
}

int guard_run(guard_fn *fn, const void *arg, int timeout_ms, struct strbuf *out)
{
	CLEANUP(strbuf_fini) struct strbuf answer = { 0 };
	int ends[2];
	pid_t child;
	int r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0)
		be_child(fn, arg, ends[1]);
	r = child < 0 ? -errno : 0;
	(void)close(ends[1]);
	if (r == 0)
		r = collect(ends[0], timeout_ms, &answer);
	(void)close(ends[0]);
	if (child < 0)
		return r;
	if (r < 0)
		(void)kill(child, SIGKILL);
	/* A child that waits for a hung daemon may not even die: then nobody waits for
	 * it. */
	(void)waitpid(child, NULL, r < 0 ? WNOHANG : 0);
	if (r < 0)
		return r;
	if (answer.len < sizeof(r))
		return -EIO;
	memcpy(&r, answer.data, sizeof(r));
	strbuf_add(out, answer.data + sizeof(r), answer.len - sizeof(r));
	return r < 0 ? r : out->err;
}
