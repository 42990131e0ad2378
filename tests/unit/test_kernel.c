#include "unit.h"
#include "util/kernel.h"

START_TEST(releases_of_distributions_are_understood)
{
	ck_assert_uint_eq(kernel_parse("6.9.0"), KERNEL(6, 9));
	ck_assert_uint_eq(kernel_parse("6.1.0-28-amd64"), KERNEL(6, 1));
	ck_assert_uint_eq(kernel_parse("5.15.167.4-microsoft-standard-WSL2"),
			  KERNEL(5, 15));
	ck_assert_uint_eq(kernel_parse("6.18-rc3"), KERNEL(6, 18));
}
END_TEST

START_TEST(minor_versions_compare_as_numbers)
{
	ck_assert_uint_gt(kernel_parse("6.10"), kernel_parse("6.9"));
	ck_assert_uint_gt(kernel_parse("6.0"), kernel_parse("5.19"));
}
END_TEST

START_TEST(what_is_no_release_is_0)
{
	static const char *const texts[] = {
		"", "6", "6.", "x.y", ".6.9", "0.99", "6.-1", "99999999999999999999.1"
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		ck_assert_msg(kernel_parse(texts[i]) == 0, "'%s'", texts[i]);
}
END_TEST

static TCase *parse_case(void)
{
	TCase *tcase = tcase_create("parse");

	tcase_add_test(tcase, releases_of_distributions_are_understood);
	tcase_add_test(tcase, minor_versions_compare_as_numbers);
	tcase_add_test(tcase, what_is_no_release_is_0);
	return tcase;
}

UNIT_MAIN("kernel", parse_case)
