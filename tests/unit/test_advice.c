/* Which rule counts for a tensor, and which reads are taken for random. */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

#include "advice.h"
#include "model_dir.h"
#include "unit.h"

#define MIB  ((uint64_t)1 << 20)
#define JUMP (4 * MIB)

static struct served *served;
static struct advices *advices;

static void make_advices(void)
{
	struct diag diag;

	model_dir_make();
	model_dir_write_safetensors(
		"m.safetensors",
		"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
		"\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
		8);
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &served, &diag), 0);
	ck_assert_int_eq(advices_new(served, JUMP, &advices), 0);
}

static void free_advices(void)
{
	advices_free(advices);
	served_free(served);
	model_dir_remove();
}

static void add(const char *pattern, enum advice advice)
{
	ck_assert_int_eq(advices_add_rule(advices, pattern, advice), 0);
}

static void expect_rules(const char *json)
{
	struct strbuf text = { 0 };
	struct jsonw w;

	jsonw_init(&w, &text);
	advices_write(advices, &w);
	ck_assert_str_eq(text.data, json);
	strbuf_fini(&text);
}

START_TEST(rules_stand_in_the_order_in_which_they_count)
{
	expect_rules("[]");
	add("*.bias", ADVICE_RANDOM);
	add("a.*", ADVICE_SEQUENTIAL);
	add("*.bias", ADVICE_NORMAL);
	expect_rules("[{\"pattern\":\"a.*\",\"advice\":\"sequential\"},"
		     "{\"pattern\":\"*.bias\",\"advice\":\"normal\"}]");
}
END_TEST

START_TEST(what_is_said_of_all_names_outdoes_what_was_said_before)
{
	add("a", ADVICE_RANDOM);
	add("*", ADVICE_SEQUENTIAL);
	expect_rules("[{\"pattern\":\"*\",\"advice\":\"sequential\"}]");
	add("*", ADVICE_NORMAL);
	expect_rules("[]");
	add("a", ADVICE_NORMAL);
	expect_rules("[]");
}
END_TEST

START_TEST(rules_are_bounded)
{
	char pattern[32];

	for (unsigned int i = 0; i < ADVICE_RULES_MAX; i++) {
		(void)snprintf(pattern, sizeof(pattern), "%u", i);
		add(pattern, ADVICE_RANDOM);
	}
	ck_assert_int_eq(advices_add_rule(advices, "x", ADVICE_RANDOM), -ENOSPC);
	add("7", ADVICE_SEQUENTIAL);
	add("*", ADVICE_RANDOM);
	add("x", ADVICE_RANDOM);
}
END_TEST

START_TEST(advice_is_of_one_tensor_and_the_last_one_counts)
{
	ck_assert_int_eq(advices_of(advices, 0), ADVICE_NORMAL);
	ck_assert(!advices_set(advices, 0, ADVICE_NORMAL));
	ck_assert(advices_set(advices, 0, ADVICE_RANDOM));
	ck_assert(!advices_set(advices, 0, ADVICE_RANDOM));
	ck_assert(advices_is_random(advices, 0));
	ck_assert(!advices_is_random(advices, 1));
	ck_assert(advices_set(advices, 0, ADVICE_SEQUENTIAL));
	ck_assert(!advices_is_random(advices, 0));
}
END_TEST

START_TEST(names_are_known_and_others_are_not)
{
	enum advice advice;

	for (unsigned int i = 0; i < ADVICE_COUNT; i++) {
		ck_assert(advice_parse(advice_name((enum advice)i), &advice));
		ck_assert_uint_eq(advice, i);
	}
	ck_assert(!advice_parse("Random", &advice));
	ck_assert(!advice_parse("", &advice));
	ck_assert(!advice_parse(NULL, &advice));
}
END_TEST

/* ---- Reads ---- */

/* Touches of a mapping, far from each other: the client's kernel reads around each, in
 * pieces that may come in any order. */
static void touch(uint32_t tensor, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		for (uint64_t piece = 0; piece < 8; piece++)
			advices_note_read(advices, tensor,
					  (i * 37 % 101) * 64 * MIB +
						  (piece ^ 5) * MIB / 2,
					  MIB / 2);
}

static void scan(uint32_t tensor, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += MIB)
		advices_note_read(advices, tensor, at, MIB);
}

START_TEST(touches_here_and_there_are_random)
{
	touch(0, 6);
	ck_assert(!advices_is_random(advices, 0));
	touch(0, 12);
	ck_assert(advices_is_random(advices, 0));
	ck_assert(!advices_is_random(advices, 1));
}
END_TEST

START_TEST(one_long_run_ends_that)
{
	touch(0, 100);
	ck_assert(advices_is_random(advices, 0));
	scan(0, 16 * MIB);
	ck_assert(!advices_is_random(advices, 0));
}
END_TEST

START_TEST(readers_in_order_are_never_random_however_often_they_begin_anew)
{
	for (unsigned int i = 0; i < 50; i++) {
		scan(0, 16 * MIB);
		ck_assert(!advices_is_random(advices, 0));
	}
}
END_TEST

START_TEST(small_tensors_are_never_random)
{
	for (uint64_t i = 0; i < 1000; i++)
		advices_note_read(advices, 0, i * 7919 % (4 * MIB), 4096);
	ck_assert(!advices_is_random(advices, 0));
}
END_TEST

START_TEST(what_was_said_outdoes_what_is_seen)
{
	advices_set(advices, 0, ADVICE_SEQUENTIAL);
	touch(0, 100);
	ck_assert(!advices_is_random(advices, 0));
	/* What was seen before counts no more. */
	advices_set(advices, 0, ADVICE_NORMAL);
	ck_assert(!advices_is_random(advices, 0));
}
END_TEST

START_TEST(random_tensors_are_read_by_a_descriptor_of_their_own)
{
	const struct source_file *file = &served->source->files[0];
	char bytes[8] = "";
	char same[8] = "";
	int fd;

	ck_assert_int_eq(advices_fd(advices, 0, file), file->fd);
	advices_set(advices, 0, ADVICE_RANDOM);
	fd = advices_fd(advices, 0, file);
	ck_assert_int_ne(fd, file->fd);
	ck_assert_int_eq(advices_fd(advices, 1, file), file->fd);
	ck_assert_int_eq(pread(fd, bytes, 8, (off_t)file->size - 8), 8);
	ck_assert_int_eq(pread(file->fd, same, 8, (off_t)file->size - 8), 8);
	ck_assert_mem_eq(bytes, same, 8);
}
END_TEST

START_TEST(second_descriptors_leave_most_of_the_limit_to_others)
{
	const struct source_file *file = &served->source->files[0];
	struct rlimit limit;
	struct rlimit low;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (rlim_t most = 3; most <= 4; most++) {
		low = (struct rlimit){ .rlim_cur = most, .rlim_max = limit.rlim_max };
		advices_free(advices);
		advices = NULL;
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
		ck_assert_int_eq(advices_new(served, JUMP, &advices), 0);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		advices_set(advices, 0, ADVICE_RANDOM);
		ck_assert_int_eq(advices_fd(advices, 0, file), file->fd);
	}
}
END_TEST

START_TEST(without_advice_nothing_is_known)
{
	const struct source_file *file = &served->source->files[0];

	advices_note_read(NULL, 0, 0, 1);
	ck_assert_int_eq(advices_of(NULL, 0), ADVICE_NORMAL);
	ck_assert(!advices_is_random(NULL, 0));
	ck_assert_int_eq(advices_fd(NULL, 0, file), file->fd);
}
END_TEST

START_TEST(patterns_are_bounded)
{
	char pattern[ADVICE_PATTERN_MAX + 2] = { 0 };

	memset(pattern, 'a', ADVICE_PATTERN_MAX + 1);
	ck_assert_int_eq(advices_add_rule(advices, pattern, ADVICE_RANDOM), -E2BIG);
	expect_rules("[]");
	pattern[ADVICE_PATTERN_MAX] = '\0';
	add(pattern, ADVICE_RANDOM);
}
END_TEST

static TCase *advice_case(void)
{
	TCase *t = tcase_create("advice");

	tcase_add_checked_fixture(t, make_advices, free_advices);
	tcase_add_test(t, rules_stand_in_the_order_in_which_they_count);
	tcase_add_test(t, what_is_said_of_all_names_outdoes_what_was_said_before);
	tcase_add_test(t, rules_are_bounded);
	tcase_add_test(t, patterns_are_bounded);
	tcase_add_test(t, advice_is_of_one_tensor_and_the_last_one_counts);
	tcase_add_test(t, names_are_known_and_others_are_not);
	tcase_add_test(t, touches_here_and_there_are_random);
	tcase_add_test(t, one_long_run_ends_that);
	tcase_add_test(t,
		       readers_in_order_are_never_random_however_often_they_begin_anew);
	tcase_add_test(t, small_tensors_are_never_random);
	tcase_add_test(t, what_was_said_outdoes_what_is_seen);
	tcase_add_test(t, random_tensors_are_read_by_a_descriptor_of_their_own);
	tcase_add_test(t, second_descriptors_leave_most_of_the_limit_to_others);
	tcase_add_test(t, without_advice_nothing_is_known);
	return t;
}

UNIT_MAIN("advice", advice_case)
