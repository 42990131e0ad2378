/* What of a source is cached, as it is counted in the background. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "model_dir.h"
#include "pagecache.h"
#include "residency.h"
#include "unit.h"

#define LONG_MS 20000u

static struct served *served;
static struct residency *residency;

/* Tensors of a page and more, as the header is shorter than a page. */
static void make_residency(void)
{
	struct diag diag;

	model_dir_make();
	model_dir_write_safetensors(
		"m.safetensors",
		"{\"a\":{\"dtype\":\"U8\",\"shape\":[65536],\"data_offsets\":[0,65536]},"
		"\"b\":{\"dtype\":\"U8\",\"shape\":[65536],"
		"\"data_offsets\":[65536,131072]}}",
		131072);
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &served, &diag), 0);
	ck_assert_int_eq(residency_new(served, &residency), 0);
	(void)fsync(served->source->files[0].fd);
}

static void free_residency(void)
{
	residency_free(residency);
	served_free(served);
	model_dir_remove();
}

static void start(void)
{
	ck_assert_int_eq(residency_start(residency), 0);
}

static void count(enum residency_kind kind)
{
	ck_assert(
		residency_wait(residency, kind, residency_ask(residency, kind), LONG_MS));
}

START_TEST(before_anybody_asks_nothing_is_known)
{
	struct residency_sums sums;

	start();
	residency_summarise(residency, &sums);
	ck_assert(!sums.known);
	ck_assert_uint_eq(sums.bytes, served->source->files[0].size);
	ck_assert_uint_eq(residency_percent(residency, 0), RESIDENCY_UNKNOWN);
}
END_TEST

START_TEST(what_was_read_is_all_there)
{
	struct residency_sums sums;
	const struct source_file *file = &served->source->files[0];

	start();
	ck_assert_int_eq(pagecache_wait(file, 0, file->size), 0);
	count(RESIDENCY_FILES);
	residency_summarise(residency, &sums);
	ck_assert(sums.known);
	ck_assert_uint_eq(sums.cached, file->size);
	count(RESIDENCY_TENSORS);
	ck_assert_uint_eq(residency_percent(residency, 0), 100);
	ck_assert_uint_eq(residency_percent(residency, 1), 100);
}
END_TEST

START_TEST(what_is_dropped_is_counted_anew)
{
	const struct source_file *file = &served->source->files[0];
	uint64_t cached = 1;

	start();
	count(RESIDENCY_TENSORS);
	pagecache_drop(file, 0, file->size);
	ck_assert_int_eq(pagecache_count(file, 0, file->size, &cached), 0);
	if (cached > 0) {
		(void)printf("residency: not tested here: pages stay\n");
		return;
	}
	count(RESIDENCY_TENSORS);
	ck_assert_uint_eq(residency_percent(residency, 0), 0);
	ck_assert_int_eq(pagecache_wait(file, file->size - 40000, 40000), 0);
	count(RESIDENCY_TENSORS);
	ck_assert_uint_gt(residency_percent(residency, 1), 40);
}
END_TEST

START_TEST(a_wait_ends_also_where_nobody_counts)
{
	uint64_t number = residency_ask(residency, RESIDENCY_FILES);

	ck_assert(!residency_wait(residency, RESIDENCY_FILES, number, 20));
	ck_assert(!residency_wait(residency, RESIDENCY_FILES, UINT64_MAX, 0));
}
END_TEST

static void *ask_often(void *argument)
{
	(void)argument;
	for (unsigned int i = 0; i < 300; i++) {
		count(i % 3 ? RESIDENCY_TENSORS : RESIDENCY_FILES);
		(void)residency_percent(residency, i % 2);
	}
	return NULL;
}

START_TEST(many_may_ask_at_once)
{
	pthread_t threads[4];

	start();
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_often, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

static TCase *residency_case(void)
{
	TCase *t = tcase_create("residency");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, make_residency, free_residency);
	tcase_add_test(t, before_anybody_asks_nothing_is_known);
	tcase_add_test(t, what_was_read_is_all_there);
	tcase_add_test(t, what_is_dropped_is_counted_anew);
	tcase_add_test(t, a_wait_ends_also_where_nobody_counts);
	tcase_add_test(t, many_may_ask_at_once);
	return t;
}

UNIT_MAIN("residency", residency_case)
