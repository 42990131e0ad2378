/*
 * The first visitor of a mount: a process of its own that looks at the tree as a user
 * would. When that returns, the kernel and the daemon have shaken hands and the tree can
 * be used.
 *
 * The daemon must not look itself: a process that is killed while it waits for its own
 * answer cannot die, because it keeps the connection open that the kernel waits on.
 */
#ifndef FS_VISITOR_H
#define FS_VISITOR_H

#include <stdbool.h>
#include <stdint.h>

#include "util/macros.h"

/* Two connected sockets: [0] for the daemon, [1] for the visitor. Make them before fork()
 * and the mount, and close the other's in each process. 0 or a negative errno, logged. */
MUST_CHECK int visitor_sockets(int sockets[static 2]);

/* The visitor: waits until the daemon has mounted, looks, and as root raises the mount's
 * read-ahead. True when the tree can be used; false when the daemon gave up or died, or
 * when the tree cannot be looked at (logged). Closes `socket`. */
bool visitor_run(int socket, const char *mountpoint, uint64_t readahead_bytes);

/* The daemon: lets the visitor in, and waits until it has looked. Must not be the thread
 * that serves. False when the mount ended before, or the visitor failed or was killed. */
bool visitor_wait(int socket, bool *readahead_raised);

#endif
