#include <errno.h>

#include "parsers/json_scan.h"
#include "unit.h"

/* Texts start at byte 0 here, so that an error's offset is the position in the text. */
static void start(struct json_scan *s, const char *text, struct diag *diag)
{
	*diag = (struct diag){ 0 };
	json_scan_init(s, text, strlen(text), "header", 0, diag);
}

/* Skips `text` as one document. */
static int skip_bytes(const char *text, size_t len, struct diag *diag)
{
	/* Exactly as long as the text, for AddressSanitizer. */
	char *copy = len > 0 ? malloc(len) : NULL;
	struct json_scan s;
	int err;

	if (len > 0)
		memcpy(copy, text, len);
	*diag = (struct diag){ 0 };
	json_scan_init(&s, copy, len, "header", 0, diag);
	err = json_scan_skip(&s);
	if (err == 0)
		err = json_scan_end(&s);
	json_scan_fini(&s);
	free(copy);
	return err;
}

static void expect_valid(const char *text)
{
	struct diag diag;

	ck_assert_msg(skip_bytes(text, strlen(text), &diag) == 0, "%s: %s", text,
		      diag.text);
}

static void expect_invalid(const char *text, const char *words)
{
	struct diag diag;

	ck_assert_int_eq(skip_bytes(text, strlen(text), &diag), -EBADMSG);
	ck_assert_str_eq(diag.text, words);
}

/* ---- Skipping ---- */

START_TEST(any_valid_document_can_be_skipped)
{
	expect_valid("{}");
	expect_valid("[]");
	expect_valid(" [ 1 , 2 ] ");
	expect_valid("{\"a\":{\"b\":[true,false,null,\"\"]},\"c\":[[],{}]}");
	expect_valid("\"text\"");
	expect_valid("null");
	expect_valid("\t\r\n 7");
}
END_TEST

START_TEST(any_valid_number_can_be_skipped)
{
	expect_valid(
		"[0,-0,1,10,-1.5,1e5,1E+5,1.25e-300,123456789012345678901234567890]");
}
END_TEST

START_TEST(a_malformed_number_is_refused_also_when_skipped)
{
	expect_invalid("-", "header at byte 1: expected a digit, found the end of the "
			    "header");
	expect_invalid("01", "header at byte 0: number with a leading zero");
	expect_invalid("-012", "header at byte 1: number with a leading zero");
	expect_invalid("1.", "header at byte 2: expected a digit, found the end of the "
			     "header");
	expect_invalid("[1.x]", "header at byte 3: expected a digit, found 'x'");
	expect_invalid("1e", "header at byte 2: expected a digit, found the end of the "
			     "header");
	expect_invalid("1e+]", "header at byte 3: expected a digit, found ']'");
	expect_invalid(".5", "header at byte 0: expected a value, found '.'");
	expect_invalid("+5", "header at byte 0: expected a value, found '+'");
	expect_invalid("0x1", "header at byte 1: expected nothing but white space, found "
			      "'x'");
}
END_TEST

START_TEST(literals_are_spelled_exactly)
{
	expect_invalid("nul", "header at byte 0: expected a value, found 'n'");
	expect_invalid("True", "header at byte 0: expected a value, found 'T'");
	expect_invalid("truex", "header at byte 4: expected nothing but white space, "
				"found 'x'");
	expect_invalid("fals", "header at byte 0: expected a value, found 'f'");
}
END_TEST

START_TEST(brackets_must_match)
{
	expect_invalid("[1}", "header at byte 2: expected ',' or ']', found '}'");
	expect_invalid("{\"a\":1]", "header at byte 6: expected ',' or '}', found ']'");
	expect_invalid("]", "header at byte 0: expected a value, found ']'");
	expect_invalid("[[]", "header at byte 3: expected ',' or ']', found the end of "
			      "the header");
	expect_invalid("[", "header at byte 1: expected a value, found the end of the "
			    "header");
}
END_TEST

START_TEST(commas_separate_and_never_end)
{
	expect_invalid("[1,]", "header at byte 3: expected a value, found ']'");
	expect_invalid("[,1]", "header at byte 1: expected a value, found ','");
	expect_invalid("[1 2]", "header at byte 3: expected ',' or ']', found '2'");
	expect_invalid("{\"a\":1,}", "header at byte 7: expected a key in quotes, found "
				     "'}'");
	expect_invalid("{,}", "header at byte 1: expected a key in quotes, found ','");
	expect_invalid("{\"a\":1 \"b\":2}", "header at byte 7: expected ',' or '}', "
					    "found '\"'");
}
END_TEST

START_TEST(keys_are_strings_with_a_colon)
{
	expect_invalid("{a:1}", "header at byte 1: expected a key in quotes, found 'a'");
	expect_invalid("{'a':1}",
		       "header at byte 1: expected a key in quotes, found '''");
	expect_invalid("{\"a\"}", "header at byte 4: expected ':' behind a key, found "
				  "'}'");
	expect_invalid("{\"a\" 1}", "header at byte 5: expected ':' behind a key, found "
				    "'1'");
	expect_invalid("{1:2}", "header at byte 1: expected a key in quotes, found '1'");
}
END_TEST

START_TEST(nothing_is_no_document)
{
	expect_invalid("", "header at byte 0: expected a value, found the end of the "
			   "header");
	expect_invalid(" \n", "header at byte 2: expected a value, found the end of the "
			      "header");
}
END_TEST

START_TEST(nesting_ends_at_sixteen_levels)
{
	struct diag diag;

	expect_valid("[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]");
	expect_valid("{\"\":[{\"\":[{\"\":[{\"\":[{\"\":[{\"\":[{\"\":[{\"\":[1,2]}]}]}]}"
		     "]}]}]}]}");
	ck_assert_int_eq(skip_bytes("[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", 34, &diag),
			 -E2BIG);
	ck_assert_str_eq(diag.text, "header at byte 16: nested deeper than 16 levels of "
				    "brackets");
}
END_TEST

START_TEST(depth_counts_only_open_brackets)
{
	expect_valid("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]");
}
END_TEST

/* ---- Strings ---- */

static void expect_string(const char *text, const char *bytes, size_t len)
{
	struct json_text string;
	struct json_scan s;
	struct diag diag;

	start(&s, text, &diag);
	ck_assert_msg(json_scan_string(&s, &string) == 0, "%s", diag.text);
	ck_assert_int_eq(json_scan_end(&s), 0);
	ck_assert_uint_eq(string.len, len);
	ck_assert_ptr_nonnull(string.bytes);
	ck_assert_mem_eq(string.bytes, bytes, len);
	json_scan_fini(&s);
}

START_TEST(a_string_without_escapes_is_not_copied)
{
	static const char source[] = " \"a.weight\"";
	struct json_text string;
	struct json_scan s;
	struct diag diag;

	start(&s, source, &diag);
	ck_assert_int_eq(json_scan_string(&s, &string), 0);
	ck_assert_ptr_eq(string.bytes, source + 2);
	ck_assert_uint_eq(string.len, 8);
	json_scan_fini(&s);
}
END_TEST

START_TEST(an_empty_string_is_a_string)
{
	expect_string("\"\"", "", 0);
}
END_TEST

START_TEST(every_escape_is_resolved)
{
	expect_string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8);
	expect_string("\"\\u0000\"", "\0", 1);
	expect_string("\"\\u0041\\u00e9\\u20AC\\uffff\"",
		      "A\xc3\xa9\xe2\x82\xac\xef\xbf\xbf", 9);
	expect_string("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 4);
	expect_string("\"\\uDBFF\\uDFFF\"", "\xf4\x8f\xbf\xbf", 4);
	expect_string("\"\\ud800\\udc00\"", "\xf0\x90\x80\x80", 4);
	expect_string("\"a\\nb\\nc\"", "a\nb\nc", 5);
	expect_string("\"\\\\u0041\"", "\\u0041", 6);
}
END_TEST

START_TEST(escaped_strings_stay_valid_after_the_next_one)
{
	struct json_text key;
	struct json_text value;
	struct json_scan s;
	struct diag diag;
	bool more;

	start(&s, "{\"k\\u0065y\":\"v\\u0061lue\"}", &diag);
	ck_assert_int_eq(json_scan_begin_object(&s), 0);
	ck_assert_int_eq(json_scan_next_key(&s, &more, &key), 0);
	ck_assert(more);
	ck_assert_int_eq(json_scan_string(&s, &value), 0);
	ck_assert_mem_eq(key.bytes, "key", 3);
	ck_assert_mem_eq(value.bytes, "value", 5);
	json_scan_fini(&s);
}
END_TEST

#define BAD_ESCAPE "header at byte 1: invalid escape in a string"

START_TEST(unknown_and_cut_escapes_are_refused)
{
	expect_invalid("\"\\x41\"", BAD_ESCAPE);
	expect_invalid("\"\\'\"", BAD_ESCAPE);
	expect_invalid("\"\\U0041\"", BAD_ESCAPE);
	expect_invalid("\"\\u004\"", BAD_ESCAPE);
	expect_invalid("\"\\u00g0\"", BAD_ESCAPE);
	expect_invalid("\"\\u+041\"", BAD_ESCAPE);
	expect_invalid("\"\\u004", BAD_ESCAPE);
	expect_invalid("\"\\", BAD_ESCAPE);
}
END_TEST

START_TEST(an_escaped_nul_byte_is_refused)
{
	struct diag diag;

	ck_assert_int_eq(skip_bytes("\"\\\0\"", 4, &diag), -EBADMSG);
	ck_assert_str_eq(diag.text, BAD_ESCAPE);
}
END_TEST

START_TEST(lone_surrogates_are_refused)
{
	expect_invalid("\"\\ud800\"", BAD_ESCAPE);
	expect_invalid("\"\\udbff\"", BAD_ESCAPE);
	expect_invalid("\"\\udc00\"", BAD_ESCAPE);
	expect_invalid("\"\\udfff\\ud800\"", BAD_ESCAPE);
	expect_invalid("\"\\udc00\\udc00\"", BAD_ESCAPE);
	expect_invalid("\"\\ud800\\n12345\"", BAD_ESCAPE);
	expect_invalid("\"\\ud800x12345\"", BAD_ESCAPE);
	expect_invalid("\"\\ud800\\ud800\"", BAD_ESCAPE);
	expect_invalid("\"\\ud800\\ue000\"", BAD_ESCAPE);
	expect_invalid("\"\\ud800\\udc0", BAD_ESCAPE);
	expect_invalid("\"\\ud800\\udc0g\"", BAD_ESCAPE);
}
END_TEST

START_TEST(control_characters_must_be_escaped)
{
	for (char c = 1; c < 0x20; c++) {
		char text[] = { '"', 'a', c, '"', '\0' };

		expect_invalid(text, "header at byte 2: raw control character in a "
				     "string");
	}
	expect_valid("\"\x7f\"");
}
END_TEST

START_TEST(invalid_utf8_is_refused)
{
	static const char *const bad[] = {
		"\"\xff\"",             /* never a byte of UTF-8 */
		"\"\x80\"",             /* continuation alone */
		"\"\xc3\"",             /* cut by the quote */
		"\"\xc0\xaf\"",         /* overlong */
		"\"\xe0\x80\xaf\"",     /* overlong */
		"\"\xed\xa0\x80\"",     /* surrogate */
		"\"\xf4\x90\x80\x80\"", /* above U+10FFFF */
		"\"\xe2\x82",           /* cut by the end */
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect_invalid(bad[i], "header at byte 1: invalid UTF-8 in a string");
}
END_TEST

START_TEST(invalid_utf8_outside_of_strings_is_no_token)
{
	expect_invalid("[\xc3\xa9]", "header at byte 1: expected a value, found byte "
				     "0xc3");
}
END_TEST

START_TEST(a_string_must_end)
{
	expect_invalid("\"abc", "header at byte 4: expected '\"' behind a string, found "
				"the end of the header");
	expect_invalid("\"abc\\\"", "header at byte 6: expected '\"' behind a string, "
				    "found the end of the header");
}
END_TEST

/* ---- Numbers ---- */

static int scan_u64(const char *text, uint64_t *value, struct diag *diag)
{
	struct json_scan s;
	int err;

	start(&s, text, diag);
	err = json_scan_u64(&s, value);
	json_scan_fini(&s);
	return err;
}

START_TEST(numbers_are_exact_up_to_64_bits)
{
	static const struct {
		const char *text;
		uint64_t value;
	} good[] = {
		{ "0", 0 },
		{ " 7", 7 },
		{ "10]", 10 },
		{ "9007199254740993", 9007199254740993 }, /* no double has it */
		{ "18446744073709551615", UINT64_MAX },
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct diag diag;
		uint64_t value;

		ck_assert_int_eq(scan_u64(good[i].text, &value, &diag), 0);
		ck_assert_uint_eq(value, good[i].value);
	}
}
END_TEST

static void expect_no_u64(const char *text, const char *words)
{
	uint64_t value = 42;
	struct diag diag;

	ck_assert_int_eq(scan_u64(text, &value, &diag), -EBADMSG);
	ck_assert_str_eq(diag.text, words);
	ck_assert_uint_eq(value, 42);
}

START_TEST(a_number_that_does_not_fit_is_refused)
{
	expect_no_u64("18446744073709551616", "header at byte 0: number above 2^64 - 1");
	expect_no_u64("18446744073709551620", "header at byte 0: number above 2^64 - 1");
	expect_no_u64("99999999999999999999999999999",
		      "header at byte 0: number above 2^64 - 1");
}
END_TEST

START_TEST(anything_but_digits_is_no_whole_number)
{
	expect_no_u64("", "header at byte 0: expected a whole number, found the end of "
			  "the header");
	expect_no_u64("-1", "header at byte 0: expected a whole number, found '-'");
	expect_no_u64("\"1\"", "header at byte 0: expected a whole number, found '\"'");
	expect_no_u64("null", "header at byte 0: expected a whole number, found 'n'");
	expect_no_u64("00", "header at byte 0: number with a leading zero");
	expect_no_u64("01", "header at byte 0: number with a leading zero");
	expect_no_u64("1.0", "header at byte 0: number with a fraction or an exponent");
	expect_no_u64("1e0", "header at byte 0: number with a fraction or an exponent");
	expect_no_u64("0E0", "header at byte 0: number with a fraction or an exponent");
}
END_TEST

/* ---- Pulling ---- */

START_TEST(members_come_one_after_the_other)
{
	struct json_text key;
	struct json_scan s;
	struct diag diag;
	uint64_t value;
	bool more;

	start(&s, " { \"a\" : [ 1 , 2 ] , \"b\" : null } ", &diag);
	ck_assert_int_eq(json_scan_peek(&s), JSON_OBJECT);
	ck_assert_int_eq(json_scan_begin_object(&s), 0);
	ck_assert_int_eq(json_scan_next_key(&s, &more, &key), 0);
	ck_assert(more);
	ck_assert_mem_eq(key.bytes, "a", 1);
	ck_assert_int_eq(json_scan_peek(&s), JSON_ARRAY);
	ck_assert_int_eq(json_scan_begin_array(&s), 0);
	for (uint64_t i = 1; i <= 2; i++) {
		ck_assert_int_eq(json_scan_next_element(&s, &more), 0);
		ck_assert(more);
		ck_assert_int_eq(json_scan_peek(&s), JSON_NUMBER);
		ck_assert_int_eq(json_scan_u64(&s, &value), 0);
		ck_assert_uint_eq(value, i);
	}
	ck_assert_int_eq(json_scan_next_element(&s, &more), 0);
	ck_assert(!more);
	ck_assert_int_eq(json_scan_next_key(&s, &more, &key), 0);
	ck_assert(more);
	ck_assert_mem_eq(key.bytes, "b", 1);
	ck_assert_int_eq(json_scan_peek(&s), JSON_LITERAL);
	ck_assert_int_eq(json_scan_null(&s), 0);
	ck_assert_int_eq(json_scan_next_key(&s, &more, &key), 0);
	ck_assert(!more);
	ck_assert_int_eq(json_scan_end(&s), 0);
	json_scan_fini(&s);
}
END_TEST

START_TEST(a_value_between_members_can_be_skipped)
{
	struct json_text key;
	struct json_scan s;
	struct diag diag;
	uint64_t value;
	bool more;

	start(&s, "{\"x\":{\"y\":[[],{}]},\"z\":3}", &diag);
	ck_assert_int_eq(json_scan_begin_object(&s), 0);
	ck_assert_int_eq(json_scan_next_key(&s, &more, &key), 0);
	ck_assert_int_eq(json_scan_skip(&s), 0);
	ck_assert_int_eq(json_scan_next_key(&s, &more, &key), 0);
	ck_assert(more);
	ck_assert_mem_eq(key.bytes, "z", 1);
	ck_assert_int_eq(json_scan_u64(&s, &value), 0);
	ck_assert_uint_eq(value, 3);
	json_scan_fini(&s);
}
END_TEST

START_TEST(peek_tells_the_kind_from_the_first_byte)
{
	static const struct {
		const char *text;
		enum json_kind kind;
	} kinds[] = {
		{ "{", JSON_OBJECT },  { "[", JSON_ARRAY },    { "\"", JSON_STRING },
		{ "0", JSON_NUMBER },  { "-", JSON_NUMBER },   { "t", JSON_LITERAL },
		{ "f", JSON_LITERAL }, { " n", JSON_LITERAL }, { "", JSON_NOTHING },
		{ "}", JSON_NOTHING }, { "x", JSON_NOTHING },
	};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct json_scan s;
		struct diag diag;

		start(&s, kinds[i].text, &diag);
		ck_assert_int_eq(json_scan_peek(&s), kinds[i].kind);
		json_scan_fini(&s);
	}
}
END_TEST

START_TEST(the_wrong_type_is_refused)
{
	struct json_text text;
	struct json_scan s;
	struct diag diag;

	start(&s, "[]", &diag);
	ck_assert_int_eq(json_scan_begin_object(&s), -EBADMSG);
	ck_assert_str_eq(diag.text, "header at byte 0: expected '{', found '['");
	start(&s, "{}", &diag);
	ck_assert_int_eq(json_scan_begin_array(&s), -EBADMSG);
	ck_assert_str_eq(diag.text, "header at byte 0: expected '[', found '{'");
	start(&s, "1", &diag);
	ck_assert_int_eq(json_scan_string(&s, &text), -EBADMSG);
	ck_assert_str_eq(diag.text, "header at byte 0: expected a string, found '1'");
	start(&s, "nil", &diag);
	ck_assert_int_eq(json_scan_null(&s), -EBADMSG);
	ck_assert_str_eq(diag.text, "header at byte 0: expected null, found 'n'");
}
END_TEST

START_TEST(offsets_are_those_of_the_file)
{
	struct json_scan s;
	struct diag diag;

	json_scan_init(&s, " x", 2, "index", 1000, &diag);
	ck_assert_uint_eq(json_scan_pos(&s), 1000);
	ck_assert_int_eq(json_scan_skip(&s), -EBADMSG);
	ck_assert_str_eq(diag.text, "index at byte 1001: expected a value, found 'x'");
	json_scan_fini(&s);
}
END_TEST

static TCase *skipping_case(void)
{
	TCase *tcase = tcase_create("skipping");

	tcase_add_test(tcase, any_valid_document_can_be_skipped);
	tcase_add_test(tcase, any_valid_number_can_be_skipped);
	tcase_add_test(tcase, a_malformed_number_is_refused_also_when_skipped);
	tcase_add_test(tcase, literals_are_spelled_exactly);
	tcase_add_test(tcase, brackets_must_match);
	tcase_add_test(tcase, commas_separate_and_never_end);
	tcase_add_test(tcase, keys_are_strings_with_a_colon);
	tcase_add_test(tcase, nothing_is_no_document);
	tcase_add_test(tcase, nesting_ends_at_sixteen_levels);
	tcase_add_test(tcase, depth_counts_only_open_brackets);
	return tcase;
}

static TCase *strings_case(void)
{
	TCase *tcase = tcase_create("strings");

	tcase_add_test(tcase, a_string_without_escapes_is_not_copied);
	tcase_add_test(tcase, an_empty_string_is_a_string);
	tcase_add_test(tcase, every_escape_is_resolved);
	tcase_add_test(tcase, escaped_strings_stay_valid_after_the_next_one);
	tcase_add_test(tcase, unknown_and_cut_escapes_are_refused);
	tcase_add_test(tcase, an_escaped_nul_byte_is_refused);
	tcase_add_test(tcase, lone_surrogates_are_refused);
	tcase_add_test(tcase, control_characters_must_be_escaped);
	tcase_add_test(tcase, invalid_utf8_is_refused);
	tcase_add_test(tcase, invalid_utf8_outside_of_strings_is_no_token);
	tcase_add_test(tcase, a_string_must_end);
	return tcase;
}

static TCase *numbers_case(void)
{
	TCase *tcase = tcase_create("numbers");

	tcase_add_test(tcase, numbers_are_exact_up_to_64_bits);
	tcase_add_test(tcase, a_number_that_does_not_fit_is_refused);
	tcase_add_test(tcase, anything_but_digits_is_no_whole_number);
	return tcase;
}

static TCase *pulling_case(void)
{
	TCase *tcase = tcase_create("pulling");

	tcase_add_test(tcase, members_come_one_after_the_other);
	tcase_add_test(tcase, a_value_between_members_can_be_skipped);
	tcase_add_test(tcase, peek_tells_the_kind_from_the_first_byte);
	tcase_add_test(tcase, the_wrong_type_is_refused);
	tcase_add_test(tcase, offsets_are_those_of_the_file);
	return tcase;
}

UNIT_MAIN("json_scan", skipping_case, strings_case, numbers_case, pulling_case)
