#include <errno.h>

#include "mountctl/json.h"
#include "unit.h"

static struct json parsed(const char *text)
{
	struct json value = { 0 };

	ck_assert_int_eq(json_parse(text, strlen(text), &value), 0);
	return value;
}

static void assert_decoded(const char *json, const void *bytes, size_t len)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };

	json_add_string(&out, parsed(json));
	ck_assert_uint_eq(out.len, len);
	if (len > 0)
		ck_assert_mem_eq(out.data, bytes, len);
}

/* ---- Walking ---- */

START_TEST(members_are_found_by_name)
{
	struct json object =
		parsed(" {\"a\": 1, \"b\" : {\"a\": 2}, \"c\": [3, {\"a\": 4}]} \n");

	ck_assert_uint_eq(json_u64(json_get(object, "a")), 1);
	ck_assert_uint_eq(json_u64(json_get(json_get(object, "b"), "a")), 2);
	ck_assert_uint_eq(json_count(json_get(object, "c")), 2);
	ck_assert_int_eq(json_type(json_get(object, "d")), JSON_NONE);
}
END_TEST

START_TEST(a_longer_name_is_another_member)
{
	struct json object = parsed("{\"weight.bias\": 1, \"weight\": 2}");

	ck_assert_uint_eq(json_u64(json_get(object, "weight")), 2);
}
END_TEST

START_TEST(brackets_and_quotes_in_strings_do_not_count)
{
	struct json object = parsed("{\"a\": \"}]\\\"{[\", \"b\": 5}");

	ck_assert_uint_eq(json_u64(json_get(object, "b")), 5);
	ck_assert_uint_eq(json_count(object), 2);
}
END_TEST

START_TEST(empty_containers_have_no_elements)
{
	ck_assert_uint_eq(json_count(parsed("[ ]")), 0);
	ck_assert_uint_eq(json_count(parsed("{}")), 0);
	ck_assert_uint_eq(json_count(parsed("7")), 0);
}
END_TEST

START_TEST(no_value_is_walked_like_an_empty_one)
{
	struct json none = { 0 };

	ck_assert_uint_eq(json_count(none), 0);
	ck_assert_int_eq(json_type(json_get(none, "a")), JSON_NONE);
	ck_assert_uint_eq(json_u64(none), 0);
	ck_assert(!json_is_true(none));
}
END_TEST

START_TEST(broken_documents_are_refused)
{
	static const char *const texts[] = { "",        " ",          "{",   "[1, 2",
					     "\"abc",   "\"\\",       "1 2", "{} x",
					     ",",       "{\"a\": \"", "]",   "{[}",
					     "\"a\\\"", "[\"]" };
	struct json value;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		ck_assert_msg(json_parse(texts[i], strlen(texts[i]), &value) == -EBADMSG,
			      "accepted: %s", texts[i]);
}
END_TEST

START_TEST(a_walk_ends_where_the_text_is_no_json)
{
	static const char *const texts[] = {
		"{\"a\" 1}", "{1: 2}", "{\"a\":}", "{\"a\"}", "[,]", "[1 2]", "{:}", "[}",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		ck_assert_uint_le(json_count(parsed(texts[i])), 1);
}
END_TEST

START_TEST(every_prefix_of_a_document_is_read_within_its_bounds)
{
	static const char text[] =
		"{\"a\": [1, \"x\\u00e9\\\"\", {\"b\": true}], \"c\": -1.5e3}";
	struct json value;

	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		/* On the heap and of just this size, so that a sanitizer sees one byte
		 * too far. */
		char *copy = malloc(len + 1);

		ck_assert_ptr_nonnull(copy);
		memcpy(copy + 1, text, len);
		ck_assert_int_eq(json_parse(copy + 1, len, &value), -EBADMSG);
		free(copy);
	}
}
END_TEST

/* ---- Values ---- */

START_TEST(integers_are_exact_up_to_64_bits)
{
	ck_assert_uint_eq(json_u64(parsed("9007199254740993")), 9007199254740993u);
	ck_assert_uint_eq(json_u64(parsed("18446744073709551615")), UINT64_MAX);
	ck_assert_uint_eq(json_u64(parsed("18446744073709551616")), 0);
	ck_assert_uint_eq(json_u64(parsed("-1")), 0);
	ck_assert_uint_eq(json_u64(parsed("1.0")), 0);
	ck_assert_uint_eq(json_u64(parsed("\"1\"")), 0);
}
END_TEST

START_TEST(doubles_are_read)
{
	ck_assert_double_eq(json_double(parsed("12.5")), 12.5);
	ck_assert_double_eq(json_double(parsed("\"12.5\"")), 0);
}
END_TEST

START_TEST(escapes_are_decoded)
{
	assert_decoded("\"a\\n\\t\\\"\\\\\\/\"", "a\n\t\"\\/", 6);
	assert_decoded("\"\\u0041\\u00e9\\u20ac\"", "A\xc3\xa9\xe2\x82\xac", 6);
	assert_decoded("\"x\\u0000y\"", "x\0y", 3);
	assert_decoded("\"\"", "", 0);
	assert_decoded("17", "", 0);
}
END_TEST

START_TEST(surrogate_pairs_are_one_character)
{
	assert_decoded("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 4);
	assert_decoded("\"\\ud83dx\"", "\xef\xbf\xbdx", 4);
	assert_decoded("\"\\udc00\"", "\xef\xbf\xbd", 3);
}
END_TEST

START_TEST(lone_surrogates_give_the_bytes_back_that_are_no_utf8)
{
	assert_decoded("\"a\\udcff\\udc80\"", "a\xff\x80", 3);
}
END_TEST

START_TEST(an_escape_that_ends_early_ends_the_string)
{
	assert_decoded("\"ab\\u12\"", "ab", 2);
	assert_decoded("\"ab\\u12zz\"", "ab", 2);
}
END_TEST

START_TEST(printable_copies_have_no_control_characters)
{
	CLEANUP(free_ptr)
	char *text = json_dup_printable(parsed("\"a\\u001b[31m\\u0000\""));
	CLEANUP(free_ptr) char *none = json_dup_printable((struct json){ 0 });

	ck_assert_str_eq(text, "a\\x1b[31m\\x00");
	ck_assert_str_eq(none, "");
}
END_TEST

static TCase *walking_case(void)
{
	TCase *tcase = tcase_create("walking");

	tcase_add_test(tcase, members_are_found_by_name);
	tcase_add_test(tcase, a_longer_name_is_another_member);
	tcase_add_test(tcase, brackets_and_quotes_in_strings_do_not_count);
	tcase_add_test(tcase, empty_containers_have_no_elements);
	tcase_add_test(tcase, no_value_is_walked_like_an_empty_one);
	tcase_add_test(tcase, broken_documents_are_refused);
	tcase_add_test(tcase, a_walk_ends_where_the_text_is_no_json);
	tcase_add_test(tcase, every_prefix_of_a_document_is_read_within_its_bounds);
	return tcase;
}

static TCase *values_case(void)
{
	TCase *tcase = tcase_create("values");

	tcase_add_test(tcase, integers_are_exact_up_to_64_bits);
	tcase_add_test(tcase, doubles_are_read);
	tcase_add_test(tcase, escapes_are_decoded);
	tcase_add_test(tcase, surrogate_pairs_are_one_character);
	tcase_add_test(tcase, lone_surrogates_give_the_bytes_back_that_are_no_utf8);
	tcase_add_test(tcase, an_escape_that_ends_early_ends_the_string);
	tcase_add_test(tcase, printable_copies_have_no_control_characters);
	return tcase;
}

UNIT_MAIN("json", walking_case, values_case)
