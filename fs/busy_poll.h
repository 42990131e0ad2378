/*
 * Busy polling: while a client walks through directories, one worker looks for the next
 * request without ever sleeping, and the others keep away from the device.
 *
 * Such a client sends one small request after the other, and each of them would wake a
 * worker that sleeps. On a virtual machine whose idle cores are halted that costs more
 * than the request itself. A worker that looks is found awake. The others must be asleep
 * elsewhere, because the kernel wakes one that sleeps on the device for each request,
 * whoever takes it.
 *
 *     NORMAL  every worker sleeps in read(2) on the device
 *        |         ^
 *        | many    |  a request that may take long, or none for a while
 *        v small   |
 *     POLLING one worker polls; the others are parked: they sleep on an eventfd
 *
 * What reads tensors is never in the way of this: a READ ends the polling, and in NORMAL
 * it costs two loads of a variable that nobody writes.
 */
#ifndef FS_BUSY_POLL_H
#define FS_BUSY_POLL_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/macros.h"

/* Workers beyond so many are not parked: they only make it less effective. */
#define BUSY_POLL_WORKERS_MAX 64u

struct busy_poll {
	int park; /* eventfd that counts: each parked worker takes one to go on */
	int signal_number;  /* takes a worker out of read(2); its handler does nothing */
	atomic_int poller;  /* thread id of the worker that polls; 0: none does */
	atomic_uint streak; /* small requests since the last other one */
	atomic_uint parked; /* workers that wait for a token of `park` */
	atomic_uint worker_count;
	atomic_int workers[BUSY_POLL_WORKERS_MAX]; /* thread ids */
};

/* `signal_number` must have a handler without SA_RESTART, and not be blocked in the
 * workers. 0 or a negative errno. */
MUST_CHECK int busy_poll_init(struct busy_poll *b, int signal_number);

/* Once no worker reads any more. */
void busy_poll_fini(struct busy_poll *b);

/*
 * read(2) of one FUSE request by a worker, with its errors; EINTR is to be followed by
 * another call. A cancellation point. All workers of a session read through this, each
 * thread for one session only.
 */
MUST_CHECK ssize_t busy_poll_read(struct busy_poll *b, int fd, void *buffer, size_t size);

#endif
