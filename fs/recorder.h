/*
 * Notes which tensors are used, when, and how much of them: what becomes a profile.
 *
 * Uses are READs, and OPENs of files that the kernel reads without asking, which then
 * count as used whole. While nothing is recorded a note is one load; while something is,
 * it is a few relaxed atomics, no lock and no allocation.
 */
#ifndef FS_RECORDER_H
#define FS_RECORDER_H

#include "layout.h"
#include "util/strbuf.h"

struct recorder;

/* `served` outlives the recorder. 0 or -ENOMEM. */
MUST_CHECK int recorder_new(const struct served *served, struct recorder **recorder);

/* No other call may be in progress. NULL is fine. */
void recorder_free(struct recorder *recorder);

/* So many bytes of a tensor were read. Any thread. */
void recorder_note_read(struct recorder *recorder, struct node node, uint64_t bytes);

/* A tensor is opened whose reads nobody will see, and closed again. Any thread. */
void recorder_note_open(struct recorder *recorder, struct node node);
void recorder_note_release(struct recorder *recorder, struct node node);

/* The following are for one thread at a time. */

/* Begins anew; what was recorded before is gone. `file` is what whoever began it wants it
 * to be called, which is only kept; NULL for nothing. 0, -EALREADY (it is under way) or
 * -ENOMEM. */
MUST_CHECK int recorder_start(struct recorder *recorder, const char *file);

/* That name, or NULL. */
const char *recorder_file(const struct recorder *recorder);

/* Ends it; what was recorded stays. False if none is under way. */
bool recorder_stop(struct recorder *recorder);

bool recorder_is_recording(const struct recorder *recorder);

/* Whether a recording was ever begun, and so can be written. */
bool recorder_has_recorded(const struct recorder *recorder);

/* Tensors that were used. 0 also where nothing was ever recorded. */
uint32_t recorder_count(const struct recorder *recorder);

/* Appends lines of the profile, from the place `from` on, the first of which is 0: about
 * `most` bytes of them. In front of place 0 stands the header. Returns the place to go on
 * from, or 0 behind the end. */
uint32_t recorder_write(const struct recorder *recorder, uint32_t from, size_t most,
			struct strbuf *out);

#endif
