/* The line of progress, for terminals of any width. */
#include <stdio.h>

#include "mountctl/progress.h"
#include "unit.h"

#define GIB ((uint64_t)1 << 30)

static const struct progress halfway = {
	.done = 8 * GIB,
	.total = 16 * GIB,
	.rate = 2.0 * GIB,
};

static void expect(const struct progress *progress, size_t width, const char *want)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };

	strbuf_add(&line, "", 0);
	progress_format(progress, width, &line);
	ck_assert_str_eq(line.data, want);
	ck_assert_uint_lt(line.len, width);
}

START_TEST(bytes_rate_and_time_stand_behind_a_bar)
{
	expect(&halfway, 80,
	       " 50% [###############---------------] 8.0 GiB of 16.0 GiB  2.0 GiB/s  "
	       "0:04 left");
}
END_TEST

START_TEST(a_wide_terminal_has_no_longer_bar)
{
	expect(&halfway, 200,
	       " 50% [####################--------------------] 8.0 GiB of 16.0 GiB  "
	       "2.0 GiB/s  0:04 left");
}
END_TEST

START_TEST(a_narrow_terminal_loses_the_bar_then_the_time_then_the_rate)
{
	expect(&halfway, 59, " 50% 8.0 GiB of 16.0 GiB  2.0 GiB/s  0:04 left");
	expect(&halfway, 40, " 50% 8.0 GiB of 16.0 GiB  2.0 GiB/s");
	expect(&halfway, 30, " 50% 8.0 GiB of 16.0 GiB");
	expect(&halfway, 10, " 50% ");
	expect(&halfway, 3, "");
}
END_TEST

START_TEST(without_a_rate_there_is_no_time)
{
	const struct progress begun = { .done = 0, .total = GIB };

	expect(&begun, 40, "  0% [-----------------] 0 B of 1.0 GiB");
}
END_TEST

START_TEST(long_times_have_hours)
{
	const struct progress slow = { .done = 0, .total = GIB, .rate = 65536 };

	expect(&slow, 60, "  0% [-----------] 0 B of 1.0 GiB  64.0 KiB/s  4:33:04 left");
}
END_TEST

START_TEST(all_of_it_is_a_full_bar)
{
	const struct progress over = { .done = GIB, .total = GIB, .rate = GIB };

	expect(&over, 70,
	       "100% [#####################] 1.0 GiB of 1.0 GiB  1.0 GiB/s  "
	       "0:00 left");
}
END_TEST

/* What is over at once has bytes a second that nobody read. */
START_TEST(a_rate_is_measured_only_where_it_says_something)
{
	struct progress rated = { .shown = true, .rated = true };
	struct progress plain = { .shown = true };

	ck_assert_ptr_nonnull(freopen("/dev/null", "we", stdout));
	progress_update(&rated, GIB, 2 * GIB);
	progress_update(&plain, GIB, 2 * GIB);
	ck_assert(rated.rate > 0);
	ck_assert(plain.rate <= 0);
	ck_assert_uint_eq(plain.done, GIB);
}
END_TEST

static TCase *progress_case(void)
{
	TCase *t = tcase_create("progress");

	tcase_add_test(t, bytes_rate_and_time_stand_behind_a_bar);
	tcase_add_test(t, a_wide_terminal_has_no_longer_bar);
	tcase_add_test(t, a_narrow_terminal_loses_the_bar_then_the_time_then_the_rate);
	tcase_add_test(t, without_a_rate_there_is_no_time);
	tcase_add_test(t, long_times_have_hours);
	tcase_add_test(t, all_of_it_is_a_full_bar);
	tcase_add_test(t, a_rate_is_measured_only_where_it_says_something);
	return t;
}

UNIT_MAIN("progress", progress_case)
