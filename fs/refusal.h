/*
 * Why the kernel refuses what takes privileges, in words: the same for the status of a
 * mount and for `weightfs --probe`.
 */
#ifndef FS_REFUSAL_H
#define FS_REFUSAL_H

#include <stdbool.h>

#define REFUSAL_MAX 160

/* What decides over it. */
struct privilege {
	bool admin;          /* CAP_SYS_ADMIN, be it of a user namespace */
	bool initial_userns; /* and not of a container's own */
	bool filtered;       /* somebody has put a filter of system calls over us */
	unsigned int kernel; /* KERNEL(6, 9) */
};

/* For the calling thread. Before the sandbox, which filters too. */
void privilege_read(struct privilege *privilege);

/* Each writes a sentence. `err` is the negative errno that the kernel gave. */

/* hugetmpfs_new() failed. */
void refusal_of_tmpfs(const struct privilege *privilege, int err,
		      char text[static REFUSAL_MAX]);

/* A file could not be registered for passthrough. */
void refusal_of_registration(const struct privilege *privilege, int err,
			     char text[static REFUSAL_MAX]);

/* A clone could not be made. */
void refusal_of_clone(int err, char text[static REFUSAL_MAX]);

/* A ring of io_uring could not be made. */
void refusal_of_io_uring(const struct privilege *privilege, int err,
			 char text[static REFUSAL_MAX]);

/* The kernel does not offer passthrough in INIT. */
void refusal_of_offer(const struct privilege *privilege, char text[static REFUSAL_MAX]);

#endif
