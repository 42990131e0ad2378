/* The life of a mount: from mount(2) to the last request. */
#ifndef FS_SESSION_H
#define FS_SESSION_H

#include "weightfs.h"

/*
 * Mounts fs->served at fs->mountpoint and serves until it is unmounted or a signal says
 * to stop. Calls ready(argument) once the tree can be used. 0 or a negative errno,
 * logged; nothing stays mounted. Main thread only.
 */
MUST_CHECK int session_run(struct weightfs *fs, bool debug, void (*ready)(void *),
			   void *argument);

#endif
