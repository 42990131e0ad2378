/*
 * Giving up what the threads of a mounted daemon no longer need, so that a mistake in it
 * is worth little to whoever wrote the model file.
 *
 * Only root has much to give up: a user's daemon keeps the right to start fusermount3,
 * which unmounts for it.
 */
#ifndef FS_SANDBOX_H
#define FS_SANDBOX_H

#include <stdbool.h>

struct sandbox {
	bool capabilities; /* all but CAP_SYS_ADMIN, which unmounting takes, are gone */
	bool landlock;     /* no file can be opened but /dev/fuse
			    */
	bool seccomp;      /* no exec, no network, no ptrace, no mounts, no modules */
};

/* For the calling thread and the ones it starts later: call before those, and after
 * everything that must be opened is open. `writable_dir` is where files may be removed;
 * NULL for none. What the machine does not offer is left out. */
void sandbox_enter(struct sandbox *sandbox, const char *writable_dir);

#endif
