/* The table of jobs: how many there may be, how long they are kept, what they say. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "jobs.h"
#include "unit.h"

/* What the jobs of these tests look at. */
struct stage {
	atomic_bool open; /* jobs that wait may end */
	atomic_int seen;  /* jobs that began */
};

static struct stage stage;
static struct jobs *jobs;

static void make_jobs(void)
{
	atomic_store(&stage.open, false);
	atomic_store(&stage.seen, 0);
	ck_assert_int_eq(jobs_new(&stage, &jobs), 0);
}

static void free_jobs(void)
{
	jobs_free(jobs);
}

static void pause_briefly(void)
{
	const struct timespec moment = { .tv_nsec = 1000000 };

	(void)nanosleep(&moment, NULL);
}

/* The functions that jobs run. */

static void end_at_once(struct job *job, void *context)
{
	struct stage *s = context;

	(void)job;
	(void)atomic_fetch_add(&s->seen, 1);
}

static void wait_for_curtain(struct job *job, void *context)
{
	struct stage *s = context;

	(void)atomic_fetch_add(&s->seen, 1);
	while (!atomic_load(&s->open) && !job_should_stop(job))
		pause_briefly();
}

static void count_things(struct job *job, void *context)
{
	static const char names[] = "first\0second";
	const struct tensor first = { .name = names, .name_len = 5 };
	const struct tensor second = { .name = names + 6, .name_len = 6 };

	(void)context;
	job_expect(job, 7, 700);
	job_count(job, JOB_DONE, 100, &first);
	job_count(job, JOB_SMALL, 1, &first);
	for (int i = 0; i < 5; i++)
		job_count(job, JOB_IN_USE, 10, &second);
	job_advance(job, 151);
	job_count_cache(job, 30);
	job_count_file(job, 40);
}

static void match_nothing(struct job *job, void *context)
{
	(void)context;
	job_unmatched(job, job_spec(job)->patterns[1]);
}

static void give_up(struct job *job, void *context)
{
	(void)context;
	job_fail(job, "out of memory");
}

/* ---- Help ---- */

static struct job_spec spec_of(const char *first, const char *second)
{
	struct job_spec spec = { .command = JOB_EVICT, .pattern_count = 2 };

	spec.patterns = calloc(2, sizeof(char *));
	ck_assert_ptr_nonnull(spec.patterns);
	spec.patterns[0] = strdup(first);
	spec.patterns[1] = strdup(second);
	spec.views[VIEW_NPY] = true;
	return spec;
}

static int start(job_fn *run, uint64_t *id)
{
	struct job_spec spec = spec_of("a*", "b*");

	return jobs_start(jobs, &spec, run, id);
}

static uint64_t start_one(job_fn *run)
{
	uint64_t id = 0;

	ck_assert_int_eq(start(run, &id), 0);
	ck_assert_uint_gt(id, 0);
	return id;
}

/* The document of a job; the caller frees. */
static char *document(uint64_t id)
{
	struct strbuf text = { 0 };
	struct jsonw w;

	jsonw_init(&w, &text);
	ck_assert(jobs_write(jobs, id, &w));
	return strbuf_steal(&text);
}

static bool says(uint64_t id, const char *words)
{
	CLEANUP(free_ptr) char *text = document(id);

	return strstr(text, words) != NULL;
}

static void wait_until_over(uint64_t id)
{
	while (says(id, "\"state\":\"running\""))
		pause_briefly();
}

static void expect(uint64_t id, const char *words)
{
	CLEANUP(free_ptr) char *text = NULL;

	wait_until_over(id);
	text = document(id);
	ck_assert_msg(strstr(text, words) != NULL, "%s is not in %s", words, text);
}

/* ---- Tests ---- */

START_TEST(a_job_runs_and_is_done)
{
	uint64_t id = start_one(end_at_once);

	expect(id, "\"state\":\"done\"");
	ck_assert_int_eq(atomic_load(&stage.seen), 1);
}
END_TEST

START_TEST(a_job_says_what_was_asked_for)
{
	uint64_t id = start_one(end_at_once);

	expect(id, "\"command\":\"evict\",\"patterns\":[\"a*\",\"b*\"],"
		   "\"resident\":false,\"views\":[\"npy\"]");
}
END_TEST

START_TEST(what_it_counts_is_in_the_document)
{
	uint64_t id = start_one(count_things);

	expect(id, "\"total_count\":7,\"total_bytes\":700,\"done_bytes\":151,"
		   "\"cache_bytes\":30,\"file_bytes\":40");
	expect(id, "\"done\":{\"count\":1,\"bytes\":100}");
	expect(id, "\"small\":{\"count\":1,\"bytes\":1}");
	ck_assert(!says(id, "pinned"));
}
END_TEST

START_TEST(only_the_first_names_of_what_went_wrong_are_kept)
{
	uint64_t id = start_one(count_things);

	expect(id, "\"in_use\":{\"count\":5,\"bytes\":50,"
		   "\"examples\":[\"second\",\"second\",\"second\"]}");
	ck_assert(!says(id, "\"first\""));
}
END_TEST

START_TEST(a_pattern_without_a_match_is_a_failure)
{
	uint64_t id = start_one(match_nothing);

	expect(id, "\"state\":\"failed\",\"unmatched\":[\"b*\"]");
}
END_TEST

START_TEST(a_failure_has_its_words)
{
	expect(start_one(give_up), "\"state\":\"failed\",\"error\":\"out of memory\"");
}
END_TEST

START_TEST(a_cancelled_job_ends_and_says_so)
{
	uint64_t id = start_one(wait_for_curtain);

	ck_assert(says(id, "\"state\":\"running\""));
	ck_assert(jobs_cancel(jobs, id));
	expect(id, "\"state\":\"cancelled\"");
}
END_TEST

START_TEST(a_job_that_is_over_is_not_cancelled_any_more)
{
	uint64_t id = start_one(end_at_once);

	wait_until_over(id);
	ck_assert(jobs_cancel(jobs, id));
	expect(id, "\"state\":\"done\"");
}
END_TEST

START_TEST(unknown_numbers_are_refused)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct jsonw w;

	jsonw_init(&w, &text);
	ck_assert(!jobs_cancel(jobs, 1));
	ck_assert(!jobs_write(jobs, 0, &w));
	ck_assert_uint_eq(text.len, 0);
}
END_TEST

START_TEST(only_so_many_run_at_a_time)
{
	uint64_t id = 0;
	uint64_t first = start_one(wait_for_curtain);

	for (unsigned int i = 1; i < JOBS_RUNNING_MAX; i++)
		(void)start_one(wait_for_curtain);
	ck_assert_int_eq(start(end_at_once, &id), -EBUSY);
	ck_assert_uint_eq(id, 0);
	ck_assert(jobs_cancel(jobs, first));
	wait_until_over(first);
	ck_assert_int_eq(start(end_at_once, &id), 0);
}
END_TEST

START_TEST(running_jobs_are_listed_and_others_are_not)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	uint64_t running = start_one(wait_for_curtain);
	struct jsonw w;
	char want[32];

	wait_until_over(start_one(end_at_once));
	jsonw_init(&w, &text);
	jobs_write_running(jobs, &w);
	(void)snprintf(want, sizeof(want), "[{\"id\":%llu,", (unsigned long long)running);
	ck_assert_int_eq(strncmp(text.data, want, strlen(want)), 0);
	ck_assert_ptr_null(strstr(text.data, "\"state\":\"done\""));
	ck_assert_uint_eq(jobs_running(jobs), 1);
}
END_TEST

/* The running one stays, and so do the newest. */
START_TEST(the_oldest_that_is_over_makes_place)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	uint64_t running = start_one(wait_for_curtain);
	uint64_t first = start_one(end_at_once);
	uint64_t last;
	struct jsonw w;

	wait_until_over(first);
	for (unsigned int i = 2; i < JOBS_KEPT; i++)
		wait_until_over(start_one(end_at_once));
	ck_assert(says(first, "\"state\":\"done\""));
	last = start_one(end_at_once);
	jsonw_init(&w, &text);
	ck_assert(!jobs_write(jobs, first, &w));
	ck_assert(says(running, "\"state\":\"running\""));
	expect(last, "\"state\":\"done\"");
	expect(first + 1, "\"state\":\"done\"");
}
END_TEST

START_TEST(the_end_stops_what_runs)
{
	(void)start_one(wait_for_curtain);
	(void)start_one(wait_for_curtain);
	jobs_free(jobs);
	jobs = NULL;
}
END_TEST

static TCase *jobs_case(void)
{
	TCase *t = tcase_create("jobs");

	tcase_add_checked_fixture(t, make_jobs, free_jobs);
	tcase_add_test(t, a_job_runs_and_is_done);
	tcase_add_test(t, a_job_says_what_was_asked_for);
	tcase_add_test(t, what_it_counts_is_in_the_document);
	tcase_add_test(t, only_the_first_names_of_what_went_wrong_are_kept);
	tcase_add_test(t, a_pattern_without_a_match_is_a_failure);
	tcase_add_test(t, a_failure_has_its_words);
	tcase_add_test(t, a_cancelled_job_ends_and_says_so);
	tcase_add_test(t, a_job_that_is_over_is_not_cancelled_any_more);
	tcase_add_test(t, unknown_numbers_are_refused);
	tcase_add_test(t, only_so_many_run_at_a_time);
	tcase_add_test(t, running_jobs_are_listed_and_others_are_not);
	tcase_add_test(t, the_oldest_that_is_over_makes_place);
	tcase_add_test(t, the_end_stops_what_runs);
	return t;
}

UNIT_MAIN("jobs", jobs_case)
