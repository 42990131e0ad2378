/* Looks through /proc for who has to do with a mount. */
#ifndef MOUNTCTL_PROCS_H
#define MOUNTCTL_PROCS_H

#include <sys/types.h>

#include "util/strbuf.h"

/* The process that serves the FUSE connection of that number (the minor of the mount's
 * device), by its open /dev/fuse. 0 if there is none, if it is another user's, or if the
 * kernel does not tell (it does since 6.16). */
pid_t procs_find_fuse_server(unsigned int connection);

/* A guard_fn. Appends a line for each of up to five processes that have something below
 * `mountpoint` open, mapped, or as their working directory: "sh (pid 7, open file)". Best
 * effort: all but root see only their own processes. */
int procs_list_holders(const void *mountpoint, struct strbuf *out);

#endif
