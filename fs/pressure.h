/*
 * Resident files give way when memory runs short.
 *
 * A thread looks at the memory that is left (fs/memory.h): once a second while there are
 * files, and at once when the kernel says that tasks wait for memory. Where less than a
 * reserve is left, it lowers the limit of all files to what they take, less what is
 * missing; closed files are given up for that. The limit is raised again step by step
 * while twice the reserve is left. Who makes a file asks first whether there is room, and
 * takes part in that: a file can be made faster than any thread looks.
 */
#ifndef FS_PRESSURE_H
#define FS_PRESSURE_H

#include "inodes.h"
#include "memory.h"

struct pressure;

/* What gives way; a test has its own. */
struct pressure_files {
	uint64_t (*used)(struct inodes *inodes);
	uint64_t (*set_limit)(struct inodes *inodes, uint64_t limit); /* bytes given up */
};

extern const struct pressure_files pressure_inodes;

struct pressure_setup {
	const char *subject; /* in front of messages */
	const struct memory_roots *roots;
	const struct pressure_files *files;
	struct inodes *inodes;
	uint64_t limit; /* what the files may take while there is memory */
};

/* Opens what it looks at; before the sandbox. Borrows what `setup` points to, but
 * `roots` only during the call. 0 or a negative errno. */
MUST_CHECK int pressure_new(const struct pressure_setup *setup,
			    struct pressure **pressure);

/* Starts the thread. 0 or a negative errno. */
MUST_CHECK int pressure_start(struct pressure *pressure);

/* Stops the thread, before the inodes are freed; NULL is fine. */
void pressure_stop(struct pressure *pressure);

/* After the last pressure_settle(), and so after the inodes are freed; NULL is fine. */
void pressure_free(struct pressure *pressure);

/* ---- For who makes files; any thread; NULL is fine and has all the memory ---- */

/* Sets memory aside for a file, for which others are given up if need be. 0, or -ENOMEM:
 * there is none. */
MUST_CHECK int pressure_admit(struct pressure *pressure, uint64_t bytes);

/* The file is made, or is not to be: its memory counts as taken, or as free. */
void pressure_settle(struct pressure *pressure, uint64_t bytes);

/* An allocation failed: gives up as much. Returns whether there was something. */
bool pressure_relieve(struct pressure *pressure, uint64_t bytes);

/* ---- Looking ---- */

/* What the thread does each second, or because of an event. */
void pressure_look(struct pressure *pressure, bool event);

struct pressure_summary {
	uint64_t limit;  /* in force */
	uint64_t events; /* times that memory ran short, each until the limit was back */
};

void pressure_summarise(struct pressure *pressure, struct pressure_summary *summary);

#endif
