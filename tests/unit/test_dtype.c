#include <errno.h>

#include "parsers/dtype.h"
#include "unit.h"

/* ---- Tables ---- */

/* The types of safetensors 0.8 (`Dtype::bitsize`). */
static const struct {
	const char *name;
	unsigned int bits;
} safetensors_types[] = {
	{ "F4", 4 },      { "F6_E2M3", 6 },     { "F6_E3M2", 6 },     { "BOOL", 8 },
	{ "U8", 8 },      { "I8", 8 },          { "F8_E5M2", 8 },     { "F8_E4M3", 8 },
	{ "F8_E8M0", 8 }, { "F8_E4M3FNUZ", 8 }, { "F8_E5M2FNUZ", 8 }, { "I16", 16 },
	{ "U16", 16 },    { "F16", 16 },        { "BF16", 16 },       { "I32", 32 },
	{ "U32", 32 },    { "F32", 32 },        { "C64", 64 },        { "F64", 64 },
	{ "I64", 64 },    { "U64", 64 },
};

/* The sizes that ggml's type_traits print, by number of enum ggml_type. */
static const struct {
	uint32_t id;
	const char *name;
	unsigned int elems;
	unsigned int bytes;
} ggml_types[] = {
	{ 0, "F32", 1, 4 },         { 1, "F16", 1, 2 },
	{ 2, "Q4_0", 32, 18 },      { 3, "Q4_1", 32, 20 },
	{ 6, "Q5_0", 32, 22 },      { 7, "Q5_1", 32, 24 },
	{ 8, "Q8_0", 32, 34 },      { 9, "Q8_1", 32, 36 },
	{ 10, "Q2_K", 256, 84 },    { 11, "Q3_K", 256, 110 },
	{ 12, "Q4_K", 256, 144 },   { 13, "Q5_K", 256, 176 },
	{ 14, "Q6_K", 256, 210 },   { 15, "Q8_K", 256, 292 },
	{ 16, "IQ2_XXS", 256, 66 }, { 17, "IQ2_XS", 256, 74 },
	{ 18, "IQ3_XXS", 256, 98 }, { 19, "IQ1_S", 256, 50 },
	{ 20, "IQ4_NL", 32, 18 },   { 21, "IQ3_S", 256, 110 },
	{ 22, "IQ2_S", 256, 82 },   { 23, "IQ4_XS", 256, 136 },
	{ 24, "I8", 1, 1 },         { 25, "I16", 1, 2 },
	{ 26, "I32", 1, 4 },        { 27, "I64", 1, 8 },
	{ 28, "F64", 1, 8 },        { 29, "IQ1_M", 256, 56 },
	{ 30, "BF16", 1, 2 },       { 34, "TQ1_0", 256, 54 },
	{ 35, "TQ2_0", 256, 66 },   { 39, "MXFP4", 32, 17 },
	{ 40, "NVFP4", 64, 36 },    { 41, "Q1_0", 128, 18 },
	{ 42, "Q2_0", 64, 18 },
};

START_TEST(every_safetensors_type_is_known_with_its_size)
{
	for (size_t i = 0; i < ARRAY_LEN(safetensors_types); i++) {
		const char *name = safetensors_types[i].name;
		enum dtype dtype = dtype_from_safetensors(name, strlen(name));
		const struct dtype_info *info;

		ck_assert_msg(dtype != DTYPE_COUNT, "%s", name);
		info = dtype_info(dtype);
		ck_assert_str_eq(info->name, name);
		ck_assert_str_eq(info->safetensors, name);
		ck_assert_msg(info->block_bytes * 8u ==
				      info->block_elems * safetensors_types[i].bits,
			      "%s", name);
		ck_assert(!info->rows_of_blocks);
	}
}
END_TEST

START_TEST(no_other_type_has_a_safetensors_name)
{
	size_t count = 0;

	for (unsigned int i = 0; i < DTYPE_COUNT; i++)
		count += dtype_info((enum dtype)i)->safetensors != NULL;
	ck_assert_uint_eq(count, ARRAY_LEN(safetensors_types));
}
END_TEST

START_TEST(names_are_case_sensitive_and_whole)
{
	ck_assert_int_eq(dtype_from_safetensors("f32", 3), DTYPE_COUNT);
	ck_assert_int_eq(dtype_from_safetensors("F3", 2), DTYPE_COUNT);
	ck_assert_int_eq(dtype_from_safetensors("F32 ", 4), DTYPE_COUNT);
	ck_assert_int_eq(dtype_from_safetensors("F32\0", 4), DTYPE_COUNT);
	ck_assert_int_eq(dtype_from_safetensors("", 0), DTYPE_COUNT);
	ck_assert_int_eq(dtype_from_safetensors("C128", 4), DTYPE_COUNT);
	ck_assert_int_eq(dtype_from_safetensors("Q4_0", 4), DTYPE_COUNT);
	ck_assert_int_eq(dtype_from_safetensors("F32junk", 3), DTYPE_F32);
}
END_TEST

START_TEST(every_ggml_type_is_known_with_its_size)
{
	for (size_t i = 0; i < ARRAY_LEN(ggml_types); i++) {
		enum dtype dtype = dtype_from_ggml(ggml_types[i].id);
		const struct dtype_info *info;

		ck_assert_msg(dtype != DTYPE_COUNT, "%u", ggml_types[i].id);
		info = dtype_info(dtype);
		ck_assert_str_eq(info->name, ggml_types[i].name);
		ck_assert_uint_eq(info->block_elems, ggml_types[i].elems);
		ck_assert_uint_eq(info->block_bytes, ggml_types[i].bytes);
		ck_assert(info->rows_of_blocks == (info->block_elems > 1));
	}
}
END_TEST

START_TEST(removed_and_unknown_ggml_types_are_refused)
{
	static const uint32_t ids[] = { 4,   5,          31,         32,        33,
					36,  37,         38,         43,        44,
					256, 0x7fffffff, 0x80000000, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_LEN(ids); i++)
		ck_assert_int_eq(dtype_from_ggml(ids[i]), DTYPE_COUNT);
}
END_TEST

START_TEST(every_type_has_a_name_of_its_own_and_a_block)
{
	for (unsigned int i = 0; i < DTYPE_COUNT; i++) {
		const struct dtype_info *info = dtype_info((enum dtype)i);

		ck_assert_ptr_nonnull(info->name);
		ck_assert_uint_ge(info->block_elems, 1);
		ck_assert_uint_ge(info->block_bytes, 1);
		for (unsigned int j = 0; j < i; j++)
			ck_assert_str_ne(info->name, dtype_info((enum dtype)j)->name);
	}
}
END_TEST

START_TEST(numpy_items_have_the_size_of_an_element)
{
	for (unsigned int i = 0; i < DTYPE_COUNT; i++) {
		const struct dtype_info *info = dtype_info((enum dtype)i);

		if (info->block_elems > 1) {
			ck_assert_ptr_null(info->numpy);
			continue;
		}
		/* The descr is a byte order, a kind and the size. */
		ck_assert_ptr_nonnull(info->numpy);
		ck_assert_int_eq(strtol(info->numpy + 2, NULL, 10), info->block_bytes);
		ck_assert_int_eq(info->numpy[0], info->block_bytes > 1 ? '<' : '|');
	}
}
END_TEST

/* ---- Sizes ---- */

static void expect_nbytes(enum dtype dtype, const uint64_t *shape, unsigned int rank,
			  uint64_t wanted)
{
	uint64_t nbytes;

	ck_assert_int_eq(dtype_nbytes(dtype, shape, rank, &nbytes), 0);
	ck_assert_uint_eq(nbytes, wanted);
}

static void expect_no_nbytes(enum dtype dtype, const uint64_t *shape, unsigned int rank,
			     int err)
{
	uint64_t nbytes = 42;

	ck_assert_int_eq(dtype_nbytes(dtype, shape, rank, &nbytes), err);
	ck_assert_uint_eq(nbytes, 42);
}

START_TEST(a_scalar_has_one_element)
{
	expect_nbytes(DTYPE_F32, NULL, 0, 4);
	expect_nbytes(DTYPE_C128, NULL, 0, 16);
}
END_TEST

START_TEST(the_size_is_the_product_of_the_shape)
{
	expect_nbytes(DTYPE_BF16, (uint64_t[]){ 2, 3, 5 }, 3, 60);
	expect_nbytes(DTYPE_U8, (uint64_t[]){ 7, 0 }, 2, 0);
}
END_TEST

START_TEST(a_product_near_64_bits_is_exact)
{
	expect_nbytes(DTYPE_U8, (uint64_t[]){ UINT64_MAX }, 1, UINT64_MAX);
	expect_nbytes(DTYPE_U16, (uint64_t[]){ UINT64_MAX / 2 }, 1, UINT64_MAX - 1);
	expect_nbytes(DTYPE_U8, (uint64_t[]){ 4294967295, 4294967297 }, 2, UINT64_MAX);
	/* More bits than 64 count, but not more bytes. */
	expect_nbytes(DTYPE_F4, (uint64_t[]){ UINT64_MAX - 1 }, 1, UINT64_MAX / 2);
}
END_TEST

START_TEST(too_many_elements_do_not_wrap)
{
	expect_no_nbytes(DTYPE_U8, (uint64_t[]){ 4294967296, 4294967296 }, 2, -EOVERFLOW);
	expect_no_nbytes(DTYPE_F32, (uint64_t[]){ 4194305, 4194305, 211106198978564 }, 3,
			 -EOVERFLOW);
	expect_no_nbytes(DTYPE_F4, (uint64_t[]){ 2, UINT64_MAX }, 2, -EOVERFLOW);
}
END_TEST

START_TEST(too_many_bytes_do_not_wrap)
{
	expect_no_nbytes(DTYPE_U16, (uint64_t[]){ (uint64_t)1 << 63 }, 1, -EOVERFLOW);
	expect_no_nbytes(DTYPE_F32, (uint64_t[]){ UINT64_MAX / 4 + 1 }, 1, -EOVERFLOW);
	/* 34 bytes for 32 elements. */
	expect_no_nbytes(DTYPE_Q8_0, (uint64_t[]){ UINT64_MAX / 32 * 32 }, 1, -EOVERFLOW);
}
END_TEST

START_TEST(a_zero_hides_only_what_stands_behind_it)
{
	expect_nbytes(DTYPE_U8, (uint64_t[]){ 0, UINT64_MAX, 2 }, 3, 0);
	expect_no_nbytes(DTYPE_U8, (uint64_t[]){ UINT64_MAX, 2, 0 }, 3, -EOVERFLOW);
}
END_TEST

START_TEST(packed_types_fill_whole_bytes_over_all_rows)
{
	expect_nbytes(DTYPE_F4, (uint64_t[]){ 2, 3 }, 2, 3);
	expect_nbytes(DTYPE_F6_E2M3, (uint64_t[]){ 2, 2 }, 2, 3);
	expect_no_nbytes(DTYPE_F4, (uint64_t[]){ 15 }, 1, -EINVAL);
	expect_no_nbytes(DTYPE_F4, NULL, 0, -EINVAL);
	expect_no_nbytes(DTYPE_F6_E3M2, (uint64_t[]){ 3 }, 1, -EINVAL);
	expect_no_nbytes(DTYPE_F6_E3M2, (uint64_t[]){ 2 }, 1, -EINVAL);
}
END_TEST

START_TEST(quantised_blocks_do_not_span_rows)
{
	expect_nbytes(DTYPE_Q4_0, (uint64_t[]){ 3, 64 }, 2, 108);
	expect_nbytes(DTYPE_Q6_K, (uint64_t[]){ 2, 256 }, 2, 420);
	expect_nbytes(DTYPE_Q4_0, (uint64_t[]){ 3, 0 }, 2, 0);
	/* 64 elements, but rows of 16. */
	expect_no_nbytes(DTYPE_Q4_0, (uint64_t[]){ 4, 16 }, 2, -EINVAL);
	expect_no_nbytes(DTYPE_Q4_0, (uint64_t[]){ 33 }, 1, -EINVAL);
	/* No elements, but rows of 16 all the same. */
	expect_no_nbytes(DTYPE_Q4_0, (uint64_t[]){ 0, 16 }, 2, -EINVAL);
	expect_no_nbytes(DTYPE_Q4_0, NULL, 0, -EINVAL);
}
END_TEST

static TCase *tables_case(void)
{
	TCase *tcase = tcase_create("tables");

	tcase_add_test(tcase, every_safetensors_type_is_known_with_its_size);
	tcase_add_test(tcase, no_other_type_has_a_safetensors_name);
	tcase_add_test(tcase, names_are_case_sensitive_and_whole);
	tcase_add_test(tcase, every_ggml_type_is_known_with_its_size);
	tcase_add_test(tcase, removed_and_unknown_ggml_types_are_refused);
	tcase_add_test(tcase, every_type_has_a_name_of_its_own_and_a_block);
	tcase_add_test(tcase, numpy_items_have_the_size_of_an_element);
	return tcase;
}

static TCase *sizes_case(void)
{
	TCase *tcase = tcase_create("sizes");

	tcase_add_test(tcase, a_scalar_has_one_element);
	tcase_add_test(tcase, the_size_is_the_product_of_the_shape);
	tcase_add_test(tcase, a_product_near_64_bits_is_exact);
	tcase_add_test(tcase, too_many_elements_do_not_wrap);
	tcase_add_test(tcase, too_many_bytes_do_not_wrap);
	tcase_add_test(tcase, a_zero_hides_only_what_stands_behind_it);
	tcase_add_test(tcase, packed_types_fill_whole_bytes_over_all_rows);
	tcase_add_test(tcase, quantised_blocks_do_not_span_rows);
	return tcase;
}

UNIT_MAIN("dtype", tables_case, sizes_case)
