/*
 * What people say about tensors: bring them in, keep them, give them up. Each is a job of
 * jobs.h; the tensors are named by patterns.
 */
#ifndef FS_HINTS_H
#define FS_HINTS_H

#include "jobs.h"
#include "pins.h"
#include "watch.h"

struct hints {
	struct weightfs *fs;
	struct watch *watch; /* borrowed */
};

/* Makes fs->jobs and fs->pins as well. `watch` must outlive the hints. 0 or -ENOMEM. */
MUST_CHECK int hints_new(struct weightfs *fs, struct watch *watch, struct hints **hints);

/* Stops all jobs and frees them and the pins; NULL is fine. Before inodes_free(). */
void hints_free(struct hints *hints);

/* Starts the job that `spec` describes; as jobs_start(). Files of tensors may be asked
 * for only where live_no_passthrough() is NULL, or where all tensors are too small. */
MUST_CHECK int hints_start(struct hints *hints, struct job_spec *spec, uint64_t *id);

#endif
