#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

int fd_write_fully(int fd, const void *bytes, uint64_t len, uint64_t to)
{
	const char *next = bytes;

	while (len > 0) {
		ssize_t n = pwrite(fd, next, len, (off_t)to);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		next += n;
		len -= (uint64_t)n;
		to += (uint64_t)n;
	}
	return 0;
}

int fd_reopen(int fd, int flags)
{
	char path[64];
	int again;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	return again < 0 ? -errno : again;
}
