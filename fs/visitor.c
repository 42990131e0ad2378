#include "visitor.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "util/errtext.h"
#include "util/log.h"

/* What the two tell each other, one byte each. */
#define MOUNTED     'm' /* the daemon: come in */
#define SEEN        's' /* the visitor: the tree can be used */
#define SEEN_RAISED 'r' /* the same, and read-ahead is raised */

int visitor_sockets(int sockets[static 2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return log_errno(-errno, "make sockets");
	return 0;
}

static bool send_byte(int socket, char byte)
{
	return send(socket, &byte, 1, MSG_NOSIGNAL) == 1;
}

static bool receive_byte(int socket, char *byte)
{
	ssize_t n;

	do
		n = recv(socket, byte, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

/* The kernel's own limit is 128 KiB; root may raise it, and only once INIT is answered.
 * `dev` is the mount's device number. */
static bool raise_readahead(dev_t dev, uint64_t bytes)
{
	char path[64];
	FILE *file;
	bool ok;

	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
		       major(dev), minor(dev));
	file = fopen(path, "we");
	if (!file)
		return false;
	ok = fprintf(file, "%llu", (unsigned long long)(bytes >> 10)) > 0;
	return fclose(file) == 0 && ok;
}

static bool visit(int socket, const char *mountpoint, uint64_t readahead_bytes)
{
	struct stat st;
	char byte;

	if (!receive_byte(socket, &byte))
		return false;
	if (stat(mountpoint, &st) < 0) {
		(void)log_errno(-errno, "%s: look at the new mount", mountpoint);
		return false;
	}
	byte = raise_readahead(st.st_dev, readahead_bytes) ? SEEN_RAISED : SEEN;
	return send_byte(socket, byte);
}

bool visitor_run(int socket, const char *mountpoint, uint64_t readahead_bytes)
{
	bool seen = visit(socket, mountpoint, readahead_bytes);

	/* The daemon waits for a word or for this. */
	(void)close(socket);
	return seen;
}

bool visitor_wait(int socket, bool *readahead_raised)
{
	char byte = 0;

	if (!send_byte(socket, MOUNTED) || !receive_byte(socket, &byte))
		return false;
	*readahead_raised = byte == SEEN_RAISED;
	return true;
}
