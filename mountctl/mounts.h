/*
 * The weightfs mounts of this machine, from /proc/self/mountinfo. Nothing here touches a
 * mounted file, so nothing waits for a daemon that is dead or hung.
 */
#ifndef MOUNTCTL_MOUNTS_H
#define MOUNTCTL_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/macros.h"

struct mount {
	char *mountpoint;
	char *source;
	char *fs_type;
	unsigned int id;        /* of the mount, not of the file system */
	unsigned int parent;    /* the id of the mount below it */
	bool is_part;           /* a bind mount of a directory or file, not of the root */
	unsigned int dev_minor; /* of the device; FUSE's number of the connection */
	uid_t user_id;          /* who mounted it, as the kernel says in user_id= */
};

struct mounts {
	struct mount
		*list; /* as the kernel lists them: a later one hides an earlier one */
	size_t count;
};

/* Reads all mounts, of every type. 0, or a negative errno with a message logged. */
MUST_CHECK int mounts_read(struct mounts *mounts);

/* The same from text, for tests. Lines that are no mountinfo lines are skipped.
 * 0 or -ENOMEM. */
MUST_CHECK int mounts_parse(char *text, struct mounts *mounts);

void mounts_fini(struct mounts *mounts);

bool mount_is_weightfs(const struct mount *mount);

/* The topmost mount at just this absolute path, of any type; NULL if there is none. */
const struct mount *mounts_at(const struct mounts *mounts, const char *path);

/* Whether another mount stands on the same mount point and hides this one. */
bool mounts_is_covered(const struct mounts *mounts, const struct mount *mount);

/* Whether any of the mounts is of this weightfs connection: a bind mount is one more. */
bool mounts_has_device(const struct mounts *mounts, unsigned int dev_minor);

/* The weightfs mount that this absolute path lies in, NULL for none. Judged by names
 * alone. `below` becomes the part behind the mount point, without a leading '/'. */
const struct mount *mounts_containing(const struct mounts *mounts, const char *path,
				      const char **below);

/* Whether `path` is `dir` or lies below it; both absolute and without "." and "..". */
bool mounts_path_is_below(const char *path, const char *dir);

/* Whether a path below a mount point lies in the tree of a memory node, as with
 * numa=mirror; `rest` is then the part behind that, without a leading '/'. */
bool mounts_node_tree(const char *below, unsigned int *node, const char **rest);

/* An absolute path without "." and "..". Symbolic links are followed as long as no
 * weightfs mount is entered, whose daemon might hang. Heap; NULL when out of memory. */
char *mounts_absolute_path(const struct mounts *mounts, const char *path);

/* Reads the table into `mounts` and finds the mount that a path lies in, which a person
 * named: NULL with a message if there is none. `absolute`, which the caller frees,
 * becomes the path as mounts_absolute_path() has it; `below` points into it. */
const struct mount *mounts_require(struct mounts *mounts, const char *path,
				   char **absolute, const char **below);

#endif
