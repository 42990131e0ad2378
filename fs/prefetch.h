/*
 * Bringing tensors in: their bytes into the page cache of the source, or into files in
 * memory of their own.
 *
 * What was brought in first is not pushed out again by the rest of the same job: what
 * does not fit any more is left where it is, and counted.
 */
#ifndef FS_PREFETCH_H
#define FS_PREFETCH_H

#include <stddef.h>
#include <stdint.h>

#include "hints.h"

/* Tensors of the model, in its order, which is that of files and offsets. */
struct selection {
	uint32_t *tensors; /* heap */
	size_t count;
	uint64_t bytes;
};

/* Both return when all that can be there is there, or the job should stop. They count
 * each tensor, or each file, once. */
void prefetch_pages(struct hints *hints, struct job *job,
		    const struct selection *selection);

/* The files of the views that the job names; pinned for good if it is a pin. */
void prefetch_files(struct hints *hints, struct job *job,
		    const struct selection *selection);

#endif
