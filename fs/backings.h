/*
 * All that gives tensors their bytes besides `stream`, as one: what a mount can have of
 * it is found out, started, stopped and freed here. What it cannot have, and why, stands
 * in struct weightfs for the status.
 */
#ifndef FS_BACKINGS_H
#define FS_BACKINGS_H

#include "passthrough.h"
#include "weightfs.h"

/* Makes what the options ask for and this machine has; before the sandbox. `p` outlives
 * the session. 0 or a negative errno. */
MUST_CHECK int backings_prepare(struct weightfs *fs, struct fuse_session *session,
				struct passthrough *p);

/* Starts the threads, within the sandbox. 0 or a negative errno. */
MUST_CHECK int backings_start(struct weightfs *fs);

/* Once INIT is answered: finds out which files the kernel passes through to, and says so
 * where a backing that was asked for by name is missing. */
void backings_settle(struct weightfs *fs);

/* Stops making files and closes them, once nobody else asks for any. Before the file
 * system is unmounted. */
void backings_stop(struct weightfs *fs);

/* Frees all of it, also what was only prepared. Once no thread uses it. */
void backings_free(struct weightfs *fs);

#endif
