/* SOURCE: which files are opened, which one is the model, and what its documents say. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "model_dir.h"
#include "served.h"
#include "unit.h"

static const char small_json[] =
	"{\"a.b\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]}}";

static void write_model(const char *name)
{
	model_dir_write_safetensors(name, small_json, 4);
}

static struct served *load(const char *path)
{
	struct served *served;
	struct diag diag;

	ck_assert_msg(served_load(path, NULL, &served, &diag) == 0, "%s", diag.text);
	return served;
}

/* The words that must be refused with, after the path of a file or the directory. */
static void expect_refused_as(const char *name, const char *format, int err,
			      const char *words)
{
	char want[MODEL_DIR_PATH_MAX + 512];
	struct served *served;
	struct diag diag;

	(void)snprintf(want, sizeof(want), "%s: %s", model_dir_path(name), words);
	ck_assert_int_eq(served_load(model_dir_path(name), format, &served, &diag), err);
	ck_assert_str_eq(diag.text, want);
}

static void expect_refused(const char *name, int err, const char *words)
{
	expect_refused_as(name, NULL, err, words);
}

/* The names of all files, in their order. */
static void expect_files(const struct served *served, const char *names)
{
	struct strbuf got;

	strbuf_init(&got);
	for (uint32_t i = 0; i < served->source->file_count; i++)
		strbuf_addf(&got, "%s%s", i > 0 ? " " : "",
			    served->source->files[i].name);
	ck_assert_str_eq(got.data, names);
	strbuf_fini(&got);
}

static void expect_no_warnings(const struct served *served)
{
	ck_assert_uint_eq(model_warning_count(served->model), 0);
}

/* ---- One file ---- */

START_TEST(a_file_is_a_model_by_its_content)
{
	struct served *served;

	write_model("my.model.bin");
	served = load(model_dir_path("my.model.bin"));
	expect_files(served, "my.model.bin");
	ck_assert_str_eq(served->source->name, "my.model");
	ck_assert_str_eq(served->source->path, model_dir_path("my.model.bin"));
	ck_assert_str_eq(served->source->files[0].path, model_dir_path("my.model.bin"));
	ck_assert(!served->source->is_dir);
	ck_assert_str_eq(model_format(served->model), "safetensors");
	expect_no_warnings(served);
	served_free(served);
	served_free(NULL);
}
END_TEST

START_TEST(a_link_to_a_file_keeps_its_own_name)
{
	struct served *served;

	write_model("blobs/0123abc");
	model_dir_link("snapshot/model.safetensors", "../blobs/0123abc");
	served = load(model_dir_path("snapshot/model.safetensors"));
	expect_files(served, "model.safetensors");
	ck_assert_str_eq(served->source->name, "model");
	ck_assert_str_eq(served->source->files[0].path, model_dir_path("blobs/0123abc"));
	served_free(served);
}
END_TEST

START_TEST(what_is_no_model_is_refused)
{
	model_dir_write_text("notes.txt", "not a model");
	model_dir_write_text("empty.bin", "");
	expect_refused("notes.txt", -EBADMSG,
		       "not a model file: the content is none of: gguf, safetensors");
	expect_refused("empty.bin", -EBADMSG,
		       "not a model file: the content is none of: gguf, safetensors");
	expect_refused("missing", -ENOENT, "open: no such file or directory");
	/* The first eight bytes are a number to that parser. */
	expect_refused_as("notes.txt", "safetensors", -E2BIG,
			  "header length is 8029109312199880558 bytes, at most "
			  "100000000 are read");
}
END_TEST

START_TEST(a_broken_file_is_blamed_with_its_path)
{
	struct served *served;
	const char *path;
	struct diag diag;

	model_dir_write_safetensors(
		"short.safetensors",
		"{\"a\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]}}", 4);
	path = model_dir_path("short.safetensors");
	ck_assert_int_eq(served_load(path, NULL, &served, &diag), -EBADMSG);
	ck_assert_mem_eq(diag.text, path, strlen(path));
	ck_assert_ptr_nonnull(strstr(diag.text, ": tensor 'a': "));
}
END_TEST

START_TEST(a_forced_format_is_believed)
{
	struct served *served;
	struct diag diag;
	const char *path;

	write_model("m.safetensors");
	path = model_dir_path("m.safetensors");
	ck_assert_int_eq(served_load(path, "gguf", &served, &diag), -EBADMSG);
	ck_assert_mem_eq(diag.text, path, strlen(path));
	ck_assert_int_eq(served_load(path, "safetensors", &served, &diag), 0);
	served_free(served);
}
END_TEST

/* ---- A directory ---- */

START_TEST(a_directory_is_read_with_all_below_it)
{
	struct served *served;

	write_model("m/weights.safetensors");
	model_dir_write_text("m/config.json", "{}");
	model_dir_write_text("m/a/b/c.txt", "c");
	model_dir_write_text("m/a/d.txt", "d");
	model_dir_write_text("m/.hidden", "a hidden file is one");
	model_dir_write_text("m/.cache/x", "what is below a hidden directory is not");
	model_dir_write_text("m/a/.git/x", "nor deeper down");
	served = load(model_dir_path("m"));
	ck_assert(served->source->is_dir);
	ck_assert_str_eq(served->source->name, "m");
	expect_files(served, ".hidden a/b/c.txt a/d.txt config.json weights.safetensors");
	ck_assert_ptr_eq(served_tensor_file(served, model_tensor(served->model, 0)),
			 &served->source->files[4]);
	ck_assert_uint_eq(served->file_tensor_bytes[4], 4);
	ck_assert_uint_eq(served->file_tensor_bytes[0], 0);
	expect_no_warnings(served);
	served_free(served);
}
END_TEST

START_TEST(two_models_in_one_directory_are_refused_with_both_names)
{
	write_model("m/b.safetensors");
	write_model("m/a.safetensors");
	model_dir_write_text("m/config.json", "{}");
	expect_refused("m", -ENOTSUP,
		       "more than one model file in this directory ('a.safetensors' and "
		       "'b.safetensors'): name one of them");
	served_free(load(model_dir_path("m/b.safetensors")));
}
END_TEST

START_TEST(a_model_in_a_sub_directory_is_not_the_model)
{
	write_model("m/a.safetensors");
	write_model("m/sub/b.safetensors");
	served_free(load(model_dir_path("m")));
	model_dir_write_text("n/readme", "x");
	write_model("n/sub/b.safetensors");
	expect_refused("n", -ENOENT,
		       "no model in this directory: none of its 2 files is one of: gguf, "
		       "safetensors");
}
END_TEST

START_TEST(a_directory_without_a_model_is_refused)
{
	model_dir_write_text("m/readme.txt", "nothing here");
	expect_refused("m", -ENOENT,
		       "no model in this directory: none of its 1 files is one of: gguf, "
		       "safetensors");
}
END_TEST

/* Its parser says what is wrong with it. */
START_TEST(a_broken_model_in_a_directory_is_chosen_by_its_name)
{
	struct served *served;
	const char *path;
	struct diag diag;

	model_dir_write_text("m/model.safetensors", "broken");
	model_dir_write_text("m/config.json", "{}");
	ck_assert_int_eq(served_load(model_dir_path("m"), NULL, &served, &diag),
			 -EBADMSG);
	path = model_dir_path("m/model.safetensors");
	ck_assert_mem_eq(diag.text, path, strlen(path));
}
END_TEST

START_TEST(what_is_no_regular_file_is_left_out)
{
	struct served *served;

	write_model("m/model.safetensors");
	model_dir_write_text("m/sub/x", "x");
	model_dir_link("m/dangling", "nowhere");
	model_dir_link("m/dir_link", "sub");
	model_dir_link("m/loop", "loop");
	ck_assert_int_eq(mkfifo(model_dir_path("m/fifo"), 0600), 0);
	model_dir_link("m/fifo_link", "fifo");
	served = load(model_dir_path("m"));
	expect_files(served, "model.safetensors sub/x");
	served_free(served);
}
END_TEST

/* ---- Links ---- */

static void expect_one_warning(const struct served *served, const char *words)
{
	ck_assert_uint_eq(model_warning_count(served->model), 1);
	ck_assert_str_eq(model_warning(served->model, 0), words);
}

START_TEST(links_inside_the_directory_are_followed)
{
	struct served *served;

	write_model("m/store/0123abc");
	model_dir_link("m/model.safetensors", "store/0123abc");
	served = load(model_dir_path("m"));
	expect_files(served, "model.safetensors store/0123abc");
	expect_no_warnings(served);
	served_free(served);
}
END_TEST

START_TEST(links_that_lead_out_are_left_out_with_a_warning)
{
	struct served *served;

	write_model("m/model.safetensors");
	model_dir_link("m/passwd", "/etc/passwd");
	served = load(model_dir_path("m"));
	expect_files(served, "model.safetensors");
	expect_one_warning(served,
			   "'passwd': left out: it is a link that leads out of the "
			   "model's directory");
	served_free(served);
}
END_TEST

START_TEST(a_directory_whose_name_begins_alike_is_outside)
{
	struct served *served;

	write_model("m/model.safetensors");
	model_dir_write_text("m2/secret", "x");
	model_dir_link("m/sub/secret", "../../m2/secret");
	served = load(model_dir_path("m"));
	expect_files(served, "model.safetensors");
	expect_one_warning(served,
			   "'sub/secret': left out: it is a link that leads out of "
			   "the model's directory");
	served_free(served);
}
END_TEST

#define HUB      "hub/models--org--some-model"
#define SNAPSHOT HUB "/snapshots/0123"

START_TEST(a_hub_snapshot_links_to_its_blobs)
{
	struct served *served;

	write_model(HUB "/blobs/aa");
	model_dir_write_text(HUB "/blobs/bb", "{}");
	model_dir_link(SNAPSHOT "/model.safetensors", "../../blobs/aa");
	model_dir_link(SNAPSHOT "/config.json", "../../blobs/bb");
	model_dir_link(SNAPSHOT "/unet/config.json", "../../../blobs/bb");
	served = load(model_dir_path(SNAPSHOT));
	expect_files(served, "config.json model.safetensors unet/config.json");
	ck_assert_str_eq(served->source->name, "org/some-model");
	ck_assert_str_eq(served->source->files[1].path, model_dir_path(HUB "/blobs/aa"));
	expect_no_warnings(served);
	served_free(served);
}
END_TEST

START_TEST(a_hub_snapshot_does_not_link_to_other_repositories)
{
	struct served *served;

	write_model(HUB "/blobs/aa");
	model_dir_link(SNAPSHOT "/model.safetensors", "../../blobs/aa");
	model_dir_write_text(HUB "-2/blobs/bb", "another repository");
	model_dir_link(SNAPSHOT "/other", "../../../models--org--some-model-2/blobs/bb");
	served = load(model_dir_path(SNAPSHOT));
	expect_files(served, "model.safetensors");
	expect_one_warning(served,
			   "'other': left out: it is a link that leads out of the "
			   "model's directory");
	served_free(served);
}
END_TEST

START_TEST(links_of_what_only_looks_like_a_snapshot_stay_inside)
{
	struct served *served;

	write_model("repo/snapshots/1/model.safetensors");
	model_dir_write_text("repo/blobs/x", "x");
	model_dir_link("repo/snapshots/1/x", "../../blobs/x");
	served = load(model_dir_path("repo/snapshots/1"));
	ck_assert_str_eq(served->source->name, "1");
	expect_files(served, "model.safetensors");
	ck_assert_uint_eq(model_warning_count(served->model), 1);
	served_free(served);
}
END_TEST

/* ---- Changes ---- */

START_TEST(a_change_is_seen_once_and_for_ever)
{
	struct served *served;
	struct source_file *file;
	uint64_t events;

	write_model("m.safetensors");
	served = load(model_dir_path("m.safetensors"));
	file = &served->source->files[0];
	ck_assert(source_file_unchanged(file));
	model_dir_write_text("m.safetensors", "x");
	ck_assert(!source_file_unchanged(file));
	ck_assert(!source_file_unchanged(file));
	ck_assert_int_eq(read(served->source->changed_event, &events, 8), 8);
	ck_assert_uint_eq(events, 1);
	served_free(served);
}
END_TEST

START_TEST(a_file_that_was_replaced_is_still_what_was_opened)
{
	struct served *served;

	write_model("m.safetensors");
	served = load(model_dir_path("m.safetensors"));
	write_model("new");
	ck_assert_int_eq(rename(model_dir_path("new"), model_dir_path("m.safetensors")),
			 0);
	ck_assert(source_file_unchanged(&served->source->files[0]));
	served_free(served);
}
END_TEST

/* ---- Documents ---- */

static void expect_document(struct served *served, enum document_kind kind,
			    const char *want)
{
	struct strbuf got;

	strbuf_init(&got);
	ck_assert_int_eq(served_write_document(served, kind, &got), 0);
	ck_assert_str_eq(got.data, want);
	strbuf_fini(&got);
}

START_TEST(model_json_lists_every_tensor)
{
	struct served *served;

	model_dir_write_safetensors(
		"m/x.safetensors",
		"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
		"\"a.\\\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[24,25]}} ",
		25);
	served = load(model_dir_path("m"));
	expect_document(
		served, DOCUMENT_MODEL,
		"{\"weightfs\":1,\"name\":\"m\",\"format\":\"safetensors\","
		"\"tensor_count\":2,\"total_bytes\":25,\"tensors\":[\n"
		"{\"name\":\"a\",\"path\":\"a/%self\",\"dtype\":\"F32\",\"shape\":[2,3],"
		"\"nbytes\":24,\"file\":\"x.safetensors\",\"offset\":122},\n"
		"{\"name\":\"a.\\\"\",\"path\":\"a/\\\"\",\"dtype\":\"U8\",\"shape\":[],"
		"\"nbytes\":1,\"file\":\"x.safetensors\",\"offset\":146}],"
		"\"skipped\":[]}\n");
	served_free(served);
}
END_TEST

START_TEST(metadata_json_is_the_formats_own)
{
	struct served *served;

	model_dir_write_safetensors("x.safetensors",
				    "{\"__metadata__\":{\"k\":\"v\\n\"}}", 0);
	served = load(model_dir_path("x.safetensors"));
	expect_document(served, DOCUMENT_METADATA, "{\"k\":\"v\\n\"}\n");
	expect_document(served, DOCUMENT_MODEL,
			"{\"weightfs\":1,\"name\":\"x\",\"format\":\"safetensors\","
			"\"tensor_count\":0,\"total_bytes\":0,\"tensors\":[],"
			"\"skipped\":[]}\n");
	served_free(served);
}
END_TEST

START_TEST(a_document_is_made_once)
{
	const struct document *first;
	const struct document *second;
	struct served *served;

	write_model("x.safetensors");
	served = load(model_dir_path("x.safetensors"));
	ck_assert_int_eq(served_document(served, DOCUMENT_MODEL, &first), 0);
	ck_assert_int_eq(served_document(served, DOCUMENT_MODEL, &second), 0);
	ck_assert_ptr_eq(first, second);
	served_free(served);
}
END_TEST

static TCase *files_case(void)
{
	TCase *tcase = tcase_create("files");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, a_file_is_a_model_by_its_content);
	tcase_add_test(tcase, a_link_to_a_file_keeps_its_own_name);
	tcase_add_test(tcase, what_is_no_model_is_refused);
	tcase_add_test(tcase, a_broken_file_is_blamed_with_its_path);
	tcase_add_test(tcase, a_forced_format_is_believed);
	tcase_add_test(tcase, a_directory_is_read_with_all_below_it);
	tcase_add_test(tcase, two_models_in_one_directory_are_refused_with_both_names);
	tcase_add_test(tcase, a_model_in_a_sub_directory_is_not_the_model);
	tcase_add_test(tcase, a_directory_without_a_model_is_refused);
	tcase_add_test(tcase, a_broken_model_in_a_directory_is_chosen_by_its_name);
	tcase_add_test(tcase, what_is_no_regular_file_is_left_out);
	return tcase;
}

static TCase *links_case(void)
{
	TCase *tcase = tcase_create("links");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, links_inside_the_directory_are_followed);
	tcase_add_test(tcase, links_that_lead_out_are_left_out_with_a_warning);
	tcase_add_test(tcase, a_directory_whose_name_begins_alike_is_outside);
	tcase_add_test(tcase, a_hub_snapshot_links_to_its_blobs);
	tcase_add_test(tcase, a_hub_snapshot_does_not_link_to_other_repositories);
	tcase_add_test(tcase, links_of_what_only_looks_like_a_snapshot_stay_inside);
	return tcase;
}

static TCase *contents_case(void)
{
	TCase *tcase = tcase_create("contents");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, a_change_is_seen_once_and_for_ever);
	tcase_add_test(tcase, a_file_that_was_replaced_is_still_what_was_opened);
	tcase_add_test(tcase, model_json_lists_every_tensor);
	tcase_add_test(tcase, metadata_json_is_the_formats_own);
	tcase_add_test(tcase, a_document_is_made_once);
	return tcase;
}

UNIT_MAIN("served", files_case, links_case, contents_case)
