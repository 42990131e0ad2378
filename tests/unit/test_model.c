#include <errno.h>
#include <stdio.h>

#include "parsers/limits.h"
#include "parsers/model.h"
#include "unit.h"

static struct model *new_model(void)
{
	struct model *model;

	ck_assert_int_eq(model_new("test", &model), 0);
	return model;
}

static uint16_t add_shard(struct model *model, const char *name, uint64_t size)
{
	struct diag diag;
	uint16_t index;

	ck_assert_int_eq(model_add_shard(model, name, size, &index, &diag), 0);
	return index;
}

/* A model with one shard of `size` bytes. */
static struct model *new_model_of(uint64_t size)
{
	struct model *model = new_model();

	ck_assert_uint_eq(add_shard(model, "model", size), 0);
	return model;
}

/* `nbytes` U8 elements in one dimension. */
static int add_bytes(struct model *model, const char *name, uint64_t offset,
		     uint64_t nbytes, struct diag *diag)
{
	const struct tensor tensor = {
		.name = name,
		.name_len = (uint32_t)strlen(name),
		.shape = &nbytes,
		.rank = 1,
		.offset = offset,
		.nbytes = nbytes,
		.dtype = DTYPE_U8,
	};

	return model_add_tensor(model, &tensor, diag);
}

static void add(struct model *model, const char *name, uint64_t offset, uint64_t nbytes)
{
	struct diag diag = { 0 };

	ck_assert_msg(add_bytes(model, name, offset, nbytes, &diag) == 0, "%s",
		      diag.text);
}

static void expect_refused(struct model *model, const struct tensor *tensor, int err,
			   const char *words)
{
	size_t count = model_tensor_count(model);
	struct diag diag;

	ck_assert_int_eq(model_add_tensor(model, tensor, &diag), err);
	ck_assert_str_eq(diag.text, words);
	ck_assert_uint_eq(model_tensor_count(model), count);
}

/* ---- Tensors ---- */

START_TEST(a_tensor_is_copied)
{
	struct model *model = new_model_of(100);
	uint64_t shape[] = { 2, 3 };
	char name[] = "a\0b";
	struct tensor tensor = { .name = name,
				 .name_len = 3,
				 .shape = shape,
				 .rank = 2,
				 .offset = 10,
				 .nbytes = 24,
				 .dtype = DTYPE_F32 };
	const struct tensor *t;
	struct diag diag;

	ck_assert_int_eq(model_add_tensor(model, &tensor, &diag), 0);
	memset(name, 'x', 3);
	memset(shape, 0, sizeof(shape));
	ck_assert_int_eq(model_seal(model), 0);
	t = model_find_tensor(model, "a\0b", 3);
	ck_assert_ptr_nonnull(t);
	ck_assert_ptr_eq(t, model_tensor(model, 0));
	ck_assert_mem_eq(t->name, "a\0b", 4);
	ck_assert_uint_eq(t->rank, 2);
	ck_assert_uint_eq(t->shape[0], 2);
	ck_assert_uint_eq(t->shape[1], 3);
	ck_assert_uint_eq(t->offset, 10);
	ck_assert_uint_eq(t->nbytes, 24);
	ck_assert_int_eq(t->dtype, DTYPE_F32);
	ck_assert_uint_eq(model_total_bytes(model), 24);
	model_unref(model);
}
END_TEST

START_TEST(a_scalar_needs_no_shape)
{
	struct model *model = new_model_of(8);
	struct tensor tensor = { .name = "", .nbytes = 8, .dtype = DTYPE_F64 };
	struct diag diag;

	ck_assert_int_eq(model_add_tensor(model, &tensor, &diag), 0);
	ck_assert_ptr_nonnull(model_find_tensor(model, "", 0));
	model_unref(model);
}
END_TEST

START_TEST(a_name_that_occurs_twice_is_refused)
{
	struct model *model = new_model_of(100);
	struct diag diag;

	add(model, "a", 0, 4);
	ck_assert_int_eq(add_bytes(model, "a", 4, 4, &diag), -EEXIST);
	ck_assert_str_eq(diag.text, "tensor 'a': the name occurs twice");
	ck_assert_uint_eq(model_tensor_count(model), 1);
	ck_assert_uint_eq(model_total_bytes(model), 4);
	model_unref(model);
}
END_TEST

START_TEST(a_name_is_more_than_a_prefix)
{
	struct model *model = new_model_of(100);

	add(model, "weight", 0, 4);
	add(model, "weight.bias", 4, 4);
	add(model, "weigh", 8, 4);
	ck_assert_uint_eq(model_find_tensor(model, "weight", 6)->offset, 0);
	ck_assert_uint_eq(model_find_tensor(model, "weight.bias", 11)->offset, 4);
	ck_assert_ptr_null(model_find_tensor(model, "weight.", 7));
	ck_assert_ptr_null(model_find_tensor(model, "", 0));
	model_unref(model);
}
END_TEST

START_TEST(data_ends_within_the_shard)
{
	struct model *model = new_model_of(100);
	struct diag diag;

	add(model, "a", 96, 4);
	add(model, "end", 100, 0);
	ck_assert_int_eq(add_bytes(model, "b", 97, 4, &diag), -EBADMSG);
	ck_assert_str_eq(diag.text, "tensor 'b': data ends at 101, file has 100 bytes");
	ck_assert_int_eq(add_bytes(model, "c", 101, 0, &diag), -EBADMSG);
	ck_assert_str_eq(diag.text, "tensor 'c': data ends at 101, file has 100 bytes");
	model_unref(model);
}
END_TEST

START_TEST(a_range_near_64_bits_does_not_wrap)
{
	struct model *model = new_model_of(UINT64_MAX);
	struct diag diag;

	add(model, "a", UINT64_MAX - 4, 4);
	ck_assert_int_eq(add_bytes(model, "b", UINT64_MAX - 3, 4, &diag), -EBADMSG);
	ck_assert_str_eq(diag.text,
			 "tensor 'b': 4 bytes at 18446744073709551612 end above 2^64");
	ck_assert_int_eq(add_bytes(model, "c", UINT64_MAX, UINT64_MAX, &diag), -EBADMSG);
	ck_assert_str_eq(diag.text, "tensor 'c': 18446744073709551615 bytes at "
				    "18446744073709551615 end above 2^64");
	model_unref(model);
}
END_TEST

START_TEST(the_size_is_what_dtype_and_shape_say)
{
	struct model *model = new_model_of(100);
	uint64_t shape[] = { 2, 3 };
	struct tensor tensor = { .name = "a",
				 .name_len = 1,
				 .shape = shape,
				 .rank = 2,
				 .nbytes = 23,
				 .dtype = DTYPE_F32 };

	expect_refused(model, &tensor, -EBADMSG,
		       "tensor 'a': has 23 bytes, its dtype and shape need 24");
	tensor.dtype = DTYPE_Q4_0;
	expect_refused(model, &tensor, -EBADMSG,
		       "tensor 'a': its shape does not fill whole blocks of 32 elements "
		       "of Q4_0");
	shape[1] = UINT64_MAX;
	expect_refused(model, &tensor, -EBADMSG,
		       "tensor 'a': its shape has more elements or bytes than 64 bits "
		       "count");
	model_unref(model);
}
END_TEST

START_TEST(rank_is_limited)
{
	struct model *model = new_model_of(100);
	uint64_t shape[LIMIT_RANK + 1];
	struct tensor tensor = { .name = "a",
				 .name_len = 1,
				 .shape = shape,
				 .rank = LIMIT_RANK + 1,
				 .nbytes = 1,
				 .dtype = DTYPE_U8 };
	struct diag diag;

	for (size_t i = 0; i < ARRAY_LEN(shape); i++)
		shape[i] = 1;
	expect_refused(model, &tensor, -E2BIG,
		       "tensor 'a': 65 dimensions, at most 64 are served");
	tensor.rank = LIMIT_RANK;
	ck_assert_int_eq(model_add_tensor(model, &tensor, &diag), 0);
	model_unref(model);
}
END_TEST

START_TEST(the_length_of_a_name_is_limited)
{
	CLEANUP(free_ptr) char *name = calloc(LIMIT_NAME_BYTES + 1, 1);
	struct model *model = new_model_of(100);
	struct tensor tensor = { .name = name,
				 .name_len = LIMIT_NAME_BYTES + 1,
				 .nbytes = 1,
				 .dtype = DTYPE_U8 };
	struct diag diag;

	ck_assert_int_eq(model_add_tensor(model, &tensor, &diag), -E2BIG);
	ck_assert_ptr_nonnull(
		strstr(diag.text, "name has 65536 bytes, at most 65535 are served"));
	tensor.name_len = LIMIT_NAME_BYTES;
	ck_assert_int_eq(model_add_tensor(model, &tensor, &diag), 0);
	model_unref(model);
}
END_TEST

START_TEST(the_number_of_tensors_is_limited)
{
	struct model *model = new_model_of(1);
	struct diag diag;
	char name[16];

	model_reserve(model, SIZE_MAX / 2);
	for (unsigned int i = 0; i < LIMIT_TENSORS; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		if (add_bytes(model, name, 0, 1, &diag) < 0)
			ck_abort_msg("%s", diag.text);
	}
	ck_assert_int_eq(add_bytes(model, "more", 0, 1, &diag), -E2BIG);
	ck_assert_str_eq(diag.text, "tensor 'more': more than 1000000 tensors");
	model_unref(model);
}
END_TEST

START_TEST(every_tensor_is_found_after_the_table_has_grown)
{
	struct model *model = new_model_of(10000);
	char name[16];

	for (unsigned int i = 0; i < 10000; i++) {
		(void)snprintf(name, sizeof(name), "t%u", i);
		/* Backwards, so that sealing has to sort. */
		add(model, name, 9999 - i, 1);
		if (i == 100)
			model_reserve(model, 5000);
	}
	ck_assert_int_eq(model_seal(model), 0);
	for (unsigned int i = 0; i < 10000; i++) {
		const struct tensor *t;

		(void)snprintf(name, sizeof(name), "t%u", i);
		t = model_find_tensor(model, name, strlen(name));
		ck_assert_ptr_nonnull(t);
		ck_assert_uint_eq(t->offset, 9999 - i);
		ck_assert_uint_eq(model_tensor_index(model, t), 9999 - i);
	}
	ck_assert_ptr_null(model_find_tensor(model, "t10000", 6));
	model_unref(model);
}
END_TEST

/* ---- Sealing ---- */

static void expect_order(const struct model *model, const char *names)
{
	ck_assert_uint_eq(model_tensor_count(model), strlen(names));
	for (size_t i = 0; names[i]; i++) {
		const struct tensor *t = model_tensor(model, i);

		ck_assert_int_eq(t->name[0], names[i]);
		ck_assert_ptr_eq(model_find_tensor(model, &names[i], 1), t);
	}
}

START_TEST(tensors_are_ordered_by_shard_offset_size_and_name)
{
	struct model *model = new_model_of(100);
	uint64_t zero = 0;
	struct tensor other = {
		.name = "o", .name_len = 1, .shape = &zero, .rank = 1, .dtype = DTYPE_U8
	};
	struct diag diag;

	other.shard = add_shard(model, "second", 100);
	ck_assert_uint_eq(other.shard, 1);
	ck_assert_int_eq(model_add_tensor(model, &other, &diag), 0);
	add(model, "d", 8, 4);
	add(model, "c", 4, 4);
	add(model, "b", 4, 0);
	add(model, "a", 4, 0);
	add(model, "z", 0, 4);
	ck_assert_int_eq(model_seal(model), 0);
	expect_order(model, "zabcdo");
	model_unref(model);
}
END_TEST

START_TEST(a_prefix_is_ordered_first)
{
	struct model *model = new_model_of(100);

	add(model, "ab", 0, 0);
	add(model, "a", 0, 0);
	ck_assert_int_eq(model_seal(model), 0);
	ck_assert_uint_eq(model_tensor(model, 0)->name_len, 1);
	ck_assert_uint_eq(model_tensor(model, 1)->name_len, 2);
	model_unref(model);
}
END_TEST

START_TEST(tensors_in_order_stay_so)
{
	struct model *model = new_model_of(100);

	add(model, "a", 0, 1);
	add(model, "b", 1, 1);
	add(model, "c", 2, 1);
	ck_assert_int_eq(model_seal(model), 0);
	expect_order(model, "abc");
	model_unref(model);
}
END_TEST

START_TEST(an_empty_model_can_be_sealed)
{
	struct model *model = new_model();

	ck_assert_int_eq(model_seal(model), 0);
	ck_assert_uint_eq(model_tensor_count(model), 0);
	ck_assert_uint_eq(model_shard_count(model), 0);
	ck_assert_uint_eq(model_skipped_count(model), 0);
	ck_assert_uint_eq(model_warning_count(model), 0);
	ck_assert_uint_eq(model_total_bytes(model), 0);
	ck_assert_str_eq(model_format(model), "test");
	ck_assert_ptr_null(model_find_tensor(model, "a", 1));
	model_unref(model);
}
END_TEST

/* ---- Everything else ---- */

START_TEST(a_model_lives_until_its_last_reference)
{
	struct model *model = new_model_of(4);

	add(model, "a", 0, 4);
	ck_assert_ptr_eq(model_ref(model), model);
	model_unref(model);
	ck_assert_uint_eq(model_tensor_count(model), 1);
	model_unref(model);
	model_unref(NULL);
}
END_TEST

START_TEST(shards_keep_their_name_and_size)
{
	struct model *model = new_model();
	char name[] = "model-1";

	ck_assert_uint_eq(add_shard(model, name, 7), 0);
	name[6] = '2';
	ck_assert_uint_eq(add_shard(model, name, UINT64_MAX), 1);
	ck_assert_uint_eq(model_shard_count(model), 2);
	ck_assert_str_eq(model_shard(model, 0)->name, "model-1");
	ck_assert_uint_eq(model_shard(model, 0)->size, 7);
	ck_assert_str_eq(model_shard(model, 1)->name, "model-2");
	ck_assert_uint_eq(model_shard(model, 1)->size, UINT64_MAX);
	model_unref(model);
}
END_TEST

START_TEST(the_number_of_shards_is_limited)
{
	struct model *model = new_model();
	struct diag diag;
	uint16_t index;

	for (unsigned int i = 0; i < LIMIT_SHARDS; i++)
		ck_assert_uint_eq(add_shard(model, "s", 1), i);
	ck_assert_int_eq(model_add_shard(model, "s", 1, &index, &diag), -E2BIG);
	ck_assert_str_eq(diag.text, "more than 4096 files");
	model_unref(model);
}
END_TEST

START_TEST(a_range_is_checked_against_its_own_shard)
{
	struct model *model = new_model_of(100);
	uint64_t dim = 50;
	struct tensor tensor = { .name = "a",
				 .name_len = 1,
				 .shape = &dim,
				 .rank = 1,
				 .nbytes = 50,
				 .dtype = DTYPE_U8 };

	tensor.shard = add_shard(model, "small", 10);
	expect_refused(model, &tensor, -EBADMSG,
		       "tensor 'a': data ends at 50, file has 10 bytes");
	model_unref(model);
}
END_TEST

START_TEST(skipped_tensors_are_kept_with_their_reason)
{
	struct model *model = new_model();
	struct diag diag;
	char name[16];

	for (unsigned int i = 0; i < 100; i++) {
		int len = snprintf(name, sizeof(name), "s%u", i);

		ck_assert_int_eq(
			model_skip_tensor(model, name, (size_t)len, "sparse", &diag), 0);
	}
	ck_assert_uint_eq(model_skipped_count(model), 100);
	ck_assert_str_eq(model_skipped(model, 99)->name, "s99");
	ck_assert_uint_eq(model_skipped(model, 99)->name_len, 3);
	ck_assert_str_eq(model_skipped(model, 99)->reason, "sparse");
	ck_assert_uint_eq(model_tensor_count(model), 0);
	model_unref(model);
}
END_TEST

START_TEST(the_number_of_skipped_tensors_is_limited)
{
	struct model *model = new_model();
	struct diag diag;

	for (unsigned int i = 0; i < LIMIT_TENSORS; i++)
		if (model_skip_tensor(model, "", 0, "", &diag) < 0)
			ck_abort_msg("%s", diag.text);
	ck_assert_int_eq(model_skip_tensor(model, "", 0, "", &diag), -E2BIG);
	ck_assert_str_eq(diag.text, "more than 1000000 tensors");
	model_unref(model);
}
END_TEST

START_TEST(warnings_are_kept_up_to_a_number)
{
	struct model *model = new_model();

	for (unsigned int i = 0; i < 1000; i++)
		model_warn(model, "tensor %u is odd", i);
	ck_assert_uint_eq(model_warning_count(model), 64);
	ck_assert_str_eq(model_warning(model, 0), "tensor 0 is odd");
	ck_assert_str_eq(model_warning(model, 63), "tensor 63 is odd");
	model_unref(model);
}
END_TEST

START_TEST(warnings_can_be_given_a_subject)
{
	struct model *model = new_model();

	model_warn(model, "first");
	model_warn(model, "second");
	model_prefix_warnings(model, 1, "b");
	model_prefix_warnings(model, 2, "c");
	ck_assert_str_eq(model_warning(model, 0), "first");
	ck_assert_str_eq(model_warning(model, 1), "b: second");
	model_unref(model);
}
END_TEST

START_TEST(a_name_in_two_shards_is_refused_with_both)
{
	struct model *model = new_model_of(4);
	const uint64_t shape = 4;
	const struct tensor again = { .name = "a",
				      .name_len = 1,
				      .shape = &shape,
				      .rank = 1,
				      .nbytes = 4,
				      .shard = add_shard(model, "other", 4),
				      .dtype = DTYPE_U8 };

	add(model, "a", 0, 4);
	expect_refused(model, &again, -EEXIST,
		       "tensor 'a': is in 'model' and in 'other'");
	model_unref(model);
}
END_TEST

START_TEST(a_long_warning_is_cut)
{
	struct model *model = new_model();

	model_warn(model, "%*d", 10000, 1);
	ck_assert_uint_eq(strlen(model_warning(model, 0)), 511);
	model_unref(model);
}
END_TEST

static TCase *tensors_case(void)
{
	TCase *tcase = tcase_create("tensors");

	tcase_add_test(tcase, a_tensor_is_copied);
	tcase_add_test(tcase, a_scalar_needs_no_shape);
	tcase_add_test(tcase, a_name_that_occurs_twice_is_refused);
	tcase_add_test(tcase, a_name_is_more_than_a_prefix);
	tcase_add_test(tcase, data_ends_within_the_shard);
	tcase_add_test(tcase, a_range_near_64_bits_does_not_wrap);
	tcase_add_test(tcase, the_size_is_what_dtype_and_shape_say);
	tcase_add_test(tcase, rank_is_limited);
	tcase_add_test(tcase, the_length_of_a_name_is_limited);
	tcase_add_test(tcase, the_number_of_tensors_is_limited);
	tcase_add_test(tcase, every_tensor_is_found_after_the_table_has_grown);
	return tcase;
}

static TCase *sealing_case(void)
{
	TCase *tcase = tcase_create("sealing");

	tcase_add_test(tcase, tensors_are_ordered_by_shard_offset_size_and_name);
	tcase_add_test(tcase, a_prefix_is_ordered_first);
	tcase_add_test(tcase, tensors_in_order_stay_so);
	tcase_add_test(tcase, an_empty_model_can_be_sealed);
	return tcase;
}

static TCase *everything_else_case(void)
{
	TCase *tcase = tcase_create("everything else");

	tcase_add_test(tcase, a_model_lives_until_its_last_reference);
	tcase_add_test(tcase, shards_keep_their_name_and_size);
	tcase_add_test(tcase, the_number_of_shards_is_limited);
	tcase_add_test(tcase, a_range_is_checked_against_its_own_shard);
	tcase_add_test(tcase, skipped_tensors_are_kept_with_their_reason);
	tcase_add_test(tcase, the_number_of_skipped_tensors_is_limited);
	tcase_add_test(tcase, warnings_are_kept_up_to_a_number);
	tcase_add_test(tcase, warnings_can_be_given_a_subject);
	tcase_add_test(tcase, a_name_in_two_shards_is_refused_with_both);
	tcase_add_test(tcase, a_long_warning_is_cut);
	return tcase;
}

UNIT_MAIN("model", tensors_case, sealing_case, everything_else_case)
