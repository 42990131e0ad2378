/*
 * `mountctl place`: rules for what comes into memory later, and moving what is there.
 */
#ifndef FS_PLACE_TENSORS_H
#define FS_PLACE_TENSORS_H

#include "prefetch.h"

/* Keeps the rules that the job's patterns make, or takes them back, and moves what the
 * selected tensors have in memory: their resident files, and their pages of the source.
 * Returns when all of it is where it belongs, cannot be moved, or the job should stop.
 * Counts each tensor once. */
void place_tensors(struct hints *hints, struct job *job,
		   const struct selection *selection);

#endif
