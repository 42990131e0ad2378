/*
 * The FUSE operations: each takes one request of the kernel, asks layout, content or
 * xattr, and replies exactly once. They run in any of the session's threads at the same
 * time.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

/* FUSE_USE_VERSION comes from fs/CMakeLists.txt. */
#include <fuse_lowlevel.h>

/* For fuse_session_new(); the user data is the struct weightfs. */
extern const struct fuse_lowlevel_ops weightfs_ops;

#endif
