#include "profile.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "model_dir.h"
#include "named_model.h"
#include "unit.h"
#include "util/profile.h"

#define HEADER "weightfs-profile 1 tensors=3 bytes=12 model=m\n"

static struct model *model;
static struct profile profile;
static struct diag diag;

static void make_model(void)
{
	struct named_model named;

	named_model_begin(&named);
	named_model_add(&named, "a.0.w", 4);
	named_model_add(&named, "a.1.w", 4);
	named_model_add(&named, "odd name\n%", 4);
	model = named_model_end(&named);
}

static void free_model(void)
{
	model_unref(model);
}

static int parse(const char *text)
{
	return profile_parse(text, strlen(text), model, &profile, &diag);
}

static void expect_wrong(const char *text, const char *words)
{
	ck_assert_int_eq(parse(text), -EBADMSG);
	ck_assert_str_eq(diag.text, words);
}

/* ---- What is taken ---- */

START_TEST(tensors_are_taken_in_the_order_of_the_lines)
{
	ck_assert_int_eq(parse(HEADER "# a comment\n\n"
				      "0.100 0.000 4 npy a.1.w\n"
				      "0.000 1.500 4 npy odd name%0A%25\n"
				      "12.345 0.000 0 tensors a.0.w"),
			 0);
	ck_assert_uint_eq(profile.order.count, 3);
	ck_assert_uint_eq(predict_order_at(&profile.order, 0), 1);
	ck_assert_uint_eq(predict_order_at(&profile.order, 1), 2);
	ck_assert_uint_eq(predict_order_at(&profile.order, 2), 0);
	ck_assert_int_eq((int)profile.view, VIEW_NPY);
	ck_assert_uint_eq(profile.unknown, 0);
	profile_fini(&profile);
}
END_TEST

START_TEST(what_the_model_does_not_have_is_counted_and_ignored)
{
	ck_assert_int_eq(parse(HEADER "0.000 0.000 4 tensors gone\n"
				      "0.000 0.000 4 tensors a.1.w\n"
				      "0.000 0.000 4 tensors gone.too\n"),
			 0);
	ck_assert_uint_eq(profile.order.count, 1);
	ck_assert_uint_eq(profile.unknown, 2);
	profile_fini(&profile);
}
END_TEST

START_TEST(of_two_lines_of_a_tensor_the_first_counts)
{
	ck_assert_int_eq(parse(HEADER "0.000 0.000 4 tensors a.1.w\n"
				      "0.000 0.000 4 tensors a.0.w\n"
				      "0.000 0.000 4 tensors a.1.w\n"),
			 0);
	ck_assert_uint_eq(profile.order.count, 2);
	ck_assert_uint_eq(predict_order_at(&profile.order, 0), 1);
	ck_assert_uint_eq(profile.unknown, 0);
	profile_fini(&profile);
}
END_TEST

START_TEST(a_profile_without_tensors_is_one)
{
	ck_assert_int_eq(parse(HEADER), 0);
	ck_assert_uint_eq(profile.order.count, 0);
	profile_fini(&profile);
}
END_TEST

START_TEST(a_profile_of_another_model_is_refused)
{
	ck_assert_int_eq(parse("weightfs-profile 1 tensors=9 bytes=9 model=other\n"
			       "0.000 0.000 4 tensors x\n0.000 0.000 4 tensors y\n"),
			 -ENOENT);
	ck_assert_str_eq(diag.text,
			 "profile: of another model: none of its 2 tensors is in this "
			 "one; it was recorded from 'other'");
}
END_TEST

/* ---- What is refused ---- */

START_TEST(a_first_line_that_is_none_is_refused)
{
	expect_wrong("", "profile: is empty");
	expect_wrong("GGUF", "profile: does not begin with 'weightfs-profile 1 '");
	expect_wrong("\x01\n", "profile: does not begin with 'weightfs-profile 1 '");
	expect_wrong("weightfs-profile 2 tensors=3 bytes=12 model=m\n",
		     "profile: does not begin with 'weightfs-profile 1 '");
	expect_wrong("weightfs-profile 1 tensors=3 model=m\n",
		     "profile: line 1 is not of the form 'tensors=N bytes=N model=NAME'");
	expect_wrong("weightfs-profile 1 tensors=99999999999999999999 bytes=1 model=m\n",
		     "profile: line 1 is not of the form 'tensors=N bytes=N model=NAME'");
}
END_TEST

START_TEST(a_line_that_is_no_use_is_refused)
{
	static const char *const lines[] = {
		"0.000 0.000 4 tensors",
		"0.000 0.000 4 tensors ",
		"0.000 0.000 4 a.0.w",
		"0.000 0.000 tensors a.0.w",
		"0.00 0.000 4 tensors a.0.w",
		"0.0000 0.000 4 tensors a.0.w",
		"0,000 0.000 4 tensors a.0.w",
		"-1.000 0.000 4 tensors a.0.w",
		"nan inf 4 tensors a.0.w",
		"9999999999999.000 0.000 4 tensors a.0.w",
		"0.000 0.000 99999999999999999999 tensors a.0.w",
		" 0.000 0.000 4 tensors a.0.w",
		"0.000  0.000 4 tensors a.0.w",
		"0.0x0 0.000 4 tensors a.0.w",
	};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		char text[512];

		(void)snprintf(text, sizeof(text), HEADER "%s\n", lines[i]);
		expect_wrong(text, "profile: line 2 is not of the form 'SECONDS SECONDS "
				   "BYTES VIEW NAME'");
	}
}
END_TEST

START_TEST(other_views_and_bad_escapes_are_refused)
{
	expect_wrong(HEADER "0.000 0.000 4 pickles a.0.w\n",
		     "profile: line 2 names no view: it must be tensors, npy or "
		     "safetensors");
	expect_wrong(HEADER "# fine\n0.000 0.000 4 tensors a%2\n",
		     "profile: line 3 has a name with a '%' that is not followed by two "
		     "digits");
	expect_wrong(HEADER "0.000 0.000 4 tensors a%0a\n",
		     "profile: line 2 has a name with a '%' that is not followed by two "
		     "digits");
}
END_TEST

START_TEST(control_characters_are_refused)
{
	static const char with_nul[] = HEADER "0.000 0.000 4 tensors a\0b\n";

	expect_wrong(HEADER "0.000 0.000 4 tensors a\r\n",
		     "profile: line 2 has a control character");
	expect_wrong("weightfs-profile 1 \x1b[2J",
		     "profile: line 1 has a control character");
	ck_assert_int_eq(profile_parse(with_nul, sizeof(with_nul) - 1, model, &profile,
				       &diag),
			 -EBADMSG);
}
END_TEST

START_TEST(a_line_without_end_is_refused)
{
	char *text = malloc(PROFILE_LINE_MAX + sizeof(HEADER) + 1);

	ck_assert_ptr_nonnull(text);
	memcpy(text, HEADER, sizeof(HEADER) - 1);
	memset(text + sizeof(HEADER) - 1, 'a', PROFILE_LINE_MAX);
	text[sizeof(HEADER) - 1 + PROFILE_LINE_MAX] = '\0';
	expect_wrong(text, "profile: line 2 is too long");
	free(text);
}
END_TEST

/* ---- Files ---- */

static void expect_unreadable(const char *name, const char *words)
{
	char expected[MODEL_DIR_PATH_MAX + 64];
	const char *path = model_dir_path(name);

	(void)snprintf(expected, sizeof(expected), "%s: %s", path, words);
	ck_assert_int_lt(profile_load(path, model, &profile, &diag), 0);
	ck_assert_str_eq(diag.text, expected);
}

START_TEST(a_file_is_read_and_what_is_none_is_not)
{
	model_dir_write_text("good", HEADER "0.000 0.000 4 tensors a.0.w\n");
	ck_assert_int_eq(profile_load(model_dir_path("good"), model, &profile, &diag), 0);
	ck_assert_uint_eq(profile.order.count, 1);
	profile_fini(&profile);
	model_dir_write_text("bad", "x");
	expect_unreadable("bad", "profile: does not begin with 'weightfs-profile 1 '");
	expect_unreadable("none", "profile: read: no such file or directory");
	expect_unreadable("", "profile: read: is a directory");
	ck_assert_int_eq(mkfifo(model_dir_path("pipe"), 0600), 0);
	expect_unreadable("pipe", "profile: not a file");
}
END_TEST

/* ---- Writing ---- */

START_TEST(what_is_written_is_read_as_it_was)
{
	const struct profile_header header = { 147, UINT64_MAX / 2, { "m x", 3 } };
	const struct profile_use use = { 1234567, 5, 77, { "npy", 3 }, { "a b%25", 6 } };
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	struct profile_reader reader;
	struct profile_header found_header;
	struct profile_use found;
	char name[16];
	size_t len;

	profile_write_header(&out, &header);
	profile_write_use(&out, &use);
	ck_assert(profile_begin(&reader, out.data, out.len, &found_header));
	ck_assert_uint_eq(found_header.tensors, header.tensors);
	ck_assert_uint_eq(found_header.bytes, header.bytes);
	ck_assert_uint_eq(found_header.model.len, 3);
	ck_assert(profile_next(&reader, &found));
	ck_assert_uint_eq(found.first_ms, use.first_ms);
	ck_assert_uint_eq(found.time_ms, use.time_ms);
	ck_assert_uint_eq(found.bytes, use.bytes);
	ck_assert(profile_decode(found.name, name, &len));
	ck_assert_uint_eq(len, 4);
	ck_assert_mem_eq(name, "a b%", 4);
	ck_assert(!profile_next(&reader, &found));
	ck_assert_ptr_null(reader.wrong);
}
END_TEST

static TCase *profile_case(void)
{
	TCase *t = tcase_create("profile");

	tcase_add_checked_fixture(t, make_model, free_model);
	tcase_add_checked_fixture(t, model_dir_make, model_dir_remove);
	tcase_add_test(t, tensors_are_taken_in_the_order_of_the_lines);
	tcase_add_test(t, what_the_model_does_not_have_is_counted_and_ignored);
	tcase_add_test(t, of_two_lines_of_a_tensor_the_first_counts);
	tcase_add_test(t, a_profile_without_tensors_is_one);
	tcase_add_test(t, a_profile_of_another_model_is_refused);
	tcase_add_test(t, a_first_line_that_is_none_is_refused);
	tcase_add_test(t, a_line_that_is_no_use_is_refused);
	tcase_add_test(t, other_views_and_bad_escapes_are_refused);
	tcase_add_test(t, control_characters_are_refused);
	tcase_add_test(t, a_line_without_end_is_refused);
	tcase_add_test(t, a_file_is_read_and_what_is_none_is_not);
	tcase_add_test(t, what_is_written_is_read_as_it_was);
	return t;
}

UNIT_MAIN("profile", profile_case)
