#include "mountctl/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "ctl_proto.h"
#include "mountctl/guard.h"
#include "mountctl/text.h"
#include "util/log.h"

#define STATS_FILE ".weightfs/stats.json"

/* Far above any reply: the largest has two digits for each tensor. */
#define REPLY_MAX ((size_t)16 << 20)

void daemon_answer_fini(struct daemon_answer *answer)
{
	strbuf_fini(&answer->text);
}

const char *daemon_state_name(enum daemon_state state)
{
	static const char *const names[] = {
		[DAEMON_OK] = "ok",
		[DAEMON_DEAD] = "dead",
		[DAEMON_NO_ANSWER] = "no answer",
		[DAEMON_NO_ACCESS] = "no access",
		[DAEMON_PART] = "part",
		[DAEMON_COVERED] = "covered",
	};

	return names[state];
}

static enum daemon_state state_of_error(int r)
{
	switch (-r) {
	case ENOTCONN:
	case ECONNABORTED:
		return DAEMON_DEAD;
	case EACCES:
	case EPERM:
		return DAEMON_NO_ACCESS;
	default:
		return DAEMON_NO_ANSWER;
	}
}

/* `mountpoint`/`name`, or 0 if out of memory. */
static char *below(const char *mountpoint, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", strcmp(mountpoint, "/") == 0 ? "" : mountpoint,
			name) < 0
		       ? NULL
		       : path;
}

static int guarded(guard_fn *fn, const char *mountpoint, const char *name, int timeout_ms,
		   struct strbuf *out)
{
	CLEANUP(free_ptr) char *path = below(mountpoint, name);

	return path ? guard_run(fn, path, timeout_ms, out) : -ENOMEM;
}

static int set_timeouts(int fd, int timeout_ms)
{
	struct timeval limit = {
		.tv_sec = timeout_ms / 1000,
		.tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000,
	};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	return 0;
}

/* Connects `fd`. The link stands in a file system that its owner made up, so what it
 * leads to must be a process of that user: a root mountctl is not sent to other sockets.
 */
static int connect_to(int fd, const char *path, uid_t owner, pid_t *pid)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (*path != '/')
		return -ENOENT;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	if (peer.uid != owner)
		return -EACCES;
	*pid = peer.pid;
	return 0;
}

static int send_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

static int receive_all(int fd, struct strbuf *reply)
{
	char piece[65536];
	ssize_t n;

	while ((n = recv(fd, piece, sizeof(piece), 0)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		strbuf_add(reply, piece, (size_t)n);
		if (reply->len > REPLY_MAX)
			return -EBADMSG;
	}
	return reply->err;
}

/* What is said at the other end of a socket: who it is, what was asked, the reply. */
struct exchange {
	const char *path;
	uid_t owner;
	int timeout_ms;
	pid_t pid; /* filled */
};

static int exchange(struct exchange *e, const char *request, size_t len,
		    struct strbuf *text, struct json *reply)
{
	CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = set_timeouts(fd, e->timeout_ms);
	if (r == 0)
		r = connect_to(fd, e->path, e->owner, &e->pid);
	if (r == 0)
		r = send_all(fd, request, len);
	/* A request that is too long is answered before it was read to its end. */
	if (r == 0 || r == -EPIPE)
		r = receive_all(fd, text);
	if (r < 0)
		return r;
	if (text->len == 0 || json_parse(text->data, text->len, reply) < 0)
		return -EBADMSG;
	return json_is_true(json_get(*reply, "ok")) ? 0 : -EREMOTEIO;
}

/* Fills the answer's pid, text and status. */
static int ask_socket(const char *path, uid_t owner, int timeout_ms,
		      struct daemon_answer *answer)
{
	static const char request[] = "{\"command\": \"status\"}\n";
	struct exchange e = { .path = path, .owner = owner, .timeout_ms = timeout_ms };
	struct json reply = { 0 };
	int r = exchange(&e, request, strlen(request), &answer->text, &reply);

	answer->pid = e.pid;
	if (r < 0)
		return r == -EREMOTEIO ? -EBADMSG : r;
	answer->status = json_get(reply, "status");
	return json_type(answer->status) == JSON_OBJECT ? 0 : -EBADMSG;
}

/* The same document as a file, for whom the socket is closed. */
static int ask_file(const struct mount *mount, int timeout_ms,
		    struct daemon_answer *answer)
{
	int r;

	strbuf_fini(&answer->text);
	r = guarded(guard_read_file, mount->mountpoint, STATS_FILE, timeout_ms,
		    &answer->text);
	if (r < 0)
		return r;
	if (answer->text.len == 0)
		return -EBADMSG;
	r = json_parse(answer->text.data, answer->text.len, &answer->status);
	if (r == 0 && json_type(answer->status) != JSON_OBJECT)
		r = -EBADMSG;
	return r;
}

void daemon_ask(const struct mount *mount, int timeout_ms, struct daemon_answer *answer)
{
	CLEANUP(strbuf_fini) struct strbuf socket_path = { 0 };
	int r;

	*answer = (struct daemon_answer){ .state = DAEMON_PART };
	if (mount->is_part)
		return;
	r = guarded(guard_read_link, mount->mountpoint, CTL_SOCKET_LINK, timeout_ms,
		    &socket_path);
	if (r == 0)
		r = ask_socket(socket_path.data ? socket_path.data : "", mount->user_id,
			       timeout_ms, answer);
	if (r < 0 && r != -ETIMEDOUT && state_of_error(r) != DAEMON_DEAD)
		r = ask_file(mount, timeout_ms, answer);
	if (r < 0)
		answer->status = (struct json){ 0 };
	answer->state = r < 0 ? state_of_error(r) : DAEMON_OK;
}

int daemon_require(const struct mount *mount, struct daemon_answer *answer)
{
	daemon_ask(mount, CTL_TIMEOUT_MS, answer);
	switch (answer->state) {
	case DAEMON_OK:
		return 0;
	case DAEMON_DEAD:
		(void)text_error(mount->mountpoint,
				 "the daemon is gone: unmount with 'mountctl umount'", 0);
		return -ENOTCONN;
	case DAEMON_NO_ACCESS:
		return text_error(mount->mountpoint, "ask the daemon", EACCES);
	case DAEMON_PART:
		(void)text_error(mount->mountpoint,
				 "only a part of a mount: name the whole one", 0);
		return -EINVAL;
	case DAEMON_COVERED:
	case DAEMON_NO_ANSWER:
	default:
		(void)text_error(mount->mountpoint, "the daemon does not answer", 0);
		return -ETIMEDOUT;
	}
}

int daemon_find(const struct mount *mount, struct daemon_peer *peer)
{
	*peer = (struct daemon_peer){ .mountpoint = mount->mountpoint,
				      .owner = mount->user_id };
	return guarded(guard_read_link, mount->mountpoint, CTL_SOCKET_LINK,
		       CTL_TIMEOUT_MS, &peer->socket);
}

void daemon_peer_fini(struct daemon_peer *peer)
{
	strbuf_fini(&peer->socket);
}

int daemon_request(const struct daemon_peer *peer, const struct strbuf *request,
		   struct strbuf *text, struct json *reply)
{
	struct exchange e = {
		.path = peer->socket.data ? peer->socket.data : "",
		.owner = peer->owner,
		.timeout_ms = CTL_TIMEOUT_MS,
	};

	if (request->err)
		return request->err;
	return exchange(&e, request->data, request->len, text, reply);
}

int daemon_complain(const char *mountpoint, int r, struct json reply)
{
	CLEANUP(free_ptr) char *words = NULL;

	switch (-r) {
	case EREMOTEIO:
		words = json_dup_printable(json_get(reply, "error"));
		(void)text_error(mountpoint, words ? words : "the daemon refuses", 0);
		return r;
	case ENOENT: /* its socket was removed by the next one that started */
	case ECONNREFUSED:
	case ECONNRESET:
	case ENOTCONN:
	case ECONNABORTED:
		(void)text_error(mountpoint, "the daemon is gone", 0);
		return r;
	case ETIMEDOUT:
		(void)text_error(mountpoint, "the daemon does not answer", 0);
		return r;
	default:
		(void)text_error(mountpoint, "ask the daemon", -r);
		return r;
	}
}
