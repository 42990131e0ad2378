#include <errno.h>
#include <stdint.h>

#include "unit.h"
#include "util/strbuf.h"

START_TEST(an_empty_string_has_no_memory)
{
	struct strbuf s;

	strbuf_init(&s);
	ck_assert_ptr_null(s.data);
	ck_assert_uint_eq(s.len, 0);
	ck_assert_ptr_null(strbuf_steal(&s));
	strbuf_fini(&s);
}
END_TEST

START_TEST(what_is_added_stands_in_order_with_a_nul_behind)
{
	struct strbuf s;

	strbuf_init(&s);
	strbuf_add(&s, "a\0b", 3);
	strbuf_add_char(&s, 'c');
	strbuf_add_str(&s, "de");
	strbuf_addf(&s, "%d-%s", 7, "x");
	ck_assert_uint_eq(s.len, 9);
	ck_assert_mem_eq(s.data, "a\0bcde7-x", 10);
	ck_assert_int_eq(s.err, 0);
	strbuf_fini(&s);
	ck_assert_ptr_null(s.data);
}
END_TEST

START_TEST(adding_nothing_gives_an_empty_text)
{
	struct strbuf s;

	strbuf_init(&s);
	strbuf_add(&s, NULL, 0);
	ck_assert_str_eq(s.data, "");
	strbuf_fini(&s);
}
END_TEST

/* Every length around the first capacities, so that the NUL falls on each border. */
START_TEST(the_nul_has_room_at_every_length)
{
	for (size_t len = 250; len < 1030; len++) {
		struct strbuf s;

		strbuf_init(&s);
		for (size_t i = 0; i < len; i++)
			strbuf_add_char(&s, 'x');
		strbuf_addf(&s, "%s", "y");
		ck_assert_uint_eq(strlen(s.data), len + 1);
		ck_assert_uint_lt(s.len, s.capacity);
		strbuf_fini(&s);
	}
}
END_TEST

START_TEST(a_formatted_text_may_be_long)
{
	struct strbuf s;

	strbuf_init(&s);
	strbuf_addf(&s, "%*d", 100000, 5);
	ck_assert_uint_eq(s.len, 100000);
	ck_assert_int_eq(s.data[99999], '5');
	strbuf_fini(&s);
}
END_TEST

START_TEST(a_failure_is_kept_and_stops_all_later_additions)
{
	struct strbuf s;

	strbuf_init(&s);
	strbuf_add_str(&s, "abc");
	strbuf_add(&s, "", SIZE_MAX - 2); /* the sum is SIZE_MAX + 1 */
	ck_assert_int_eq(s.err, -ENOMEM);
	strbuf_add_str(&s, "def");
	strbuf_addf(&s, "%d", 1);
	ck_assert_uint_eq(s.len, 3);
	ck_assert_ptr_null(strbuf_steal(&s));
	ck_assert_int_eq(s.err, 0);
}
END_TEST

START_TEST(half_the_address_space_is_refused)
{
	struct strbuf s;

	strbuf_init(&s);
	strbuf_add(&s, "", SIZE_MAX / 2);
	ck_assert_int_eq(s.err, -ENOMEM);
	strbuf_fini(&s);
}
END_TEST

START_TEST(stealing_leaves_an_empty_string)
{
	CLEANUP(free_ptr) char *text = NULL;
	struct strbuf s;

	strbuf_init(&s);
	strbuf_add_str(&s, "abc");
	text = strbuf_steal(&s);
	ck_assert_str_eq(text, "abc");
	ck_assert_ptr_null(s.data);
	ck_assert_uint_eq(s.len, 0);
	strbuf_add_str(&s, "next");
	ck_assert_str_eq(s.data, "next");
	strbuf_fini(&s);
}
END_TEST

static TCase *growing_case(void)
{
	TCase *t = tcase_create("growing");

	tcase_add_test(t, an_empty_string_has_no_memory);
	tcase_add_test(t, what_is_added_stands_in_order_with_a_nul_behind);
	tcase_add_test(t, adding_nothing_gives_an_empty_text);
	tcase_add_test(t, the_nul_has_room_at_every_length);
	tcase_add_test(t, a_formatted_text_may_be_long);
	tcase_add_test(t, a_failure_is_kept_and_stops_all_later_additions);
	tcase_add_test(t, half_the_address_space_is_refused);
	tcase_add_test(t, stealing_leaves_an_empty_string);
	return t;
}

START_TEST(counting_measures_without_memory)
{
	struct strbuf s;

	strbuf_init_counting(&s);
	strbuf_add(&s, "a\0b", 3);
	strbuf_add_char(&s, 'c');
	strbuf_add_str(&s, "de");
	strbuf_addf(&s, "%d-%s", 7, "x");
	ck_assert_uint_eq(s.len, 9);
	ck_assert_ptr_null(s.data);
	ck_assert_int_eq(s.err, 0);
	strbuf_fini(&s);
}
END_TEST

START_TEST(fixed_storage_is_filled_up_to_its_nul)
{
	char storage[5] = "####";
	struct strbuf s;

	strbuf_init_fixed(&s, storage, 4);
	strbuf_add_str(&s, "ab");
	strbuf_addf(&s, "%c", 'c');
	ck_assert_int_eq(s.err, 0);
	ck_assert_mem_eq(storage, "abc", 4);
	ck_assert_int_eq(storage[4], '\0');
	strbuf_fini(&s);
}
END_TEST

START_TEST(fixed_storage_that_is_full_is_an_error_and_is_not_overrun)
{
	char storage[6] = "#####";
	struct strbuf s;

	strbuf_init_fixed(&s, storage, 4);
	strbuf_add_str(&s, "ab");
	strbuf_addf(&s, "%s", "cd");
	ck_assert_int_eq(s.err, -ENOBUFS);
	strbuf_add_char(&s, 'e');
	ck_assert_uint_eq(s.len, 2);
	ck_assert_mem_eq(storage, "ab\0##", 6);
	strbuf_fini(&s);
}
END_TEST

static TCase *other_kinds_case(void)
{
	TCase *t = tcase_create("counting and fixed");

	tcase_add_test(t, counting_measures_without_memory);
	tcase_add_test(t, fixed_storage_is_filled_up_to_its_nul);
	tcase_add_test(t, fixed_storage_that_is_full_is_an_error_and_is_not_overrun);
	return t;
}

UNIT_MAIN("strbuf", growing_case, other_kinds_case)
