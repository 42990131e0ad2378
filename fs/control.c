#include "control.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "ctl_proto.h"
#include "requests.h"
#include "thread.h"
#include "util/log.h"

#define SOCKET_SUFFIX ".sock"

/* After a connection that could not be taken, for want of descriptors as a rule. */
#define ACCEPT_PAUSE_MS 100

struct control {
	struct weightfs *fs;
	pthread_t thread;
	bool started;
	int listener;
	int stop_event;
	char dir[96];
	char request[CTL_REQUEST_MAX + 1];
};

/* ---- Where the socket lives ---- */

/* /run/weightfs for root, else the user's runtime directory, else one in /tmp that is
 * theirs. */
static int socket_dir(char *dir, size_t size)
{
	const char *runtime =
		getenv("XDG_RUNTIME_DIR"); /* NOLINT(concurrency-mt-unsafe) */
	struct stat st;

	if (getuid() == 0)
		(void)snprintf(dir, size, "/run/weightfs");
	else if (runtime && runtime[0] == '/' && strlen(runtime) < 64)
		(void)snprintf(dir, size, "%s/weightfs", runtime);
	else
		(void)snprintf(dir, size, "/tmp/weightfs-%u", getuid());
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return log_errno(-errno, "%s: make the control socket's directory", dir);
	/* Somebody else's directory, or a link, is not to be trusted. */
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid() ||
	    (st.st_mode & 022))
		return log_errno(-EPERM, "%s: use it for the control socket", dir);
	return 0;
}

/* Removes a socket that nobody listens to: its daemon was killed. */
static void remove_if_dead(const char *dir, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/%.20s", dir,
		       name);
	if (fd >= 0 &&
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 &&
	    errno == ECONNREFUSED)
		(void)unlink(address.sun_path);
	if (fd >= 0)
		(void)close(fd);
}

static bool is_socket_name(const char *name)
{
	size_t len = strlen(name);
	size_t suffix_len = strlen(SOCKET_SUFFIX);

	return len > suffix_len && strcmp(name + len - suffix_len, SOCKET_SUFFIX) == 0;
}

static void remove_dead_sockets(const char *dir)
{
	DIR *stream = opendir(dir);
	const struct dirent *entry;

	/* The threads come later. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (stream && (entry = readdir(stream)))
		if (is_socket_name(entry->d_name))
			remove_if_dead(dir, entry->d_name);
	if (stream)
		(void)closedir(stream);
}

/*
 * Makes the socket `path`. Before anybody listens to it, it has another name: else a
 * daemon that starts at the same time would take it for a dead one. A socket of these
 * names was left behind by a process that is gone: its number is ours.
 */
static int bind_socket(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	mode_t old;
	int r;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s.new", path);
	(void)unlink(address.sun_path);
	old = umask(0177);
	r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	(void)umask(old);
	if (r == 0 && (listen(fd, 16) < 0 || rename(address.sun_path, path) < 0))
		r = -errno;
	if (r == 0)
		return 0;
	(void)unlink(address.sun_path);
	return log_errno(r, "%s: make the control socket", path);
}

static int open_socket(struct control *c)
{
	char path[sizeof(c->dir) + 20];
	int r;

	r = socket_dir(c->dir, sizeof(c->dir));
	if (r < 0)
		return r;
	remove_dead_sockets(c->dir);
	(void)snprintf(path, sizeof(path), "%.80s/%d" SOCKET_SUFFIX, c->dir,
		       (int)getpid());
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener < 0)
		return log_errno(-errno, "make the control socket");
	r = bind_socket(c->listener, path);
	if (r < 0)
		return r;
	c->fs->socket_path = strdup(path);
	if (c->fs->socket_path)
		return 0;
	(void)unlink(path);
	return -ENOMEM;
}

/* ---- Connections ---- */

static bool is_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == getuid());
}

static bool wait_for(const struct control *c, int fd, short events)
{
	struct pollfd fds[] = {
		{ .fd = fd, .events = events },
		{ .fd = c->stop_event, .events = POLLIN },
	};

	return poll(fds, ARRAY_LEN(fds), CTL_TIMEOUT_MS) > 0 && !fds[1].revents;
}

/* Reads up to the newline. 0 or a negative errno; the text is in c->request. */
static int read_request(struct control *c, int fd)
{
	size_t len = 0;

	while (len < CTL_REQUEST_MAX) {
		ssize_t n;

		if (!wait_for(c, fd, POLLIN))
			return -ETIMEDOUT;
		n = read(fd, c->request + len, CTL_REQUEST_MAX - len);
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		len += (size_t)n;
		c->request[len] = '\0';
		if (memchr(c->request, '\n', len))
			return 0;
	}
	return -EMSGSIZE;
}

static void write_reply(const struct control *c, int fd, const struct strbuf *reply)
{
	size_t done = 0;

	while (!reply->err && done < reply->len && wait_for(c, fd, POLLOUT)) {
		ssize_t n = send(fd, reply->data + done, reply->len - done, MSG_NOSIGNAL);

		if (n < 0)
			return;
		done += (size_t)n;
	}
}

static void serve_client(struct control *c, int fd)
{
	struct strbuf reply;
	struct jsonw w;
	int r;

	if (!is_allowed(fd))
		return;
	r = read_request(c, fd);
	if (r < 0 && r != -EMSGSIZE)
		return;
	strbuf_init(&reply);
	jsonw_init(&w, &reply);
	if (r == 0)
		requests_answer(c->fs, c->request, &w);
	else
		requests_reply_error(&w, "request: too long");
	strbuf_add_char(&reply, '\n');
	write_reply(c, fd, &reply);
	strbuf_fini(&reply);
}

static void *run(void *argument)
{
	struct control *c = argument;
	struct pollfd fds[] = {
		{ .fd = c->stop_event, .events = POLLIN },
		{ .fd = c->listener, .events = POLLIN },
	};

	for (;;) {
		int fd;

		if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			(void)poll(fds, 1, ACCEPT_PAUSE_MS);
			continue;
		}
		serve_client(c, fd);
		(void)close(fd);
	}
}

int control_open(struct weightfs *fs, struct control **control)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->fs = fs;
	c->listener = -1;
	c->stop_event = eventfd(0, EFD_CLOEXEC);
	r = c->stop_event < 0 ? log_errno(-errno, "make an event") : open_socket(c);
	if (r < 0) {
		control_close(c);
		return r;
	}
	*control = c;
	return 0;
}

int control_start(struct control *control)
{
	int r = thread_start(&control->thread, run, control);

	control->started = r == 0;
	return r;
}

void control_close(struct control *control)
{
	if (!control)
		return;
	if (control->started)
		thread_stop(control->thread, control->stop_event);
	if (control->fs->socket_path)
		(void)unlink(control->fs->socket_path);
	if (control->listener >= 0)
		(void)close(control->listener);
	if (control->stop_event >= 0)
		(void)close(control->stop_event);
	free(control);
}
