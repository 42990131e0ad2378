#include "jobs.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "thread.h"

enum job_state {
	STATE_FREE,
	STATE_RUNNING,
	STATE_DONE, /* it came to its end, whatever became of the tensors */
	STATE_FAILED,
	STATE_CANCELLED,
};

struct tally {
	uint64_t count;
	uint64_t bytes;
	struct strbuf examples[JOB_EXAMPLES];
	unsigned int example_count;
};

/* All members are protected by the table's lock, but for `spec`, which does not change
 * while the thread runs, and `thread`, which is the control thread's. */
struct job {
	struct jobs *jobs;
	pthread_t thread;
	bool joinable; /* the thread was started and not joined yet */
	uint64_t id;
	enum job_state state;
	job_fn *run;
	struct job_spec spec;
	bool cancelled;
	const char *error;
	char **unmatched; /* points into spec.patterns */
	size_t unmatched_count;
	uint64_t total_count;
	uint64_t total_bytes;
	uint64_t done_bytes;
	uint64_t cache_bytes;
	bool cache_unknown;
	uint64_t file_bytes;
	struct tally tallies[JOB_OUTCOME_COUNT];
	struct timespec begun;
	struct timespec ended;
};

struct jobs {
	void *context;
	pthread_mutex_t lock; /* protects the rest */
	bool ending;
	uint64_t last_id;
	struct job table[JOBS_KEPT];
};

static const char *const state_names[] = {
	[STATE_FREE] = "free",     [STATE_RUNNING] = "running",     [STATE_DONE] = "done",
	[STATE_FAILED] = "failed", [STATE_CANCELLED] = "cancelled",
};

const char *job_command_name(enum job_command command)
{
	static const char *const names[] = {
		[JOB_PREFETCH] = "prefetch", [JOB_PIN] = "pin",
		[JOB_UNPIN] = "unpin",       [JOB_EVICT] = "evict",
		[JOB_ADVISE] = "advise",     [JOB_PLACE] = "place",
	};

	return names[command];
}

static const char *const outcome_names[] = {
	[JOB_DONE] = "done",           [JOB_ALREADY] = "already", [JOB_SMALL] = "small",
	[JOB_NO_ROOM] = "no_room",     [JOB_DROPPED] = "dropped", [JOB_OPEN] = "open",
	[JOB_UNSUITED] = "unsuited",   [JOB_IN_USE] = "in_use",   [JOB_PINNED] = "pinned",
	[JOB_CHANGED] = "changed",     [JOB_LEFT] = "left",       [JOB_FAILED] = "failed",
	[JOB_CANCELLED] = "cancelled",
};

void job_spec_fini(struct job_spec *spec)
{
	for (size_t i = 0; i < spec->pattern_count; i++)
		free(spec->patterns[i]);
	free(spec->patterns);
	*spec = (struct job_spec){ 0 };
}

static void lock(struct jobs *jobs)
{
	(void)pthread_mutex_lock(&jobs->lock);
}

static void unlock(struct jobs *jobs)
{
	(void)pthread_mutex_unlock(&jobs->lock);
}

/* ---- The table ---- */

static void clear(struct job *job)
{
	for (unsigned int i = 0; i < JOB_OUTCOME_COUNT; i++)
		for (unsigned int j = 0; j < job->tallies[i].example_count; j++)
			strbuf_fini(&job->tallies[i].examples[j]);
	free(job->unmatched);
	job_spec_fini(&job->spec);
	*job = (struct job){ .state = STATE_FREE };
}

/* A place for one more job: a free one, else that of the oldest that is over. NULL if too
 * many are running. */
static struct job *choose_place(struct jobs *jobs)
{
	struct job *place = NULL;
	unsigned int running = 0;

	for (unsigned int i = 0; i < JOBS_KEPT; i++) {
		struct job *job = &jobs->table[i];

		if (job->state == STATE_RUNNING)
			running++;
		else if (!place || job->id < place->id)
			place = job;
	}
	return running < JOBS_RUNNING_MAX ? place : NULL;
}

static struct job *find(struct jobs *jobs, uint64_t id)
{
	for (unsigned int i = 0; i < JOBS_KEPT; i++)
		if (jobs->table[i].state != STATE_FREE && jobs->table[i].id == id)
			return &jobs->table[i];
	return NULL;
}

int jobs_new(void *context, struct jobs **jobs)
{
	struct jobs *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	j->context = context;
	(void)pthread_mutex_init(&j->lock, NULL);
	*jobs = j;
	return 0;
}

void jobs_free(struct jobs *jobs)
{
	if (!jobs)
		return;
	lock(jobs);
	jobs->ending = true;
	unlock(jobs);
	for (unsigned int i = 0; i < JOBS_KEPT; i++) {
		if (jobs->table[i].joinable)
			(void)pthread_join(jobs->table[i].thread, NULL);
		clear(&jobs->table[i]);
	}
	(void)pthread_mutex_destroy(&jobs->lock);
	free(jobs);
}

/* ---- Starting and ending ---- */

static enum job_state final_state(const struct job *job)
{
	if (job->error || job->unmatched_count > 0)
		return STATE_FAILED;
	return job->cancelled || job->jobs->ending ? STATE_CANCELLED : STATE_DONE;
}

static void *run_job(void *argument)
{
	struct job *job = argument;
	struct jobs *jobs = job->jobs;

	job->run(job, jobs->context);
	lock(jobs);
	job->state = final_state(job);
	(void)clock_gettime(CLOCK_MONOTONIC, &job->ended);
	unlock(jobs);
	return NULL;
}

/* Takes a place for the job. The thread that had it before is at its end. */
static struct job *take_place(struct jobs *jobs, struct job_spec *spec, job_fn *run)
{
	struct job *job;

	lock(jobs);
	job = choose_place(jobs);
	if (job) {
		if (job->joinable)
			(void)pthread_join(job->thread, NULL);
		clear(job);
		job->jobs = jobs;
		job->id = ++jobs->last_id;
		job->state = STATE_RUNNING;
		job->run = run;
		job->spec = *spec;
		*spec = (struct job_spec){ 0 };
		(void)clock_gettime(CLOCK_MONOTONIC, &job->begun);
	}
	unlock(jobs);
	return job;
}

int jobs_start(struct jobs *jobs, struct job_spec *spec, job_fn *run, uint64_t *id)
{
	struct job *job = take_place(jobs, spec, run);
	int r;

	job_spec_fini(spec);
	if (!job)
		return -EBUSY;
	*id = job->id;
	r = thread_start(&job->thread, run_job, job);
	job->joinable = r == 0;
	if (r < 0) {
		lock(jobs);
		clear(job);
		unlock(jobs);
	}
	return r;
}

bool jobs_cancel(struct jobs *jobs, uint64_t id)
{
	struct job *job;

	lock(jobs);
	job = find(jobs, id);
	if (job && job->state == STATE_RUNNING)
		job->cancelled = true;
	unlock(jobs);
	return job != NULL;
}

/* ---- Documents ---- */

static void member_u64(struct jsonw *w, const char *key, uint64_t value)
{
	jsonw_key(w, key);
	jsonw_u64(w, value);
}

static void write_strings(struct jsonw *w, const char *key, char *const *strings,
			  size_t count)
{
	jsonw_key(w, key);
	jsonw_begin_array(w);
	for (size_t i = 0; i < count; i++)
		jsonw_string(w, strings[i]);
	jsonw_end_array(w);
}

static void write_spec(const struct job_spec *spec, struct jsonw *w)
{
	jsonw_key(w, "command");
	jsonw_string(w, job_command_name(spec->command));
	if (spec->command == JOB_ADVISE) {
		jsonw_key(w, "advice");
		jsonw_string(w, advice_name(spec->advice));
	}
	write_strings(w, "patterns", spec->patterns, spec->pattern_count);
	jsonw_key(w, "resident");
	jsonw_bool(w, spec->resident);
	jsonw_key(w, "views");
	jsonw_begin_array(w);
	for (unsigned int i = 0; i < VIEW_COUNT; i++)
		if (spec->views[i])
			jsonw_string(w, view_info((enum view)i)->dir);
	jsonw_end_array(w);
}

static void write_tally(const struct tally *tally, struct jsonw *w)
{
	jsonw_begin_object(w);
	member_u64(w, "count", tally->count);
	member_u64(w, "bytes", tally->bytes);
	if (tally->example_count > 0) {
		jsonw_key(w, "examples");
		jsonw_begin_array(w);
		for (unsigned int i = 0; i < tally->example_count; i++)
			jsonw_string_bytes(w, tally->examples[i].data,
					   tally->examples[i].len);
		jsonw_end_array(w);
	}
	jsonw_end_object(w);
}

static double elapsed(const struct job *job)
{
	struct timespec end = job->ended;

	if (job->state == STATE_RUNNING)
		(void)clock_gettime(CLOCK_MONOTONIC, &end);
	return (double)(end.tv_sec - job->begun.tv_sec) +
	       (double)(end.tv_nsec - job->begun.tv_nsec) / 1e9;
}

static void write_job(const struct job *job, struct jsonw *w)
{
	jsonw_begin_object(w);
	member_u64(w, "id", job->id);
	write_spec(&job->spec, w);
	jsonw_key(w, "state");
	jsonw_string(w, state_names[job->state]);
	if (job->error) {
		jsonw_key(w, "error");
		jsonw_string(w, job->error);
	}
	write_strings(w, "unmatched", job->unmatched, job->unmatched_count);
	jsonw_key(w, "elapsed_s");
	jsonw_double(w, elapsed(job), 6);
	member_u64(w, "total_count", job->total_count);
	member_u64(w, "total_bytes", job->total_bytes);
	member_u64(w, "done_bytes", job->done_bytes);
	jsonw_key(w, "cache_bytes");
	if (job->cache_unknown)
		jsonw_null(w);
	else
		jsonw_u64(w, job->cache_bytes);
	member_u64(w, "file_bytes", job->file_bytes);
	jsonw_key(w, "outcomes");
	jsonw_begin_object(w);
	for (unsigned int i = 0; i < JOB_OUTCOME_COUNT; i++) {
		if (job->tallies[i].count == 0)
			continue;
		jsonw_key(w, outcome_names[i]);
		write_tally(&job->tallies[i], w);
	}
	jsonw_end_object(w);
	jsonw_end_object(w);
}

bool jobs_write(struct jobs *jobs, uint64_t id, struct jsonw *w)
{
	const struct job *job;

	lock(jobs);
	job = find(jobs, id);
	if (job)
		write_job(job, w);
	unlock(jobs);
	return job != NULL;
}

void jobs_write_running(struct jobs *jobs, struct jsonw *w)
{
	jsonw_begin_array(w);
	lock(jobs);
	for (unsigned int i = 0; i < JOBS_KEPT; i++)
		if (jobs->table[i].state == STATE_RUNNING)
			write_job(&jobs->table[i], w);
	unlock(jobs);
	jsonw_end_array(w);
}

unsigned int jobs_running(struct jobs *jobs)
{
	unsigned int count = 0;

	lock(jobs);
	for (unsigned int i = 0; i < JOBS_KEPT; i++)
		count += jobs->table[i].state == STATE_RUNNING;
	unlock(jobs);
	return count;
}

/* ---- The job's own thread ---- */

const struct job_spec *job_spec(const struct job *job)
{
	return &job->spec;
}

bool job_should_stop(struct job *job)
{
	bool stop;

	lock(job->jobs);
	stop = job->cancelled || job->jobs->ending;
	unlock(job->jobs);
	return stop;
}

bool job_must_stop(struct job *job)
{
	bool stop;

	lock(job->jobs);
	stop = job->jobs->ending;
	unlock(job->jobs);
	return stop;
}

void job_unmatched(struct job *job, const char *pattern)
{
	struct job_spec *spec = &job->spec;

	lock(job->jobs);
	if (!job->unmatched)
		job->unmatched = calloc(spec->pattern_count, sizeof(char *));
	if (!job->unmatched)
		job->error = "out of memory";
	for (size_t i = 0; job->unmatched && i < spec->pattern_count; i++)
		if (spec->patterns[i] == pattern)
			job->unmatched[job->unmatched_count++] = spec->patterns[i];
	unlock(job->jobs);
}

void job_fail(struct job *job, const char *error)
{
	lock(job->jobs);
	job->error = error;
	unlock(job->jobs);
}

void job_expect(struct job *job, uint64_t count, uint64_t bytes)
{
	lock(job->jobs);
	job->total_count = count;
	job->total_bytes = bytes;
	unlock(job->jobs);
}

static void add(struct job *job, uint64_t *counter, uint64_t bytes)
{
	lock(job->jobs);
	*counter += bytes;
	unlock(job->jobs);
}

void job_advance(struct job *job, uint64_t bytes)
{
	add(job, &job->done_bytes, bytes);
}

void job_count_cache(struct job *job, uint64_t bytes)
{
	add(job, &job->cache_bytes, bytes);
}

void job_cache_unknown(struct job *job)
{
	lock(job->jobs);
	job->cache_unknown = true;
	unlock(job->jobs);
}

void job_count_file(struct job *job, uint64_t bytes)
{
	add(job, &job->file_bytes, bytes);
}

static void add_example(struct tally *tally, const struct tensor *tensor)
{
	struct strbuf *example = &tally->examples[tally->example_count];

	strbuf_init(example);
	strbuf_add(example, tensor->name, tensor->name_len);
	if (example->err)
		strbuf_fini(example);
	else
		tally->example_count++;
}

void job_count(struct job *job, enum job_outcome outcome, uint64_t bytes,
	       const struct tensor *tensor)
{
	struct tally *tally = &job->tallies[outcome];

	lock(job->jobs);
	tally->count++;
	tally->bytes += bytes;
	if (outcome > JOB_SMALL && tally->example_count < JOB_EXAMPLES)
		add_example(tally, tensor);
	unlock(job->jobs);
}
