/* A line on a terminal that says how far long work is. */
#ifndef MOUNTCTL_PROGRESS_H
#define MOUNTCTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "util/strbuf.h"

struct progress {
	bool shown; /* stdout is a terminal, and a line is wanted */
	bool rated; /* bytes a second and the time left are worth showing */
	uint64_t done;
	uint64_t total;
	double rate; /* bytes a second, of the last few seconds; 0 if unknown */
	size_t width_before;
	struct timespec last;
};

/* `wanted` false: never draws anything. `rated` false: without rate and time. */
void progress_init(struct progress *progress, bool wanted, bool rated);

/* Draws the line anew. Where stdout is no terminal nothing happens. */
void progress_update(struct progress *progress, uint64_t done, uint64_t total);

/* Removes the line. */
void progress_clear(struct progress *progress);

/* Appends the line as it is for a terminal of `width` columns, of which it leaves the
 * last one free. What does not fit is left out: first the bar, then the time, then the
 * rate. */
void progress_format(const struct progress *progress, size_t width, struct strbuf *out);

#endif
