/* The table of who reads a file in order. */
#include <pthread.h>
#include <string.h>

#include "readers.h"
#include "unit.h"

#define KIB    ((uint64_t)1024)
#define MIB    (1024 * KIB)
#define READ   (512 * KIB)
#define SLACK  (8 * MIB)
#define WANTED (16 * MIB)

static struct readers readers;

static void start(void)
{
	memset(&readers, 0, sizeof(readers));
	readers_tune(&readers, SLACK, WANTED);
}

static bool read_at(uint64_t ino, uint64_t offset)
{
	return readers_note(&readers, ino, offset, READ);
}

/* Reads in order until that is of interest, or `most` bytes; how many it took. */
static uint64_t read_in_order(uint64_t ino, uint64_t from, uint64_t most)
{
	uint64_t done = 0;

	while (done < most) {
		bool interesting = read_at(ino, from + done);

		done += READ;
		if (interesting)
			break;
	}
	return done;
}

static int slot_of(uint64_t ino)
{
	for (unsigned int i = 0; i < READERS_MAX; i++)
		if (readers_look(&readers, i).ino == ino)
			return (int)i;
	return -1;
}

static struct reader_run run_of(uint64_t ino)
{
	int slot = slot_of(ino);

	ck_assert_int_ge(slot, 0);
	return readers_look(&readers, (unsigned int)slot);
}

START_TEST(a_reader_in_order_is_of_interest_when_the_run_is_long_enough)
{
	struct reader_run run;

	ck_assert_uint_eq(read_in_order(7, 3 * MIB, 64 * MIB), WANTED);
	run = run_of(7);
	ck_assert_uint_eq(run.start, 3 * MIB);
	ck_assert_uint_eq(run.next, 3 * MIB + WANTED);
	ck_assert(reader_run_is_dense(&run));
}
END_TEST

/* Eight READs at a time, each group from its last to its first. */
START_TEST(reads_out_of_order_are_still_a_run)
{
	bool interesting = false;
	struct reader_run run;

	for (uint64_t group = 0; group < 8; group++)
		for (uint64_t i = 8; i-- > 0;)
			interesting |= read_at(7, (group * 8 + i) * READ);
	ck_assert(interesting);
	run = run_of(7);
	ck_assert_uint_eq(run.next, 64 * READ);
	/* What came before the first to be noted is no part of the run. */
	ck_assert_uint_eq(run.start, 7 * READ);
	ck_assert(reader_run_is_dense(&run));
}
END_TEST

START_TEST(a_reader_going_backwards_is_of_no_interest)
{
	for (uint64_t i = 400; i-- > 0;)
		ck_assert(!read_at(7, i * READ));
}
END_TEST

/* Eight READs around each place, as a touch of a mapping makes the kernel send. */
START_TEST(a_random_reader_is_of_no_interest)
{
	uint64_t state = 1;

	for (int touch = 0; touch < 1000; touch++) {
		uint64_t at;

		state = state * 6364136223846793005u + 1442695040888963407u;
		at = (state >> 33) % 1000 * 4 * MIB;
		for (uint64_t i = 0; i < 8; i++)
			ck_assert(!read_at(7, at + i * READ));
	}
}
END_TEST

START_TEST(a_look_elsewhere_does_not_end_a_run)
{
	(void)read_in_order(7, 0, WANTED / 2);
	for (uint64_t i = 0; i < 8; i++)
		ck_assert(!read_at(7, 900 * MIB + i * READ));
	ck_assert_uint_eq(read_in_order(7, WANTED / 2, WANTED), WANTED / 2);
}
END_TEST

START_TEST(a_reader_that_goes_on_elsewhere_begins_another_run)
{
	(void)read_in_order(7, 0, 64 * MIB);
	/* It takes some READs to see that it is not just a look. */
	ck_assert_uint_eq(read_in_order(7, 900 * MIB, 64 * MIB), WANTED + 16 * READ);
	ck_assert_uint_eq(run_of(7).start, 900 * MIB + 16 * READ);
}
END_TEST

START_TEST(what_was_read_with_large_gaps_is_not_dense)
{
	struct reader_run run;

	for (uint64_t i = 0; i < 8; i++)
		(void)read_at(7, i * 6 * MIB);
	run = run_of(7);
	ck_assert_uint_ge(run.next - run.start, WANTED);
	ck_assert(!reader_run_is_dense(&run));
}
END_TEST

START_TEST(what_was_given_ahead_may_be_jumped_over)
{
	unsigned int slot;

	(void)read_in_order(7, 0, 64 * MIB);
	slot = (unsigned int)slot_of(7);
	readers_keep(&readers, slot, 100 * MIB);
	ck_assert(read_at(7, 100 * MIB));
	ck_assert_uint_eq(run_of(7).next, 100 * MIB + READ);
	ck_assert(!read_at(7, 120 * MIB));
}
END_TEST

START_TEST(a_slot_that_is_kept_is_not_given_away)
{
	(void)read_in_order(7, 0, 64 * MIB);
	readers_keep(&readers, (unsigned int)slot_of(7), 0);
	for (uint64_t ino = 100; ino < 200; ino++)
		(void)read_at(ino, 0);
	ck_assert_int_ge(slot_of(7), 0);
	ck_assert_uint_eq(run_of(7).next, WANTED);
	/* Any READ of it matters. */
	ck_assert(read_at(7, WANTED));
}
END_TEST

START_TEST(with_all_slots_kept_others_are_not_noted)
{
	for (uint64_t ino = 1; ino <= READERS_MAX; ino++)
		ck_assert_int_ge(readers_expect(&readers, ino), 0);
	ck_assert_int_eq(readers_expect(&readers, 99), -1);
	for (uint64_t i = 0; i < 100; i++)
		ck_assert(!read_at(99, i * READ));
	readers_restart(&readers, 3);
	ck_assert_int_eq(readers_expect(&readers, 99), 3);
}
END_TEST

START_TEST(files_that_are_looked_at_once_make_room_for_each_other)
{
	for (uint64_t ino = 1; ino <= 5 * READERS_MAX; ino++)
		ck_assert(!read_at(ino, 0));
	for (uint64_t ino = 4 * READERS_MAX + 1; ino <= 5 * READERS_MAX; ino++)
		ck_assert_int_ge(slot_of(ino), 0);
}
END_TEST

START_TEST(a_run_that_is_restarted_has_to_earn_its_length_again)
{
	(void)read_in_order(7, 0, 64 * MIB);
	readers_restart(&readers, (unsigned int)slot_of(7));
	ck_assert_uint_eq(read_in_order(7, WANTED, 64 * MIB), WANTED);
}
END_TEST

START_TEST(a_run_that_is_passed_over_stays_so_until_there_is_another)
{
	(void)read_in_order(7, 0, 64 * MIB);
	readers_pass_over(&readers, (unsigned int)slot_of(7));
	ck_assert_int_eq(slot_of(7), -1);
	for (uint64_t i = 0; i < 100; i++)
		ck_assert(!read_at(7, WANTED + i * READ));
	ck_assert_uint_eq(read_in_order(7, 0, 64 * MIB), WANTED + 16 * READ);
}
END_TEST

START_TEST(an_expected_file_has_a_run_at_its_beginning)
{
	int slot = readers_expect(&readers, 7);

	ck_assert_int_ge(slot, 0);
	ck_assert_int_eq(readers_expect(&readers, 7), slot);
	ck_assert_uint_eq(run_of(7).next, 0);
	ck_assert(read_at(7, 0));
	ck_assert_uint_eq(run_of(7).next, READ);
}
END_TEST

/* ---- Many threads ---- */

#define THREADS 6
#define ROUNDS  20000u

static atomic_bool over;

/* Some read in order, in files that they share, some look into many. */
static void *note(void *argument)
{
	uint64_t number = *(const unsigned int *)argument;

	for (uint64_t i = 0; i < ROUNDS; i++)
		if (number < THREADS / 2)
			(void)readers_note(&readers, 1 + number % 2, i * READ, READ);
		else
			(void)readers_note(&readers, 100 + (i * 7 + number) % 1000, 0,
					   READ);
	return NULL;
}

/* What the pusher does, in any order. */
static void *act(void *argument)
{
	unsigned int turn = 0;

	(void)argument;
	while (!atomic_load(&over)) {
		unsigned int slot = turn++ % READERS_MAX;
		const struct reader_run run = readers_look(&readers, slot);

		if (run.ino == 0)
			continue;
		/* Whatever was seen in the middle of a change is still in order. */
		ck_assert_uint_le(run.start, run.next);
		ck_assert_uint_le(run.next, ROUNDS * READ);
		if (run.next - run.start < WANTED)
			continue;
		readers_keep(&readers, slot, run.next + 4 * MIB);
		if (turn % 3 == 0)
			readers_restart(&readers, slot);
		else if (turn % 50 == 1)
			readers_pass_over(&readers, slot);
	}
	return NULL;
}

START_TEST(threads_may_do_all_of_it_at_once)
{
	unsigned int numbers[THREADS];
	pthread_t threads[THREADS];
	pthread_t actor;

	atomic_store(&over, false);
	ck_assert_int_eq(pthread_create(&actor, NULL, act, NULL), 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		numbers[i] = i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, note, &numbers[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	atomic_store(&over, true);
	ck_assert_int_eq(pthread_join(actor, NULL), 0);
	/* The table is as good as new. */
	for (unsigned int i = 0; i < READERS_MAX; i++)
		readers_restart(&readers, i);
	ck_assert_uint_le(read_in_order(5000, 0, 64 * MIB), WANTED);
}
END_TEST

static TCase *readers_case(void)
{
	TCase *t = tcase_create("readers");

	tcase_add_checked_fixture(t, start, NULL);
	tcase_add_test(t, a_reader_in_order_is_of_interest_when_the_run_is_long_enough);
	tcase_add_test(t, reads_out_of_order_are_still_a_run);
	tcase_add_test(t, a_reader_going_backwards_is_of_no_interest);
	tcase_add_test(t, a_random_reader_is_of_no_interest);
	tcase_add_test(t, a_look_elsewhere_does_not_end_a_run);
	tcase_add_test(t, a_reader_that_goes_on_elsewhere_begins_another_run);
	tcase_add_test(t, what_was_read_with_large_gaps_is_not_dense);
	tcase_add_test(t, what_was_given_ahead_may_be_jumped_over);
	tcase_add_test(t, a_slot_that_is_kept_is_not_given_away);
	tcase_add_test(t, with_all_slots_kept_others_are_not_noted);
	tcase_add_test(t, files_that_are_looked_at_once_make_room_for_each_other);
	tcase_add_test(t, a_run_that_is_restarted_has_to_earn_its_length_again);
	tcase_add_test(t, a_run_that_is_passed_over_stays_so_until_there_is_another);
	tcase_add_test(t, an_expected_file_has_a_run_at_its_beginning);
	tcase_add_test(t, threads_may_do_all_of_it_at_once);
	return t;
}

UNIT_MAIN("readers", readers_case)
