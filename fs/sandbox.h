/*
 * Giving up what the threads that serve a mount do not need, so that a mistake in them is
 * worth less to whoever wrote the model file.
 *
 * The main thread stays outside: it unmounts at the end, as root itself, else through
 * fusermount3. So this stops what a thread does, not one that has taken over the process.
 */
#ifndef FS_SANDBOX_H
#define FS_SANDBOX_H

#include <stdbool.h>

struct cloneplaces;
struct source;

struct sandbox {
	bool capabilities; /* none is left, but those below */
	bool landlock;     /* no file can be opened but /dev/fuse and what is needed */
	bool seccomp;      /* no exec, no network, no ptrace, no mounts, no modules */
};

/* What the threads go on to need. */
struct sandbox_needs {
	const struct source *source;      /* its files may be opened anew, for reading */
	int tmpfs;                        /* files may be made there; -1 for none */
	const struct cloneplaces *clones; /* files may be made there; NULL for nowhere */
	bool passthrough;                 /* takes CAP_SYS_ADMIN */
	bool nodes; /* moving memory between them takes CAP_SYS_NICE */
};

/* For the calling thread and the ones it starts later: call before those, and after
 * everything that must be opened is open. What the machine does not offer is left out. */
void sandbox_enter(struct sandbox *sandbox, const struct sandbox_needs *needs);

#endif
