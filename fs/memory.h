/*
 * How much memory is left: of the machine and of each control group (v1 or v2) around the
 * daemon that has a limit. The kernel's files are opened once, so that it can be asked
 * inside of the sandbox.
 */
#ifndef FS_MEMORY_H
#define FS_MEMORY_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/macros.h"

struct memory;

/* Where the kernel's files are. A test has its own. */
struct memory_roots {
	const char *proc;   /* "/proc" */
	const char *cgroup; /* "/sys/fs/cgroup" */
};

extern const struct memory_roots memory_system_roots;

/* Opens what there is. 0 or a negative errno. */
MUST_CHECK int memory_open(const struct memory_roots *roots, struct memory **memory);
void memory_close(struct memory *memory); /* NULL is fine */

/*
 * Each place has a reserve that is to be left free: a twentieth of its size, but at least
 * 256 MiB, but at most a quarter. The place with the least above its reserve counts.
 */
struct memory_room {
	uint64_t total;     /* of the smallest place */
	uint64_t available; /* the least in any place, with what the kernel can reclaim */
	int64_t spare;      /* what can be taken until a reserve is touched; or < 0 */
	uint64_t reserve;   /* that one */
};

/* Any thread. 0 or -EIO. */
MUST_CHECK int memory_measure(const struct memory *memory, struct memory_room *room);

/* Opens descriptors that poll() as POLLPRI when tasks have waited for memory for 150 ms
 * within a second, on the machine and in the daemon's own control group; -1 for what is
 * not to be had. (PSI: Documentation/accounting/psi.rst of the kernel.) The caller closes
 * them. */
#define MEMORY_EVENTS 2
void memory_open_events(const struct memory_roots *roots, int fds[static MEMORY_EVENTS]);

/* What poll() is to be asked about them. */
void memory_poll_events(const int events[static MEMORY_EVENTS],
			struct pollfd fds[static MEMORY_EVENTS]);

/* What poll() has said: whether one has fired. One whose control group is gone is always
 * ready, which means nothing: it is asked about no more. */
bool memory_event_fired(struct pollfd *fd);
bool memory_take_events(struct pollfd fds[static MEMORY_EVENTS]);

/* Measures the system once. Without /proc the machine's memory counts as available. */
void memory_look(struct memory_room *room);

#endif
