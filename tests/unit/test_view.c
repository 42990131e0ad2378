#include <errno.h>
#include <stdio.h>

#include "parse_bytes.h"
#include "parsers/formats.h"
#include "parsers/limits.h"
#include "unit.h"
#include "view.h"

#define PAGE 4096u

/* What numpy reads without being told to trust the file: 10,000 and the 10 in front. */
#define NPY_HEADER_MAX 10010u

static const enum view headed[] = { VIEW_NPY, VIEW_SAFETENSORS };

/* A tensor with `nbytes` as dtype and shape say. */
static struct tensor tensor_of(const char *name, enum dtype dtype, unsigned int rank,
			       const uint64_t *shape, uint64_t offset)
{
	struct tensor t = {
		.name = name,
		.shape = shape,
		.offset = offset,
		.name_len = (uint32_t)strlen(name),
		.rank = (uint8_t)rank,
		.dtype = (uint8_t)dtype,
	};

	ck_assert_int_eq(dtype_nbytes(dtype, shape, rank, &t.nbytes), 0);
	return t;
}

/* The header, after checks that hold for each one. Ends with NUL. */
static char *header_of(enum view view, const struct tensor *t, uint64_t *len)
{
	struct strbuf out;

	*len = view_header_len(view, t);
	strbuf_init(&out);
	/* It is added to what is there. */
	strbuf_add(&out, "12345", 5);
	view_write_header(view, t, &out);
	ck_assert_int_eq(out.err, 0);
	ck_assert_uint_eq(out.len - 5, *len);
	memmove(out.data, out.data + 5, *len + 1);
	if (t->nbytes > 0)
		ck_assert_uint_eq(*len % PAGE, t->offset % PAGE);
	return strbuf_steal(&out);
}

/* Where the padding starts; it is spaces up to `end`. */
static uint64_t padding_start(const char *header, uint64_t end)
{
	while (end > 0 && header[end - 1] == ' ')
		end--;
	return end;
}

static void check_npy(const struct tensor *t, const char *dict)
{
	uint64_t len;
	CLEANUP(free_ptr) char *header = header_of(VIEW_NPY, t, &len);
	uint64_t text = padding_start(header, len - 1);

	ck_assert_uint_le(len, NPY_HEADER_MAX);
	ck_assert_mem_eq(header, "\x93NUMPY\x01\x00", 8);
	ck_assert_uint_eq((uint8_t)header[8] + 256u * (uint8_t)header[9], len - 10);
	ck_assert_int_eq(header[len - 1], '\n');
	ck_assert_int_eq(header[10], '{');
	ck_assert_int_eq(header[text - 1], '}');
	/* No padding that is not needed. */
	if (t->nbytes > 0)
		ck_assert_uint_lt(len - text - 1, PAGE);
	else
		ck_assert_uint_lt(len - text - 1, 64);
	if (dict) {
		ck_assert_uint_eq(text - 10, strlen(dict));
		ck_assert_mem_eq(header + 10, dict, strlen(dict));
	}
}

static void check_safetensors(const struct tensor *t, const char *json)
{
	uint64_t len;
	CLEANUP(free_ptr) char *header = header_of(VIEW_SAFETENSORS, t, &len);
	uint64_t text = padding_start(header, len);
	uint64_t header_len = 0;

	for (unsigned int i = 0; i < 8; i++)
		header_len |= (uint64_t)(uint8_t)header[i] << 8 * i;
	ck_assert_uint_eq(header_len, len - 8);
	ck_assert_int_eq(header[text - 1], '}');
	if (t->nbytes > 0)
		ck_assert_uint_lt(len - text, PAGE);
	else
		ck_assert_uint_eq(len, text);
	if (json) {
		ck_assert_uint_eq(text - 8, strlen(json));
		ck_assert_mem_eq(header + 8, json, strlen(json));
	}
}

static void check_both(const struct tensor *t, const char *dict, const char *json)
{
	check_npy(t, dict);
	check_safetensors(t, json);
}

START_TEST(views_have_a_directory_and_a_suffix)
{
	ck_assert_str_eq(view_info(VIEW_RAW)->dir, "tensors");
	ck_assert_str_eq(view_info(VIEW_RAW)->suffix, "");
	ck_assert_str_eq(view_info(VIEW_NPY)->dir, "npy");
	ck_assert_str_eq(view_info(VIEW_NPY)->suffix, ".npy");
	ck_assert_str_eq(view_info(VIEW_SAFETENSORS)->dir, "safetensors");
	ck_assert_str_eq(view_info(VIEW_SAFETENSORS)->suffix, ".safetensors");
}
END_TEST

START_TEST(the_raw_view_has_no_header)
{
	const uint64_t shape[] = { 2, 3 };
	const struct tensor t = tensor_of("a", DTYPE_F32, 2, shape, 100);
	struct strbuf out;

	strbuf_init(&out);
	view_write_header(VIEW_RAW, &t, &out);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_uint_eq(view_header_len(VIEW_RAW, &t), 0);
}
END_TEST

/* ---- Known headers ---- */

START_TEST(a_matrix_is_described)
{
	const uint64_t shape[] = { 2, 3 };
	const struct tensor t = tensor_of("a.b", DTYPE_F32, 2, shape, 5000);

	check_both(
		&t, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
		"{\"a.b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}");
}
END_TEST

START_TEST(a_vector_is_a_tuple_of_one)
{
	const uint64_t shape[] = { 7 };
	const struct tensor t = tensor_of("v", DTYPE_BOOL, 1, shape, 0);

	check_both(&t, "{'descr': '|b1', 'fortran_order': False, 'shape': (7,), }",
		   "{\"v\":{\"dtype\":\"BOOL\",\"shape\":[7],\"data_offsets\":[0,7]}}");
}
END_TEST

START_TEST(a_scalar_has_no_dimensions)
{
	const struct tensor t = tensor_of("s", DTYPE_I64, 0, NULL, 9);

	check_both(&t, "{'descr': '<i8', 'fortran_order': False, 'shape': (), }",
		   "{\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}");
}
END_TEST

START_TEST(types_that_numpy_lacks_are_unsigned_integers)
{
	const uint64_t shape[] = { 2, 2 };
	const struct tensor bf16 = tensor_of("b", DTYPE_BF16, 2, shape, 0);
	const struct tensor f8 = tensor_of("f", DTYPE_F8_E4M3, 2, shape, 0);

	check_both(&bf16, "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 2), }",
		   "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}");
	check_both(
		&f8, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }",
		"{\"f\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,2],\"data_offsets\":[0,4]}}");
}
END_TEST

START_TEST(blocks_are_bytes_in_the_last_dimension)
{
	const uint64_t shape[] = { 2, 512 };
	const struct tensor q4 = tensor_of("q", DTYPE_Q4_K, 2, shape, 0);
	const struct tensor q8 = tensor_of("q", DTYPE_Q8_0, 1, shape + 1, 0);

	check_both(
		&q4, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 288), }",
		"{\"q\":{\"dtype\":\"U8\",\"shape\":[2,288],\"data_offsets\":[0,576]}}");
	check_both(&q8, "{'descr': '|u1', 'fortran_order': False, 'shape': (544,), }",
		   "{\"q\":{\"dtype\":\"U8\",\"shape\":[544],\"data_offsets\":[0,544]}}");
}
END_TEST

START_TEST(packed_types_are_bytes_only_for_numpy)
{
	const uint64_t whole[] = { 3, 4 };
	const uint64_t spanning[] = { 4, 3 };
	const struct tensor f4 = tensor_of("p", DTYPE_F4, 2, whole, 0);
	const struct tensor odd = tensor_of("p", DTYPE_F4, 2, spanning, 0);
	const struct tensor f6 = tensor_of("p", DTYPE_F6_E2M3, 2, spanning, 0);

	check_both(&f4, "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2), }",
		   "{\"p\":{\"dtype\":\"F4\",\"shape\":[3,4],\"data_offsets\":[0,6]}}");
	/* A block that spans two rows belongs to no row. */
	check_both(&odd, "{'descr': '|u1', 'fortran_order': False, 'shape': (6,), }",
		   "{\"p\":{\"dtype\":\"F4\",\"shape\":[4,3],\"data_offsets\":[0,6]}}");
	check_both(
		&f6, "{'descr': '|u1', 'fortran_order': False, 'shape': (9,), }",
		"{\"p\":{\"dtype\":\"F6_E2M3\",\"shape\":[4,3],\"data_offsets\":[0,9]}}");
}
END_TEST

START_TEST(a_type_that_safetensors_lacks_is_bytes)
{
	const uint64_t shape[] = { 2, 3 };
	const struct tensor matrix = tensor_of("c", DTYPE_C128, 2, shape, 0);
	const struct tensor scalar = tensor_of("c", DTYPE_C128, 0, NULL, 0);

	check_both(&matrix,
		   "{'descr': '<c16', 'fortran_order': False, 'shape': (2, 3), }",
		   "{\"c\":{\"dtype\":\"U8\",\"shape\":[2,48],\"data_offsets\":[0,96]}}");
	check_both(&scalar, "{'descr': '<c16', 'fortran_order': False, 'shape': (), }",
		   "{\"c\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]}}");
}
END_TEST

START_TEST(an_empty_tensor_is_not_padded_to_its_offset)
{
	const uint64_t shape[] = { 3, 0 };

	for (uint64_t offset = 0; offset < (uint64_t)2 * PAGE; offset += 17) {
		const struct tensor t = tensor_of("e", DTYPE_F16, 2, shape, offset);

		check_both(&t,
			   "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 0), }",
			   "{\"e\":{\"dtype\":\"F16\",\"shape\":[3,0],"
			   "\"data_offsets\":[0,0]}}");
		ck_assert_uint_eq(view_header_len(VIEW_NPY, &t), 128);
	}
}
END_TEST

/* ---- Names in a .safetensors header ---- */

START_TEST(a_name_is_escaped_as_json_asks)
{
	const uint64_t shape[] = { 1 };
	struct tensor t = tensor_of("q\"b\\s/\n\x01\x7f\xc3\xa4", DTYPE_U8, 1, shape, 0);

	check_safetensors(&t, "{\"q\\\"b\\\\s/\\n\\u0001\\u007f\xc3\xa4\":{\"dtype\":"
			      "\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}");
	t.name = "a\0b";
	t.name_len = 3;
	check_safetensors(&t, "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],"
			      "\"data_offsets\":[0,1]}}");
	t.name_len = 0;
	check_safetensors(
		&t, "{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}");
}
END_TEST

START_TEST(a_name_that_a_header_cannot_hold_is_encoded)
{
	const uint64_t shape[] = { 1 };
	struct tensor t = tensor_of("__metadata__", DTYPE_U8, 1, shape, 0);
	char invalid[64];
	struct strbuf json;

	check_safetensors(&t, "{\"%__metadata__\":{\"dtype\":\"U8\",\"shape\":[1],"
			      "\"data_offsets\":[0,1]}}");
	t = tensor_of("a/\xff%", DTYPE_U8, 1, shape, 0);
	check_safetensors(&t, "{\"a%2F%FF%25\":{\"dtype\":\"U8\",\"shape\":[1],"
			      "\"data_offsets\":[0,1]}}");
	/* The longest that a format without UTF-8 has. */
	memset(invalid, '\xff', sizeof(invalid));
	t.name = invalid;
	t.name_len = sizeof(invalid);
	strbuf_init(&json);
	strbuf_add_str(&json, "{\"");
	for (size_t i = 0; i < sizeof(invalid); i++)
		strbuf_add_str(&json, "%FF");
	strbuf_add_str(&json,
		       "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}");
	check_safetensors(&t, json.data);
	strbuf_fini(&json);
}
END_TEST

START_TEST(a_name_of_any_length_has_a_header)
{
	static const char fills[] = { 'x', '\x01', '"' };
	const uint64_t shape[] = { 1 };
	CLEANUP(free_ptr) char *name = malloc(LIMIT_NAME_BYTES);
	struct tensor t = tensor_of("", DTYPE_U8, 1, shape, 4095);

	ck_assert_ptr_nonnull(name);
	t.name = name;
	for (size_t i = 0; i < ARRAY_LEN(fills); i++) {
		memset(name, fills[i], LIMIT_NAME_BYTES);
		for (uint32_t len = LIMIT_NAME_BYTES; len > 0; len /= 3) {
			t.name_len = len;
			check_both(&t, NULL, NULL);
		}
	}
}
END_TEST

/* ---- All types, ranks and offsets ---- */

/* One block in each dimension's corner: valid for every type. */
static void shape_of(enum dtype dtype, unsigned int rank, uint64_t *shape)
{
	for (unsigned int i = 0; i < rank; i++)
		shape[i] = i % 5 == 0 ? 2 : 1;
	if (rank > 0)
		shape[rank - 1] = dtype_info(dtype)->block_elems;
}

START_TEST(every_type_and_rank_has_headers)
{
	static const uint64_t offsets[] = { 0, 1, 8, 127, 4095, 4096, 1234567 };
	uint64_t shape[LIMIT_RANK];

	for (unsigned int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
		/* One element is no whole block. */
		unsigned int least = dtype_info((enum dtype)dtype)->block_elems > 1;

		for (unsigned int rank = least; rank <= LIMIT_RANK; rank++) {
			shape_of((enum dtype)dtype, rank, shape);
			for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
				const struct tensor t = tensor_of(
					"t", (enum dtype)dtype, rank, shape, offsets[i]);

				check_both(&t, NULL, NULL);
			}
		}
	}
}
END_TEST

START_TEST(data_keeps_its_offset_modulo_a_page)
{
	const uint64_t shape[] = { 1024, 1024 };
	uint64_t before[ARRAY_LEN(headed)] = { 0 };

	for (uint64_t offset = 0; offset < (uint64_t)3 * PAGE; offset++) {
		const struct tensor t = tensor_of("t", DTYPE_F32, 2, shape, offset);

		for (size_t i = 0; i < ARRAY_LEN(headed); i++) {
			uint64_t len = view_header_len(headed[i], &t);

			ck_assert_uint_eq(len % PAGE, offset % PAGE);
			/* One byte longer each time, or back by a page. */
			if (offset > 0)
				ck_assert(len == before[i] + 1 ||
					  len + PAGE == before[i] + 1);
			before[i] = len;
		}
		check_both(&t, NULL, NULL);
	}
}
END_TEST

START_TEST(offsets_near_the_end_of_64_bits_do_not_wrap)
{
	const uint64_t shape[] = { 1 };

	for (uint64_t i = 0; i < 100; i++) {
		const struct tensor t =
			tensor_of("t", DTYPE_U8, 1, shape, UINT64_MAX - 1 - i);

		check_both(&t, NULL, NULL);
	}
}
END_TEST

/* No shape has a longer text than this one. */
START_TEST(numpy_reads_the_longest_header)
{
	uint64_t shape[LIMIT_RANK];
	struct tensor t = { .name = "t",
			    .name_len = 1,
			    .shape = shape,
			    .nbytes = 1,
			    .rank = LIMIT_RANK };

	for (unsigned int i = 0; i < LIMIT_RANK; i++)
		shape[i] = UINT64_MAX;
	t.dtype = DTYPE_C64;
	for (t.offset = 0; t.offset < PAGE; t.offset++)
		check_both(&t, NULL, NULL);
}
END_TEST

START_TEST(a_full_buffer_is_an_error)
{
	const uint64_t shape[] = { 1 };
	const struct tensor t = tensor_of("t", DTYPE_U8, 1, shape, 0);
	char storage[100];

	for (size_t i = 0; i < ARRAY_LEN(headed); i++) {
		struct strbuf out;

		strbuf_init_fixed(&out, storage, sizeof(storage));
		view_write_header(headed[i], &t, &out);
		ck_assert_int_eq(out.err, -ENOBUFS);
	}
}
END_TEST

/* ---- The header as a reader sees it ---- */

static void expect_read_back(const struct tensor *t)
{
	uint64_t len;
	CLEANUP(free_ptr) char *header = header_of(VIEW_SAFETENSORS, t, &len);
	CLEANUP(free_ptr) char *file = calloc(len + t->nbytes, 1);
	const struct tensor *got;
	struct parsed parsed;

	ck_assert_ptr_nonnull(file);
	memcpy(file, header, len);
	parse_bytes(&parser_safetensors, file, len + t->nbytes, &parsed);
	ck_assert_msg(parsed.err == 0, "%s", parsed.diag.text);
	ck_assert_uint_eq(model_tensor_count(parsed.model), 1);
	got = model_tensor(parsed.model, 0);
	ck_assert_uint_eq(got->offset, len);
	ck_assert_uint_eq(got->nbytes, t->nbytes);
	ck_assert_uint_eq(got->name_len, t->name_len);
	ck_assert_mem_eq(got->name, t->name, t->name_len);
	if (dtype_info((enum dtype)t->dtype)->safetensors) {
		ck_assert_uint_eq(got->dtype, t->dtype);
		ck_assert_uint_eq(got->rank, t->rank);
		for (unsigned int i = 0; i < t->rank; i++)
			ck_assert_uint_eq(got->shape[i], t->shape[i]);
	} else {
		ck_assert_uint_eq(got->dtype, DTYPE_U8);
	}
	parsed_fini(&parsed);
}

START_TEST(our_own_parser_reads_every_header)
{
	uint64_t shape[LIMIT_RANK];

	for (unsigned int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
		unsigned int least = dtype_info((enum dtype)dtype)->block_elems > 1;

		for (unsigned int rank = least; rank <= 6; rank++) {
			struct tensor t;

			shape_of((enum dtype)dtype, rank, shape);
			t = tensor_of("model.a/b \xc3\xa4\"\n", (enum dtype)dtype, rank,
				      shape, (uint64_t)77 * rank);
			expect_read_back(&t);
		}
	}
}
END_TEST

static TCase *known_case(void)
{
	TCase *tcase = tcase_create("known headers");

	tcase_add_test(tcase, views_have_a_directory_and_a_suffix);
	tcase_add_test(tcase, the_raw_view_has_no_header);
	tcase_add_test(tcase, a_matrix_is_described);
	tcase_add_test(tcase, a_vector_is_a_tuple_of_one);
	tcase_add_test(tcase, a_scalar_has_no_dimensions);
	tcase_add_test(tcase, types_that_numpy_lacks_are_unsigned_integers);
	tcase_add_test(tcase, blocks_are_bytes_in_the_last_dimension);
	tcase_add_test(tcase, packed_types_are_bytes_only_for_numpy);
	tcase_add_test(tcase, a_type_that_safetensors_lacks_is_bytes);
	tcase_add_test(tcase, an_empty_tensor_is_not_padded_to_its_offset);
	tcase_add_test(tcase, a_name_is_escaped_as_json_asks);
	tcase_add_test(tcase, a_name_that_a_header_cannot_hold_is_encoded);
	return tcase;
}

static TCase *all_case(void)
{
	TCase *tcase = tcase_create("all headers");

	tcase_add_test(tcase, a_name_of_any_length_has_a_header);
	tcase_add_test(tcase, every_type_and_rank_has_headers);
	tcase_add_test(tcase, data_keeps_its_offset_modulo_a_page);
	tcase_add_test(tcase, offsets_near_the_end_of_64_bits_do_not_wrap);
	tcase_add_test(tcase, numpy_reads_the_longest_header);
	tcase_add_test(tcase, a_full_buffer_is_an_error);
	tcase_add_test(tcase, our_own_parser_reads_every_header);
	return tcase;
}

UNIT_MAIN("view", known_case, all_case)
