#include <errno.h>

#include "parsers/key_set.h"
#include "unit.h"

START_TEST(a_key_can_be_added_once)
{
	CLEANUP(key_set_fini) struct key_set set = { 0 };

	ck_assert_int_eq(key_set_add(&set, "a", 1), 0);
	ck_assert_int_eq(key_set_add(&set, "b", 1), 0);
	ck_assert_int_eq(key_set_add(&set, "a", 1), -EEXIST);
	ck_assert_uint_eq(set.count, 2);
}
END_TEST

START_TEST(the_empty_key_is_a_key)
{
	CLEANUP(key_set_fini) struct key_set set = { 0 };

	ck_assert_int_eq(key_set_add(&set, "", 0), 0);
	ck_assert_int_eq(key_set_add(&set, "", 0), -EEXIST);
}
END_TEST

/* So many that slots are shared and the table grows. */
START_TEST(prefixes_of_a_key_are_other_keys)
{
	CLEANUP(key_set_fini) struct key_set set = { 0 };
	char text[5000];

	memset(text, 'x', sizeof(text));
	for (size_t len = sizeof(text); len > 0; len--)
		ck_assert_int_eq(key_set_add(&set, text, len), 0);
	for (size_t len = 1; len <= sizeof(text); len++)
		ck_assert_int_eq(key_set_add(&set, text, len), -EEXIST);
	ck_assert_uint_eq(set.count, sizeof(text));
}
END_TEST

START_TEST(keys_that_differ_behind_a_nul_are_two)
{
	CLEANUP(key_set_fini) struct key_set set = { 0 };

	ck_assert_int_eq(key_set_add(&set, "a\0b", 3), 0);
	ck_assert_int_eq(key_set_add(&set, "a\0c", 3), 0);
	ck_assert_int_eq(key_set_add(&set, "a", 1), 0);
}
END_TEST

START_TEST(a_key_is_found_by_the_order_of_adding)
{
	CLEANUP(key_set_fini) struct key_set set = { 0 };
	char text[100];

	ck_assert_uint_eq(key_set_find(&set, "a", 1), SIZE_MAX);
	memset(text, 'x', sizeof(text));
	for (size_t len = 0; len < sizeof(text); len++)
		ck_assert_int_eq(key_set_add(&set, text, len), 0);
	for (size_t len = 0; len < sizeof(text); len++)
		ck_assert_uint_eq(key_set_find(&set, text, len), len);
	ck_assert_uint_eq(key_set_find(&set, text, sizeof(text)), SIZE_MAX);
	ck_assert_uint_eq(key_set_find(&set, "a", 1), SIZE_MAX);
}
END_TEST

START_TEST(a_set_can_be_used_again_after_its_end)
{
	struct key_set set = { 0 };

	ck_assert_int_eq(key_set_add(&set, "a", 1), 0);
	key_set_fini(&set);
	ck_assert_int_eq(key_set_add(&set, "a", 1), 0);
	key_set_fini(&set);
}
END_TEST

static TCase *key_set_case(void)
{
	TCase *tcase = tcase_create("key_set");

	tcase_add_test(tcase, a_key_can_be_added_once);
	tcase_add_test(tcase, the_empty_key_is_a_key);
	tcase_add_test(tcase, prefixes_of_a_key_are_other_keys);
	tcase_add_test(tcase, keys_that_differ_behind_a_nul_are_two);
	tcase_add_test(tcase, a_key_is_found_by_the_order_of_adding);
	tcase_add_test(tcase, a_set_can_be_used_again_after_its_end);
	return tcase;
}

UNIT_MAIN("key_set", key_set_case)
