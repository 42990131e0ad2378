/*
 * FUSE passthrough: an open file of the mount that the kernel reads straight from another
 * file, with no request to the daemon. Linux 6.9 and CAP_SYS_ADMIN.
 *
 * libfuse knows it from 3.17 on. With 3.12 to 3.16 this module adds what is missing to
 * two messages: it offers passthrough in the answer to INIT, and it writes the answer to
 * OPEN itself. Nobody else knows the difference.
 *
 * Protocol: Documentation/filesystems/fuse/fuse-passthrough.rst and
 * include/uapi/linux/fuse.h of Linux 6.9.
 */
#ifndef FS_PASSTHROUGH_H
#define FS_PASSTHROUGH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "ops.h"
#include "refusal.h"
#include "util/macros.h"

struct passthrough {
	bool wanted;          /* ask the kernel for it */
	atomic_bool offered;  /* the kernel said so in INIT */
	atomic_bool agreed;   /* and the answer took it */
	atomic_bool answered; /* INIT was answered; later messages pass untouched */
	atomic_bool enabled;  /* a file could be registered */
	atomic_bool settled;  /* it was tried: `enabled`, or `refusal` says why not */
	struct privilege privilege;
	struct fuse_session *session;
	pthread_mutex_t lock; /* held while it is tried, once */
	char refusal[REFUSAL_MAX];
};

/* Prepares for a session that is not mounted yet. Main thread, before the sandbox. */
void passthrough_prepare(struct passthrough *p, struct fuse_session *session);

/* What channel.c sees on the way: each request, and each reply before it is sent. Nothing
 * to do with libfuse 3.17 and later. */
void passthrough_see_request(struct passthrough *p, const char *request, size_t len);
void passthrough_amend_reply(struct passthrough *p, const struct iovec *reply, int count);

/*
 * Whether files can be passed through, found out by doing so with an empty one. To be
 * called once INIT is answered, from any thread; what was found stays. A kernel that
 * refuses the first tensor would do so too late: opens that are not sent to the daemon
 * are cheaper, and whether they are is decided by the first of them.
 */
bool passthrough_settle(struct passthrough *p);

/* Why there is none. Any thread. */
const char *passthrough_refusal(const struct passthrough *p);

/* What passthrough_settle() found; false before. Any thread. */
static inline bool passthrough_is_enabled(const struct passthrough *p)
{
	return atomic_load_explicit(&p->enabled, memory_order_relaxed);
}

/* From the init operation. */
void passthrough_init(struct passthrough *p, struct fuse_conn_info *conn);

/* Makes the kernel take note of a file to read from; `fd` may be closed afterwards.
 * Returns its number (above 0) or a negative errno: -EPERM without the privilege, -ELOOP
 * or -EOPNOTSUPP for file systems that it refuses. Any thread. */
MUST_CHECK int passthrough_register(struct passthrough *p, int fd);

/* Whether the kernel takes a file: registers it and takes it back. 0 or a negative errno.
 * Any thread. */
MUST_CHECK int passthrough_try(struct passthrough *p, int fd);

/* Makes the kernel forget the number. Files that are open through it stay readable. */
void passthrough_unregister(struct passthrough *p, int id);

/* Answers an OPEN: reads of this file go to the file with that number. `handle` comes
 * back in RELEASE. 0 or a negative errno, as fuse_reply_open(). */
int passthrough_reply_open(fuse_req_t req, uint64_t handle, int id);

#endif
