/*
 * The keys and values of GGUF, and the JSON that is made of them.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "gguf_file.h"
#include "parsers/formats.h"
#include "unit.h"

static void expect_metadata(struct strbuf *f, const char *json)
{
	CLEANUP(free_ptr) char *text = NULL;
	struct diag diag = { 0 };

	ck_assert_int_eq(f->err, 0);
	text = metadata_of_bytes(&parser_gguf, f->data, f->len, &diag);
	ck_assert_msg(text != NULL, "%s", diag.text);
	ck_assert_str_eq(text, json);
	strbuf_fini(f);
}

/* ---- Keys ---- */

START_TEST(key_length_of_minus_one_is_refused)
{
	struct strbuf f = file(0, 1);

	put_u64(&f, MINUS_ONE);
	put_zeros(&f, 20);
	expect_error(&f, -EBADMSG,
		     "key at byte 24: has 18446744073709551615 bytes, 20 are left");
}
END_TEST

START_TEST(key_of_65536_bytes_is_refused)
{
	struct strbuf f = file(0, 1);

	put_u64(&f, 65536);
	put_zeros(&f, 65536 + 5);
	expect_error(&f, -E2BIG,
		     "key at byte 24: has 65536 bytes, at most 65535 are allowed");
}
END_TEST

START_TEST(key_of_65535_bytes_is_read)
{
	struct strbuf f = file(0, 1);

	put_u64(&f, 65535);
	put_zeros(&f, 65535);
	put_u32(&f, U8);
	put(&f, 1, 1);
	expect_tensors(&f, 0);
}
END_TEST

START_TEST(keys_of_more_than_64_mib_together_are_refused)
{
	struct strbuf f = file(0, 1100);

	for (uint64_t i = 0; i < 1100; i++) {
		put_u64(&f, 65000);
		put_u64(&f, i);
		put_zeros(&f, 65000 - 8);
		put_u32(&f, U8);
		put(&f, 1, 1);
	}
	expect_error(&f, -E2BIG, "of the keys before, at most 67108864 are served");
}
END_TEST

START_TEST(empty_key_is_refused)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "", U16);
	put(&f, 7, 2);
	expect_error(&f, -EBADMSG, "key at byte 24: is empty");
}
END_TEST

START_TEST(type_above_the_last_is_refused)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "a.b", 13);
	put_zeros(&f, 8);
	expect_error(&f, -EBADMSG,
		     "key 'a.b' at byte 24: type at byte 35: 13, types are 0 to 12");
}
END_TEST

START_TEST(type_below_0_is_refused)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "a.b", UINT32_MAX);
	put_zeros(&f, 8);
	expect_error(&f, -EBADMSG,
		     "key 'a.b' at byte 24: type at byte 35: -1, types are 0 to 12");
}
END_TEST

START_TEST(key_that_occurs_twice_is_refused)
{
	struct strbuf f = file(0, 3);

	for (int i = 0; i < 3; i++) {
		put_key(&f, i == 1 ? "other" : "a.b", U16);
		put(&f, 7, 2);
	}
	expect_error(&f, -EEXIST, "key 'a.b' at byte 60: the key occurs twice");
}
END_TEST

START_TEST(keys_of_one_prefix_are_different)
{
	struct strbuf f = file(0, 3);

	put_key(&f, "weight", U8);
	put(&f, 1, 1);
	put_key(&f, "weight.bias", U8);
	put(&f, 1, 1);
	put_key(&f, "weigh", U8);
	put(&f, 1, 1);
	expect_tensors(&f, 0);
}
END_TEST

START_TEST(key_with_nul_is_read)
{
	struct strbuf f = file(0, 2);

	put_bytes(&f, "a\0x", 3);
	put_u32(&f, U8);
	put(&f, 1, 1);
	put_bytes(&f, "a\0y", 3);
	put_u32(&f, U8);
	put(&f, 2, 1);
	expect_metadata(&f, "{\"GGUF.version\":3,\"GGUF.tensor_count\":0,"
			    "\"GGUF.kv_count\":2,\"a\\u0000x\":1,\"a\\u0000y\":2}");
}
END_TEST

START_TEST(key_of_a_header_field_is_refused)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "GGUF.kv_count", U8);
	put(&f, 1, 1);
	expect_error(&f, -EEXIST, "key 'GGUF.kv_count' at byte 24: the key occurs twice");
}
END_TEST

START_TEST(string_length_of_2_to_63_is_refused)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "a.b", STRING);
	put_u64(&f, UINT64_C(1) << 63);
	expect_error(&f, -EBADMSG,
		     "key 'a.b' at byte 24: string at byte 39: has 9223372036854775808 "
		     "bytes, 0 are left");
}
END_TEST

START_TEST(string_length_of_minus_one_does_not_wrap)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "a.b", STRING);
	put_u64(&f, MINUS_ONE);
	put_zeros(&f, 3);
	expect_error(&f, -EBADMSG, "has 18446744073709551615 bytes, 3 are left");
}
END_TEST

START_TEST(string_one_byte_longer_than_the_file_is_refused)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "a.b", STRING);
	put_u64(&f, 4);
	put_zeros(&f, 3);
	expect_error(&f, -EBADMSG, "string at byte 39: has 4 bytes, 3 are left");
}
END_TEST

START_TEST(empty_string_is_read)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "a.b", STRING);
	put_string(&f, "");
	expect_tensors(&f, 0);
}
END_TEST

START_TEST(value_behind_the_end_is_refused)
{
	struct strbuf f = file(0, 1);

	put_key(&f, "a.b", U64);
	put_zeros(&f, 7);
	expect_error(
		&f, -EBADMSG,
		"key 'a.b' at byte 24: value at byte 39: needs 8 bytes, the file ends 7 "
		"bytes later");
}
END_TEST

static TCase *key_case(void)
{
	TCase *t = tcase_create("keys");

	tcase_add_test(t, key_length_of_minus_one_is_refused);
	tcase_add_test(t, key_of_65536_bytes_is_refused);
	tcase_add_test(t, key_of_65535_bytes_is_read);
	tcase_add_test(t, keys_of_more_than_64_mib_together_are_refused);
	tcase_add_test(t, empty_key_is_refused);
	tcase_add_test(t, type_above_the_last_is_refused);
	tcase_add_test(t, type_below_0_is_refused);
	tcase_add_test(t, key_that_occurs_twice_is_refused);
	tcase_add_test(t, keys_of_one_prefix_are_different);
	tcase_add_test(t, key_with_nul_is_read);
	tcase_add_test(t, key_of_a_header_field_is_refused);
	tcase_add_test(t, string_length_of_2_to_63_is_refused);
	tcase_add_test(t, string_length_of_minus_one_does_not_wrap);
	tcase_add_test(t, string_one_byte_longer_than_the_file_is_refused);
	tcase_add_test(t, empty_string_is_read);
	tcase_add_test(t, value_behind_the_end_is_refused);
	return t;
}

/* ---- Arrays ---- */

START_TEST(array_of_5_million_doubles_in_a_small_file_is_refused)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "a.b", F64, 5000000);
	put_zeros(&f, 100);
	expect_error(
		&f, -EBADMSG,
		"key 'a.b' at byte 24: elements of array at byte 43: 5000000 of at least "
		"8 bytes each, 100 bytes are left");
}
END_TEST

START_TEST(array_of_2_to_63_bytes_in_a_file_of_52_bytes_is_refused)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "k", U8, UINT64_C(1) << 63);
	put_zeros(&f, 3);
	ck_assert_uint_eq(f.len, 52);
	expect_error(
		&f, -EBADMSG,
		"elements of array at byte 41: 9223372036854775808 of at least 1 bytes");
}
END_TEST

START_TEST(array_count_that_wraps_times_its_size_is_refused)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "a.b", F64, (UINT64_C(1) << 61) + 1);
	put_zeros(&f, 64);
	expect_error(
		&f, -EBADMSG,
		"elements of array at byte 43: 2305843009213693953 of at least 8 bytes");
}
END_TEST

START_TEST(array_of_strings_counts_their_lengths)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "a.b", STRING, 3);
	put_zeros(&f, 23);
	expect_error(
		&f, -EBADMSG,
		"elements of array at byte 43: 3 of at least 8 bytes each, 23 bytes");
}
END_TEST

START_TEST(string_in_an_array_may_not_leave_the_file)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "a.b", STRING, 2);
	put_string(&f, "good");
	put_u64(&f, MINUS_ONE - 70);
	put_zeros(&f, 2);
	expect_error(&f, -EBADMSG,
		     "key 'a.b' at byte 24: string at byte 63: has 18446744073709551545 "
		     "bytes, 2 are left");
}
END_TEST

START_TEST(array_in_an_array_is_refused)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "a.b", ARRAY, 1);
	put_u32(&f, U8);
	put_u64(&f, 1);
	put(&f, 1, 1);
	expect_error(
		&f, -ENOTSUP,
		"key 'a.b' at byte 24: type of array at byte 39: 9, arrays in arrays are "
		"not read");
}
END_TEST

START_TEST(array_in_an_array_of_2_to_62_is_refused)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "a.b", ARRAY, 1);
	put_u32(&f, U8);
	put_u64(&f, UINT64_C(1) << 62);
	expect_error(&f, -ENOTSUP, "arrays in arrays are not read");
}
END_TEST

START_TEST(array_of_an_unknown_type_is_refused)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "a.b", 13, 0);
	expect_error(&f, -EBADMSG, "type of array at byte 39: 13, types are 0 to 12");
}
END_TEST

START_TEST(array_of_64_bytes_is_read)
{
	struct strbuf f = file(0, 1);

	put_array_key(&f, "a.b", U8, 64);
	put_zeros(&f, 64);
	expect_tensors(&f, 0);
}
END_TEST

START_TEST(empty_arrays_are_read)
{
	struct strbuf f = file(0, 2);

	put_array_key(&f, "a", F64, 0);
	put_array_key(&f, "b", STRING, 0);
	expect_metadata(&f, "{\"GGUF.version\":3,\"GGUF.tensor_count\":0,"
			    "\"GGUF.kv_count\":2,\"a\":[],\"b\":[]}");
}
END_TEST

static TCase *array_case(void)
{
	TCase *t = tcase_create("arrays");

	tcase_add_test(t, array_of_5_million_doubles_in_a_small_file_is_refused);
	tcase_add_test(t, array_of_2_to_63_bytes_in_a_file_of_52_bytes_is_refused);
	tcase_add_test(t, array_count_that_wraps_times_its_size_is_refused);
	tcase_add_test(t, array_of_strings_counts_their_lengths);
	tcase_add_test(t, string_in_an_array_may_not_leave_the_file);
	tcase_add_test(t, array_in_an_array_is_refused);
	tcase_add_test(t, array_in_an_array_of_2_to_62_is_refused);
	tcase_add_test(t, array_of_an_unknown_type_is_refused);
	tcase_add_test(t, array_of_64_bytes_is_read);
	tcase_add_test(t, empty_arrays_are_read);
	return t;
}

/* ---- Alignment ---- */

static void expect_alignment_refused(uint32_t alignment, int err, const char *words)
{
	struct strbuf f = file(0, 1);

	put_alignment(&f, alignment);
	expect_error(&f, err, words);
}

START_TEST(alignment_of_0_is_refused)
{
	expect_alignment_refused(
		0, -EBADMSG,
		"key 'general.alignment' at byte 24: value at byte 53: 0 is "
		"not a power of two");
}
END_TEST

START_TEST(alignment_of_13_is_refused)
{
	expect_alignment_refused(13, -EBADMSG,
				 "value at byte 53: 13 is not a power of two");
}
END_TEST

START_TEST(alignment_of_24_is_refused)
{
	expect_alignment_refused(24, -EBADMSG,
				 "value at byte 53: 24 is not a power of two");
}
END_TEST

START_TEST(alignment_of_2_mib_is_refused)
{
	expect_alignment_refused(2u << 20, -E2BIG,
				 "value at byte 53: 2097152, at most 1048576 is served");
}
END_TEST

START_TEST(alignment_of_1_mib_is_read)
{
	struct strbuf f = file(0, 1);

	put_alignment(&f, 1u << 20);
	expect_tensors(&f, 0);
}
END_TEST

START_TEST(alignment_of_another_type_is_refused)
{
	static const struct {
		uint32_t type;
		const char *words;
	} types[] = {
		{ U64, ": 10, expected 4 (u32)" },
		{ I32, ": 5, expected 4 (u32)" },
		{ STRING, ": 8, expected 4 (u32)" },
		{ ARRAY, ": 9, expected 4 (u32)" },
	};

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct strbuf f = file(0, 1);

		put_key(&f, "general.alignment", types[i].type);
		put_u32(&f, U32);
		put_u64(&f, 1);
		put_u32(&f, 32);
		expect_error(&f, -EBADMSG, types[i].words);
	}
}
END_TEST

/* ggml would find this key as "general.alignment". */
START_TEST(alignment_hidden_behind_nul_is_refused)
{
	struct strbuf f = file(0, 1);

	put_bytes(&f, "general.alignment\0x", 19);
	put_u32(&f, U32);
	put_u32(&f, 4096);
	expect_error(
		&f, -EBADMSG,
		"key 'general.alignment\\x00x' at byte 24: has 19 bytes, C programs see "
		"the first 17");
}
END_TEST

START_TEST(alignment_that_occurs_twice_is_refused)
{
	struct strbuf f = file(0, 2);

	put_alignment(&f, 32);
	put_alignment(&f, 64);
	expect_error(&f, -EEXIST,
		     "key 'general.alignment' at byte 57: the key occurs twice");
}
END_TEST

/* One tensor of one byte and one of two, with this alignment and a key behind it. */
static struct strbuf aligned_file(uint32_t alignment)
{
	struct strbuf f = file(2, 2);

	put_alignment(&f, alignment);
	put_key(&f, "last.key", U8);
	put(&f, 1, 1);
	put_tensor(&f, "a", DIMS(1), GGML_I8, 0);
	put_tensor(&f, "b", DIMS(2), GGML_I8, alignment);
	pad(&f, alignment);
	put_zeros(&f, alignment + 2);
	return f;
}

START_TEST(alignment_holds_for_all_data)
{
	struct strbuf f = aligned_file(256);
	const struct tensor *b;
	struct parsed parsed;

	expect_good(&f, &parsed);
	ck_assert_uint_eq(model_tensor(parsed.model, 0)->offset, 256);
	b = model_find_tensor(parsed.model, "b", 1);
	ck_assert_ptr_nonnull(b);
	ck_assert_uint_eq(b->offset, 512);
	ck_assert_uint_eq(b->nbytes, 2);
	ck_assert_uint_eq(model_warning_count(parsed.model), 0);
	parsed_fini(&parsed);
}
END_TEST

START_TEST(alignments_of_1_and_4_are_read_with_a_warning)
{
	struct strbuf f = aligned_file(1);

	expect_warning(&f, "key 'general.alignment': 1 is no multiple of 8 as the format "
			   "demands");
	f = aligned_file(4);
	expect_warning(&f, "key 'general.alignment': 4 is no multiple of 8 as the format "
			   "demands");
}
END_TEST

START_TEST(offsets_of_another_alignment_are_refused)
{
	struct strbuf f = file(2, 1);

	put_alignment(&f, 64);
	put_tensor(&f, "a", DIMS(1), GGML_I8, 0);
	put_tensor(&f, "b", DIMS(2), GGML_I8, 1);
	pad(&f, 64);
	put_zeros(&f, 128);
	expect_error(
		&f, -EBADMSG,
		"tensor 'b' at byte 90: data at offset 1, expected 64 behind the tensor "
		"before");
}
END_TEST

static TCase *alignment_case(void)
{
	TCase *t = tcase_create("alignment");

	tcase_add_test(t, alignment_of_0_is_refused);
	tcase_add_test(t, alignment_of_13_is_refused);
	tcase_add_test(t, alignment_of_24_is_refused);
	tcase_add_test(t, alignment_of_2_mib_is_refused);
	tcase_add_test(t, alignment_of_1_mib_is_read);
	tcase_add_test(t, alignment_of_another_type_is_refused);
	tcase_add_test(t, alignment_hidden_behind_nul_is_refused);
	tcase_add_test(t, alignment_that_occurs_twice_is_refused);
	tcase_add_test(t, alignment_holds_for_all_data);
	tcase_add_test(t, alignments_of_1_and_4_are_read_with_a_warning);
	tcase_add_test(t, offsets_of_another_alignment_are_refused);
	return t;
}

/* ---- Metadata ---- */

START_TEST(metadata_has_exact_numbers)
{
	struct strbuf f = file(0, 15);

	put_key(&f, "u8", U8);
	put(&f, 255, 1);
	put_key(&f, "i8", I8);
	put(&f, 0x80, 1);
	put_key(&f, "u16", U16);
	put(&f, 65535, 2);
	put_key(&f, "i16", I16);
	put(&f, 0x8000, 2);
	put_key(&f, "u32", U32);
	put(&f, UINT32_MAX, 4);
	put_key(&f, "i32", I32);
	put(&f, UINT32_C(1) << 31, 4);
	put_key(&f, "u64", U64);
	put_u64(&f, UINT64_MAX);
	put_key(&f, "i64", I64);
	put_u64(&f, UINT64_C(1) << 63);
	put_key(&f, "f32", F32);
	put(&f, 0x3dcccccd, 4); /* 0.1f */
	put_key(&f, "f64", F64);
	put_u64(&f, UINT64_C(0x3fb999999999999a)); /* 0.1 */
	put_key(&f, "nan", F32);
	put(&f, 0x7fc00000, 4);
	put_key(&f, "inf", F64);
	put_u64(&f, UINT64_C(0xfff0000000000000));
	put_key(&f, "false", BOOL);
	put(&f, 0, 1);
	put_key(&f, "true", BOOL);
	put(&f, 1, 1);
	put_key(&f, "two", BOOL);
	put(&f, 2, 1);
	expect_metadata(
		&f, "{\"GGUF.version\":3,\"GGUF.tensor_count\":0,\"GGUF.kv_count\":15,"
		    "\"u8\":255,\"i8\":-128,\"u16\":65535,\"i16\":-32768,"
		    "\"u32\":4294967295,\"i32\":-2147483648,"
		    "\"u64\":18446744073709551615,\"i64\":-9223372036854775808,"
		    "\"f32\":0.100000001,\"f64\":0.10000000000000001,"
		    "\"nan\":\"NaN\",\"inf\":\"-Infinity\","
		    "\"false\":false,\"true\":true,\"two\":true}");
}
END_TEST

START_TEST(metadata_has_strings_and_arrays_in_file_order)
{
	struct strbuf f = header(2, 0, 5);

	put_key(&f, "z", STRING);
	put_bytes(&f, "q\"\n\0\xff\xc3\xa9", 7);
	put_array_key(&f, "a", STRING, 3);
	put_string(&f, "one");
	put_string(&f, "");
	put_string(&f, "three");
	put_array_key(&f, "m", I16, 2);
	put(&f, 0xffff, 2);
	put(&f, 2, 2);
	put_array_key(&f, "b", BOOL, 2);
	put(&f, 3, 1);
	put(&f, 0, 1);
	put_alignment(&f, 64);
	expect_metadata(&f,
			"{\"GGUF.version\":2,\"GGUF.tensor_count\":0,\"GGUF.kv_count\":5,"
			"\"z\":\"q\\\"\\n\\u0000\\udcff\xc3\xa9\","
			"\"a\":[\"one\",\"\",\"three\"],\"m\":[-1,2],"
			"\"b\":[true,false],\"general.alignment\":64}");
}
END_TEST

START_TEST(metadata_of_more_than_64_mib_is_refused_and_the_tensors_are_not)
{
	const size_t size = ((size_t)64 << 20) + 1;
	struct strbuf f = file(0, 1);
	struct diag diag = { 0 };

	put_key(&f, "a.b", STRING);
	put_u64(&f, size);
	put_zeros(&f, size);
	ck_assert_ptr_null(metadata_of_bytes(&parser_gguf, f.data, f.len, &diag));
	ck_assert_str_eq(
		diag.text,
		"key 'a.b' at byte 24: value at byte 47: 67108865 bytes more than "
		"64, at most 67108864 are served as metadata");
	expect_tensors(&f, 0);
}
END_TEST

START_TEST(metadata_of_a_bad_file_is_an_error)
{
	CLEANUP(strbuf_fini) struct strbuf f = file(0, 1);
	struct diag diag = { 0 };

	put_key(&f, "a.b", U32);
	ck_assert_ptr_null(metadata_of_bytes(&parser_gguf, f.data, f.len, &diag));
	ck_assert_ptr_nonnull(strstr(diag.text, "value at byte 39: needs 4 bytes"));
	put_zeros(&f, 3);
	ck_assert_ptr_null(metadata_of_bytes(&parser_gguf, f.data, f.len, &diag));
	ck_assert_ptr_nonnull(strstr(diag.text, "value at byte 39: needs 4 bytes"));
}
END_TEST

/* A vocabulary larger than the window through which a file is read. */
static struct strbuf large_vocabulary(void)
{
	struct strbuf f = file(1, 2);
	char token[64];

	put_array_key(&f, "tokens", STRING, 50000);
	for (int i = 0; i < 50000; i++) {
		(void)snprintf(token, sizeof(token), "token %d", i);
		put_string(&f, token);
	}
	put_array_key(&f, "scores", F32, 50000);
	put_zeros(&f, 200000);
	put_tensor(&f, "t", DIMS(2), GGML_F32, 0);
	pad(&f, 32);
	put_zeros(&f, 8);
	return f;
}

START_TEST(descriptor_and_memory_give_the_same)
{
	CLEANUP(strbuf_fini) struct strbuf f = large_vocabulary();
	CLEANUP(close_fd) int fd = memfd_create("test", MFD_CLOEXEC);
	CLEANUP(free_ptr) char *expected = NULL;
	CLEANUP(strbuf_fini) struct strbuf text;
	struct diag diag = { 0 };
	struct model *model;
	struct jsonw json;
	struct reader r;
	uint16_t shard;

	strbuf_init(&text);
	jsonw_init(&json, &text);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, f.data, f.len), (ssize_t)f.len);
	expected = metadata_of_bytes(&parser_gguf, f.data, f.len, &diag);
	ck_assert_ptr_nonnull(expected);
	reader_init_fd(&r, fd, f.len, &diag);
	ck_assert_int_eq(model_new("gguf", &model), 0);
	ck_assert_int_eq(model_add_shard(model, "m", f.len, &shard, &diag), 0);
	ck_assert_msg(parser_gguf.parse(&r, model, shard) == 0, "%s", diag.text);
	ck_assert_uint_eq(model_tensor(model, 0)->offset, f.len - 8);
	ck_assert_int_eq(parser_gguf.write_metadata(&r, &json), 0);
	ck_assert_str_eq(text.data, expected);
	reader_fini(&r);
	model_unref(model);
}
END_TEST

/* ---- What a file says of itself as a part ---- */

static struct shard_part part_of(struct strbuf *f)
{
	struct shard_part part;
	struct parsed parsed;

	expect_good(f, &parsed);
	part = model_shard(parsed.model, 0)->part;
	parsed_fini(&parsed);
	return part;
}

static void put_split(struct strbuf *f, const char *key, uint32_t type, uint64_t value,
		      unsigned int bytes)
{
	put_key(f, key, type);
	put(f, value, bytes);
}

START_TEST(a_file_without_split_keys_is_no_part)
{
	struct strbuf f = file(0, 1);
	struct shard_part part;

	put_split(&f, "split.other", U16, 1, 2);
	part = part_of(&f);
	ck_assert(!part.has_number && !part.has_count && !part.has_tensors);
}
END_TEST

START_TEST(split_keys_are_kept)
{
	struct strbuf f = file(0, 3);
	struct shard_part part;

	put_split(&f, "split.tensors.count", I32, UINT32_MAX, 4);
	put_split(&f, "split.count", U16, UINT16_MAX, 2);
	put_split(&f, "split.no", U16, 258, 2);
	part = part_of(&f);
	ck_assert(part.has_number && part.has_count && part.has_tensors);
	ck_assert_uint_eq(part.number, 258);
	ck_assert_uint_eq(part.count, UINT16_MAX);
	ck_assert_int_eq(part.tensors, -1);
}
END_TEST

/* As ggml has it, which looks at the type. */
START_TEST(split_keys_of_another_type_are_refused)
{
	static const struct {
		const char *key;
		uint32_t type;
		const char *words;
	} keys[] = {
		{ "split.no", U32,
		  "key 'split.no' at byte 24: type before byte 44: 4, "
		  "expected 2 (u16)" },
		{ "split.count", I16,
		  "key 'split.count' at byte 24: type before byte "
		  "47: 3, expected 2 (u16)" },
		{ "split.tensors.count", U32,
		  "key 'split.tensors.count' at byte 24: type before byte 55: 4, "
		  "expected 5 (i32)" },
		{ "split.tensors.count", U64, ": 10, expected 5 (i32)" },
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct strbuf f = file(0, 1);

		put_split(&f, keys[i].key, keys[i].type, 1, 8);
		expect_error(&f, -EBADMSG, keys[i].words);
	}
}
END_TEST

START_TEST(split_keys_hidden_behind_nul_are_refused)
{
	struct strbuf f = file(0, 1);

	put_bytes(&f, "split.count\0x", 13);
	put_u32(&f, U16);
	put(&f, 2, 2);
	put_zeros(&f, 8);
	expect_error(&f, -EBADMSG,
		     "key 'split.count\\x00x' at byte 24: has 13 bytes, C programs see "
		     "the first 11");
}
END_TEST

START_TEST(a_split_key_is_metadata_too)
{
	CLEANUP(strbuf_fini) struct strbuf f = file(0, 3);
	CLEANUP(free_ptr) char *json = NULL;
	struct diag diag;

	put_split(&f, "split.no", U16, 1, 2);
	put_split(&f, "split.count", U16, 3, 2);
	put_split(&f, "split.tensors.count", I32, UINT32_MAX, 4);
	json = metadata_of_bytes(&parser_gguf, f.data, f.len, &diag);
	ck_assert_ptr_nonnull(json);
	ck_assert_ptr_nonnull(strstr(json, "\"split.no\":1,\"split.count\":3,"
					   "\"split.tensors.count\":-1}"));
}
END_TEST

static TCase *part_case(void)
{
	TCase *t = tcase_create("part");

	tcase_add_test(t, a_file_without_split_keys_is_no_part);
	tcase_add_test(t, split_keys_are_kept);
	tcase_add_test(t, split_keys_of_another_type_are_refused);
	tcase_add_test(t, split_keys_hidden_behind_nul_are_refused);
	tcase_add_test(t, a_split_key_is_metadata_too);
	return t;
}

static TCase *metadata_case(void)
{
	TCase *t = tcase_create("metadata");

	tcase_add_test(t, metadata_has_exact_numbers);
	tcase_add_test(t, metadata_has_strings_and_arrays_in_file_order);
	tcase_add_test(t,
		       metadata_of_more_than_64_mib_is_refused_and_the_tensors_are_not);
	tcase_add_test(t, metadata_of_a_bad_file_is_an_error);
	tcase_add_test(t, descriptor_and_memory_give_the_same);
	return t;
}

UNIT_MAIN("gguf_kv", key_case, array_case, alignment_case, part_case, metadata_case)
