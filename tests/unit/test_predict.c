#include <errno.h>
#include <stdio.h>

#include "parsers/model.h"
#include "predict.h"
#include "unit.h"

#define MIB       ((uint64_t)1 << 20)
#define READAHEAD (4 * MIB)
#define MOST      64

/* What the predictor asked for, each once. */
static uint32_t asked[1024];
static unsigned int asked_count;
static int answer;

static struct model *model;
static struct predict *predict;

static int note_request(void *context, struct node node)
{
	(void)context;
	if (answer < 0)
		return answer;
	ck_assert_int_eq(node.kind, NODE_TENSOR);
	for (unsigned int i = 0; i < asked_count; i++)
		if (asked[i] == node.index)
			return -EALREADY;
	asked[asked_count++] = node.index;
	return 0;
}

/* A model of tensors with these sizes in file order, the last of them 0. */
static void start(const uint64_t *sizes, uint64_t window_max)
{
	struct predict_setup setup = { .readahead_bytes = READAHEAD,
				       .window_max = window_max,
				       .request = note_request };
	uint64_t offset = 0;
	struct diag diag;
	uint16_t shard;

	ck_assert_int_eq(model_new("test", &model), 0);
	ck_assert_int_eq(model_add_shard(model, "m", UINT64_MAX / 2, &shard, &diag), 0);
	for (unsigned int i = 0; sizes[i] > 0; i++) {
		char name[16];
		const struct tensor tensor = { .name = name,
					       .name_len = (uint32_t)snprintf(
						       name, sizeof(name), "t%u", i),
					       .shape = &sizes[i],
					       .rank = 1,
					       .offset = offset,
					       .nbytes = sizes[i],
					       .dtype = DTYPE_U8 };

		ck_assert_int_eq(model_add_tensor(model, &tensor, &diag), 0);
		offset += sizes[i];
	}
	ck_assert_int_eq(model_seal(model), 0);
	setup.model = model;
	ck_assert_int_eq(predict_new(&setup, &predict), 0);
	asked_count = 0;
	answer = 0;
}

/* The same size for each of `count` tensors. */
static void start_alike(unsigned int count, uint64_t size, uint64_t window_max)
{
	uint64_t sizes[MOST + 1] = { 0 };

	ck_assert_uint_le(count, MOST);
	for (unsigned int i = 0; i < count; i++)
		sizes[i] = size;
	start(sizes, window_max);
}

static void stop(void)
{
	predict_free(predict);
	model_unref(model);
}

static struct node tensor(uint32_t index)
{
	return (struct node){ .kind = NODE_TENSOR, .view = VIEW_RAW, .index = index };
}

/* As the kernel reads it: in requests of 512 KiB. */
static void read_bytes(uint32_t index, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += MIB / 2)
		predict_note_read(predict, tensor(index),
				  bytes - at < MIB / 2 ? bytes - at : MIB / 2);
	predict_drain(predict);
}

static void read_whole(uint32_t index)
{
	read_bytes(index, model_tensor(model, index)->nbytes);
}

static void expect_asked(uint32_t first, uint32_t last)
{
	for (uint32_t index = first; index <= last; index++) {
		bool found = false;

		for (unsigned int i = 0; i < asked_count; i++)
			found = found || asked[i] == index;
		ck_assert_msg(found, "tensor %u was not asked for", index);
	}
}

START_TEST(a_small_read_of_each_tensor_predicts_nothing)
{
	start_alike(MOST, 100 * MIB, 1024 * MIB);
	for (int round = 0; round < 3; round++)
		for (uint32_t i = 0; i < MOST; i++)
			read_bytes(i, 64 << 10);
	ck_assert_uint_eq(asked_count, 0);
	stop();
}
END_TEST

START_TEST(a_touch_of_each_mapping_predicts_nothing)
{
	start_alike(MOST, 16 * MIB, 1024 * MIB);
	for (uint32_t i = 0; i < MOST; i++)
		read_bytes(i, READAHEAD);
	ck_assert_uint_eq(asked_count, 0);
	stop();
}
END_TEST

START_TEST(most_of_a_large_tensor_is_followed_by_the_next)
{
	start_alike(MOST, 100 * MIB, 1024 * MIB);
	read_bytes(3, 74 * MIB);
	ck_assert_uint_eq(asked_count, 0);
	read_bytes(3, 2 * MIB);
	ck_assert_uint_eq(asked_count, 1);
	expect_asked(4, 4);
	stop();
}
END_TEST

START_TEST(small_tensors_are_believed_from_the_third_on)
{
	start_alike(MOST, 2 * MIB, 1024 * MIB);
	read_whole(0);
	read_whole(1);
	ck_assert_uint_eq(asked_count, 0);
	read_whole(2);
	ck_assert_uint_gt(asked_count, 0);
	expect_asked(3, 3);
	stop();
}
END_TEST

START_TEST(a_longer_run_looks_further_ahead_but_not_beyond_the_window)
{
	start_alike(MOST, 32 * MIB, 256 * MIB);
	read_whole(0);
	expect_asked(1, 1);
	ck_assert_uint_eq(asked_count, 1);
	read_whole(1);
	expect_asked(1, 3);
	ck_assert_uint_eq(asked_count, 3);
	read_whole(2);
	read_whole(3);
	read_whole(4);
	expect_asked(1, 12);
	ck_assert_uint_eq(asked_count, 12);
	stop();
}
END_TEST

START_TEST(reads_of_several_views_do_not_add_up)
{
	start_alike(MOST, 32 * MIB, 256 * MIB);
	for (int round = 0; round < 10; round++) {
		struct node node = tensor(0);

		node.view = round % 2 == 0 ? VIEW_NPY : VIEW_RAW;
		predict_note_read(predict, node, 16 * MIB);
	}
	predict_drain(predict);
	ck_assert_uint_eq(asked_count, 0);
	stop();
}
END_TEST

START_TEST(tensors_that_are_too_small_tell_nothing_and_come_along)
{
	const uint64_t sizes[] = { 32 * MIB, 4096, 100, 32 * MIB, MIB - 1, 32 * MIB, 0 };

	start(sizes, 1024 * MIB);
	read_whole(0);
	ck_assert_uint_eq(asked_count, 3);
	expect_asked(1, 3);
	read_whole(1);
	read_whole(2);
	ck_assert_uint_eq(asked_count, 3);
	read_whole(3);
	ck_assert_uint_eq(asked_count, 5);
	expect_asked(4, 5);
	stop();
}
END_TEST

START_TEST(a_tensor_larger_than_the_window_is_not_asked_for)
{
	const uint64_t sizes[] = { 64 * MIB, 300 * MIB, 64 * MIB, 0 };

	start(sizes, 256 * MIB);
	read_whole(0);
	ck_assert_uint_eq(asked_count, 0);
	stop();
}
END_TEST

/* The daemon sees no reads of what it made: the run goes on with opens. */
static void open_for_a_while(uint32_t index)
{
	predict_note_open(predict, tensor(index));
	predict_drain(predict);
	(void)usleep(3000);
}

START_TEST(a_run_goes_on_where_predicted_tensors_are_opened_and_closed)
{
	struct predict_summary summary;

	start_alike(MOST, 32 * MIB, 256 * MIB);
	read_whole(0);
	for (uint32_t i = 1; i < 10; i++) {
		open_for_a_while(i);
		predict_note_release(predict, tensor(i));
		predict_drain(predict);
	}
	expect_asked(1, 17);
	predict_summarise(predict, &summary);
	ck_assert_uint_eq(summary.hits, 9);
	ck_assert_uint_eq(summary.predicted, asked_count);
	stop();
}
END_TEST

START_TEST(a_run_goes_on_where_predicted_tensors_stay_open)
{
	start_alike(MOST, 32 * MIB, 256 * MIB);
	read_whole(0);
	for (uint32_t i = 1; i < 10; i++)
		open_for_a_while(i);
	expect_asked(1, 16);
	stop();
}
END_TEST

static bool is_mapped(void *context, struct node node)
{
	(void)context;
	(void)node;
	return true;
}

START_TEST(a_run_goes_on_where_predicted_tensors_are_mapped_and_closed)
{
	struct predict_setup setup = { .readahead_bytes = READAHEAD,
				       .window_max = 256 * MIB,
				       .request = note_request,
				       .is_mapped = is_mapped };

	start_alike(MOST, 32 * MIB, 256 * MIB);
	predict_free(predict);
	setup.model = model;
	ck_assert_int_eq(predict_new(&setup, &predict), 0);
	read_whole(0);
	for (uint32_t i = 1; i < 10; i++) {
		predict_note_open(predict, tensor(i));
		predict_note_release(predict, tensor(i));
		predict_drain(predict);
		(void)usleep(3000);
	}
	expect_asked(1, 16);
	stop();
}
END_TEST

static enum predict_sight sight;

static enum predict_sight look(void *context, struct node node)
{
	(void)context;
	(void)node;
	return sight;
}

/* As a kernel that reads files without asking: all that is seen are their pages. */
static void open_some(enum predict_sight what)
{
	struct predict_setup setup = { .readahead_bytes = READAHEAD,
				       .window_max = 256 * MIB,
				       .request = note_request,
				       .look = look };

	start_alike(MOST, 32 * MIB, 256 * MIB);
	predict_free(predict);
	setup.model = model;
	ck_assert_int_eq(predict_new(&setup, &predict), 0);
	sight = what;
	for (uint32_t i = 0; i < 5; i++) {
		open_for_a_while(i);
		predict_note_release(predict, tensor(i));
		predict_drain(predict);
	}
}

START_TEST(files_whose_pages_were_read_make_a_run)
{
	open_some(PREDICT_READ);
	expect_asked(5, 8);
	stop();
}
END_TEST

START_TEST(files_whose_pages_were_not_read_predict_nothing_however_long_they_are_open)
{
	open_some(PREDICT_UNREAD);
	ck_assert_uint_eq(asked_count, 0);
	stop();
}
END_TEST

START_TEST(files_whose_reads_are_seen_predict_nothing_by_being_open)
{
	open_some(PREDICT_SEEN);
	ck_assert_uint_eq(asked_count, 0);
	stop();
}
END_TEST

START_TEST(opening_predicted_tensors_for_a_glance_ends_the_run)
{
	start_alike(MOST, 1024 * MIB, 8192 * MIB);
	read_whole(0);
	ck_assert_uint_eq(asked_count, 1);
	for (uint32_t i = 1; i < MOST; i++) {
		predict_note_open(predict, tensor(i));
		predict_note_release(predict, tensor(i));
		predict_drain(predict);
	}
	ck_assert_uint_le(asked_count, 2);
	stop();
}
END_TEST

START_TEST(where_opens_are_uses_a_run_begins_without_reads)
{
	struct predict_setup setup = { .readahead_bytes = READAHEAD,
				       .window_max = 256 * MIB,
				       .request = note_request,
				       .opens_are_uses = true };

	start_alike(MOST, 32 * MIB, 256 * MIB);
	predict_free(predict);
	setup.model = model;
	ck_assert_int_eq(predict_new(&setup, &predict), 0);
	for (uint32_t i = 0; i < 5; i++)
		open_for_a_while(i);
	expect_asked(4, 8);
	stop();
}
END_TEST

START_TEST(where_opens_are_uses_a_glance_is_none)
{
	struct predict_setup setup = { .readahead_bytes = READAHEAD,
				       .window_max = 8192 * MIB,
				       .request = note_request,
				       .opens_are_uses = true };

	start_alike(MOST, 4096 * MIB, 8192 * MIB);
	predict_free(predict);
	setup.model = model;
	ck_assert_int_eq(predict_new(&setup, &predict), 0);
	for (uint32_t i = 0; i < MOST; i++) {
		predict_note_open(predict, tensor(i));
		predict_note_release(predict, tensor(i));
		predict_drain(predict);
	}
	ck_assert_uint_eq(asked_count, 0);
	stop();
}
END_TEST

START_TEST(a_loader_that_jumps_is_soon_left_alone)
{
	start_alike(MOST, 32 * MIB, 1024 * MIB);
	for (uint32_t i = 0; i < 200; i++)
		read_whole(i * 29 % MOST);
	ck_assert_uint_lt(asked_count, 20);
	stop();
}
END_TEST

START_TEST(two_loaders_that_take_turns_are_two_runs)
{
	start_alike(MOST, 32 * MIB, 256 * MIB);
	for (uint32_t i = 0; i < 5; i++) {
		read_whole(i);
		read_whole(30 + i);
	}
	expect_asked(5, 10);
	expect_asked(35, 40);
	stop();
}
END_TEST

START_TEST(what_does_not_fit_is_asked_for_again_later)
{
	start_alike(MOST, 32 * MIB, 256 * MIB);
	answer = -ENOSPC;
	read_whole(0);
	ck_assert_uint_eq(asked_count, 0);
	answer = 0;
	read_whole(1);
	expect_asked(2, 3);
	stop();
}
END_TEST

START_TEST(the_end_of_the_model_ends_the_prediction)
{
	start_alike(4, 32 * MIB, 256 * MIB);
	read_whole(2);
	read_whole(3);
	ck_assert_uint_eq(asked_count, 1);
	stop();
}
END_TEST

START_TEST(the_thread_handles_what_is_noted)
{
	struct predict_summary summary = { 0 };

	start_alike(4, 32 * MIB, 256 * MIB);
	ck_assert_int_eq(predict_start(predict), 0);
	for (uint64_t at = 0; at < 32 * MIB; at += MIB)
		predict_note_read(predict, tensor(0), MIB);
	for (int i = 0; i < 5000 && summary.predicted < 1; i++) {
		(void)usleep(1000);
		predict_summarise(predict, &summary);
	}
	ck_assert_uint_eq(summary.predicted, 1);
	stop();
}
END_TEST

static TCase *predict_case(void)
{
	TCase *t = tcase_create("predict");

	tcase_add_test(t, a_small_read_of_each_tensor_predicts_nothing);
	tcase_add_test(t, a_touch_of_each_mapping_predicts_nothing);
	tcase_add_test(t, most_of_a_large_tensor_is_followed_by_the_next);
	tcase_add_test(t, small_tensors_are_believed_from_the_third_on);
	tcase_add_test(t, a_longer_run_looks_further_ahead_but_not_beyond_the_window);
	tcase_add_test(t, reads_of_several_views_do_not_add_up);
	tcase_add_test(t, tensors_that_are_too_small_tell_nothing_and_come_along);
	tcase_add_test(t, a_tensor_larger_than_the_window_is_not_asked_for);
	tcase_add_test(t, a_run_goes_on_where_predicted_tensors_are_opened_and_closed);
	tcase_add_test(t, a_run_goes_on_where_predicted_tensors_stay_open);
	tcase_add_test(t, a_run_goes_on_where_predicted_tensors_are_mapped_and_closed);
	tcase_add_test(t, files_whose_pages_were_read_make_a_run);
	tcase_add_test(
		t,
		files_whose_pages_were_not_read_predict_nothing_however_long_they_are_open);
	tcase_add_test(t, files_whose_reads_are_seen_predict_nothing_by_being_open);
	tcase_add_test(t, opening_predicted_tensors_for_a_glance_ends_the_run);
	tcase_add_test(t, where_opens_are_uses_a_run_begins_without_reads);
	tcase_add_test(t, where_opens_are_uses_a_glance_is_none);
	tcase_add_test(t, a_loader_that_jumps_is_soon_left_alone);
	tcase_add_test(t, two_loaders_that_take_turns_are_two_runs);
	tcase_add_test(t, what_does_not_fit_is_asked_for_again_later);
	tcase_add_test(t, the_end_of_the_model_ends_the_prediction);
	tcase_add_test(t, the_thread_handles_what_is_noted);
	return t;
}

UNIT_MAIN("predict", predict_case)
