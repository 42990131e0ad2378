#include <errno.h>

#include "parsers/diag.h"
#include "unit.h"

/* ---- Sentences ---- */

START_TEST(the_error_is_returned_and_the_words_are_kept)
{
	struct diag diag;

	ck_assert_int_eq(diag_fail(&diag, -EBADMSG, "byte %d: %s", 7, "bad"), -EBADMSG);
	ck_assert_str_eq(diag.text, "byte 7: bad");
}
END_TEST

START_TEST(a_sentence_that_is_too_long_is_cut)
{
	struct diag diag;

	ck_assert_int_eq(diag_fail(&diag, -E2BIG, "%*d", 2 * DIAG_TEXT_MAX, 1), -E2BIG);
	ck_assert_uint_eq(strlen(diag.text), DIAG_TEXT_MAX - 1);
}
END_TEST

START_TEST(a_prefix_stands_in_front)
{
	struct diag diag;

	(void)diag_fail(&diag, -EBADMSG, "bad");
	diag_prefix(&diag, "tensor 'a'");
	diag_prefix(&diag, "/m/x.gguf");
	ck_assert_str_eq(diag.text, "/m/x.gguf: tensor 'a': bad");
}
END_TEST

START_TEST(an_empty_sentence_takes_a_prefix)
{
	struct diag diag = { 0 };

	diag_prefix(&diag, "file");
	ck_assert_str_eq(diag.text, "file: ");
}
END_TEST

START_TEST(a_prefix_never_pushes_the_whole_sentence_out)
{
	struct diag diag;
	char prefix[2 * DIAG_TEXT_MAX];

	memset(prefix, 'p', sizeof(prefix) - 1);
	prefix[sizeof(prefix) - 1] = '\0';
	(void)diag_fail(&diag, -EBADMSG, "the sentence");
	diag_prefix(&diag, prefix);
	ck_assert_str_eq(diag.text + DIAG_TEXT_MAX - 1024, ": the sentence");
}
END_TEST

START_TEST(a_full_sentence_is_cut_at_its_end_by_a_prefix)
{
	struct diag diag;

	(void)diag_fail(&diag, -E2BIG, "%*d", DIAG_TEXT_MAX - 1, 1);
	diag_prefix(&diag, "file");
	ck_assert_uint_eq(strlen(diag.text), DIAG_TEXT_MAX - 1);
	ck_assert_mem_eq(diag.text, "file:  ", 7);
}
END_TEST

/* ---- Quoting ---- */

static void expect_quoted(const char *bytes, size_t len, const char *wanted)
{
	char out[DIAG_QUOTE_MAX];

	ck_assert_ptr_eq(diag_quote(out, bytes, len), out);
	ck_assert_str_eq(out, wanted);
}

START_TEST(printable_text_is_shown_as_it_is)
{
	expect_quoted("", 0, "''");
	expect_quoted("a.weight", 8, "'a.weight'");
	expect_quoted("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", 11,
		      "'gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80'");
}
END_TEST

START_TEST(control_characters_become_escapes)
{
	expect_quoted("\x1b[31m", 5, "'\\x1b[31m'");
	expect_quoted("a\0b\n", 4, "'a\\x00b\\x0a'");
	expect_quoted("\x7f", 1, "'\\x7f'");
	/* U+009B starts an escape sequence on some terminals. */
	expect_quoted("\xc2\x9b", 2, "'\\xc2\\x9b'");
	expect_quoted("\xc2\xa0", 2, "'\xc2\xa0'");
}
END_TEST

START_TEST(quotes_and_backslashes_become_escapes)
{
	expect_quoted("it's", 4, "'it\\x27s'");
	expect_quoted("a\\b", 3, "'a\\x5cb'");
}
END_TEST

START_TEST(invalid_utf8_becomes_escapes)
{
	expect_quoted("\xff\xc3", 2, "'\\xff\\xc3'");
	expect_quoted("\xed\xa0\x80", 3, "'\\xed\\xa0\\x80'");
}
END_TEST

START_TEST(long_text_is_cut_and_says_so)
{
	char bytes[1000];
	char out[DIAG_QUOTE_MAX];

	/* Each kind of character, so that the cut meets each at each position. */
	for (size_t shift = 0; shift < 8; shift++) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = i < shift ? 'x' : '\x01';
		(void)diag_quote(out, bytes, sizeof(bytes));
		ck_assert_uint_lt(strlen(out), DIAG_QUOTE_MAX);
		ck_assert_uint_gt(strlen(out), 100);
		ck_assert_str_eq(out + strlen(out) - 4, "...'");
	}
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = "\xf0\x9f\x98\x80"[i % 4];
	(void)diag_quote(out, bytes, sizeof(bytes));
	ck_assert_uint_lt(strlen(out), DIAG_QUOTE_MAX);
	/* Whole characters between the quotes. */
	ck_assert_uint_eq((strlen(out) - 5) % 4, 0);
	ck_assert_str_eq(out + strlen(out) - 4, "...'");
}
END_TEST

START_TEST(text_that_just_fits_is_not_cut)
{
	char bytes[DIAG_QUOTE_MAX];
	char out[DIAG_QUOTE_MAX];
	size_t whole = 0;

	memset(bytes, 'x', sizeof(bytes));
	for (size_t len = 0; len < sizeof(bytes); len++) {
		(void)diag_quote(out, bytes, len);
		if (strstr(out, "...") == NULL) {
			ck_assert_uint_eq(strlen(out), len + 2);
			whole = len;
		}
	}
	ck_assert_uint_ge(whole, 100);
}
END_TEST

START_TEST(a_quoted_name_can_stand_inside_a_call)
{
	struct diag diag;

	(void)diag_fail(&diag, -EEXIST, "%s and %s", DIAG_QUOTED("a", 1),
			DIAG_QUOTED("b", 1));
	ck_assert_str_eq(diag.text, "'a' and 'b'");
}
END_TEST

static TCase *sentences_case(void)
{
	TCase *tcase = tcase_create("sentences");

	tcase_add_test(tcase, the_error_is_returned_and_the_words_are_kept);
	tcase_add_test(tcase, a_sentence_that_is_too_long_is_cut);
	tcase_add_test(tcase, a_prefix_stands_in_front);
	tcase_add_test(tcase, an_empty_sentence_takes_a_prefix);
	tcase_add_test(tcase, a_prefix_never_pushes_the_whole_sentence_out);
	tcase_add_test(tcase, a_full_sentence_is_cut_at_its_end_by_a_prefix);
	return tcase;
}

static TCase *quoting_case(void)
{
	TCase *tcase = tcase_create("quoting");

	tcase_add_test(tcase, printable_text_is_shown_as_it_is);
	tcase_add_test(tcase, control_characters_become_escapes);
	tcase_add_test(tcase, quotes_and_backslashes_become_escapes);
	tcase_add_test(tcase, invalid_utf8_becomes_escapes);
	tcase_add_test(tcase, long_text_is_cut_and_says_so);
	tcase_add_test(tcase, text_that_just_fits_is_not_cut);
	tcase_add_test(tcase, a_quoted_name_can_stand_inside_a_call);
	return tcase;
}

UNIT_MAIN("diag", sentences_case, quoting_case)
