/* What a good safetensors file gives: places, names, metadata; and how it is recognised.
 */
#include <errno.h>
#include <stdio.h>

#include "safetensors_file.h"
#include "unit.h"

/* ---- Layout ---- */

START_TEST(a_hole_between_tensors_is_refused)
{
	expect_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
		       "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[8,12]}}",
		       12, -EBADMSG,
		       "tensor 'b': data_offsets begin at 8, the tensors in front of it "
		       "end at 4");
}
END_TEST

START_TEST(the_first_tensor_begins_the_data)
{
	expect_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[8,12]}}",
		       12, -EBADMSG,
		       "tensor 'a': data_offsets begin at 8, the tensors in front of it "
		       "end at 0");
}
END_TEST

START_TEST(empty_tensors_may_share_a_boundary_but_not_lie_inside_another)
{
	expect_accepted(
		"{\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]},"
		"\"y\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]},"
		"\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}," U8_AT(
			"a", "0", "4") "}",
		4, 4, 0);
	expect_refused(
		"{\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}," U8_AT(
			"a", "0", "4") "}",
		4, -EBADMSG,
		"tensor 'z': data_offsets begin at 2, inside tensor 'a', which ends at "
		"4");
}
END_TEST

START_TEST(tensors_may_stand_in_any_order_in_the_header)
{
	static const char header[] =
		"{\"b\":{\"data_offsets\":[4,16],\"shape\":[2,3],\"dtype\":\"F16\"},"
		"\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";
	struct parsed parsed;
	const struct tensor *t;

	accept_header(header, 16, &parsed);
	t = model_tensor(parsed.model, 0);
	ck_assert_mem_eq(t->name, "a", 2);
	t = model_tensor(parsed.model, 1);
	ck_assert_mem_eq(t->name, "b", 2);
	ck_assert_uint_eq(t->rank, 2);
	ck_assert_uint_eq(t->shape[0], 2);
	ck_assert_uint_eq(t->shape[1], 3);
	ck_assert_uint_eq(t->offset, 8 + strlen(header) + 4);
	ck_assert_uint_eq(t->nbytes, 12);
	ck_assert_int_eq(t->dtype, DTYPE_F16);
	ck_assert_uint_eq(model_total_bytes(parsed.model), 16);
	parsed_fini(&parsed);
}
END_TEST

START_TEST(every_dtype_of_the_format_is_read)
{
	for (unsigned int i = 0; i < DTYPE_COUNT; i++) {
		const struct dtype_info *info = dtype_info((enum dtype)i);
		struct parsed parsed;
		char header[128];

		if (!info->safetensors)
			continue;
		(void)snprintf(header, sizeof(header),
			       "{\"t\":{\"dtype\":\"%s\",\"shape\":[%u],"
			       "\"data_offsets\":[0,%u]}}",
			       info->safetensors, info->block_elems, info->block_bytes);
		accept_header(header, info->block_bytes, &parsed);
		ck_assert_uint_eq(model_tensor(parsed.model, 0)->dtype, i);
		parsed_fini(&parsed);
	}
}
END_TEST

static void add_rank(struct strbuf *header, unsigned int rank)
{
	strbuf_init(header);
	strbuf_add_str(header, "{\"t\":{\"dtype\":\"U8\",\"shape\":[");
	for (unsigned int i = 0; i < rank; i++)
		strbuf_addf(header, "%s1", i ? "," : "");
	strbuf_add_str(header, "],\"data_offsets\":[0,1]}}");
}

START_TEST(rank_64_is_accepted)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	add_rank(&header, 64);
	expect_accepted(header.data, 1, 1, 0);
}
END_TEST

START_TEST(rank_65_is_refused)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	add_rank(&header, 65);
	expect_refused(header.data, 1, -E2BIG,
		       "tensor 't': shape has more than 64 dimensions");
}
END_TEST

/* ---- Names ---- */

static void expect_name(const char *json_name, const char *name, size_t len)
{
	CLEANUP(strbuf_fini) struct strbuf header;
	struct parsed parsed;

	strbuf_init(&header);
	strbuf_addf(&header,
		    "{\"%s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
		    json_name);
	accept_header(header.data, 1, &parsed);
	ck_assert_ptr_nonnull(model_find_tensor(parsed.model, name, len));
	parsed_fini(&parsed);
}

START_TEST(names_may_be_anything)
{
	expect_name("", "", 0);
	expect_name("../../etc/passwd", "../../etc/passwd", 16);
	expect_name("a\\u0000b", "a\0b", 3);
	expect_name("\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80", 4);
	expect_name("\\ud83d\\ude00", "\xf0\x9f\x98\x80", 4);
	expect_name("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8);
	expect_name("\\u00e9\\u20AC.x", "\xc3\xa9\xe2\x82\xac.x", 7);
}
END_TEST

START_TEST(names_that_differ_behind_a_nul_are_two)
{
	expect_accepted("{\"a\\u0000x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":["
			"0,1]},\"a\\u0000y\":{\"dtype\":\"U8\",\"shape\":[],"
			"\"data_offsets\":[1,2]}}",
			2, 2, 0);
}
END_TEST

START_TEST(a_name_above_the_limit_is_refused)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	strbuf_init(&header);
	strbuf_addf(&header, "{\"%065536d\":{\"dtype\":\"U8\",\"shape\":[0],", 0);
	strbuf_add_str(&header, "\"data_offsets\":[0,0]}}");
	expect_refused(header.data, 0, -E2BIG,
		       "tensor '00000000000000000000000000000000000000000000000000000000"
		       "000000000000000000000000000000000000000000000000000000000000000"
		       "...': name has 65536 bytes, at most 65535 are served");
}
END_TEST

START_TEST(an_error_shows_a_name_without_its_control_characters)
{
	expect_refused("{\"\\u001b[31m\":{}}", 0, -EBADMSG,
		       "tensor '\\x1b[31m': field 'dtype' is missing");
}
END_TEST

/* ---- Metadata ---- */

static void expect_metadata(const char *header, size_t data_len, const char *json)
{
	CLEANUP(strbuf_fini) struct strbuf file;
	struct diag diag = { 0 };
	char *text;

	file_build(&file, header, strlen(header), data_len);
	text = metadata_of_bytes(&parser_safetensors, file.data, file.len, &diag);
	ck_assert_ptr_nonnull(text);
	ck_assert_str_eq(text, json);
	free(text);
}

static void expect_no_metadata(const char *header, const char *words)
{
	CLEANUP(strbuf_fini) struct strbuf file;
	struct diag diag = { 0 };

	file_build(&file, header, strlen(header), 0);
	ck_assert_ptr_null(
		metadata_of_bytes(&parser_safetensors, file.data, file.len, &diag));
	ck_assert_str_eq(diag.text, words);
}

START_TEST(metadata_is_written_as_one_object)
{
	expect_metadata("{\"__metadata__\":{\"format\":\"pt\"}}", 0,
			"{\"format\":\"pt\"}");
	expect_metadata("{" U8_AT("t", "0", "4") ",\"__metadata__\":{\"a\":\"\\u0041\","
						 "\"\\n\":\"\"}}",
			4, "{\"a\":\"A\",\"\\n\":\"\"}");
}
END_TEST

START_TEST(absent_and_null_metadata_are_an_empty_object)
{
	expect_metadata("{}", 0, "{}");
	expect_metadata("{\"__metadata__\":null}", 0, "{}");
	expect_metadata("{\"__metadata__\":{}}", 0, "{}");
}
END_TEST

START_TEST(metadata_of_a_broken_file_is_an_error)
{
	struct diag diag = { 0 };

	ck_assert_ptr_null(
		metadata_of_bytes(&parser_safetensors, "\1\0\0\0\0\0\0\0[", 9, &diag));
	ck_assert_str_eq(diag.text, "header at byte 8: expected '{', found '['");
	expect_no_metadata("{\"t\":nil}",
			   "header at byte 13: expected a value, found 'n'");
	expect_no_metadata(
		"{\"__metadata__\":{\"a\":1}}",
		"__metadata__: header at byte 29: expected a string, found '1'");
}
END_TEST

START_TEST(a_metadata_key_above_the_limit_is_refused)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	strbuf_init(&header);
	strbuf_addf(&header, "{\"__metadata__\":{\"%065536d\":\"\"}}", 0);
	expect_refused(header.data, 0, -E2BIG,
		       "__metadata__: key '0000000000000000000000000000000000000000000000"
		       "00000000000000000000000000000000000000000000000000000000000000000"
		       "00000000...' has 65536 bytes, at most 65535 are read");
}
END_TEST

START_TEST(more_metadata_keys_than_the_limit_are_refused)
{
	CLEANUP(strbuf_fini) struct strbuf header;

	strbuf_init(&header);
	strbuf_add_str(&header, "{\"__metadata__\":{");
	for (unsigned int i = 0; i <= 1000000; i++)
		strbuf_addf(&header, "%s\"%u\":\"\"", i ? "," : "", i);
	strbuf_add_str(&header, "}}");
	expect_refused(header.data, 0, -E2BIG, "__metadata__: more than 1000000 keys");
}
END_TEST

/* ---- Recognition ---- */

static bool probes(const void *bytes, size_t len)
{
	struct diag diag;
	struct reader r;

	reader_init_memory(&r, bytes, len, &diag);
	return parser_safetensors.probe(&r);
}

START_TEST(an_object_of_that_length_is_recognised)
{
	ck_assert(probes("\2\0\0\0\0\0\0\0{}", 10));
	ck_assert(probes("\4\0\0\0\0\0\0\0\t {}", 12));
}
END_TEST

START_TEST(other_content_is_not_recognised)
{
	ck_assert(!probes("", 0));
	ck_assert(!probes("\2\0\0\0\0\0\0\0[]", 10));
	ck_assert(!probes("\3\0\0\0\0\0\0\0{}", 10));
	ck_assert(!probes("\1\0\0\0\0\0\0\0 {", 10));
	ck_assert(!probes("\0\0\0\0\0\0\0\0{}", 10));
	ck_assert(!probes("\2\0\0\0\0\0\0\1{}", 10));
}
END_TEST

static TCase *layout_case(void)
{
	TCase *tcase = tcase_create("layout");

	tcase_add_test(tcase, a_hole_between_tensors_is_refused);
	tcase_add_test(tcase, the_first_tensor_begins_the_data);
	tcase_add_test(tcase,
		       empty_tensors_may_share_a_boundary_but_not_lie_inside_another);
	tcase_add_test(tcase, tensors_may_stand_in_any_order_in_the_header);
	tcase_add_test(tcase, every_dtype_of_the_format_is_read);
	tcase_add_test(tcase, rank_64_is_accepted);
	tcase_add_test(tcase, rank_65_is_refused);
	return tcase;
}

static TCase *names_case(void)
{
	TCase *tcase = tcase_create("names");

	tcase_add_test(tcase, names_may_be_anything);
	tcase_add_test(tcase, names_that_differ_behind_a_nul_are_two);
	tcase_add_test(tcase, a_name_above_the_limit_is_refused);
	tcase_add_test(tcase, an_error_shows_a_name_without_its_control_characters);
	return tcase;
}

static TCase *metadata_case(void)
{
	TCase *tcase = tcase_create("metadata");

	tcase_add_test(tcase, metadata_is_written_as_one_object);
	tcase_add_test(tcase, absent_and_null_metadata_are_an_empty_object);
	tcase_add_test(tcase, metadata_of_a_broken_file_is_an_error);
	tcase_add_test(tcase, a_metadata_key_above_the_limit_is_refused);
	tcase_add_test(tcase, more_metadata_keys_than_the_limit_are_refused);
	return tcase;
}

static TCase *recognition_case(void)
{
	TCase *tcase = tcase_create("recognition");

	tcase_add_test(tcase, an_object_of_that_length_is_recognised);
	tcase_add_test(tcase, other_content_is_not_recognised);
	return tcase;
}

UNIT_MAIN("safetensors_content", layout_case, names_case, metadata_case, recognition_case)
