/*
 * The cases of the reference's own tests, the places where it is lax, and the bugs that
 * other implementations had. `header` is the JSON text as it stands in the file; zeros
 * follow as the bytes of the tensors.
 */
#include <errno.h>

#include "safetensors_file.h"
#include "unit.h"

/* ---- The reference's own tests ---- */

START_TEST(an_empty_file_is_too_short_for_the_length)
{
	expect_file_refused("", 0, -EBADMSG,
			    "header length at byte 0: needs 8 bytes, the file ends 0 "
			    "bytes later");
}
END_TEST

START_TEST(a_header_longer_than_the_file_is_refused)
{
	static const char start[] = "\x3c\0\0\0\0\0\0";

	expect_file_refused(
		start, 8, -EBADMSG,
		"header at byte 8: needs 60 bytes, the file ends 0 bytes later");
}
END_TEST

START_TEST(a_header_above_the_limit_is_refused)
{
	static const char start[] = "\x3c\0\0\0\0\xff\xff\xff";

	expect_file_refused(start, 8, -E2BIG,
			    "header length is 18446742974197923900 bytes, at most "
			    "100000000 are read");
}
END_TEST

START_TEST(the_limit_of_the_header_is_inclusive)
{
	static const char start[] = "\x01\xe1\xf5\x05\0\0\0";

	expect_file_refused(
		start, 8, -E2BIG,
		"header length is 100000001 bytes, at most 100000000 are read");
	expect_file_refused("\0\xe1\xf5\x05\0\0\0", 8, -EBADMSG,
			    "header at byte 8: needs 100000000 bytes, the file ends 0 "
			    "bytes later");
}
END_TEST

START_TEST(a_header_that_is_not_utf8_is_refused)
{
	expect_refused("\xff", 0, -EBADMSG,
		       "header at byte 8: expected '{', found byte 0xff");
}
END_TEST

START_TEST(a_name_that_is_not_utf8_is_refused)
{
	expect_refused("{\"a\xff\":null}", 0, -EBADMSG,
		       "header at byte 11: invalid UTF-8 in a string");
}
END_TEST

START_TEST(a_header_that_is_not_json_is_refused)
{
	expect_refused("{", 0, -EBADMSG,
		       "header at byte 9: expected a key in quotes, found the end of the "
		       "header");
}
END_TEST

START_TEST(an_empty_header_is_refused)
{
	expect_refused("", 0, -EBADMSG,
		       "header at byte 8: expected '{', found the end of the header");
}
END_TEST

START_TEST(a_tensor_of_zero_size_is_accepted)
{
	expect_accepted("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,0],\"data_offsets\":["
			"0,0]}}",
			0, 1, 0);
}
END_TEST

START_TEST(a_scalar_is_one_element)
{
	struct parsed parsed;
	const struct tensor *t;

	accept_header(
		"{\"test\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4,
		&parsed);
	t = model_find_tensor(parsed.model, "test", 4);
	ck_assert_ptr_nonnull(t);
	ck_assert_uint_eq(t->rank, 0);
	ck_assert_uint_eq(t->nbytes, 4);
	ck_assert_int_eq(t->dtype, DTYPE_I32);
	parsed_fini(&parsed);
}
END_TEST

START_TEST(a_size_that_contradicts_the_shape_is_refused)
{
	expect_refused("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":["
		       "0,4]}}",
		       4, -EBADMSG,
		       "tensor 'test': has 4 bytes, its dtype and shape need 16");
}
END_TEST

#define OVERFLOW_WORDS \
	"tensor 'test': its shape has more elements or bytes than 64 bits count"

START_TEST(a_shape_with_too_many_elements_is_refused)
{
	expect_refused("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,18446744073709551614],"
		       "\"data_offsets\":[0,16]}}",
		       16, -EBADMSG, OVERFLOW_WORDS);
}
END_TEST

START_TEST(a_shape_with_too_many_bytes_is_refused)
{
	expect_refused("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,9223372036854775807],"
		       "\"data_offsets\":[0,16]}}",
		       16, -EBADMSG, OVERFLOW_WORDS);
}
END_TEST

START_TEST(a_zero_dimension_hides_no_overflow_in_front_of_it)
{
	expect_refused("{\"test\":{\"dtype\":\"U8\",\"shape\":[18446744073709551615,2,0]"
		       ",\"data_offsets\":[0,0]}}",
		       0, -EBADMSG, OVERFLOW_WORDS);
	expect_accepted("{\"test\":{\"dtype\":\"U8\",\"shape\":[0,18446744073709551615,2]"
			",\"data_offsets\":[0,0]}}",
			0, 1, 0);
}
END_TEST

START_TEST(ten_tensors_in_the_same_bytes_are_refused)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	strbuf_init(&header);
	for (unsigned int i = 0; i < 10; i++)
		strbuf_addf(&header,
			    "%c\"t%u\":{\"dtype\":\"I32\",\"shape\":[2,2],"
			    "\"data_offsets\":[0,16]}",
			    i ? ',' : '{', i);
	strbuf_add_char(&header, '}');
	expect_refused(header.data, 16, -EBADMSG,
		       "tensor 't1': data_offsets begin at 0, inside tensor 't0', which "
		       "ends at 16");
}
END_TEST

#define ONE_TENSOR \
	"{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}"

START_TEST(bytes_behind_the_last_tensor_are_refused)
{
	CLEANUP(strbuf_fini) struct strbuf file;

	file_build(&file, ONE_TENSOR, strlen(ONE_TENSOR), 16);
	strbuf_add_str(&file, "extra_bogus_data_for_polyglot_file");
	expect_file_refused(file.data, file.len, -EBADMSG,
			    "the tensors end at byte 84, the file has 118 bytes");
}
END_TEST

START_TEST(data_that_is_two_bytes_short_is_refused)
{
	expect_refused(ONE_TENSOR, 14, -EBADMSG,
		       "tensor 'test': data ends at 84, file has 82 bytes");
}
END_TEST

START_TEST(packed_elements_must_fill_whole_bytes)
{
	expect_refused("{\"test\":{\"dtype\":\"F4\",\"shape\":[1,3],\"data_offsets\":[0,"
		       "1]}}",
		       1, -EBADMSG,
		       "tensor 'test': its shape does not fill whole blocks of 2 "
		       "elements of F4");
	expect_refused("{\"test\":{\"dtype\":\"F4\",\"shape\":[15],\"data_offsets\":[0,"
		       "8]}}",
		       8, -EBADMSG,
		       "tensor 'test': its shape does not fill whole blocks of 2 "
		       "elements of F4");
	expect_refused("{\"test\":{\"dtype\":\"F6_E2M3\",\"shape\":[3],"
		       "\"data_offsets\":[0,3]}}",
		       3, -EBADMSG,
		       "tensor 'test': its shape does not fill whole blocks of 4 "
		       "elements of F6_E2M3");
}
END_TEST

START_TEST(packed_elements_have_their_exact_size)
{
	expect_refused("{\"test\":{\"dtype\":\"F4\",\"shape\":[1,2],\"data_offsets\":[0,"
		       "2]}}",
		       2, -EBADMSG,
		       "tensor 'test': has 2 bytes, its dtype and shape need 1");
	expect_accepted("{\"test\":{\"dtype\":\"F4\",\"shape\":[1,2],\"data_offsets\":[0,"
			"1]}}",
			1, 1, 0);
	expect_accepted("{\"test\":{\"dtype\":\"F6_E3M2\",\"shape\":[4],"
			"\"data_offsets\":[0,3]}}",
			3, 1, 0);
}
END_TEST

START_TEST(white_space_behind_the_header_is_accepted)
{
	expect_accepted("{}\r \t\n", 0, 0, 0);
}
END_TEST

START_TEST(white_space_in_front_of_the_header_is_accepted_with_a_warning)
{
	struct parsed parsed;

	accept_header("\t\n{}\r ", 0, &parsed);
	ck_assert_uint_eq(model_warning_count(parsed.model), 1);
	ck_assert_str_eq(model_warning(parsed.model, 0),
			 "header at byte 8: white space in front of the '{'");
	parsed_fini(&parsed);
}
END_TEST

START_TEST(a_header_cut_in_half_is_refused)
{
	expect_bytes_refused(ONE_TENSOR, strlen(ONE_TENSOR) / 2, 0, -EBADMSG,
			     "tensor 'test': header at byte 38: expected ':' behind a "
			     "key, found the end of the header");
}
END_TEST

START_TEST(one_byte_too_many_behind_a_large_tensor_is_refused)
{
	expect_refused("{\"t\":{\"dtype\":\"F32\",\"shape\":[1024,1024],"
		       "\"data_offsets\":[0,4194304]}}",
		       4194305, -EBADMSG,
		       "the tensors end at byte 4194380, the file has 4194381 bytes");
}
END_TEST

START_TEST(a_length_that_was_overwritten_is_refused)
{
	CLEANUP(strbuf_fini) struct strbuf file;

	file_build(&file, ONE_TENSOR, strlen(ONE_TENSOR), 16);
	file.data[0] = (char)0xe8;
	file.data[1] = 3;
	expect_file_refused(
		file.data, file.len, -EBADMSG,
		"header at byte 8: needs 1000 bytes, the file ends 76 bytes later");
}
END_TEST

/* A header of `count` tensors that all claim the same bytes. */
static void add_clones(struct strbuf *header, unsigned int count)
{
	strbuf_init(header);
	for (unsigned int i = 0; i < count; i++)
		strbuf_addf(header,
			    "%c\"%u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":["
			    "0,1]}",
			    i ? ',' : '{', i);
	strbuf_add_char(header, '}');
	ck_assert_int_eq(header->err, 0);
}

START_TEST(a_hundred_thousand_tensors_in_one_byte_are_refused)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	add_clones(&header, 100000);
	expect_refused(header.data, 1, -EBADMSG,
		       "tensor '1': data_offsets begin at 0, inside tensor '0', which "
		       "ends at 1");
}
END_TEST

START_TEST(more_tensors_than_the_limit_are_refused)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	add_clones(&header, 1000001);
	expect_refused(header.data, 1, -E2BIG, "more than 1000000 tensors");
}
END_TEST

START_TEST(ten_million_tensors_do_not_fit_the_header)
{
	CLEANUP(strbuf_fini) struct strbuf file;

	/* Their header would have 560 MB. */
	strbuf_init(&file);
	file_add_u64(&file, 560000000);
	strbuf_add_char(&file, '{');
	expect_file_refused(
		file.data, file.len, -E2BIG,
		"header length is 560000000 bytes, at most 100000000 are read");
}
END_TEST

/* ---- Where the reference is lax or surprising ---- */

START_TEST(a_tensor_name_that_occurs_twice_is_refused)
{
	expect_refused("{" U8_AT("t", "0", "4") "," U8_AT("t", "0", "4") "}", 4, -EEXIST,
		       "tensor 't': the name occurs twice");
}
END_TEST

START_TEST(a_duplicate_is_refused_also_where_the_last_one_is_consistent)
{
	expect_refused("{" U8_AT("t", "0", "2") "," U8_AT("t", "0", "4") "}", 4, -EEXIST,
		       "tensor 't': the name occurs twice");
}
END_TEST

START_TEST(names_are_compared_after_their_escapes_are_resolved)
{
	expect_refused("{" U8_AT("t", "0", "4") "," U8_AT("\\u0074", "0", "4") "}", 4,
		       -EEXIST, "tensor 't': the name occurs twice");
}
END_TEST

START_TEST(a_metadata_key_that_occurs_twice_is_refused)
{
	expect_refused("{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}", 0, -EEXIST,
		       "__metadata__: header before byte 37: key 'a' occurs twice");
	expect_refused("{\"__metadata__\":{\"a\":\"1\",\"\\u0061\":\"1\"}}", 0, -EEXIST,
		       "__metadata__: header before byte 42: key 'a' occurs twice");
}
END_TEST

START_TEST(metadata_that_occurs_twice_is_refused)
{
	expect_refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, -EEXIST,
		       "__metadata__ occurs twice");
	expect_refused("{\"__metadata__\":null,\"__metadat\\u0061__\":null}", 0, -EEXIST,
		       "__metadata__ occurs twice");
}
END_TEST

START_TEST(a_field_that_occurs_twice_is_refused)
{
	expect_refused("{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],"
		       "\"data_offsets\":[0,1]}}",
		       1, -EEXIST, "tensor 't': field 'dtype' occurs twice");
	expect_refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[],\"shape\":[],"
		       "\"data_offsets\":[0,1]}}",
		       1, -EEXIST, "tensor 't': field 'shape' occurs twice");
	expect_refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],"
		       "\"data_offsets\":[0,1]}}",
		       1, -EEXIST, "tensor 't': field 'data_offsets' occurs twice");
	expect_refused("{\"t\":{\"x\":1,\"dtype\":\"U8\",\"x\":2,\"shape\":[],"
		       "\"data_offsets\":[0,1]}}",
		       1, -EEXIST,
		       "tensor 't': header before byte 37: key 'x' occurs twice");
}
END_TEST

START_TEST(an_unknown_field_is_accepted)
{
	expect_accepted("{\"t\":{\"strides\":[1,-2.5e-3,true,null,{\"a\":[{}]}],"
			"\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],"
			"\"b\":\"\\ud83d\\ude00\"}}",
			1, 1, 0);
}
END_TEST

START_TEST(the_number_of_unknown_fields_is_limited)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	strbuf_init(&header);
	strbuf_add_str(&header, "{\"t\":{");
	for (unsigned int i = 0; i <= 1000; i++)
		strbuf_addf(&header, "\"%u\":0,", i);
	strbuf_add_str(&header, "\"dtype\":\"U8\"}}");
	expect_refused(header.data, 0, -E2BIG,
		       "tensor 't': more than 1000 unknown fields");
}
END_TEST

START_TEST(an_unknown_field_is_checked_all_the_same)
{
	expect_refused("{\"t\":{\"x\":[1,],\"dtype\":\"U8\"}}", 0, -EBADMSG,
		       "tensor 't': header at byte 21: expected a value, found ']'");
}
END_TEST

START_TEST(a_tensor_given_as_an_array_is_refused)
{
	expect_refused("{\"t\":[\"F32\",[2],[0,8]]}", 8, -EBADMSG,
		       "tensor 't': header at byte 13: expected '{', found '['");
}
END_TEST

START_TEST(metadata_may_be_null)
{
	expect_accepted("{\"__metadata__\":null}", 0, 0, 0);
}
END_TEST

START_TEST(metadata_may_be_empty)
{
	expect_accepted("{\"__metadata__\":{}}", 0, 0, 0);
}
END_TEST

START_TEST(metadata_values_are_strings)
{
	expect_refused("{\"__metadata__\":{\"a\":1}}", 0, -EBADMSG,
		       "__metadata__: header at byte 29: expected a string, found '1'");
	expect_refused("{\"__metadata__\":{\"a\":null}}", 0, -EBADMSG,
		       "__metadata__: header at byte 29: expected a string, found 'n'");
	expect_refused("{\"__metadata__\":{\"a\":{}}}", 0, -EBADMSG,
		       "__metadata__: header at byte 29: expected a string, found '{'");
}
END_TEST

START_TEST(metadata_is_an_object)
{
	expect_refused("{\"__metadata__\":[]}", 0, -EBADMSG,
		       "__metadata__: header at byte 24: expected '{', found '['");
	expect_refused("{\"__metadata__\":\"\"}", 0, -EBADMSG,
		       "__metadata__: header at byte 24: expected '{', found '\"'");
	expect_refused("{\"__metadata__\":true}", 0, -EBADMSG,
		       "__metadata__: header at byte 24: expected null, found 't'");
}
END_TEST

/* A tensor whose shape is `number`, which stands at byte 36. */
#define SHAPE_OF(number) \
	"{\"t\":{\"dtype\":\"U8\",\"shape\":[" number "],\"data_offsets\":[0,2]}}"

START_TEST(a_number_with_a_fraction_or_an_exponent_is_refused)
{
	expect_refused(SHAPE_OF("2.0"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: number with a fraction or an "
		       "exponent");
	expect_refused(SHAPE_OF("2e0"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: number with a fraction or an "
		       "exponent");
	expect_refused(SHAPE_OF("2E0"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: number with a fraction or an "
		       "exponent");
}
END_TEST

START_TEST(a_number_with_a_sign_is_refused)
{
	expect_refused(SHAPE_OF("-0"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: expected a whole number, found "
		       "'-'");
	expect_refused(SHAPE_OF("-2"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: expected a whole number, found "
		       "'-'");
	expect_refused(SHAPE_OF("+2"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: expected a whole number, found "
		       "'+'");
}
END_TEST

START_TEST(a_number_with_a_leading_zero_is_refused)
{
	expect_refused(SHAPE_OF("02"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: number with a leading zero");
}
END_TEST

START_TEST(a_number_in_quotes_is_refused)
{
	expect_refused(SHAPE_OF("\"2\""), 2, -EBADMSG,
		       "tensor 't': header at byte 36: expected a whole number, found "
		       "'\"'");
}
END_TEST

START_TEST(a_number_above_64_bits_is_refused)
{
	expect_refused(SHAPE_OF("18446744073709551616"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: number above 2^64 - 1");
}
END_TEST

START_TEST(not_a_number_is_refused)
{
	expect_refused(SHAPE_OF("NaN"), 2, -EBADMSG,
		       "tensor 't': header at byte 36: expected a whole number, found "
		       "'N'");
	expect_refused("{\"t\":{\"x\":NaN}}", 0, -EBADMSG,
		       "tensor 't': header at byte 18: expected a value, found 'N'");
}
END_TEST

START_TEST(a_byte_order_mark_is_refused)
{
	expect_refused("\xef\xbb\xbf{}", 0, -EBADMSG,
		       "header at byte 8: expected '{', found byte 0xef");
}
END_TEST

START_TEST(a_header_padded_with_nul_is_refused)
{
	expect_bytes_refused("{}\0\0", 4, 0, -EBADMSG,
			     "header at byte 10: expected nothing but white space, found "
			     "byte 0x00");
}
END_TEST

START_TEST(a_no_break_space_is_no_white_space)
{
	expect_refused("{}\xc2\xa0", 0, -EBADMSG,
		       "header at byte 10: expected nothing but white space, found byte "
		       "0xc2");
}
END_TEST

START_TEST(a_second_object_is_refused)
{
	expect_refused("{}{}", 0, -EBADMSG,
		       "header at byte 10: expected nothing but white space, found '{'");
}
END_TEST

START_TEST(a_trailing_comma_is_refused)
{
	expect_refused("{\"__metadata__\":{},}", 0, -EBADMSG,
		       "header at byte 27: expected a key in quotes, found '}'");
	expect_refused(SHAPE_OF("2,"), 2, -EBADMSG,
		       "tensor 't': header at byte 38: expected a whole number, found "
		       "']'");
}
END_TEST

START_TEST(a_comment_is_refused)
{
	expect_refused("{/* */}", 0, -EBADMSG,
		       "header at byte 9: expected a key in quotes, found '/'");
	expect_refused("{} // x", 0, -EBADMSG,
		       "header at byte 11: expected nothing but white space, found '/'");
}
END_TEST

START_TEST(a_raw_control_character_is_refused)
{
	expect_refused("{\"a\nb\":{}}", 0, -EBADMSG,
		       "header at byte 11: raw control character in a string");
	expect_bytes_refused("{\"a\0b\":{}}", 10, 0, -EBADMSG,
			     "header at byte 11: raw control character in a string");
}
END_TEST

START_TEST(a_lone_surrogate_is_refused)
{
	expect_refused("{\"\\ud800\":{}}", 0, -EBADMSG,
		       "header at byte 10: invalid escape in a string");
	expect_refused("{\"\\udc00\":{}}", 0, -EBADMSG,
		       "header at byte 10: invalid escape in a string");
	expect_refused("{\"\\ud800\\u0041\":{}}", 0, -EBADMSG,
		       "header at byte 10: invalid escape in a string");
}
END_TEST

START_TEST(the_header_length_need_not_be_a_multiple_of_eight)
{
	expect_accepted("{} ", 0, 0, 0);
	expect_accepted("{" U8_AT("t", "0", "3") "} ", 3, 1, 0);
}
END_TEST

/* A tensor with an unknown field of `levels` arrays inside each other, which stand two
 * levels deep already. */
static void add_nested(struct strbuf *header, unsigned int levels)
{
	strbuf_init(header);
	strbuf_add_str(header, "{\"t\":{\"x\":");
	for (unsigned int i = 0; i < levels; i++)
		strbuf_add_char(header, '[');
	for (unsigned int i = 0; i < levels; i++)
		strbuf_add_char(header, ']');
	strbuf_add_str(header, ",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}");
}

START_TEST(sixteen_levels_of_nesting_are_accepted)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	add_nested(&header, 14);
	expect_accepted(header.data, 1, 1, 0);
}
END_TEST

START_TEST(seventeen_levels_of_nesting_are_refused)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	add_nested(&header, 15);
	expect_refused(header.data, 1, -E2BIG,
		       "tensor 't': header at byte 32: nested deeper than 16 levels of "
		       "brackets");
}
END_TEST

START_TEST(ten_million_brackets_do_not_reach_the_stack)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	add_nested(&header, 10000000);
	expect_refused(header.data, 1, -E2BIG,
		       "tensor 't': header at byte 32: nested deeper than 16 levels of "
		       "brackets");
}
END_TEST

START_TEST(tied_tensors_are_refused)
{
	expect_refused("{" U8_AT("a", "0", "4") "," U8_AT("b", "0", "4") "}", 4, -EBADMSG,
		       "tensor 'b': data_offsets begin at 0, inside tensor 'a', which "
		       "ends at 4");
}
END_TEST

/* ---- Bugs of other implementations ---- */

START_TEST(a_shape_whose_product_wraps_to_the_size_is_refused)
{
	expect_refused("{\"test\":{\"dtype\":\"F32\",\"shape\":[4194305,4194305,"
		       "211106198978564],\"data_offsets\":[0,16]}}",
		       16, -EBADMSG, OVERFLOW_WORDS);
}
END_TEST

START_TEST(reversed_offsets_are_refused)
{
	expect_refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}",
		       4, -EBADMSG,
		       "tensor 't': data_offsets begin at 4 and end before, at 0");
}
END_TEST

START_TEST(a_missing_field_is_refused)
{
	expect_refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, -EBADMSG,
		       "tensor 't': field 'data_offsets' is missing");
	expect_refused("{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, -EBADMSG,
		       "tensor 't': field 'shape' is missing");
	expect_refused("{\"t\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, -EBADMSG,
		       "tensor 't': field 'dtype' is missing");
	expect_refused("{\"t\":{}}", 4, -EBADMSG, "tensor 't': field 'dtype' is missing");
}
END_TEST

START_TEST(data_offsets_are_exactly_two_numbers)
{
	expect_refused("{\"t\":{\"data_offsets\":[]}}", 0, -EBADMSG,
		       "tensor 't': data_offsets has 0 of 2 numbers");
	expect_refused("{\"t\":{\"data_offsets\":[0]}}", 0, -EBADMSG,
		       "tensor 't': data_offsets has 1 of 2 numbers");
	expect_refused("{\"t\":{\"data_offsets\":[0,null]}}", 0, -EBADMSG,
		       "tensor 't': header at byte 32: expected a whole number, found "
		       "'n'");
	expect_refused("{\"t\":{\"data_offsets\":[0,1,2]}}", 0, -EBADMSG,
		       "tensor 't': data_offsets has more than 2 numbers");
}
END_TEST

START_TEST(offsets_near_64_bits_do_not_wrap)
{
	expect_refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":["
		       "18446744073709551614,18446744073709551615]}}",
		       1, -EBADMSG,
		       "tensor 't': data_offsets begin at 18446744073709551614, which is "
		       "above 2^64 in the file");
	expect_refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[18446744073709551615],"
		       "\"data_offsets\":[0,18446744073709551615]}}",
		       1, -EBADMSG,
		       "tensor 't': 18446744073709551615 bytes at 99 end above 2^64");
}
END_TEST

START_TEST(an_unknown_dtype_is_refused)
{
	expect_refused("{\"t\":{\"dtype\":\"f32\",\"shape\":[],\"data_offsets\":[0,4]}}",
		       4, -ENOTSUP, "tensor 't': dtype 'f32' is not known");
	expect_refused("{\"t\":{\"dtype\":\"Q4_0\",\"shape\":[],\"data_offsets\":[0,4]}}",
		       4, -ENOTSUP, "tensor 't': dtype 'Q4_0' is not known");
	expect_refused("{\"t\":{\"dtype\":7}}", 4, -EBADMSG,
		       "tensor 't': header at byte 22: expected a string, found '7'");
}
END_TEST

START_TEST(the_top_level_is_an_object)
{
	expect_refused("[]", 0, -EBADMSG, "header at byte 8: expected '{', found '['");
	expect_refused("null", 0, -EBADMSG, "header at byte 8: expected '{', found 'n'");
	expect_refused("\"\"", 0, -EBADMSG, "header at byte 8: expected '{', found '\"'");
}
END_TEST

static TCase *the_reference_s_own_tests_case(void)
{
	TCase *tcase = tcase_create("the reference's own tests");

	tcase_add_test(tcase, an_empty_file_is_too_short_for_the_length);
	tcase_add_test(tcase, a_header_longer_than_the_file_is_refused);
	tcase_add_test(tcase, a_header_above_the_limit_is_refused);
	tcase_add_test(tcase, the_limit_of_the_header_is_inclusive);
	tcase_add_test(tcase, a_header_that_is_not_utf8_is_refused);
	tcase_add_test(tcase, a_name_that_is_not_utf8_is_refused);
	tcase_add_test(tcase, a_header_that_is_not_json_is_refused);
	tcase_add_test(tcase, an_empty_header_is_refused);
	tcase_add_test(tcase, a_tensor_of_zero_size_is_accepted);
	tcase_add_test(tcase, a_scalar_is_one_element);
	tcase_add_test(tcase, a_size_that_contradicts_the_shape_is_refused);
	tcase_add_test(tcase, a_shape_with_too_many_elements_is_refused);
	tcase_add_test(tcase, a_shape_with_too_many_bytes_is_refused);
	tcase_add_test(tcase, a_zero_dimension_hides_no_overflow_in_front_of_it);
	tcase_add_test(tcase, ten_tensors_in_the_same_bytes_are_refused);
	tcase_add_test(tcase, bytes_behind_the_last_tensor_are_refused);
	tcase_add_test(tcase, data_that_is_two_bytes_short_is_refused);
	tcase_add_test(tcase, packed_elements_must_fill_whole_bytes);
	tcase_add_test(tcase, packed_elements_have_their_exact_size);
	tcase_add_test(tcase, white_space_behind_the_header_is_accepted);
	tcase_add_test(tcase,
		       white_space_in_front_of_the_header_is_accepted_with_a_warning);
	tcase_add_test(tcase, a_header_cut_in_half_is_refused);
	tcase_add_test(tcase, one_byte_too_many_behind_a_large_tensor_is_refused);
	tcase_add_test(tcase, a_length_that_was_overwritten_is_refused);
	tcase_add_test(tcase, a_hundred_thousand_tensors_in_one_byte_are_refused);
	tcase_add_test(tcase, more_tensors_than_the_limit_are_refused);
	tcase_add_test(tcase, ten_million_tensors_do_not_fit_the_header);
	return tcase;
}

static TCase *where_the_reference_is_lax_or_surprising_case(void)
{
	TCase *tcase = tcase_create("where the reference is lax or surprising");

	tcase_add_test(tcase, a_tensor_name_that_occurs_twice_is_refused);
	tcase_add_test(tcase,
		       a_duplicate_is_refused_also_where_the_last_one_is_consistent);
	tcase_add_test(tcase, names_are_compared_after_their_escapes_are_resolved);
	tcase_add_test(tcase, a_metadata_key_that_occurs_twice_is_refused);
	tcase_add_test(tcase, metadata_that_occurs_twice_is_refused);
	tcase_add_test(tcase, a_field_that_occurs_twice_is_refused);
	tcase_add_test(tcase, an_unknown_field_is_accepted);
	tcase_add_test(tcase, the_number_of_unknown_fields_is_limited);
	tcase_add_test(tcase, an_unknown_field_is_checked_all_the_same);
	tcase_add_test(tcase, a_tensor_given_as_an_array_is_refused);
	tcase_add_test(tcase, metadata_may_be_null);
	tcase_add_test(tcase, metadata_may_be_empty);
	tcase_add_test(tcase, metadata_values_are_strings);
	tcase_add_test(tcase, metadata_is_an_object);
	tcase_add_test(tcase, a_number_with_a_fraction_or_an_exponent_is_refused);
	tcase_add_test(tcase, a_number_with_a_sign_is_refused);
	tcase_add_test(tcase, a_number_with_a_leading_zero_is_refused);
	tcase_add_test(tcase, a_number_in_quotes_is_refused);
	tcase_add_test(tcase, a_number_above_64_bits_is_refused);
	tcase_add_test(tcase, not_a_number_is_refused);
	tcase_add_test(tcase, a_byte_order_mark_is_refused);
	tcase_add_test(tcase, a_header_padded_with_nul_is_refused);
	tcase_add_test(tcase, a_no_break_space_is_no_white_space);
	tcase_add_test(tcase, a_second_object_is_refused);
	tcase_add_test(tcase, a_trailing_comma_is_refused);
	tcase_add_test(tcase, a_comment_is_refused);
	tcase_add_test(tcase, a_raw_control_character_is_refused);
	tcase_add_test(tcase, a_lone_surrogate_is_refused);
	tcase_add_test(tcase, the_header_length_need_not_be_a_multiple_of_eight);
	tcase_add_test(tcase, sixteen_levels_of_nesting_are_accepted);
	tcase_add_test(tcase, seventeen_levels_of_nesting_are_refused);
	tcase_add_test(tcase, ten_million_brackets_do_not_reach_the_stack);
	tcase_add_test(tcase, tied_tensors_are_refused);
	return tcase;
}

static TCase *bugs_of_other_implementations_case(void)
{
	TCase *tcase = tcase_create("bugs of other implementations");

	tcase_add_test(tcase, a_shape_whose_product_wraps_to_the_size_is_refused);
	tcase_add_test(tcase, reversed_offsets_are_refused);
	tcase_add_test(tcase, a_missing_field_is_refused);
	tcase_add_test(tcase, data_offsets_are_exactly_two_numbers);
	tcase_add_test(tcase, offsets_near_64_bits_do_not_wrap);
	tcase_add_test(tcase, an_unknown_dtype_is_refused);
	tcase_add_test(tcase, the_top_level_is_an_object);
	return tcase;
}

UNIT_MAIN("safetensors", the_reference_s_own_tests_case,
	  where_the_reference_is_lax_or_surprising_case,
	  bugs_of_other_implementations_case)
