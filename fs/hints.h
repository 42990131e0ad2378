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
	struct jobs *jobs;
	struct pins *pins;
};

/* `watch` must outlive the hints. 0 or -ENOMEM. */
MUST_CHECK int hints_new(struct weightfs *fs, struct watch *watch, struct hints **hints);

/* Stops all jobs; NULL is fine. Before inodes_free(). */
void hints_free(struct hints *hints);

/* Starts the job that `spec` describes; as jobs_start(). Files of tensors may be asked
 * for only where hints_no_files() is NULL. */
MUST_CHECK int hints_start(struct hints *hints, struct job_spec *spec, uint64_t *id);

/* Why no tensor can have a file of its own on this mount; NULL where it can. Any thread.
 */
const char *hints_no_files(const struct weightfs *fs);

#endif
