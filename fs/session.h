/* The life of a mount: from mount(2) to the last request. */
#ifndef FS_SESSION_H
#define FS_SESSION_H

#include "weightfs.h"

/*
 * Mounts fs->served at fs->mountpoint and serves until it is unmounted or a signal says
 * to stop. `visitor` is the daemon's end of visitor_sockets(). In the background the
 * terminal is left once the visitor has seen the tree. 0 or a negative errno, logged;
 * nothing stays mounted. Main thread only.
 */
MUST_CHECK int session_run(struct weightfs *fs, int visitor, bool background, bool debug);

#endif
