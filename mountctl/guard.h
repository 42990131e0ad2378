/* Work on mounted files with a time limit. An access to a mount whose daemon hangs cannot
 * be given up by the one who waits, so somebody else waits: a child process. */
#ifndef MOUNTCTL_GUARD_H
#define MOUNTCTL_GUARD_H

#include "util/strbuf.h"

/* What to do: appends to `out`; returns 0 or a negative errno. */
typedef int guard_fn(const void *arg, struct strbuf *out);

/* Runs `fn` in a child process and appends what it gave to `out`. Returns what `fn`
 * returned, -ETIMEDOUT if that took longer than `timeout_ms` (the child is killed, or
 * left behind if not even that works), -EIO if the child died, or what fork() failed
 * with. */
MUST_CHECK int guard_run(guard_fn *fn, const void *arg, int timeout_ms,
			 struct strbuf *out);

/* A guard_fn: the content of the file named by `path`. */
int guard_read_file(const void *path, struct strbuf *out);

/* A guard_fn: the target of the symbolic link named by `path`. */
int guard_read_link(const void *path, struct strbuf *out);

#endif
