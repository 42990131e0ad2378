#include "busy_poll.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* So many small requests without another between them are a walk. Few enough that it pays
 * for a directory of some thousand, many enough that a single `ls` changes nothing. */
#define WALK 64u

/* Without a request for so long the walk is over. A client that prints or waits for a
 * disk in between takes longer than one that only walks (5 to 50 us). */
#define PATIENCE_NS 1000000

/* The thread's id once it is in the list of workers. */
static _Thread_local pid_t self;

int busy_poll_init(struct busy_poll *b, int signal_number)
{
	*b = (struct busy_poll){ .signal_number = signal_number };
	b->park = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	return b->park < 0 ? -errno : 0;
}

void busy_poll_fini(struct busy_poll *b)
{
	close_fd(&b->park);
}

static void introduce(struct busy_poll *b)
{
	unsigned int at = atomic_fetch_add(&b->worker_count, 1);

	self = gettid();
	if (at < BUSY_POLL_WORKERS_MAX)
		atomic_store(&b->workers[at], self);
}

static pid_t poller_of(const struct busy_poll *b)
{
	return atomic_load_explicit(&b->poller, memory_order_acquire);
}

/*
 * Takes the others out of their sleep on the device; they park themselves. One that is
 * missed, because it was on its way there, only makes the polling less effective. One
 * that is at work may have a system call interrupted, as by any signal.
 */
static void wake_others(const struct busy_poll *b)
{
	for (unsigned int i = 0; i < BUSY_POLL_WORKERS_MAX; i++) {
		pid_t id = atomic_load(&b->workers[i]);

		if (id > 0 && id != self)
			(void)tgkill(getpid(), id, b->signal_number);
	}
}

static void begin(struct busy_poll *b)
{
	pid_t nobody = 0;

	if (atomic_compare_exchange_strong(&b->poller, &nobody, self))
		wake_others(b);
}

/* By any worker. The one that polls finds it out when it looks next. */
static void end(struct busy_poll *b)
{
	uint64_t tokens;

	atomic_store(&b->streak, 0);
	if (atomic_exchange(&b->poller, 0) == 0)
		return;
	tokens = atomic_exchange(&b->parked, 0);
	/* A write to an eventfd that is far from full does not fail. */
	if (tokens > 0 && write(b->park, &tokens, sizeof(tokens)) < 0)
		return;
}

/* Each that counts itself as parked gets one token, from the end() that finds it in the
 * count. If the polling ended before it was counted, it must not wait for the next. */
static void park(struct busy_poll *b)
{
	uint64_t token;

	(void)atomic_fetch_add(&b->parked, 1);
	if (poller_of(b) == 0) {
		unsigned int count = atomic_load(&b->parked);

		while (count > 0)
			if (atomic_compare_exchange_weak(&b->parked, &count, count - 1))
				return;
	}
	while (read(b->park, &token, sizeof(token)) < 0 && errno == EINTR)
		;
}

static int64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Until there is a request, or an error for read() to find. False when none came. Whoever
 * else wants this core gets it between two looks: it may be the client. */
static bool poll_device(const struct busy_poll *b, int fd)
{
	struct pollfd device = { .fd = fd, .events = POLLIN };
	int64_t deadline = now_ns() + PATIENCE_NS;

	do {
		if (poll(&device, 1, 0) != 0)
			return true;
		(void)sched_yield();
	} while (poller_of(b) == self && now_ns() < deadline);
	return false;
}

/* Requests that are answered from memory, in a few microseconds. A name in the root may
 * be that of a document whose size is not known before it is made. */
static bool is_small(const struct fuse_in_header *request)
{
	switch (request->opcode) {
	case FUSE_LOOKUP:
		return request->nodeid != FUSE_ROOT_ID;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		return true;
	default:
		return false;
	}
}

static void judge(struct busy_poll *b, const void *buffer)
{
	struct fuse_in_header request;

	memcpy(&request, buffer, sizeof(request));
	if (is_small(&request)) {
		if (poller_of(b) == 0 && atomic_fetch_add(&b->streak, 1) >= WALK)
			begin(b);
	} else if (atomic_load_explicit(&b->streak, memory_order_relaxed) > 0 ||
		   poller_of(b) != 0) {
		end(b);
	}
}

ssize_t busy_poll_read(struct busy_poll *b, int fd, void *buffer, size_t size)
{
	pid_t poller;
	ssize_t n;

	if (self == 0)
		introduce(b);
	while ((poller = poller_of(b)) != 0 && poller != self)
		park(b);
	if (poller == self && !poll_device(b, fd) && poller_of(b) == self)
		end(b);
	n = read(fd, buffer, size);
	if (n >= (ssize_t)sizeof(struct fuse_in_header))
		judge(b, buffer);
	return n;
}
