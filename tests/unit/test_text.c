#include "mountctl/text.h"
#include "unit.h"

static void assert_escaped(const char *text, size_t len, const char *want)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };

	text_escape(&out, text, len);
	ck_assert_str_eq(out.data, want);
}

START_TEST(plain_names_stay_as_they_are)
{
	assert_escaped("model.layers.0/w [x] \\", 22, "model.layers.0/w [x] \\");
	assert_escaped("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
		       "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
}
END_TEST

START_TEST(control_characters_are_written_out)
{
	assert_escaped("a\x1b[31m\n\x7f", 8, "a\\x1b[31m\\x0a\\x7f");
	assert_escaped("a\0b", 3, "a\\x00b");
}
END_TEST

START_TEST(eight_bit_control_characters_are_written_out)
{
	assert_escaped("\xc2\x9b\x33", 3, "\\xc2\\x9b3");
	assert_escaped("\xc2\xa0", 2, "\xc2\xa0");
}
END_TEST

START_TEST(what_turns_the_direction_of_writing_is_written_out)
{
	/* Byte by byte: tools refuse such characters in string literals. */
	static const char override[] = { '\xe2', '\x80', '\xae' };
	static const char isolate[] = { '\xe2', '\x81', '\xa6' };

	assert_escaped(override, 3, "\\xe2\\x80\\xae");
	assert_escaped(isolate, 3, "\\xe2\\x81\\xa6");
	assert_escaped("\xe2\x80\x94", 3, "\xe2\x80\x94");
}
END_TEST

START_TEST(bytes_that_are_no_utf8_are_written_out)
{
	assert_escaped("a\xff\xc3", 3, "a\\xff\\xc3");
	assert_escaped("\xe2\x82", 2, "\\xe2\\x82");
}
END_TEST

START_TEST(width_counts_characters)
{
	ck_assert_uint_eq(text_width(""), 0);
	ck_assert_uint_eq(text_width("a\xc3\xa9\xe2\x82\xac"), 3);
}
END_TEST

START_TEST(sizes_name_their_bytes_once)
{
	char text[TEXT_BYTES_MAX];

	ck_assert_str_eq(text_bytes(589, text), "589 bytes");
	ck_assert_str_eq(text_bytes(1536, text), "1.5 KiB (1536 bytes)");
	ck_assert_str_eq(text_bytes(UINT64_MAX, text),
			 "16.0 EiB (18446744073709551615 bytes)");
}
END_TEST

static TCase *text_case(void)
{
	TCase *tcase = tcase_create("text");

	tcase_add_test(tcase, plain_names_stay_as_they_are);
	tcase_add_test(tcase, control_characters_are_written_out);
	tcase_add_test(tcase, eight_bit_control_characters_are_written_out);
	tcase_add_test(tcase, what_turns_the_direction_of_writing_is_written_out);
	tcase_add_test(tcase, bytes_that_are_no_utf8_are_written_out);
	tcase_add_test(tcase, width_counts_characters);
	tcase_add_test(tcase, sizes_name_their_bytes_once);
	return tcase;
}

UNIT_MAIN("text", text_case)
