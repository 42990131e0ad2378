#include "unit.h"
#include "util/utf8.h"

START_TEST(every_scalar_value_is_encoded_and_found_valid)
{
	for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
		size_t expected = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
		char text[4];

		if (cp >= 0xd800 && cp <= 0xdfff)
			continue;
		if (utf8_encode(cp, text) != expected ||
		    utf8_char_len(text, expected) != expected)
			ck_abort_msg("U+%04X", cp);
	}
}
END_TEST

START_TEST(encoded_bytes_are_those_of_the_standard)
{
	char text[4];

	ck_assert_uint_eq(utf8_encode(0x24, text), 1);
	ck_assert_mem_eq(text, "$", 1);
	ck_assert_uint_eq(utf8_encode(0xa2, text), 2);
	ck_assert_mem_eq(text, "\xc2\xa2", 2);
	ck_assert_uint_eq(utf8_encode(0x20ac, text), 3);
	ck_assert_mem_eq(text, "\xe2\x82\xac", 3);
	ck_assert_uint_eq(utf8_encode(0x10348, text), 4);
	ck_assert_mem_eq(text, "\xf0\x90\x8d\x88", 4);
}
END_TEST

/* Of all sequences of three bytes, as many as the standard has: nothing else is valid. */
START_TEST(nothing_but_the_valid_sequences_of_three_bytes_is_valid)
{
	unsigned int found[5] = { 0 };

	for (uint32_t bits = 0; bits < 1u << 24; bits++) {
		char text[3] = { (char)(bits >> 16), (char)(bits >> 8), (char)bits };

		/* No assertion here: check's are slow. */
		found[utf8_char_len(text, sizeof(text))]++;
	}
	ck_assert_uint_eq(found[1], 0x80u << 16);
	ck_assert_uint_eq(found[2], (0x800u - 0x80u) << 8);
	ck_assert_uint_eq(found[3], 0x10000u - 0x800u - 0x800u);
	ck_assert_uint_eq(found[4], 0);
}
END_TEST

/* The first and the last byte are taken from all, those between from the borders. */
START_TEST(sequences_of_four_bytes_end_at_10ffff)
{
	static const unsigned char seconds[] = { 0x7f, 0x80, 0x8f, 0x90, 0xbf, 0xc0 };
	unsigned int found = 0;

	for (unsigned int first = 0xe0; first <= 0xff; first++)
		for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
			char text[4] = { (char)first, (char)seconds[i], (char)0x80,
					 (char)0x80 };

			found += utf8_char_len(text, 4) == 4;
		}
	/* F0 90 and F0 BF; F1, F2 and F3 with 80, 8F, 90 and BF; F4 80 and F4 8F. */
	ck_assert_uint_eq(found, 2 + 3 * 4 + 2);
}
END_TEST

START_TEST(a_cut_character_is_invalid)
{
	ck_assert_uint_eq(utf8_char_len("", 0), 0);
	ck_assert_uint_eq(utf8_char_len("\xc3\xa9", 1), 0);
	ck_assert_uint_eq(utf8_char_len("\xe2\x82\xac", 2), 0);
	ck_assert_uint_eq(utf8_char_len("\xf0\x90\x8d\x88", 3), 0);
}
END_TEST

START_TEST(a_text_is_valid_when_all_of_it_is)
{
	ck_assert(utf8_is_valid("", 0));
	ck_assert(utf8_is_valid("a\0b", 3));
	ck_assert(utf8_is_valid("a\xc3\xa9\xe2\x82\xac\xf0\x90\x8d\x88", 10));
	ck_assert(!utf8_is_valid("abc\xff", 4));
	ck_assert(!utf8_is_valid("\x80"
				 "abc",
				 4));
	ck_assert(!utf8_is_valid("abc\xc3", 4));
	ck_assert(!utf8_is_valid("\xc0\xaf", 2));
	ck_assert(!utf8_is_valid("\xed\xa0\x80", 3));
	ck_assert(!utf8_is_valid("\xf4\x90\x80\x80", 4));
	ck_assert(!utf8_is_valid("\xf8\x88\x80\x80\x80", 5));
}
END_TEST

START_TEST(what_steers_a_terminal_is_not_shown)
{
	/* Byte by byte: tools refuse such characters in string literals. */
	static const char override[] = { '\xe2', '\x80', '\xae' };

	ck_assert_uint_eq(utf8_shown_len("a", 1), 1);
	ck_assert_uint_eq(utf8_shown_len("\xe2\x82\xac", 3), 3);
	ck_assert_uint_eq(utf8_shown_len("\xc2\xa0", 2), 2);
	ck_assert_uint_eq(utf8_shown_len("\n", 1), 0);
	ck_assert_uint_eq(utf8_shown_len("\x7f", 1), 0);
	ck_assert_uint_eq(utf8_shown_len("\xc2\x9b", 2), 0);
	ck_assert_uint_eq(utf8_shown_len(override, 3), 0);
	ck_assert_uint_eq(utf8_shown_len("\xff", 1), 0);
	ck_assert_uint_eq(utf8_shown_len("", 0), 0);
}
END_TEST

static TCase *utf8_case(void)
{
	TCase *t = tcase_create("utf8");

	tcase_add_test(t, every_scalar_value_is_encoded_and_found_valid);
	tcase_add_test(t, encoded_bytes_are_those_of_the_standard);
	tcase_add_test(t, nothing_but_the_valid_sequences_of_three_bytes_is_valid);
	tcase_add_test(t, sequences_of_four_bytes_end_at_10ffff);
	tcase_add_test(t, a_cut_character_is_invalid);
	tcase_add_test(t, a_text_is_valid_when_all_of_it_is);
	tcase_add_test(t, what_steers_a_terminal_is_not_shown);
	return t;
}

UNIT_MAIN("utf8", utf8_case)
