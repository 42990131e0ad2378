#include <errno.h>

#include "unit.h"
#include "util/size.h"

static void expect_size(const char *text, uint64_t expected)
{
	uint64_t bytes = 0;

	ck_assert_msg(size_parse(text, &bytes) == 0, "'%s' is refused", text);
	ck_assert_msg(bytes == expected, "'%s' is read as %llu", text,
		      (unsigned long long)bytes);
}

static void expect_refused(const char *text, int err)
{
	uint64_t bytes = 4711;
	int got = size_parse(text, &bytes);

	ck_assert_msg(got == err, "'%s': error %d, expected %d", text, got, err);
	ck_assert_uint_eq(bytes, 4711);
}

START_TEST(units_are_powers_of_1024)
{
	expect_size("0", 0);
	expect_size("4096", 4096);
	expect_size("007", 7);
	expect_size("1K", 1024);
	expect_size("128K", 131072);
	expect_size("4M", 4194304);
	expect_size("2G", 2147483648);
	expect_size("1T", UINT64_C(1) << 40);
	expect_size("1P", UINT64_C(1) << 50);
	expect_size("1E", UINT64_C(1) << 60);
}
END_TEST

START_TEST(a_unit_is_written_in_either_case_and_with_b_or_ib)
{
	expect_size("12B", 12);
	expect_size("12b", 12);
	expect_size("3k", 3072);
	expect_size("3KB", 3072);
	expect_size("3KiB", 3072);
	expect_size("3kib", 3072);
	expect_size("3Gib", UINT64_C(3) << 30);
}
END_TEST

START_TEST(anything_else_is_refused)
{
	static const char *const texts[] = {
		"",   "K",   " 1",  "1 ",  "1 K",   "-1",    "+1",  "0x10", "1.5G",
		"1Q", "1KK", "1iB", "1Ki", "1KiBs", "1,000", "1e3", "G1",   "1\n"
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		expect_refused(texts[i], -EINVAL);
}
END_TEST

START_TEST(sizes_end_at_2_to_63)
{
	expect_size("9223372036854775807", INT64_MAX);
	expect_size("7E", UINT64_C(7) << 60);
	expect_size("8388607T", UINT64_C(8388607) << 40);
	expect_refused("9223372036854775808", -ERANGE);
	expect_refused("18446744073709551615", -ERANGE);
	expect_refused("8E", -ERANGE);
	expect_refused("8388608T", -ERANGE);
}
END_TEST

START_TEST(numbers_above_64_bits_do_not_wrap)
{
	expect_refused("18446744073709551616", -ERANGE);
	expect_refused("18446744073709551617", -ERANGE);
	expect_refused("184467440737095516160000", -ERANGE);
	expect_refused("18014398509481985K", -ERANGE); /* 2^64 + 1024 bytes */
	expect_refused("16777217T", -ERANGE);          /* 2^64 + 2^40 bytes */
}
END_TEST

static TCase *parse_case(void)
{
	TCase *t = tcase_create("parse");

	tcase_add_test(t, units_are_powers_of_1024);
	tcase_add_test(t, a_unit_is_written_in_either_case_and_with_b_or_ib);
	tcase_add_test(t, anything_else_is_refused);
	tcase_add_test(t, sizes_end_at_2_to_63);
	tcase_add_test(t, numbers_above_64_bits_do_not_wrap);
	return t;
}

static void expect_text(uint64_t bytes, const char *expected)
{
	char text[SIZE_TEXT_MAX];

	ck_assert_str_eq(size_format(bytes, text), expected);
}

START_TEST(sizes_are_shown_with_one_digit_behind_the_point)
{
	expect_text(0, "0 B");
	expect_text(512, "512 B");
	expect_text(1023, "1023 B");
	expect_text(1024, "1.0 KiB");
	expect_text(1536, "1.5 KiB");
	expect_text(UINT64_C(1) << 20, "1.0 MiB");
	expect_text(UINT64_C(687412000000), "640.2 GiB");
	expect_text(UINT64_C(1) << 40, "1.0 TiB");
	expect_text(UINT64_C(1) << 50, "1.0 PiB");
	expect_text(UINT64_MAX, "16.0 EiB");
}
END_TEST

static TCase *format_case(void)
{
	TCase *t = tcase_create("format");

	tcase_add_test(t, sizes_are_shown_with_one_digit_behind_the_point);
	return t;
}

UNIT_MAIN("size", parse_case, format_case)
