#include "recorder.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "model_dir.h"
#include "served.h"
#include "unit.h"

static struct served *served;
static struct recorder *recorder;

/* Three tensors, of 8, 100 and 50 bytes. */
static void start(void)
{
	struct diag diag;

	model_dir_make();
	model_dir_write_safetensors(
		"model.safetensors",
		"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
		"\"b\\n\":{\"dtype\":\"U8\",\"shape\":[100],\"data_offsets\":[8,108]},"
		"\"c\":{\"dtype\":\"U8\",\"shape\":[50],\"data_offsets\":[108,158]}}",
		158);
	ck_assert_int_eq(served_load(model_dir_path("model.safetensors"), NULL, &served,
				     &diag),
			 0);
	ck_assert_int_eq(recorder_new(served, &recorder), 0);
}

static void stop(void)
{
	recorder_free(recorder);
	served_free(served);
	model_dir_remove();
}

static struct node node(uint32_t index, enum view view)
{
	return (struct node){ .kind = NODE_TENSOR, .view = view, .index = index };
}

/* The lines without their times. */
static void expect_lines(const char *expected)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	CLEANUP(strbuf_fini) struct strbuf found = { 0 };
	char *rest;
	char *line;

	ck_assert_uint_eq(recorder_write(recorder, 0, SIZE_MAX, &text), 0);
	rest = text.data;
	while ((line = strsep(&rest, "\n")))
		if (*line >= '0' && *line <= '9')
			strbuf_addf(&found, "%s\n",
				    strchr(strchr(line, ' ') + 1, ' ') + 1);
	ck_assert_str_eq(found.data ? found.data : "", expected);
}

START_TEST(nothing_is_noted_before_and_after_a_recording)
{
	recorder_note_read(recorder, node(0, VIEW_RAW), 8);
	ck_assert_uint_eq(recorder_count(recorder), 0);
	ck_assert(!recorder_stop(recorder));
	ck_assert_int_eq(recorder_start(recorder, NULL), 0);
	ck_assert(recorder_is_recording(recorder));
	ck_assert_int_eq(recorder_start(recorder, NULL), -EALREADY);
	recorder_note_read(recorder, node(1, VIEW_RAW), 100);
	ck_assert(recorder_stop(recorder));
	ck_assert(!recorder_is_recording(recorder));
	recorder_note_read(recorder, node(2, VIEW_RAW), 50);
	expect_lines("100 tensors b%0A\n");
}
END_TEST

START_TEST(tensors_stand_in_the_order_of_their_first_use)
{
	ck_assert_int_eq(recorder_start(recorder, NULL), 0);
	recorder_note_read(recorder, node(2, VIEW_NPY), 10);
	recorder_note_read(recorder, node(0, VIEW_RAW), 8);
	recorder_note_read(recorder, node(2, VIEW_RAW), 20);
	expect_lines("30 npy c\n8 tensors a\n");
}
END_TEST

START_TEST(no_more_bytes_are_used_than_there_are)
{
	ck_assert_int_eq(recorder_start(recorder, NULL), 0);
	for (int i = 0; i < 3; i++)
		recorder_note_read(recorder, node(1, VIEW_RAW), 4096);
	expect_lines("100 tensors b%0A\n");
}
END_TEST

START_TEST(an_open_whose_reads_nobody_sees_is_a_use_of_all)
{
	ck_assert_int_eq(recorder_start(recorder, NULL), 0);
	recorder_note_release(recorder, node(0, VIEW_RAW));
	recorder_note_open(recorder, node(1, VIEW_SAFETENSORS));
	recorder_note_release(recorder, node(1, VIEW_SAFETENSORS));
	expect_lines("100 safetensors b%0A\n");
}
END_TEST

START_TEST(a_new_recording_forgets_the_last_one)
{
	ck_assert_int_eq(recorder_start(recorder, NULL), 0);
	recorder_note_read(recorder, node(1, VIEW_RAW), 100);
	ck_assert(recorder_stop(recorder));
	ck_assert_int_eq(recorder_start(recorder, NULL), 0);
	expect_lines("");
	recorder_note_read(recorder, node(0, VIEW_RAW), 1);
	expect_lines("1 tensors a\n");
}
END_TEST

START_TEST(a_profile_comes_in_pieces)
{
	CLEANUP(strbuf_fini) struct strbuf whole = { 0 };
	CLEANUP(strbuf_fini) struct strbuf pieces = { 0 };
	uint32_t from = 0;
	unsigned int count = 0;

	ck_assert_int_eq(recorder_start(recorder, NULL), 0);
	for (uint32_t i = 0; i < 3; i++)
		recorder_note_read(recorder, node(2 - i, VIEW_RAW), 1);
	ck_assert(recorder_stop(recorder));
	ck_assert_uint_eq(recorder_write(recorder, 0, SIZE_MAX, &whole), 0);
	do {
		from = recorder_write(recorder, from, pieces.len + 1, &pieces);
		count++;
	} while (from > 0);
	ck_assert_uint_eq(count, 3);
	ck_assert_str_eq(pieces.data, whole.data);
}
END_TEST

static void *note_all(void *argument)
{
	(void)argument;
	for (unsigned int i = 0; i < 30000; i++)
		recorder_note_read(recorder, node(i % 3, VIEW_RAW), 1);
	return NULL;
}

START_TEST(several_threads_note_at_once_while_it_starts_and_stops)
{
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, note_all, NULL), 0);
	for (int i = 0; i < 20; i++) {
		CLEANUP(strbuf_fini) struct strbuf text = { 0 };

		ck_assert_int_eq(recorder_start(recorder, NULL), 0);
		(void)recorder_write(recorder, 0, SIZE_MAX, &text);
		ck_assert_uint_le(recorder_count(recorder), 3);
		ck_assert(recorder_stop(recorder));
	}
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

static TCase *recorder_case(void)
{
	TCase *t = tcase_create("recorder");

	tcase_add_checked_fixture(t, start, stop);
	tcase_add_test(t, nothing_is_noted_before_and_after_a_recording);
	tcase_add_test(t, tensors_stand_in_the_order_of_their_first_use);
	tcase_add_test(t, no_more_bytes_are_used_than_there_are);
	tcase_add_test(t, an_open_whose_reads_nobody_sees_is_a_use_of_all);
	tcase_add_test(t, a_new_recording_forgets_the_last_one);
	tcase_add_test(t, a_profile_comes_in_pieces);
	tcase_add_test(t, several_threads_note_at_once_while_it_starts_and_stops);
	return t;
}

UNIT_MAIN("recorder", recorder_case)
