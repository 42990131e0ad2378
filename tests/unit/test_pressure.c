/* How files give way when memory is short, and come back. */
#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "memory_files.h"
#include "pressure.h"
#include "unit.h"

/* A machine with this much memory has a reserve of a twentieth. */
#define TOTAL   (20 * GIB)
#define RESERVE (GIB)
#define LIMIT   (8 * GIB)

/* Stands for all files: given up at will but for those that are open. What is given up is
 * available again. */
struct inodes {
	_Atomic uint64_t used;
	_Atomic uint64_t open;
	_Atomic uint64_t limit;
	_Atomic uint64_t available;
};

static struct inodes files;
static struct pressure *pressure;

static uint64_t fake_used(struct inodes *inodes)
{
	return inodes->used;
}

static uint64_t fake_set_limit(struct inodes *inodes, uint64_t limit)
{
	uint64_t least = limit > inodes->open ? limit : inodes->open;
	uint64_t given = inodes->used > least ? inodes->used - least : 0;

	inodes->limit = limit;
	inodes->used -= given;
	inodes->available += given;
	memory_files_machine(TOTAL, inodes->available);
	return given;
}

static const struct pressure_files fake_files = {
	.used = fake_used,
	.set_limit = fake_set_limit,
};

static void set_available(uint64_t available)
{
	files.available = available;
	memory_files_machine(TOTAL, available);
}

static void make_pressure(void)
{
	struct memory_roots roots;
	struct pressure_setup setup = {
		.subject = "test", .files = &fake_files, .inodes = &files, .limit = LIMIT
	};

	model_dir_make();
	roots = memory_files_roots();
	setup.roots = &roots;
	files.used = 4 * GIB;
	files.open = 0;
	files.limit = LIMIT;
	set_available(10 * GIB);
	ck_assert_int_eq(pressure_new(&setup, &pressure), 0);
}

static void free_pressure(void)
{
	pressure_stop(pressure);
	pressure_free(pressure);
	model_dir_remove();
}

static struct pressure_summary summary(void)
{
	struct pressure_summary found;

	pressure_summarise(pressure, &found);
	ck_assert_uint_eq(found.limit, files.limit);
	return found;
}

static void look(unsigned int times)
{
	for (unsigned int i = 0; i < times; i++)
		pressure_look(pressure, false);
}

/* ---- Giving way ---- */

START_TEST(nothing_is_given_up_while_the_reserve_is_left)
{
	set_available(RESERVE);
	look(3);
	ck_assert_uint_eq(files.used, 4 * GIB);
	ck_assert_uint_eq(summary().limit, LIMIT);
	ck_assert_uint_eq(summary().events, 0);
}
END_TEST

START_TEST(what_is_missing_from_the_reserve_is_given_up)
{
	set_available(RESERVE / 4);
	look(1);
	ck_assert_uint_eq(files.used, 4 * GIB - RESERVE * 3 / 4);
	ck_assert_uint_eq(files.available, RESERVE);
	ck_assert_uint_eq(summary().limit, files.used);
	ck_assert_uint_eq(summary().events, 1);
}
END_TEST

START_TEST(one_shortage_is_one_event)
{
	for (unsigned int i = 0; i < 3; i++) {
		set_available(RESERVE / 2);
		look(1);
	}
	ck_assert_uint_eq(files.used, 4 * GIB - RESERVE * 3 / 2);
	ck_assert_uint_eq(summary().events, 1);
}
END_TEST

START_TEST(open_files_stay_and_the_limit_does_not_sink_without_end)
{
	files.open = 4 * GIB;
	set_available(RESERVE / 2);
	look(20);
	ck_assert_uint_eq(files.used, 4 * GIB);
	ck_assert_uint_eq(summary().limit, 4 * GIB - RESERVE / 2);
	files.open = 0;
	look(1);
	ck_assert_uint_eq(files.used, 4 * GIB - RESERVE / 2);
}
END_TEST

START_TEST(more_is_missing_than_there_is)
{
	files.used = RESERVE / 4;
	set_available(0);
	look(2);
	ck_assert_uint_eq(files.used, 0);
	ck_assert_uint_eq(summary().limit, 0);
}
END_TEST

START_TEST(an_event_demands_twice_the_reserve)
{
	set_available(RESERVE * 3 / 2);
	look(1);
	ck_assert_uint_eq(files.used, 4 * GIB);
	pressure_look(pressure, true);
	ck_assert_uint_eq(files.used, 4 * GIB - RESERVE / 2);
	ck_assert_uint_eq(summary().events, 1);
}
END_TEST

START_TEST(an_event_changes_nothing_while_there_is_plenty)
{
	pressure_look(pressure, true);
	ck_assert_uint_eq(files.used, 4 * GIB);
	ck_assert_uint_eq(summary().events, 0);
}
END_TEST

START_TEST(a_machine_that_says_nothing_changes_nothing)
{
	model_dir_write_text("proc/meminfo", "");
	look(2);
	ck_assert_uint_eq(files.used, 4 * GIB);
	ck_assert_int_eq(pressure_admit(pressure, GIB), 0);
}
END_TEST

/* ---- Coming back ---- */

START_TEST(the_limit_comes_back_slowly_and_all_of_it)
{
	uint64_t low;
	uint64_t before;

	set_available(0);
	look(1);
	low = summary().limit;
	set_available(4 * RESERVE);
	look(4);
	ck_assert_uint_eq(summary().limit, low);
	look(1);
	before = summary().limit;
	ck_assert_uint_eq(before, low + 2 * RESERVE / 4);
	look(1);
	ck_assert_uint_eq(summary().limit, before + 2 * RESERVE / 4);
	look(100);
	ck_assert_uint_eq(summary().limit, LIMIT);
	ck_assert_uint_eq(summary().events, 1);
}
END_TEST

START_TEST(between_one_reserve_and_two_nothing_changes)
{
	uint64_t low;

	set_available(0);
	look(1);
	low = summary().limit;
	set_available(2 * RESERVE - MIB);
	look(50);
	ck_assert_uint_eq(summary().limit, low);
	/* A single look that finds enough is not enough. */
	for (unsigned int i = 0; i < 5; i++) {
		set_available(3 * RESERVE);
		look(4);
		set_available(2 * RESERVE - MIB);
		look(1);
	}
	ck_assert_uint_eq(summary().limit, low);
}
END_TEST

START_TEST(the_next_shortage_is_a_new_event)
{
	set_available(0);
	look(1);
	set_available(10 * GIB);
	look(100);
	ck_assert_uint_eq(summary().limit, LIMIT);
	set_available(0);
	look(1);
	ck_assert_uint_eq(summary().events, 2);
}
END_TEST

/* ---- Making files ---- */

START_TEST(a_file_that_fits_is_admitted)
{
	ck_assert_int_eq(pressure_admit(pressure, 9 * GIB), 0);
	ck_assert_uint_eq(files.used, 4 * GIB);
	ck_assert_uint_eq(summary().events, 0);
}
END_TEST

START_TEST(others_are_given_up_for_a_file)
{
	set_available(RESERVE + GIB);
	ck_assert_int_eq(pressure_admit(pressure, 2 * GIB), 0);
	ck_assert_uint_le(files.used, 3 * GIB);
	ck_assert_uint_ge(files.used, 2 * GIB);
	ck_assert_uint_eq(summary().events, 1);
}
END_TEST

START_TEST(a_file_that_cannot_fit_is_refused)
{
	files.open = 4 * GIB;
	set_available(RESERVE + GIB);
	ck_assert_int_eq(pressure_admit(pressure, 2 * GIB), -ENOMEM);
	ck_assert_uint_eq(files.used, 4 * GIB);
	ck_assert_int_eq(pressure_admit(pressure, UINT64_MAX), -ENOMEM);
}
END_TEST

START_TEST(nothing_is_given_up_in_vain_for_a_file_that_cannot_fit)
{
	set_available(RESERVE + GIB);
	ck_assert_int_eq(pressure_admit(pressure, 7 * GIB), -ENOMEM);
	ck_assert_uint_eq(files.used, 4 * GIB);
	ck_assert_uint_eq(summary().limit, LIMIT);
	ck_assert_uint_eq(summary().events, 0);
}
END_TEST

START_TEST(what_was_promised_is_not_promised_twice)
{
	files.open = 4 * GIB;
	set_available(RESERVE + 3 * GIB);
	ck_assert_int_eq(pressure_admit(pressure, 2 * GIB), 0);
	ck_assert_int_eq(pressure_admit(pressure, 2 * GIB), -ENOMEM);
	/* It was not made after all. */
	pressure_settle(pressure, 2 * GIB);
	ck_assert_int_eq(pressure_admit(pressure, 2 * GIB), 0);
}
END_TEST

START_TEST(small_files_are_admitted_without_a_look_each)
{
	ck_assert_int_eq(pressure_admit(pressure, MIB), 0);
	model_dir_write_text("proc/meminfo", "MemTotal: 5 kB\nMemAvailable: 0 kB\n");
	for (unsigned int i = 0; i < 1000; i++) {
		ck_assert_int_eq(pressure_admit(pressure, MIB), 0);
		pressure_settle(pressure, MIB);
	}
	/* The next look takes that credit away. */
	files.open = 4 * GIB;
	set_available(0);
	look(1);
	ck_assert_int_eq(pressure_admit(pressure, MIB), -ENOMEM);
}
END_TEST

START_TEST(a_failed_allocation_gives_up_as_much)
{
	ck_assert(pressure_relieve(pressure, GIB));
	ck_assert_uint_eq(files.used, 3 * GIB);
	ck_assert_uint_eq(summary().events, 1);
	files.open = 3 * GIB;
	ck_assert(!pressure_relieve(pressure, GIB));
}
END_TEST

START_TEST(without_a_watch_all_is_admitted)
{
	ck_assert_int_eq(pressure_admit(NULL, UINT64_MAX), 0);
	pressure_settle(NULL, UINT64_MAX);
	ck_assert(!pressure_relieve(NULL, 1));
	pressure_stop(NULL);
	pressure_free(NULL);
}
END_TEST

/* ---- The thread ---- */

static bool shrinks_within(unsigned int seconds)
{
	const struct timespec step = { .tv_nsec = 10000000 };

	for (unsigned int i = 0; i < seconds * 100 && files.limit == LIMIT; i++)
		(void)nanosleep(&step, NULL);
	return files.limit < LIMIT;
}

START_TEST(the_thread_looks_while_there_are_files)
{
	ck_assert_int_eq(pressure_start(pressure), 0);
	set_available(0);
	ck_assert(shrinks_within(10));
}
END_TEST

START_TEST(the_thread_sleeps_without_files_and_is_woken_by_one)
{
	files.used = 0;
	ck_assert_int_eq(pressure_start(pressure), 0);
	set_available(0);
	ck_assert(!shrinks_within(2));
	set_available(10 * GIB);
	files.used = GIB;
	ck_assert_int_eq(pressure_admit(pressure, MIB), 0);
	set_available(0);
	ck_assert(shrinks_within(10));
}
END_TEST

static TCase *giving_case(void)
{
	TCase *t = tcase_create("giving way");

	tcase_add_checked_fixture(t, make_pressure, free_pressure);
	tcase_add_test(t, nothing_is_given_up_while_the_reserve_is_left);
	tcase_add_test(t, what_is_missing_from_the_reserve_is_given_up);
	tcase_add_test(t, one_shortage_is_one_event);
	tcase_add_test(t, open_files_stay_and_the_limit_does_not_sink_without_end);
	tcase_add_test(t, more_is_missing_than_there_is);
	tcase_add_test(t, an_event_demands_twice_the_reserve);
	tcase_add_test(t, an_event_changes_nothing_while_there_is_plenty);
	tcase_add_test(t, a_machine_that_says_nothing_changes_nothing);
	tcase_add_test(t, the_limit_comes_back_slowly_and_all_of_it);
	tcase_add_test(t, between_one_reserve_and_two_nothing_changes);
	tcase_add_test(t, the_next_shortage_is_a_new_event);
	return t;
}

static TCase *making_case(void)
{
	TCase *t = tcase_create("making files");

	tcase_add_checked_fixture(t, make_pressure, free_pressure);
	tcase_add_test(t, a_file_that_fits_is_admitted);
	tcase_add_test(t, others_are_given_up_for_a_file);
	tcase_add_test(t, a_file_that_cannot_fit_is_refused);
	tcase_add_test(t, nothing_is_given_up_in_vain_for_a_file_that_cannot_fit);
	tcase_add_test(t, what_was_promised_is_not_promised_twice);
	tcase_add_test(t, small_files_are_admitted_without_a_look_each);
	tcase_add_test(t, a_failed_allocation_gives_up_as_much);
	tcase_add_test(t, without_a_watch_all_is_admitted);
	return t;
}

static TCase *thread_case(void)
{
	TCase *t = tcase_create("thread");

	tcase_add_checked_fixture(t, make_pressure, free_pressure);
	tcase_add_test(t, the_thread_looks_while_there_are_files);
	tcase_add_test(t, the_thread_sleeps_without_files_and_is_woken_by_one);
	return t;
}

UNIT_MAIN("pressure", giving_case, making_case, thread_case)
