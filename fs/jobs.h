/*
 * Work that a request of the control socket starts and that goes on while others are
 * answered. Each job is a thread. Who asked looks at the job until it is over; what came
 * of it can be asked for until the table needs the place.
 *
 * Knows what was asked for, how far it is and what came of it, not how it is done: that
 * is the function that the job runs.
 */
#ifndef FS_JOBS_H
#define FS_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "advice.h"
#include "placement.h"
#include "util/jsonw.h"
#include "view.h"

/* At a time; one more is refused. */
#define JOBS_RUNNING_MAX 8u

/* Running and over. A new job takes the place of the one that has been over for longest.
 */
#define JOBS_KEPT 32u

/* Names given for each outcome that is no success. */
#define JOB_EXAMPLES 3u

struct jobs;
struct job;

enum job_command {
	JOB_PREFETCH,
	JOB_PIN,
	JOB_UNPIN,
	JOB_EVICT,
	JOB_ADVISE,
	JOB_PLACE,
	JOB_COMMAND_COUNT,
};

/* As in requests: "prefetch" and so on. */
const char *job_command_name(enum job_command command);

/* What was asked for. */
struct job_spec {
	enum job_command command;
	char **patterns; /* heap; on the tensors' names */
	size_t pattern_count;
	bool views[VIEW_COUNT];
	bool resident; /* prefetch: files in memory of their own, not the page cache */
	bool fill;     /* pin: make what is not there */
	enum advice advice;             /* advise */
	bool reset;                     /* place: take the rules of these patterns back */
	struct placement_policy policy; /* place: where to */
};

void job_spec_fini(struct job_spec *spec);

/* What came of one tensor or file of a job. */
enum job_outcome {
	JOB_DONE,
	JOB_ALREADY,  /* nothing was to be done */
	JOB_SMALL,    /* too small for a file of its own: it is streamed, which is fine */
	JOB_NO_ROOM,  /* it fits neither the limit nor the memory beside the others */
	JOB_DROPPED,  /* it was read, and the kernel needed the memory for something else
		       */
	JOB_OPEN,     /* it is open in another way, and stays so until it is closed */
	JOB_UNSUITED, /* this mount does not make such files */
	JOB_IN_USE,   /* its file is open or wanted by another job */
	JOB_PINNED,   /* it is pinned */
	JOB_CHANGED,  /* its source is not what was mounted any more */
	JOB_LEFT,     /* some of it is in use, or its nodes have no room: it stayed */
	JOB_FAILED,   /* it could not be read, or there was no memory */
	JOB_CANCELLED, /* the job ended before its turn */
	JOB_OUTCOME_COUNT,
};

/* Runs in the job's thread. Looks at job_should_stop() now and then. */
typedef void job_fn(struct job *job, void *context);

/* `context` is what each job_fn gets. 0 or -ENOMEM. */
MUST_CHECK int jobs_new(void *context, struct jobs **jobs);

/* Stops and joins all jobs; NULL is fine. */
void jobs_free(struct jobs *jobs);

/* ---- From the control thread ---- */

/* Takes `spec` over in any case. 0 with the job's number, -EBUSY (too many are running),
 * -ENOMEM or what starting a thread gives. */
MUST_CHECK int jobs_start(struct jobs *jobs, struct job_spec *spec, job_fn *run,
			  uint64_t *id);

/* Asks a job to end early. False if there is none with this number. */
bool jobs_cancel(struct jobs *jobs, uint64_t id);

/* Writes one job as docs/status.md describes it. False if there is none. Any thread. */
bool jobs_write(struct jobs *jobs, uint64_t id, struct jsonw *w);

/* Writes an array of the jobs that are running. Any thread. */
void jobs_write_running(struct jobs *jobs, struct jsonw *w);

/* How many are running. Any thread. */
unsigned int jobs_running(struct jobs *jobs);

/* ---- From the job's own thread ---- */

const struct job_spec *job_spec(const struct job *job);

/* Whether it was cancelled or the daemon ends. */
bool job_should_stop(struct job *job);

/* Whether the daemon ends: nothing is worth waiting for. */
bool job_must_stop(struct job *job);

/* Notes a pattern that matches nothing; the job has failed. */
void job_unmatched(struct job *job, const char *pattern);

/* Notes why the job could not be done at all: a sentence, not copied. */
void job_fail(struct job *job, const char *error);

/* So many tensors or files with so many bytes are to be done. */
void job_expect(struct job *job, uint64_t count, uint64_t bytes);

/* How far it is: adds to the bytes that are over with, for better or worse. */
void job_advance(struct job *job, uint64_t bytes);

/* Adds to the bytes that were read into the page cache or dropped from it. */
void job_count_cache(struct job *job, uint64_t bytes);

/* Notes that the kernel does not tell what its page cache has. */
void job_cache_unknown(struct job *job);

/* Adds to the bytes of files that were made or given up. */
void job_count_file(struct job *job, uint64_t bytes);

/* Counts one tensor or file. The first few names are kept where it is no success. */
void job_count(struct job *job, enum job_outcome outcome, uint64_t bytes,
	       const struct tensor *tensor);

#endif
