/* Rules of people: which one a tensor has after any of them came or went. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "model_dir.h"
#include "placement_rules.h"
#include "served.h"
#include "unit.h"

static const char model_json[] =
	"{\"a.0\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
	"\"a.1\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
	"\"b.1\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}";

enum {
	A0,
	A1,
	B1,
	NONE
};

static struct served *served;
static struct placement_rules *rules;

static void make_rules(void)
{
	struct diag diag;

	model_dir_make();
	model_dir_write_safetensors("m.safetensors", model_json, 3);
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &served, &diag), 0);
	ck_assert_int_eq(placement_rules_new(served->model, &rules), 0);
}

static void free_rules(void)
{
	placement_rules_free(rules);
	served_free(served);
	model_dir_remove();
}

static int add(const char *pattern, uint64_t nodes)
{
	return placement_rules_add(rules, pattern,
				   (struct placement_policy){ nodes, false });
}

/* The nodes that a rule gives to a tensor; -1 for no rule. */
static int64_t nodes_of(uint32_t tensor)
{
	struct placement_policy policy;

	return placement_rules_find(rules, tensor, &policy) ? (int64_t)policy.nodes : -1;
}

static void expect(int64_t a0, int64_t a1, int64_t b1)
{
	ck_assert_int_eq(nodes_of(A0), a0);
	ck_assert_int_eq(nodes_of(A1), a1);
	ck_assert_int_eq(nodes_of(B1), b1);
}

static void expect_written(const char *json)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	struct jsonw w;

	jsonw_init(&w, &out);
	placement_rules_write(rules, &w);
	ck_assert_str_eq(out.data, json);
}

START_TEST(without_rules_no_tensor_has_one)
{
	expect(-1, -1, -1);
	ck_assert(!placement_rules_any(rules));
	ck_assert(!placement_rules_any(NULL));
	expect_written("[]");
}
END_TEST

START_TEST(the_last_rule_that_matches_counts)
{
	ck_assert_int_eq(add("a.*", 1), 0);
	expect(1, 1, -1);
	ck_assert_int_eq(add("*.1", 2), 0);
	expect(1, 2, 2);
	ck_assert_int_eq(add("*", 4), 0);
	expect(4, 4, 4);
	ck_assert(placement_rules_any(rules));
}
END_TEST

START_TEST(a_rule_for_the_same_pattern_comes_last)
{
	ck_assert_int_eq(add("a.*", 1), 0);
	ck_assert_int_eq(add("*.1", 2), 0);
	ck_assert_int_eq(add("a.*", 8), 0);
	expect(8, 8, 2);
	expect_written(
		"[{\"pattern\":\"*.1\",\"nodes\":[1],\"interleave\":false,\"tensors\":1},"
		"{\"pattern\":\"a.*\",\"nodes\":[3],\"interleave\":false,\"tensors\":2}]");
}
END_TEST

START_TEST(what_a_rule_had_goes_to_the_one_before)
{
	ck_assert_int_eq(add("*.1", 2), 0);
	ck_assert_int_eq(add("a.0", 16), 0);
	ck_assert_int_eq(add("a.*", 1), 0);
	ck_assert_int_eq(placement_rules_remove(rules, "a.*"), 0);
	expect(16, 2, 2);
	ck_assert_int_eq(placement_rules_remove(rules, "*.1"), 0);
	expect(16, -1, -1);
	ck_assert_int_eq(placement_rules_remove(rules, "a.0"), 0);
	expect(-1, -1, -1);
	ck_assert(!placement_rules_any(rules));
}
END_TEST

START_TEST(only_the_very_pattern_takes_a_rule_back)
{
	ck_assert_int_eq(add("a.*", 1), 0);
	ck_assert_int_eq(placement_rules_remove(rules, "a.0"), -ENOENT);
	ck_assert_int_eq(placement_rules_remove(rules, "*"), -ENOENT);
	expect(1, 1, -1);
}
END_TEST

START_TEST(rules_may_say_to_interleave_or_to_be_local)
{
	struct placement_policy policy;

	ck_assert_int_eq(placement_rules_add(rules, "a.0",
					     (struct placement_policy){ 3, true }),
			 0);
	ck_assert(placement_rules_find(rules, A0, &policy));
	ck_assert(policy.interleave && policy.nodes == 3);
	ck_assert_int_eq(add("a.0", 0), 0);
	ck_assert(placement_rules_find(rules, A0, &policy));
	ck_assert(!policy.interleave && policy.nodes == 0);
	expect_written(
		"[{\"pattern\":\"a.0\",\"nodes\":[],\"interleave\":false,\"tensors\":1}]");
}
END_TEST

START_TEST(tensors_that_are_not_there_have_none)
{
	ck_assert_int_eq(add("*", 1), 0);
	ck_assert_int_eq(nodes_of(NONE), -1);
	ck_assert_int_eq(nodes_of(PLACEMENT_NO_TENSOR), -1);
}
END_TEST

START_TEST(rules_and_their_patterns_are_bounded)
{
	char pattern[PLACEMENT_PATTERN_MAX + 2];

	memset(pattern, 'x', sizeof(pattern));
	pattern[PLACEMENT_PATTERN_MAX + 1] = '\0';
	ck_assert_int_eq(add(pattern, 1), -E2BIG);
	pattern[PLACEMENT_PATTERN_MAX] = '\0';
	ck_assert_int_eq(add(pattern, 1), 0);
	for (unsigned int i = 1; i < PLACEMENT_MOST_RULES; i++) {
		(void)snprintf(pattern, sizeof(pattern), "a.%u", i);
		ck_assert_int_eq(add(pattern, 1), 0);
	}
	ck_assert_int_eq(add("*", 2), -ENOSPC);
	ck_assert_int_eq(nodes_of(B1), -1);
	ck_assert_int_eq(add("a.1", 4), 0);
	ck_assert_int_eq(placement_rules_remove(rules, "a.2"), 0);
	ck_assert_int_eq(add("*", 2), 0);
	expect(2, 2, 2);
}
END_TEST

static atomic_bool over;

static void *look(void *unused)
{
	(void)unused;
	while (!atomic_load(&over)) {
		int64_t nodes = nodes_of(A1);

		if (nodes != -1 && nodes != 1 && nodes != 2)
			return discard_const("a rule that nobody made");
	}
	return NULL;
}

START_TEST(they_are_read_while_they_change)
{
	pthread_t threads[2];
	void *blame;

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, look, NULL), 0);
	for (unsigned int i = 0; i < 2000; i++) {
		ck_assert_int_eq(add("a.*", 1), 0);
		ck_assert_int_eq(add("*.1", 2), 0);
		ck_assert_int_eq(placement_rules_remove(rules, "*.1"), 0);
		ck_assert_int_eq(placement_rules_remove(rules, "a.*"), 0);
	}
	atomic_store(&over, true);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], &blame), 0);
		ck_assert_ptr_null(blame);
	}
}
END_TEST

static TCase *rules_case(void)
{
	TCase *tcase = tcase_create("rules");

	tcase_add_checked_fixture(tcase, make_rules, free_rules);
	tcase_add_test(tcase, without_rules_no_tensor_has_one);
	tcase_add_test(tcase, the_last_rule_that_matches_counts);
	tcase_add_test(tcase, a_rule_for_the_same_pattern_comes_last);
	tcase_add_test(tcase, what_a_rule_had_goes_to_the_one_before);
	tcase_add_test(tcase, only_the_very_pattern_takes_a_rule_back);
	tcase_add_test(tcase, rules_may_say_to_interleave_or_to_be_local);
	tcase_add_test(tcase, tensors_that_are_not_there_have_none);
	tcase_add_test(tcase, rules_and_their_patterns_are_bounded);
	tcase_add_test(tcase, they_are_read_while_they_change);
	return tcase;
}

UNIT_MAIN("placement_rules", rules_case)
