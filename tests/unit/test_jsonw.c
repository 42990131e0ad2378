#include <float.h>
#include <math.h>
#include <stdint.h>

#include "unit.h"
#include "util/jsonw.h"

/* What one call writes. */
#define expect_json(expected, ...)                       \
	do {                                             \
		CLEANUP(strbuf_fini) struct strbuf text; \
		struct jsonw json;                       \
		struct jsonw *w = &json;                 \
                                                         \
		strbuf_init(&text);                      \
		jsonw_init(w, &text);                    \
		__VA_ARGS__;                             \
		ck_assert_int_eq(text.err, 0);           \
		ck_assert_str_eq(text.data, (expected)); \
	} while (0)

START_TEST(objects_and_arrays_nest_with_commas_where_they_belong)
{
	expect_json("{\"a\":[],\"b\":[1,[2],{\"c\":{}},3],\"d\":null}", {
		jsonw_begin_object(w);
		jsonw_key(w, "a");
		jsonw_begin_array(w);
		jsonw_end_array(w);
		jsonw_key(w, "b");
		jsonw_begin_array(w);
		jsonw_u64(w, 1);
		jsonw_begin_array(w);
		jsonw_u64(w, 2);
		jsonw_end_array(w);
		jsonw_begin_object(w);
		jsonw_key(w, "c");
		jsonw_begin_object(w);
		jsonw_end_object(w);
		jsonw_end_object(w);
		jsonw_u64(w, 3);
		jsonw_end_array(w);
		jsonw_key(w, "d");
		jsonw_null(w);
		jsonw_end_object(w);
	});
}
END_TEST

START_TEST(raw_text_takes_the_place_of_a_value)
{
	expect_json("[{\"x\":1},2]", {
		jsonw_begin_array(w);
		jsonw_raw(w, "{\"x\":1}###", 7);
		jsonw_u64(w, 2);
		jsonw_end_array(w);
	});
}
END_TEST

START_TEST(a_key_may_hold_any_byte)
{
	expect_json("{\"a\\u0000\\\"\\udcff\":true,\"\":false}", {
		jsonw_begin_object(w);
		jsonw_key_bytes(w, "a\0\"\xff", 4);
		jsonw_bool(w, true);
		jsonw_key_bytes(w, "", 0);
		jsonw_bool(w, false);
		jsonw_end_object(w);
	});
}
END_TEST

START_TEST(whole_numbers_are_exact)
{
	expect_json("0", jsonw_u64(w, 0));
	expect_json("9007199254740993", jsonw_u64(w, 9007199254740993));
	expect_json("18446744073709551615", jsonw_u64(w, UINT64_MAX));
	expect_json("-1", jsonw_i64(w, -1));
	expect_json("-9223372036854775808", jsonw_i64(w, INT64_MIN));
	expect_json("9223372036854775807", jsonw_i64(w, INT64_MAX));
}
END_TEST

START_TEST(floats_come_back_from_9_digits_and_doubles_from_17)
{
	static const double doubles[] = { 0.1,     1.0 / 3, DBL_MAX, DBL_MIN, 5e-324,
					  -1e-300, 1e22,    M_PI,    -0.0 };
	static const float floats[] = { 0.1f,   1.0f / 3, FLT_MAX, FLT_MIN,
					1e-45f, -1e10f,   3.14f };

	for (size_t i = 0; i < ARRAY_LEN(doubles); i++) {
		CLEANUP(strbuf_fini) struct strbuf text;
		struct jsonw w;

		strbuf_init(&text);
		jsonw_init(&w, &text);
		jsonw_double(&w, doubles[i], 17);
		ck_assert(strtod(text.data, NULL) == doubles[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(floats); i++) {
		CLEANUP(strbuf_fini) struct strbuf text;
		struct jsonw w;

		strbuf_init(&text);
		jsonw_init(&w, &text);
		jsonw_double(&w, (double)floats[i], 9);
		ck_assert(strtof(text.data, NULL) == floats[i]);
	}
}
END_TEST

START_TEST(numbers_that_json_lacks_become_strings)
{
	expect_json("[\"NaN\",\"Infinity\",\"-Infinity\",1.5]", {
		jsonw_begin_array(w);
		jsonw_double(w, (double)NAN, 9);
		jsonw_double(w, (double)INFINITY, 9);
		jsonw_double(w, -(double)INFINITY, 9);
		jsonw_double(w, 1.5, 9);
		jsonw_end_array(w);
	});
}
END_TEST

START_TEST(quotes_backslashes_and_control_characters_are_escaped)
{
	expect_json("\"\\\"\\\\\\n\\t\\r\"", jsonw_string(w, "\"\\\n\t\r"));
	expect_json("\"\\u0000\\u0001\\u001b\\u001f \\u007f\"",
		    jsonw_string_bytes(w, "\0\1\33\37 \177", 6));
	expect_json("\"\"", jsonw_string(w, ""));
	expect_json("\"/<&\"", jsonw_string(w, "/<&"));
}
END_TEST

START_TEST(valid_utf_8_is_written_as_it_is)
{
	expect_json("\"\xc3\xa9 \xe2\x96\x81 \xf0\x9f\x98\x80\"",
		    jsonw_string(w, "\xc3\xa9 \xe2\x96\x81 \xf0\x9f\x98\x80"));
}
END_TEST

START_TEST(other_bytes_become_lone_surrogates_one_by_one)
{
	expect_json("\"\\udc80\\udcff\"", jsonw_string(w, "\x80\xff"));
	/* Cut: the first two bytes of a character of three. */
	expect_json("\"a\\udce2\\udc96\"", jsonw_string(w, "a\xe2\x96"));
	/* Overlong, a surrogate, above U+10FFFF. */
	expect_json("\"\\udcc0\\udc80\"", jsonw_string(w, "\xc0\x80"));
	expect_json("\"\\udced\\udcb3\\udcbf\"", jsonw_string(w, "\xed\xb3\xbf"));
	expect_json("\"\\udcf4\\udc90\\udc80\\udc80\"",
		    jsonw_string(w, "\xf4\x90\x80\x80"));
	expect_json("\"\\udcff\xc3\xa9\"", jsonw_string(w, "\xff\xc3\xa9"));
}
END_TEST

START_TEST(no_byte_of_a_cut_character_is_read_behind_the_length)
{
	expect_json("\"\\udcc3\"", jsonw_string_bytes(w, "\xc3\xa9", 1));
	expect_json("\"\\udcf0\\udc9f\\udc98\"",
		    jsonw_string_bytes(w, "\xf0\x9f\x98\x80", 3));
}
END_TEST

START_TEST(counting_gives_the_length_of_the_text)
{
	struct strbuf count;
	struct jsonw w;

	strbuf_init_counting(&count);
	jsonw_init(&w, &count);
	jsonw_begin_object(&w);
	jsonw_key(&w, "a\n");
	jsonw_double(&w, 0.1, 17);
	jsonw_end_object(&w);
	ck_assert_uint_eq(count.len, strlen("{\"a\\n\":0.10000000000000001}"));
}
END_TEST

static TCase *jsonw_case(void)
{
	TCase *t = tcase_create("jsonw");

	tcase_add_test(t, objects_and_arrays_nest_with_commas_where_they_belong);
	tcase_add_test(t, raw_text_takes_the_place_of_a_value);
	tcase_add_test(t, a_key_may_hold_any_byte);
	tcase_add_test(t, whole_numbers_are_exact);
	tcase_add_test(t, floats_come_back_from_9_digits_and_doubles_from_17);
	tcase_add_test(t, numbers_that_json_lacks_become_strings);
	tcase_add_test(t, quotes_backslashes_and_control_characters_are_escaped);
	tcase_add_test(t, valid_utf_8_is_written_as_it_is);
	tcase_add_test(t, other_bytes_become_lone_surrogates_one_by_one);
	tcase_add_test(t, no_byte_of_a_cut_character_is_read_behind_the_length);
	tcase_add_test(t, counting_gives_the_length_of_the_text);
	return t;
}

UNIT_MAIN("jsonw", jsonw_case)
