#include "parsers/shard_name.h"
#include "unit.h"

static void expect_number(const char *name, size_t stem_len, uint32_t number,
			  uint32_t count, const char *suffix)
{
	struct shard_name parsed;

	ck_assert_msg(shard_name_parse(name, &parsed), "%s", name);
	ck_assert_uint_eq(parsed.stem_len, stem_len);
	ck_assert_uint_eq(parsed.number, number);
	ck_assert_uint_eq(parsed.count, count);
	ck_assert_str_eq(parsed.suffix, suffix);
}

START_TEST(names_of_writers_have_a_number)
{
	expect_number("model-00002-of-00005.safetensors", 5, 2, 5, ".safetensors");
	expect_number("m-1.Q4_K-00001-of-00001.gguf", 8, 1, 1, ".gguf");
	expect_number("d-00001-of-00002.fp16.safetensors", 1, 1, 2, ".fp16.safetensors");
	expect_number("sub/model-99999-of-99999", 9, 99999, 99999, "");
	expect_number("-00001-of-00002.gguf", 0, 1, 2, ".gguf");
}
END_TEST

/* The largest published models. */
START_TEST(numbers_may_have_other_widths)
{
	expect_number("model-00001-of-000163.safetensors", 5, 1, 163, ".safetensors");
	expect_number("model-1-of-61.safetensors", 5, 1, 61, ".safetensors");
	expect_number("model-61-of-61.safetensors", 5, 61, 61, ".safetensors");
	expect_number("m-00000001-of-99999999", 1, 1, 99999999, "");
}
END_TEST

START_TEST(the_last_number_counts)
{
	expect_number("a-00001-of-00002-00003-of-00004.gguf", 16, 3, 4, ".gguf");
	expect_number("a-00001-of-00002.b-00003-of-00002.gguf", 1, 1, 2,
		      ".b-00003-of-00002.gguf");
}
END_TEST

START_TEST(other_names_have_none)
{
	static const char *const names[] = {
		"",
		"model.safetensors",
		"model-000000002-of-00005.gguf",
		"model-2-of-000000005.gguf",
		"model--of-5.gguf",
		"model-2-of-.gguf",
		"2-of-5.gguf",
		"-of-",
		"model-00002-of-00005safetensors",
		"model_00002-of-00005.gguf",
		"model-00000-of-00005.gguf",
		"model-00006-of-00005.gguf",
		"model-0000x-of-00005.gguf",
		"-00001-of-00000",
		"model-00001-in-00005.gguf",
	};
	struct shard_name parsed;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ck_assert_msg(!shard_name_parse(names[i], &parsed), "%s", names[i]);
}
END_TEST

START_TEST(another_name_of_the_set_is_made)
{
	static const char name[] = "a/model-00002-of-00012.fp16.safetensors";
	struct shard_name parsed;
	char *made;

	ck_assert(shard_name_parse(name, &parsed));
	made = shard_name_make(name, &parsed, 11);
	ck_assert_str_eq(made, "a/model-00011-of-00012.fp16.safetensors");
	free(made);
}
END_TEST

static void expect_made(const char *name, uint32_t number, const char *want)
{
	struct shard_name parsed;
	char *made;

	ck_assert(shard_name_parse(name, &parsed));
	made = shard_name_make(name, &parsed, number);
	ck_assert_str_eq(made, want);
	free(made);
}

START_TEST(other_names_have_as_many_digits)
{
	expect_made("m-00001-of-000163.st", 163, "m-00163-of-000163.st");
	expect_made("m-1-of-61.st", 2, "m-2-of-61.st");
	expect_made("m-1-of-61.st", 61, "m-61-of-61.st");
	expect_made("m-01-of-61.st", 2, "m-02-of-61.st");
}
END_TEST

static bool are_one_set(const char *a, const char *b)
{
	struct shard_name x;
	struct shard_name y;

	return shard_name_parse(a, &x) && shard_name_parse(b, &y) &&
	       shard_name_same_set(a, &x, b, &y);
}

START_TEST(a_set_has_one_stem_count_and_suffix)
{
	ck_assert(are_one_set("m-00001-of-00003.gguf", "m-00003-of-00003.gguf"));
	ck_assert(are_one_set("m-9-of-10.gguf", "m-10-of-10.gguf"));
	ck_assert(!are_one_set("m-00001-of-00003.gguf", "m-00002-of-000003.gguf"));
	ck_assert(!are_one_set("m-00001-of-00003.gguf", "n-00003-of-00003.gguf"));
	ck_assert(!are_one_set("m-00001-of-00003.gguf", "mm-00003-of-00003.gguf"));
	ck_assert(!are_one_set("m-00001-of-00003.gguf", "m-00001-of-00004.gguf"));
	ck_assert(!are_one_set("m-00001-of-00003.gguf", "m-00001-of-00003.bin"));
}
END_TEST

static void expect_index(const char *name, const char *of)
{
	size_t len = shard_name_index_len(name);

	ck_assert_uint_eq(len, strlen(of));
	ck_assert_mem_eq(name, of, len);
}

START_TEST(names_of_indexes_say_what_they_index)
{
	expect_index("model.safetensors.index.json", "model.safetensors");
	expect_index("model.fp16.safetensors.index.json", "model.fp16.safetensors");
	expect_index("model.safetensors.index.fp16.json", "model.safetensors");
	expect_index("pytorch_model.bin.index.json", "pytorch_model.bin");
	expect_index("a.index.index.json", "a.index");
	expect_index("index.index.json", "index");
}
END_TEST

START_TEST(other_names_are_no_indexes)
{
	expect_index("model_index.json", "");
	expect_index(".index.json", "");
	expect_index("index.json", "");
	expect_index("model.index.jsonl", "");
	expect_index("model.index.a.b.json", "");
	expect_index("model.safetensors.index", "");
	expect_index("model.index.", "");
	expect_index("config.json", "");
	expect_index("", "");
}
END_TEST

static TCase *shard_name_case(void)
{
	TCase *tcase = tcase_create("shard_name");

	tcase_add_test(tcase, names_of_writers_have_a_number);
	tcase_add_test(tcase, numbers_may_have_other_widths);
	tcase_add_test(tcase, the_last_number_counts);
	tcase_add_test(tcase, other_names_have_none);
	tcase_add_test(tcase, another_name_of_the_set_is_made);
	tcase_add_test(tcase, other_names_have_as_many_digits);
	tcase_add_test(tcase, a_set_has_one_stem_count_and_suffix);
	tcase_add_test(tcase, names_of_indexes_say_what_they_index);
	tcase_add_test(tcase, other_names_are_no_indexes);
	return tcase;
}

UNIT_MAIN("shard_name", shard_name_case)
