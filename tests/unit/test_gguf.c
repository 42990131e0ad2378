/*
 * The GGUF parser: what ggml's own tests and gguf-py's tests hold against a reader, what
 * ggml accepts only because its sums wrap, and the causes of past advisories. Each file
 * is written here byte by byte. The keys have test_gguf_kv.c.
 */
#include <errno.h>

#include "gguf_file.h"
#include "parsers/formats.h"
#include "unit.h"

/* Two tensors of 40 and 8 bytes, aligned to 32, without the padding behind the second. */
static struct strbuf two_tensors(void)
{
	struct strbuf f = file(2, 1);

	put_key(&f, "some.key", U16);
	put(&f, 7, 2);
	put_tensor(&f, "first", DIMS(5, 2), GGML_F32, 0);
	put_tensor(&f, "second", DIMS(4), GGML_F16, 64);
	pad(&f, 32);
	put_zeros(&f, 64 + 8);
	return f;
}

/* ---- Header ---- */

START_TEST(header_alone_is_a_model_without_tensors)
{
	struct strbuf f = file(0, 0);

	ck_assert_uint_eq(f.len, 24);
	expect_tensors(&f, 0);
}
END_TEST

START_TEST(version_2_is_read)
{
	struct strbuf f = header(2, 0, 0);

	expect_tensors(&f, 0);
}
END_TEST

START_TEST(empty_file_is_refused)
{
	struct strbuf f = file(0, 0);

	f.len = 0;
	expect_error(&f, -EBADMSG,
		     "magic at byte 0: needs 4 bytes, the file ends 0 bytes later");
}
END_TEST

START_TEST(other_magic_is_refused)
{
	struct strbuf f = file(0, 0);

	memcpy(f.data, "GG\033L", 4);
	expect_error(&f, -EBADMSG, "magic at byte 0: 'GG\\x1bL', expected 'GGUF'");
}
END_TEST

START_TEST(swapped_magic_is_called_big_endian)
{
	struct strbuf f = file(0, 0);

	memcpy(f.data, "FUGG", 4);
	expect_error(&f, -ENOTSUP, "magic at byte 0: 'FUGG' marks a big-endian file");
}
END_TEST

START_TEST(swapped_version_is_called_big_endian)
{
	struct strbuf f = header(0x03000000, 0, 0);

	expect_error(&f, -ENOTSUP,
		     "version at byte 4: 50331648 is 3 in a big-endian file");
}
END_TEST

START_TEST(version_0_is_refused)
{
	struct strbuf f = header(0, 0, 0);

	expect_error(&f, -EBADMSG, "version at byte 4: 0, there is no such version");
}
END_TEST

START_TEST(version_1_is_refused)
{
	struct strbuf f = header(1, 0, 0);

	expect_error(&f, -ENOTSUP, "version at byte 4: 1, its 32-bit layout is not read");
}
END_TEST

START_TEST(version_4_is_refused)
{
	struct strbuf f = header(4, 0, 0);

	expect_error(&f, -ENOTSUP,
		     "version at byte 4: 4, only versions 2 and 3 are read");
}
END_TEST

START_TEST(tensor_count_of_minus_one_is_refused)
{
	struct strbuf f = file(MINUS_ONE, 0);

	expect_error(&f, -EBADMSG,
		     "tensor count at byte 8: 18446744073709551615 of at least 24 bytes "
		     "each, 0 bytes are left in the file");
}
END_TEST

START_TEST(tensor_count_of_2_to_63_is_refused)
{
	struct strbuf f = file(UINT64_C(1) << 63, 0);

	expect_error(&f, -EBADMSG, "tensor count at byte 8: 9223372036854775808 of");
}
END_TEST

START_TEST(tensor_count_above_what_the_file_holds_is_refused)
{
	struct strbuf f = file(3, 0);

	put_zeros(&f, 71);
	expect_error(
		&f, -EBADMSG,
		"tensor count at byte 8: 3 of at least 24 bytes each, 71 bytes are left");
}
END_TEST

START_TEST(tensor_count_above_the_limit_is_refused)
{
	struct strbuf f = file(1000001, 0);

	put_zeros(&f, (size_t)24 * 1000001);
	expect_error(&f, -E2BIG,
		     "tensor count at byte 8: 1000001, at most 1000000 are served");
}
END_TEST

START_TEST(key_count_of_minus_one_is_refused)
{
	struct strbuf f = file(0, MINUS_ONE);

	expect_error(&f, -EBADMSG,
		     "key count at byte 16: 18446744073709551615 of at least 14 bytes");
}
END_TEST

START_TEST(key_count_of_2_to_63_is_refused)
{
	struct strbuf f = file(0, UINT64_C(1) << 63);

	expect_error(&f, -EBADMSG, "key count at byte 16: 9223372036854775808 of");
}
END_TEST

START_TEST(key_count_above_what_the_file_holds_is_refused)
{
	struct strbuf f = file(0, 2);

	put_zeros(&f, 27);
	expect_error(
		&f, -EBADMSG,
		"key count at byte 16: 2 of at least 14 bytes each, 27 bytes are left");
}
END_TEST

START_TEST(key_count_above_the_limit_is_refused)
{
	struct strbuf f = file(0, 1000001);

	put_zeros(&f, (size_t)14 * 1000001);
	expect_error(&f, -E2BIG,
		     "key count at byte 16: 1000001, at most 1000000 are served");
}
END_TEST

START_TEST(file_cut_at_any_byte_is_refused)
{
	CLEANUP(strbuf_fini) struct strbuf f = two_tensors();

	for (size_t len = 0; len < f.len; len++) {
		struct parsed parsed;

		parse_bytes(&parser_gguf, f.data, len, &parsed);
		ck_assert_msg(parsed.err == -EBADMSG, "%zu bytes: %d", len, parsed.err);
		ck_assert_str_ne(parsed.diag.text, "");
		parsed_fini(&parsed);
	}
}
END_TEST

START_TEST(content_is_recognised_without_a_name)
{
	struct diag diag;
	struct reader r;

	reader_init_memory(&r, "GGUF", 4, &diag);
	ck_assert_ptr_eq(parser_recognise(&r, NULL), &parser_gguf);
	reader_init_memory(&r, "FUGG", 4, &diag);
	ck_assert_ptr_eq(parser_recognise(&r, NULL), &parser_gguf);
	reader_init_memory(&r, "", 0, &diag);
	ck_assert_ptr_eq(parser_recognise(&r, "model.gguf"), &parser_gguf);
	reader_fini(&r);
}
END_TEST

static TCase *header_case(void)
{
	TCase *t = tcase_create("header");

	tcase_add_test(t, header_alone_is_a_model_without_tensors);
	tcase_add_test(t, version_2_is_read);
	tcase_add_test(t, empty_file_is_refused);
	tcase_add_test(t, other_magic_is_refused);
	tcase_add_test(t, swapped_magic_is_called_big_endian);
	tcase_add_test(t, swapped_version_is_called_big_endian);
	tcase_add_test(t, version_0_is_refused);
	tcase_add_test(t, version_1_is_refused);
	tcase_add_test(t, version_4_is_refused);
	tcase_add_test(t, tensor_count_of_minus_one_is_refused);
	tcase_add_test(t, tensor_count_of_2_to_63_is_refused);
	tcase_add_test(t, tensor_count_above_what_the_file_holds_is_refused);
	tcase_add_test(t, tensor_count_above_the_limit_is_refused);
	tcase_add_test(t, key_count_of_minus_one_is_refused);
	tcase_add_test(t, key_count_of_2_to_63_is_refused);
	tcase_add_test(t, key_count_above_what_the_file_holds_is_refused);
	tcase_add_test(t, key_count_above_the_limit_is_refused);
	tcase_add_test(t, file_cut_at_any_byte_is_refused);
	tcase_add_test(t, content_is_recognised_without_a_name);
	return t;
}

/* ---- Tensors ---- */

#define NAME_63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

START_TEST(name_of_64_bytes_is_refused)
{
	struct strbuf f = file(1, 0);

	put_tensor(&f, NAME_63 "l", DIMS(1), GGML_I8, 0);
	put_zeros(&f, 64);
	expect_error(&f, -E2BIG,
		     "tensor name at byte 24: has 64 bytes, at most 63 are allowed");
}
END_TEST

START_TEST(name_of_63_bytes_is_read)
{
	struct strbuf f = file(1, 0);

	put_tensor(&f, NAME_63, DIMS(1), GGML_I8, 0);
	pad(&f, 32);
	put_zeros(&f, 32);
	expect_tensors(&f, 1);
}
END_TEST

START_TEST(name_length_of_minus_one_is_refused)
{
	struct strbuf f = file(1, 0);

	put_u64(&f, MINUS_ONE);
	put_zeros(&f, 40);
	expect_error(
		&f, -EBADMSG,
		"tensor name at byte 24: has 18446744073709551615 bytes, 40 are left");
}
END_TEST

START_TEST(empty_name_is_read_with_a_warning)
{
	struct strbuf f = file(1, 0);

	put_tensor(&f, "", DIMS(1), GGML_I8, 0);
	pad(&f, 32);
	put_zeros(&f, 32);
	expect_warning(&f, "tensor at byte 24: its name is empty");
}
END_TEST

START_TEST(name_that_occurs_twice_is_refused)
{
	struct strbuf f = file(2, 0);

	put_tensor(&f, "a", DIMS(1), GGML_I8, 0);
	put_tensor(&f, "a", DIMS(1), GGML_I8, 32);
	pad(&f, 32);
	put_zeros(&f, 64);
	expect_error(&f, -EEXIST, "tensor 'a': the name occurs twice");
}
END_TEST

static void expect_nul_names_refused(const char *first, size_t first_len,
				     const char *second, size_t second_len,
				     const char *words)
{
	struct strbuf f = file(2, 0);

	put_bytes(&f, first, first_len);
	put_layout(&f, DIMS(1), GGML_I8, 0);
	put_bytes(&f, second, second_len);
	put_layout(&f, DIMS(1), GGML_I8, 32);
	pad(&f, 32);
	put_zeros(&f, 64);
	expect_error(&f, -EEXIST, words);
}

START_TEST(names_that_differ_behind_nul_are_refused)
{
	expect_nul_names_refused(
		"a\0x", 3, "a\0y", 3,
		"tensor 'a\\x00y' at byte 59: 3 bytes of name, C programs "
		"see the first 1, which occurred");
	expect_nul_names_refused("a", 1, "a\0y", 3, "C programs see the first 1");
	expect_nul_names_refused("a\0y", 3, "a", 1, "C programs see the first 1");
	expect_nul_names_refused("", 0, "\0", 1, "C programs see the first 0");
}
END_TEST

START_TEST(name_with_nul_is_read)
{
	struct parsed parsed;
	struct strbuf f = file(1, 0);

	put_bytes(&f, "a\0x", 3);
	put_layout(&f, DIMS(1), GGML_I8, 0);
	pad(&f, 32);
	put_zeros(&f, 32);
	expect_good(&f, &parsed);
	ck_assert_ptr_nonnull(model_find_tensor(parsed.model, "a\0x", 3));
	ck_assert_ptr_null(model_find_tensor(parsed.model, "a", 1));
	parsed_fini(&parsed);
}
END_TEST

/* One tensor "t" at byte 24; its rank stands at byte 33, its dimensions from 37. */
static void expect_layout_refused(size_t rank, const uint64_t *dims, uint32_t type,
				  int err, const char *words)
{
	struct strbuf f = file(1, 0);

	put_tensor(&f, "t", rank, dims, type, 0);
	pad(&f, 32);
	put_zeros(&f, 4096);
	expect_error(&f, err, words);
}

START_TEST(rank_of_5_is_refused)
{
	expect_layout_refused(
		DIMS(1, 1, 1, 1, 1), GGML_I8, -EBADMSG,
		"tensor 't' at byte 24: rank at byte 33: 5 dimensions, at most "
		"4 are allowed");
}
END_TEST

START_TEST(rank_of_a_million_is_refused)
{
	struct strbuf f = file(1, 0);

	put_string(&f, "t");
	put_u32(&f, 1000000);
	put_zeros(&f, 100);
	expect_error(&f, -EBADMSG, "rank at byte 33: 1000000 dimensions, at most 4");
}
END_TEST

START_TEST(negative_dimension_is_refused)
{
	expect_layout_refused(
		DIMS(1, MINUS_ONE), GGML_I8, -EBADMSG,
		"tensor 't' at byte 24: dimension at byte 45: -1 is negative");
}
END_TEST

START_TEST(shapes_with_too_many_elements_are_refused)
{
	const uint64_t i32_max = INT32_MAX;

	expect_layout_refused(
		DIMS(4 * i32_max, 4 * i32_max), GGML_I8, -EBADMSG,
		"dimension at byte 45: 8589934588 times 8589934588 are more "
		"elements than 2^63 - 1");
	expect_layout_refused(DIMS(UINT64_C(1) << 32, UINT64_C(1) << 32), GGML_F32,
			      -EBADMSG, "4294967296 times 4294967296 are more elements");
	expect_layout_refused(DIMS(UINT64_C(1) << 31, UINT64_C(1) << 31, 2, 2), GGML_F32,
			      -EBADMSG, "2 times 4611686018427387904 are more elements");
	expect_layout_refused(DIMS(1024, 1024, (UINT64_C(1) << 42) + 1), GGML_F32,
			      -EBADMSG,
			      "more blocks of 4 bytes than 2^64 - 1 bytes hold");
	expect_layout_refused(DIMS(4194305, 4194305, 211106198978564), GGML_F32, -EBADMSG,
			      "211106198978564 times 17592194433025 are more elements");
}
END_TEST

START_TEST(zero_dimension_does_not_hide_too_many_elements)
{
	expect_layout_refused(DIMS(UINT64_C(1) << 32, 0, UINT64_C(1) << 32), GGML_F32,
			      -EBADMSG, "4294967296 times 4294967296 are more elements");
	expect_layout_refused(DIMS(0, UINT64_C(1) << 32, UINT64_C(1) << 32), GGML_F32,
			      -EBADMSG, "4294967296 times 4294967296 are more elements");
}
END_TEST

START_TEST(shape_with_too_many_bytes_is_refused)
{
	/* About the square root of 2^64 / 8, rounded up. */
	expect_layout_refused(
		DIMS(1518500250, 1518500250), GGML_I64, -EBADMSG,
		"tensor 't' at byte 24: more blocks of 8 bytes than 2^64 - 1 "
		"bytes hold");
}
END_TEST

/* The two sizes sum up to 28 modulo 2^64. */
START_TEST(sizes_that_wrap_together_are_refused)
{
	struct strbuf f = file(2, 0);

	put_tensor(&f, "a", DIMS((UINT64_C(1) << 62) - 1), GGML_F32, 0);
	put_tensor(&f, "b", DIMS(8), GGML_F32, 0);
	pad(&f, 32);
	put_zeros(&f, 64);
	expect_error(
		&f, -EBADMSG,
		"tensor 'a' at byte 24: 18446744073709551612 bytes at offset 0 end above "
		"2^64");
}
END_TEST

START_TEST(two_tensors_of_half_the_address_space_are_refused)
{
	struct strbuf f = file(2, 0);

	put_tensor(&f, "a", DIMS(UINT64_C(0x7fffffffffffffc0)), GGML_I8, 0);
	put_tensor(&f, "b", DIMS(UINT64_C(0x7fffffffffffffc0)), GGML_I8,
		   UINT64_C(0x7fffffffffffffc0));
	pad(&f, 32);
	put_zeros(&f, 64);
	expect_error(&f, -EBADMSG,
		     "tensor 'a': data ends at 9223372036854775840, file has 160 bytes");
}
END_TEST

START_TEST(unknown_and_removed_types_are_refused)
{
	static const struct {
		uint32_t type;
		const char *words;
	} types[] = {
		{ 4, "tensor 't' at byte 24: type at byte 45: 4 is removed from ggml" },
		{ 5, ": 5 is removed" },
		{ 31, ": 31 is removed" },
		{ 32, ": 32 is removed" },
		{ 33, ": 33 is removed" },
		{ 36, ": 36 is removed" },
		{ 37, ": 37 is removed" },
		{ 38, ": 38 is removed" },
		{ 43, ": 43 is removed from ggml or not known" },
		{ 255, ": 255 is removed" },
		{ UINT32_MAX, ": -1 is removed" },
		{ UINT32_C(1) << 31, ": -2147483648 is removed" },
	};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		expect_layout_refused(DIMS(256), types[i].type, -ENOTSUP, types[i].words);
}
END_TEST

START_TEST(rows_that_are_no_whole_blocks_are_refused)
{
	expect_layout_refused(
		DIMS(33), GGML_Q4_0, -EBADMSG,
		"tensor 't' at byte 24: rows of 33 elements, Q4_0 has blocks of "
		"32");
	expect_layout_refused(DIMS(16, 2), GGML_Q4_0, -EBADMSG,
			      "rows of 16 elements, Q4_0 has blocks of 32");
	expect_layout_refused(SCALAR, GGML_Q4_0, -EBADMSG,
			      "rows of 1 elements, Q4_0 has blocks of 32");
}
END_TEST

/* Every type of ggml, with the bytes of one block as ggml-common.h has them. */
START_TEST(every_type_has_its_size)
{
	static const struct {
		uint32_t type;
		uint64_t elements;
		uint64_t bytes;
		const char *name;
	} types[] = {
		{ 0, 1, 4, "F32" },         { 1, 1, 2, "F16" },
		{ 2, 32, 18, "Q4_0" },      { 3, 32, 20, "Q4_1" },
		{ 6, 32, 22, "Q5_0" },      { 7, 32, 24, "Q5_1" },
		{ 8, 32, 34, "Q8_0" },      { 9, 32, 36, "Q8_1" },
		{ 10, 256, 84, "Q2_K" },    { 11, 256, 110, "Q3_K" },
		{ 12, 256, 144, "Q4_K" },   { 13, 256, 176, "Q5_K" },
		{ 14, 256, 210, "Q6_K" },   { 15, 256, 292, "Q8_K" },
		{ 16, 256, 66, "IQ2_XXS" }, { 17, 256, 74, "IQ2_XS" },
		{ 18, 256, 98, "IQ3_XXS" }, { 19, 256, 50, "IQ1_S" },
		{ 20, 32, 18, "IQ4_NL" },   { 21, 256, 110, "IQ3_S" },
		{ 22, 256, 82, "IQ2_S" },   { 23, 256, 136, "IQ4_XS" },
		{ 24, 1, 1, "I8" },         { 25, 1, 2, "I16" },
		{ 26, 1, 4, "I32" },        { 27, 1, 8, "I64" },
		{ 28, 1, 8, "F64" },        { 29, 256, 56, "IQ1_M" },
		{ 30, 1, 2, "BF16" },       { 34, 256, 54, "TQ1_0" },
		{ 35, 256, 66, "TQ2_0" },   { 39, 32, 17, "MXFP4" },
		{ 40, 64, 36, "NVFP4" },    { 41, 128, 18, "Q1_0" },
		{ 42, 64, 18, "Q2_0" },
	};

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct strbuf f = file(1, 0);
		const struct tensor *t;
		struct parsed parsed;

		put_tensor(&f, "t", DIMS(types[i].elements, 3), types[i].type, 0);
		pad(&f, 32);
		put_zeros(&f, 3 * types[i].bytes);
		expect_good(&f, &parsed);
		t = model_tensor(parsed.model, 0);
		ck_assert_uint_eq(t->nbytes, 3 * types[i].bytes);
		ck_assert_str_eq(dtype_info((enum dtype)t->dtype)->name, types[i].name);
		parsed_fini(&parsed);
	}
}
END_TEST

START_TEST(shape_is_turned_to_row_major)
{
	struct strbuf f = file(1, 0);
	const struct tensor *t;
	struct parsed parsed;

	put_tensor(&f, "t", DIMS(5, 4, 3, 2), GGML_F32, 0);
	pad(&f, 32);
	put_zeros(&f, 480);
	expect_good(&f, &parsed);
	t = model_tensor(parsed.model, 0);
	ck_assert_uint_eq(t->rank, 4);
	for (unsigned int i = 0; i < 4; i++)
		ck_assert_uint_eq(t->shape[i], i + 2);
	ck_assert_uint_eq(t->nbytes, 480);
	parsed_fini(&parsed);
}
END_TEST

START_TEST(scalar_is_read)
{
	struct strbuf f = file(1, 0);
	struct parsed parsed;

	put_tensor(&f, "t", SCALAR, GGML_F32, 0);
	pad(&f, 32);
	put_zeros(&f, 4);
	expect_good(&f, &parsed);
	ck_assert_uint_eq(model_tensor(parsed.model, 0)->rank, 0);
	ck_assert_uint_eq(model_tensor(parsed.model, 0)->nbytes, 4);
	parsed_fini(&parsed);
}
END_TEST

START_TEST(zero_dimension_is_read)
{
	struct strbuf f = file(3, 0);
	struct parsed parsed;

	put_tensor(&f, "before", DIMS(1), GGML_I8, 0);
	put_tensor(&f, "empty", DIMS(3, 0), GGML_F32, 32);
	put_tensor(&f, "behind", DIMS(1), GGML_I8, 32);
	pad(&f, 32);
	put_zeros(&f, 64);
	expect_good(&f, &parsed);
	ck_assert_uint_eq(model_find_tensor(parsed.model, "empty", 5)->nbytes, 0);
	ck_assert_uint_eq(model_find_tensor(parsed.model, "behind", 6)->nbytes, 1);
	parsed_fini(&parsed);
}
END_TEST

static TCase *tensor_case(void)
{
	TCase *t = tcase_create("tensors");

	tcase_add_test(t, name_of_64_bytes_is_refused);
	tcase_add_test(t, name_of_63_bytes_is_read);
	tcase_add_test(t, name_length_of_minus_one_is_refused);
	tcase_add_test(t, empty_name_is_read_with_a_warning);
	tcase_add_test(t, name_that_occurs_twice_is_refused);
	tcase_add_test(t, names_that_differ_behind_nul_are_refused);
	tcase_add_test(t, name_with_nul_is_read);
	tcase_add_test(t, rank_of_5_is_refused);
	tcase_add_test(t, rank_of_a_million_is_refused);
	tcase_add_test(t, negative_dimension_is_refused);
	tcase_add_test(t, shapes_with_too_many_elements_are_refused);
	tcase_add_test(t, zero_dimension_does_not_hide_too_many_elements);
	tcase_add_test(t, shape_with_too_many_bytes_is_refused);
	tcase_add_test(t, sizes_that_wrap_together_are_refused);
	tcase_add_test(t, two_tensors_of_half_the_address_space_are_refused);
	tcase_add_test(t, unknown_and_removed_types_are_refused);
	tcase_add_test(t, rows_that_are_no_whole_blocks_are_refused);
	tcase_add_test(t, every_type_has_its_size);
	tcase_add_test(t, shape_is_turned_to_row_major);
	tcase_add_test(t, scalar_is_read);
	tcase_add_test(t, zero_dimension_is_read);
	return t;
}

/* ---- Data ---- */

START_TEST(data_is_where_the_padding_ends)
{
	struct strbuf f = two_tensors();
	const struct tensor *t;
	struct parsed parsed;

	expect_good(&f, &parsed);
	ck_assert_uint_eq(model_tensor_count(parsed.model), 2);
	t = model_tensor(parsed.model, 0);
	ck_assert_uint_eq(t->offset, 160);
	ck_assert_uint_eq(t->nbytes, 40);
	t = model_tensor(parsed.model, 1);
	ck_assert_uint_eq(t->offset, 160 + 64);
	ck_assert_uint_eq(t->nbytes, 8);
	parsed_fini(&parsed);
}
END_TEST

START_TEST(data_one_byte_short_is_refused)
{
	struct strbuf f = two_tensors();

	f.len--;
	expect_error(&f, -EBADMSG,
		     "tensor 'second': data ends at 232, file has 231 bytes");
}
END_TEST

START_TEST(missing_padding_behind_the_data_is_accepted)
{
	struct strbuf f = two_tensors();

	ck_assert_uint_ne(f.len % 32, 0);
	expect_tensors(&f, 2);
}
END_TEST

START_TEST(padding_behind_the_data_is_accepted)
{
	struct strbuf f = two_tensors();

	pad(&f, 32);
	expect_tensors(&f, 2);
}
END_TEST

START_TEST(bytes_behind_the_data_are_accepted_with_a_warning)
{
	struct strbuf f = two_tensors();

	pad(&f, 32);
	put_zeros(&f, 5);
	expect_warning(&f, "the file has 261 bytes, its last tensor ends at 256");
}
END_TEST

START_TEST(tensor_of_4_tib_without_data_is_refused)
{
	expect_layout_refused(
		DIMS(UINT64_C(1) << 40), GGML_F32, -EBADMSG,
		"tensor 't': data ends at 4398046511168, file has 4160 bytes");
}
END_TEST

/* Three tensors of 4 bytes, with the offsets to try. */
static void expect_offsets_refused(uint64_t a, uint64_t b, uint64_t c, const char *words)
{
	struct strbuf f = file(3, 0);

	put_tensor(&f, "a", DIMS(1), GGML_F32, a);
	put_tensor(&f, "b", DIMS(1), GGML_F32, b);
	put_tensor(&f, "c", DIMS(1), GGML_F32, c);
	pad(&f, 32);
	put_zeros(&f, 256);
	expect_error(&f, -EBADMSG, words);
}

START_TEST(offset_of_minus_one_is_refused)
{
	expect_offsets_refused(
		MINUS_ONE, 32, 64,
		"tensor 'a' at byte 24: data at offset 18446744073709551615, "
		"expected 0 behind");
}
END_TEST

START_TEST(gap_between_tensors_is_refused)
{
	expect_offsets_refused(0, 64, 96,
			       "tensor 'b' at byte 57: data at offset 64, expected 32");
}
END_TEST

START_TEST(tensors_that_overlap_are_refused)
{
	expect_offsets_refused(0, 32, 32,
			       "tensor 'c' at byte 90: data at offset 32, expected 64");
}
END_TEST

START_TEST(tensors_in_another_order_are_refused)
{
	expect_offsets_refused(0, 64, 32,
			       "tensor 'b' at byte 57: data at offset 64, "
			       "expected 32");
}
END_TEST

START_TEST(offset_that_is_not_aligned_is_refused)
{
	expect_offsets_refused(0, 4, 8,
			       "tensor 'b' at byte 57: data at offset 4, expected 32");
}
END_TEST

static TCase *data_case(void)
{
	TCase *t = tcase_create("data");

	tcase_add_test(t, data_is_where_the_padding_ends);
	tcase_add_test(t, data_one_byte_short_is_refused);
	tcase_add_test(t, missing_padding_behind_the_data_is_accepted);
	tcase_add_test(t, padding_behind_the_data_is_accepted);
	tcase_add_test(t, bytes_behind_the_data_are_accepted_with_a_warning);
	tcase_add_test(t, tensor_of_4_tib_without_data_is_refused);
	tcase_add_test(t, offset_of_minus_one_is_refused);
	tcase_add_test(t, gap_between_tensors_is_refused);
	tcase_add_test(t, tensors_that_overlap_are_refused);
	tcase_add_test(t, tensors_in_another_order_are_refused);
	tcase_add_test(t, offset_that_is_not_aligned_is_refused);
	return t;
}

UNIT_MAIN("gguf", header_case, tensor_case, data_case)
