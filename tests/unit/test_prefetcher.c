/* What the prefetcher asks the kernel for, in which order, and when it leaves off. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "memory_files.h"
#include "prefetcher.h"
#include "unit.h"

#define TENSORS 6u
#define NBYTES  (8 * MIB)
#define PIECES  (NBYTES / PREFETCHER_PIECE)

static struct served *served;
static struct prefetcher *prefetcher;

/* The kernel's page cache: which pieces of which tensors it has, and what it was asked
 * for, in that order. */
static struct {
	pthread_mutex_t lock; /* protects the rest */
	pthread_cond_t changed;
	bool cached[TENSORS][PIECES];
	uint32_t asked[1024]; /* tensors */
	unsigned int asked_count;
	bool is_held; /* who asks waits */
	bool is_slow; /* who asks waits for a moment */
	int held;     /* so many do */
	int count_error;
} kernel = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void wait_a_moment(void)
{
	const struct timespec moment = { .tv_nsec = 1000000 };

	(void)nanosleep(&moment, NULL);
}

static uint64_t begin_of(unsigned int tensor)
{
	return model_tensor(served->model, tensor)->offset;
}

static int fake_count(const struct source_file *file, uint64_t from, uint64_t len,
		      uint64_t *bytes)
{
	uint64_t at = from - begin_of(0);
	int r;

	(void)file;
	*bytes = 0;
	(void)pthread_mutex_lock(&kernel.lock);
	for (uint64_t end = at + len; at < end; at += PREFETCHER_PIECE)
		if (kernel.cached[at / NBYTES][at % NBYTES / PREFETCHER_PIECE])
			*bytes += PREFETCHER_PIECE;
	r = kernel.count_error;
	(void)pthread_mutex_unlock(&kernel.lock);
	return r;
}

static void fake_ask(const struct source_file *file, uint64_t from, uint64_t len)
{
	uint64_t at = from - begin_of(0);

	(void)file;
	ck_assert_uint_le(len, PREFETCHER_PIECE);
	if (kernel.is_slow)
		wait_a_moment();
	(void)pthread_mutex_lock(&kernel.lock);
	kernel.held++;
	(void)pthread_cond_broadcast(&kernel.changed);
	while (kernel.is_held)
		(void)pthread_cond_wait(&kernel.changed, &kernel.lock);
	kernel.held--;
	kernel.cached[at / NBYTES][at % NBYTES / PREFETCHER_PIECE] = true;
	if (kernel.asked_count < ARRAY_LEN(kernel.asked))
		kernel.asked[kernel.asked_count++] = (uint32_t)(at / NBYTES);
	(void)pthread_mutex_unlock(&kernel.lock);
}

static void fake_drop(const struct source_file *file, uint64_t from, uint64_t len)
{
	(void)file;
	ck_assert_uint_eq(len, NBYTES);
	(void)pthread_mutex_lock(&kernel.lock);
	memset(kernel.cached[(from - begin_of(0)) / NBYTES], false, PIECES);
	(void)pthread_mutex_unlock(&kernel.lock);
}

static const struct prefetcher_cache fake_cache = { .drop = fake_drop,
						    .count = fake_count,
						    .ask = fake_ask };

/* The bytes of tensors are a hole: nobody reads them. */
static void write_model(void)
{
	struct strbuf json = { 0 };

	for (unsigned int i = 0; i < TENSORS; i++)
		strbuf_addf(&json,
			    "%s\"t%u\":{\"dtype\":\"U8\",\"shape\":[%llu],"
			    "\"data_offsets\":[%llu,%llu]}",
			    i > 0 ? "," : "{", i, (unsigned long long)NBYTES,
			    (unsigned long long)(i * NBYTES),
			    (unsigned long long)((i + 1) * NBYTES));
	strbuf_add_char(&json, '}');
	model_dir_write_safetensors("m.safetensors", json.data, 0);
	ck_assert_int_eq(truncate(model_dir_path("m.safetensors"),
				  (off_t)(8 + json.len + TENSORS * NBYTES)),
			 0);
	strbuf_fini(&json);
}

static bool drop_unread;

static void make_prefetcher(uint64_t ahead_max)
{
	struct memory_roots roots = memory_files_roots();
	const struct prefetcher_setup setup = { .served = served,
						.roots = &roots,
						.cache = &fake_cache,
						.ahead_max = ahead_max,
						.drop_unread = drop_unread };

	ck_assert_int_eq(prefetcher_new(&setup, &prefetcher), 0);
}

static void set_up(void)
{
	struct diag diag;

	model_dir_make();
	memory_files_machine(64 * GIB, 32 * GIB);
	write_model();
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &served, &diag), 0);
	memset(kernel.cached, 0, sizeof(kernel.cached));
	kernel.asked_count = 0;
	drop_unread = false;
	kernel.is_held = false;
	kernel.is_slow = false;
	kernel.count_error = 0;
}

static void tear_down(void)
{
	prefetcher_free(prefetcher);
	prefetcher = NULL;
	served_free(served);
	model_dir_remove();
}

static struct prefetcher_summary summary(void)
{
	struct prefetcher_summary sums;

	prefetcher_summarise(prefetcher, &sums);
	return sums;
}

static uint64_t queued(void)
{
	struct prefetcher_summary sums = summary();

	return sums.queued[PREFETCH_WANTED] + sums.queued[PREFETCH_PREDICTED] +
	       sums.queued[PREFETCH_ASKED];
}

static unsigned int asked_count(void)
{
	unsigned int count;

	(void)pthread_mutex_lock(&kernel.lock);
	count = kernel.asked_count;
	(void)pthread_mutex_unlock(&kernel.lock);
	return count;
}

static void wait_for_pieces(unsigned int count)
{
	for (unsigned int i = 0; i < 20000 && asked_count() < count; i++)
		wait_a_moment();
	ck_assert_uint_eq(asked_count(), count);
}

static void hold(bool is_held)
{
	(void)pthread_mutex_lock(&kernel.lock);
	kernel.is_held = is_held;
	(void)pthread_cond_broadcast(&kernel.changed);
	(void)pthread_mutex_unlock(&kernel.lock);
}

/* Until a thread waits for the kernel. */
static void wait_for_held(void)
{
	(void)pthread_mutex_lock(&kernel.lock);
	while (kernel.held == 0)
		(void)pthread_cond_wait(&kernel.changed, &kernel.lock);
	(void)pthread_mutex_unlock(&kernel.lock);
}

static void start(unsigned int threads)
{
	ck_assert_int_eq(prefetcher_start(prefetcher, threads), 0);
}

static void ask(uint32_t tensor, enum prefetch_priority priority)
{
	ck_assert_int_eq(prefetcher_ask(prefetcher, tensor, priority), 0);
}

/* The tensors of all pieces so far are these, PIECES times each, in this order. */
static void expect_order(const uint32_t *tensors, unsigned int count)
{
	wait_for_pieces(count * PIECES);
	for (unsigned int i = 0; i < count * PIECES; i++)
		ck_assert_uint_eq(kernel.asked[i], tensors[i / PIECES]);
}

START_TEST(the_most_urgent_goes_first_and_others_in_their_order)
{
	static const uint32_t order[] = { 4, 2, 3, 0, 1 };

	make_prefetcher(GIB);
	ask(0, PREFETCH_ASKED);
	ask(1, PREFETCH_ASKED);
	ask(2, PREFETCH_PREDICTED);
	ask(3, PREFETCH_PREDICTED);
	ask(4, PREFETCH_WANTED);
	start(1);
	expect_order(order, ARRAY_LEN(order));
	ck_assert_uint_eq(queued(), 0);
}
END_TEST

START_TEST(what_comes_later_and_is_more_urgent_goes_between_two_pieces)
{
	make_prefetcher(GIB);
	hold(true);
	ask(0, PREFETCH_ASKED);
	start(1);
	wait_for_held();
	ask(1, PREFETCH_PREDICTED);
	hold(false);
	wait_for_pieces(2 * PIECES);
	ck_assert_uint_eq(kernel.asked[0], 0);
	for (unsigned int i = 1; i <= PIECES; i++)
		ck_assert_uint_eq(kernel.asked[i], 1);
}
END_TEST

START_TEST(what_is_opened_or_read_while_it_is_queued_becomes_wanted)
{
	static const uint32_t order[] = { 2, 1, 0 };

	make_prefetcher(GIB);
	ask(0, PREFETCH_PREDICTED);
	ask(1, PREFETCH_PREDICTED);
	ask(2, PREFETCH_ASKED);
	prefetcher_note_use(prefetcher, 2, 0);
	prefetcher_note_use(prefetcher, 1, 4096);
	prefetcher_note_use(prefetcher, 5, 4096);
	ck_assert_uint_eq(summary().queued[PREFETCH_WANTED], 2);
	start(1);
	expect_order(order, ARRAY_LEN(order));
}
END_TEST

START_TEST(only_what_was_predicted_is_withdrawn)
{
	make_prefetcher(GIB);
	ask(0, PREFETCH_PREDICTED);
	ask(1, PREFETCH_ASKED);
	ask(2, PREFETCH_PREDICTED);
	prefetcher_note_use(prefetcher, 2, 0);
	for (uint32_t i = 0; i < TENSORS; i++)
		prefetcher_withdraw(prefetcher, i);
	ck_assert_uint_eq(summary().queued[PREFETCH_PREDICTED], 0);
	ck_assert_uint_eq(summary().queued[PREFETCH_WANTED], 1);
	ck_assert_uint_eq(queued(), 2);
	ck_assert_uint_eq(summary().called_off, 1);
}
END_TEST

START_TEST(to_ask_again_makes_more_urgent_but_never_less)
{
	make_prefetcher(GIB);
	ask(0, PREFETCH_ASKED);
	ck_assert_int_eq(prefetcher_ask(prefetcher, 0, PREFETCH_ASKED), -EALREADY);
	ask(0, PREFETCH_PREDICTED);
	ck_assert_int_eq(prefetcher_ask(prefetcher, 0, PREFETCH_ASKED), -EALREADY);
	ck_assert_uint_eq(summary().queued[PREFETCH_PREDICTED], 1);
	ck_assert_uint_eq(queued(), 1);
}
END_TEST

START_TEST(what_is_cached_is_not_asked_for)
{
	make_prefetcher(GIB);
	memset(kernel.cached[0], true, sizeof(kernel.cached[0]));
	kernel.cached[1][1] = true;
	ck_assert_int_eq(prefetcher_ask(prefetcher, 0, PREFETCH_WANTED), -EALREADY);
	ask(1, PREFETCH_WANTED);
	start(2);
	wait_for_pieces(PIECES - 1);
	ck_assert_uint_eq(summary().asked_bytes, NBYTES - PREFETCHER_PIECE);
	ck_assert_uint_eq(summary().cached_bytes, PREFETCHER_PIECE);
}
END_TEST

START_TEST(where_the_kernel_does_not_tell_all_is_asked_for)
{
	make_prefetcher(GIB);
	memset(kernel.cached[0], true, sizeof(kernel.cached[0]));
	kernel.count_error = -EPERM;
	ask(0, PREFETCH_PREDICTED);
	start(1);
	wait_for_pieces(PIECES);
}
END_TEST

START_TEST(no_more_is_ahead_than_readers_are_given)
{
	make_prefetcher(NBYTES + PREFETCHER_PIECE);
	start(2);
	ask(0, PREFETCH_PREDICTED);
	wait_for_pieces(PIECES);
	ask(1, PREFETCH_PREDICTED);
	for (unsigned int i = 0; i < 100; i++)
		wait_a_moment();
	/* Each thread may have taken a piece before the other's was counted. */
	ck_assert_uint_le(asked_count(), PIECES + 2);
	ck_assert_int_eq(prefetcher_ask(prefetcher, 2, PREFETCH_PREDICTED), -ENOSPC);
	prefetcher_note_use(prefetcher, 0, NBYTES);
	wait_for_pieces(2 * PIECES);
	ck_assert_uint_eq(summary().ahead, NBYTES);
}
END_TEST

START_TEST(what_people_ask_for_is_not_held_up_by_what_is_ahead)
{
	make_prefetcher(PREFETCHER_PIECE);
	start(1);
	ask(0, PREFETCH_PREDICTED);
	wait_for_pieces(1);
	ask(1, PREFETCH_ASKED);
	wait_for_pieces(1 + PIECES);
	ck_assert_uint_eq(kernel.asked[PIECES], 1);
	ck_assert_uint_eq(summary().ahead, PREFETCHER_PIECE);
}
END_TEST

START_TEST(reading_more_than_was_brought_in_takes_nothing_from_others)
{
	make_prefetcher(GIB);
	start(1);
	ask(0, PREFETCH_PREDICTED);
	ask(1, PREFETCH_PREDICTED);
	wait_for_pieces(2 * PIECES);
	prefetcher_note_use(prefetcher, 0, 100 * NBYTES);
	prefetcher_note_use(prefetcher, 0, NBYTES);
	ck_assert_uint_eq(summary().ahead, NBYTES);
	prefetcher_forget(prefetcher, 1);
	ck_assert_uint_eq(summary().ahead, 0);
}
END_TEST

START_TEST(what_the_kernel_gave_up_and_is_brought_in_again_counts_once)
{
	make_prefetcher(GIB);
	start(1);
	for (unsigned int i = 1; i <= 3; i++) {
		memset(kernel.cached[0], false, sizeof(kernel.cached[0]));
		ask(0, PREFETCH_PREDICTED);
		wait_for_pieces(i * PIECES);
	}
	ck_assert_uint_eq(summary().ahead, NBYTES);
}
END_TEST

/* A reader that does not come: what is ahead of it must not keep others from theirs for
 * ever. */
START_TEST(what_nobody_reads_for_long_is_written_off)
{
	make_prefetcher(NBYTES);
	start(1);
	ask(0, PREFETCH_PREDICTED);
	wait_for_pieces(PIECES);
	ck_assert_int_eq(prefetcher_ask(prefetcher, 1, PREFETCH_PREDICTED), -ENOSPC);
	for (unsigned int i = 0;
	     i < 20000 && prefetcher_ask(prefetcher, 1, PREFETCH_PREDICTED) != 0; i++)
		wait_a_moment();
	wait_for_pieces(2 * PIECES);
	ck_assert_uint_eq(summary().ahead, NBYTES);
}
END_TEST

START_TEST(what_is_queued_behind_readers_that_stay_away_is_called_off)
{
	make_prefetcher(NBYTES / 2);
	start(1);
	ask(0, PREFETCH_PREDICTED);
	for (unsigned int i = 0; i < 20000 && queued() > 0; i++)
		wait_a_moment();
	ck_assert_uint_eq(asked_count(), PIECES / 2);
	ck_assert_uint_eq(summary().called_off, 1);
	ck_assert_uint_eq(summary().ahead, 0);
}
END_TEST

START_TEST(what_nobody_reads_is_dropped_where_nothing_is_to_stay)
{
	drop_unread = true;
	make_prefetcher(GIB);
	start(2);
	ask(0, PREFETCH_PREDICTED);
	ask(1, PREFETCH_PREDICTED);
	wait_for_pieces(2 * PIECES);
	prefetcher_note_use(prefetcher, 1, NBYTES);
	for (unsigned int i = 0; i < 20000 && summary().ahead > 0; i++)
		wait_a_moment();
	ck_assert(!kernel.cached[0][0]);
	/* That is for whoever has read it to drop. */
	ck_assert(kernel.cached[1][0]);
}
END_TEST

/* Looks are a moment apart. */
static void let_it_look(void)
{
	const struct timespec moment = { .tv_nsec = 100000000 };

	(void)nanosleep(&moment, NULL);
}

START_TEST(while_memory_is_short_nothing_is_brought_in_ahead)
{
	make_prefetcher(GIB);
	memory_files_machine(64 * GIB, GIB);
	ck_assert_int_eq(prefetcher_ask(prefetcher, 0, PREFETCH_PREDICTED), -ENOSPC);
	ck_assert_int_eq(prefetcher_ask(prefetcher, 0, PREFETCH_ASKED), -ENOSPC);
	ck_assert_uint_eq(queued(), 0);
}
END_TEST

START_TEST(what_is_queued_when_memory_runs_short_is_called_off)
{
	make_prefetcher(GIB);
	hold(true);
	ask(0, PREFETCH_PREDICTED);
	ask(1, PREFETCH_ASKED);
	start(1);
	wait_for_held();
	memory_files_machine(64 * GIB, GIB);
	let_it_look();
	hold(false);
	for (unsigned int i = 0; i < 20000 && queued() > 0; i++)
		wait_a_moment();
	ck_assert_uint_eq(summary().called_off, 2);
	ck_assert_uint_lt(asked_count(), 2 * PIECES);
}
END_TEST

START_TEST(people_may_ask_for_what_fits_the_memory_in_all)
{
	/* A tenth is reserve: 32 MiB are spare. */
	memory_files_machine(256 * MIB, 64 * MIB + 20 * MIB);
	make_prefetcher(GIB);
	ask(0, PREFETCH_ASKED);
	ask(1, PREFETCH_ASKED);
	ck_assert_int_eq(prefetcher_ask(prefetcher, 2, PREFETCH_ASKED), -ENOSPC);
}
END_TEST

START_TEST(a_job_waits_a_moment_for_what_is_more_urgent_and_no_longer)
{
	const struct source_file *file = &served->source->files[0];

	make_prefetcher(GIB);
	ask(0, PREFETCH_PREDICTED);
	/* There are no threads: it would wait for ever. */
	prefetcher_ask_piece(prefetcher, file, begin_of(1), PREFETCHER_PIECE);
	prefetcher_ask_piece(prefetcher, file, begin_of(1), PREFETCHER_PIECE);
	ck_assert_uint_eq(asked_count(), 1);
	ck_assert_uint_eq(summary().cached_bytes, PREFETCHER_PIECE);
	ck_assert_uint_eq(summary().ahead, 0);
}
END_TEST

START_TEST(the_end_does_not_wait_for_what_is_queued)
{
	make_prefetcher(GIB);
	hold(true);
	kernel.is_slow = true;
	for (uint32_t i = 0; i < TENSORS; i++)
		ask(i, PREFETCH_ASKED);
	start(2);
	wait_for_held();
	hold(false);
	prefetcher_free(prefetcher);
	prefetcher = NULL;
	ck_assert_uint_lt(asked_count(), TENSORS * PIECES);
}
END_TEST

START_TEST(without_a_prefetcher_nothing_happens)
{
	ck_assert_int_eq(prefetcher_ask(NULL, 0, PREFETCH_WANTED), -EOPNOTSUPP);
	prefetcher_note_use(NULL, 0, 1);
	prefetcher_forget(NULL, 0);
	prefetcher_withdraw(NULL, 0);
	prefetcher_ask_piece(NULL, &served->source->files[0], 0, 1);
	ck_assert_uint_eq(queued(), 0);
}
END_TEST

/* ---- Many at once ---- */

static void *read_and_ask(void *argument)
{
	const uint32_t *first = argument;

	for (unsigned int i = 0; i < 3000; i++) {
		uint32_t tensor = (*first + i) % TENSORS;

		(void)!prefetcher_ask(
			prefetcher, tensor,
			(enum prefetch_priority)(i % PREFETCH_PRIORITY_COUNT));
		prefetcher_note_use(prefetcher, tensor, i % 7 * MIB);
		if (i % 11 == 0)
			prefetcher_forget(prefetcher, tensor);
		if (i % 5 == 0) {
			(void)pthread_mutex_lock(&kernel.lock);
			memset(kernel.cached[tensor], false, PIECES);
			(void)pthread_mutex_unlock(&kernel.lock);
		}
		(void)summary();
	}
	return NULL;
}

static void read_all(void)
{
	for (uint32_t tensor = 0; tensor < TENSORS; tensor++)
		prefetcher_note_use(prefetcher, tensor, NBYTES);
}

START_TEST(threads_that_ask_read_and_forget_leave_nothing_counted)
{
	static uint32_t firsts[] = { 0, 2, 4 };
	pthread_t threads[ARRAY_LEN(firsts)];

	make_prefetcher(2 * NBYTES);
	start(3);
	for (size_t i = 0; i < ARRAY_LEN(firsts); i++)
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, read_and_ask, &firsts[i]), 0);
	for (size_t i = 0; i < ARRAY_LEN(firsts); i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (unsigned int i = 0; i < 20000 && queued() > 0; i++) {
		read_all();
		wait_a_moment();
	}
	let_it_look();
	read_all();
	ck_assert_uint_eq(queued(), 0);
	ck_assert_uint_eq(summary().ahead, 0);
}
END_TEST

static TCase *prefetcher_case(void)
{
	TCase *t = tcase_create("prefetcher");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, the_most_urgent_goes_first_and_others_in_their_order);
	tcase_add_test(t, what_comes_later_and_is_more_urgent_goes_between_two_pieces);
	tcase_add_test(t, what_is_opened_or_read_while_it_is_queued_becomes_wanted);
	tcase_add_test(t, only_what_was_predicted_is_withdrawn);
	tcase_add_test(t, to_ask_again_makes_more_urgent_but_never_less);
	tcase_add_test(t, what_is_cached_is_not_asked_for);
	tcase_add_test(t, where_the_kernel_does_not_tell_all_is_asked_for);
	tcase_add_test(t, no_more_is_ahead_than_readers_are_given);
	tcase_add_test(t, what_people_ask_for_is_not_held_up_by_what_is_ahead);
	tcase_add_test(t, reading_more_than_was_brought_in_takes_nothing_from_others);
	tcase_add_test(t, what_the_kernel_gave_up_and_is_brought_in_again_counts_once);
	tcase_add_test(t, what_nobody_reads_for_long_is_written_off);
	tcase_add_test(t, what_is_queued_behind_readers_that_stay_away_is_called_off);
	tcase_add_test(t, what_nobody_reads_is_dropped_where_nothing_is_to_stay);
	tcase_add_test(t, while_memory_is_short_nothing_is_brought_in_ahead);
	tcase_add_test(t, what_is_queued_when_memory_runs_short_is_called_off);
	tcase_add_test(t, people_may_ask_for_what_fits_the_memory_in_all);
	tcase_add_test(t, a_job_waits_a_moment_for_what_is_more_urgent_and_no_longer);
	tcase_add_test(t, the_end_does_not_wait_for_what_is_queued);
	tcase_add_test(t, without_a_prefetcher_nothing_happens);
	tcase_add_test(t, threads_that_ask_read_and_forget_leave_nothing_counted);
	return t;
}

UNIT_MAIN("prefetcher", prefetcher_case)
