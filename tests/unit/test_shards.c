/* Models in several files: an index, numbered files, a split GGUF; and which of them a
 * directory is taken for. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "gguf_file.h"
#include "model_dir.h"
#include "served.h"
#include "unit.h"

#define INDEX_NAME "model.safetensors.index.json"

/* ---- Files ---- */

#define ONE(name) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}"
#define TWO(a, b) \
	ONE(a) ",\"" b "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}"

/* A shard with the tensors of the header, four bytes each. */
static void write_shard(const char *name, const char *tensors, unsigned int count)
{
	char json[512];

	(void)snprintf(json, sizeof(json), "{%s}", tensors);
	model_dir_write_safetensors(name, json, (size_t)4 * count);
}

static void write_index(const char *name, const char *map)
{
	char json[2048];

	(void)snprintf(json, sizeof(json),
		       "{\"metadata\":{\"total_size\":1},\"weight_map\":{%s}}", map);
	model_dir_write_text(name, json);
}

/* a and b in the first file, c in the second. */
#define GOOD_MAP                                      \
	"\"c\":\"model-00002-of-00002.safetensors\"," \
	"\"a\":\"model-00001-of-00002.safetensors\"," \
	"\"b\":\"model-00001-of-00002.safetensors\""

static void write_shards(const char *dir)
{
	char name[256];

	(void)snprintf(name, sizeof(name), "%s/model-00001-of-00002.safetensors", dir);
	write_shard(name, TWO("a", "b"), 2);
	(void)snprintf(name, sizeof(name), "%s/model-00002-of-00002.safetensors", dir);
	write_shard(name, ONE("c"), 1);
}

/* A GGUF file with one tensor of four bytes for each letter of `names`, and the keys of a
 * split; those below 0 are left out. */
static void write_part(const char *path, const char *names, int number, int count,
		       int tensors)
{
	uint64_t keys = 1;
	struct strbuf f;

	keys += number >= 0 ? 1 : 0;
	keys += count >= 0 ? 1 : 0;
	keys += tensors >= 0 ? 1 : 0;
	f = file(strlen(names), keys);

	put_key(&f, "general.name", STRING);
	put_string(&f, "split");
	if (number >= 0) {
		put_key(&f, "split.no", U16);
		put(&f, (uint64_t)number, 2);
	}
	if (count >= 0) {
		put_key(&f, "split.count", U16);
		put(&f, (uint64_t)count, 2);
	}
	if (tensors >= 0) {
		put_key(&f, "split.tensors.count", I32);
		put_u32(&f, (uint64_t)tensors);
	}
	for (size_t i = 0; names[i]; i++) {
		char name[] = { names[i], '\0' };

		put_tensor(&f, name, DIMS(4), GGML_I8, i * 32);
	}
	pad(&f, 32);
	put_zeros(&f, strlen(names) * 32);
	model_dir_write(path, f.data, f.len);
	strbuf_fini(&f);
}

static void write_split(void)
{
	write_part("m/g-00001-of-00003.gguf", "ab", 0, 3, 4);
	write_part("m/g-00002-of-00003.gguf", "c", 1, 3, 4);
	write_part("m/g-00003-of-00003.gguf", "d", 2, 3, 4);
}

/* ---- Expectations ---- */

static struct served *load(const char *name)
{
	struct served *served;
	struct diag diag;

	ck_assert_msg(served_load(model_dir_path(name), NULL, &served, &diag) == 0, "%s",
		      diag.text);
	return served;
}

/* `blamed` is the file that the sentence starts with. */
static void expect_refused_as(const char *name, const char *blamed, const char *format,
			      int err, const char *words)
{
	char want[MODEL_DIR_PATH_MAX + 512];
	struct served *served;
	struct diag diag = { 0 };
	int r;

	(void)snprintf(want, sizeof(want), "%s: %s", model_dir_path(blamed), words);
	r = served_load(model_dir_path(name), format, &served, &diag);
	ck_assert_str_eq(diag.text, want);
	ck_assert_int_eq(r, err);
}

static void expect_refused(const char *name, const char *blamed, int err,
			   const char *words)
{
	expect_refused_as(name, blamed, NULL, err, words);
}

/* An index in "m" beside two good shards. */
static void expect_map_refused(const char *map, int err, const char *words)
{
	write_index("m/" INDEX_NAME, map);
	expect_refused("m/" INDEX_NAME, "m/" INDEX_NAME, err, words);
	expect_refused("m", "m/" INDEX_NAME, err, words);
}

/* Each tensor as NAME@FILE, in the order of the model. */
static void expect_model(const struct served *served, const char *want)
{
	CLEANUP(strbuf_fini) struct strbuf got;

	strbuf_init(&got);
	for (size_t i = 0; i < model_tensor_count(served->model); i++) {
		const struct tensor *t = model_tensor(served->model, i);

		strbuf_addf(&got, "%s%.*s@%s", i > 0 ? " " : "", (int)t->name_len,
			    t->name, served_tensor_file(served, t)->name);
		ck_assert_str_eq(model_shard(served->model, t->shard)->name,
				 served_tensor_file(served, t)->name);
	}
	ck_assert_str_eq(got.data, want);
}

static void expect_files(const struct served *served, uint32_t count)
{
	ck_assert_uint_eq(served->source->file_count, count);
}

static void expect_no_warnings(const struct served *served)
{
	ck_assert_uint_eq(model_warning_count(served->model), 0);
}

static void expect_one_warning(const struct served *served, const char *words)
{
	ck_assert_uint_eq(model_warning_count(served->model), 1);
	ck_assert_str_eq(model_warning(served->model, 0), words);
}

#define GOOD_TENSORS                          \
	"a@model-00001-of-00002.safetensors " \
	"b@model-00001-of-00002.safetensors " \
	"c@model-00002-of-00002.safetensors"

/* ---- An index ---- */

START_TEST(an_index_is_a_model)
{
	struct served *served;

	write_shards("m");
	model_dir_write_text("m/config.json", "{}");
	write_index("m/" INDEX_NAME, GOOD_MAP);
	served = load("m/" INDEX_NAME);
	expect_model(served, GOOD_TENSORS);
	/* The index and its shards, and nothing else of the directory. */
	expect_files(served, 3);
	ck_assert_str_eq(served->source->name, "model");
	ck_assert_str_eq(model_format(served->model), "safetensors");
	ck_assert_uint_eq(served->file_tensor_bytes[0], 0);
	ck_assert_uint_eq(served->file_tensor_bytes[1], 8);
	ck_assert_uint_eq(served->file_tensor_bytes[2], 4);
	expect_no_warnings(served);
	served_free(served);
}
END_TEST

START_TEST(a_directory_with_an_index_is_its_model)
{
	struct served *served;

	write_shards("m");
	model_dir_write_text("m/config.json", "{}");
	write_index("m/" INDEX_NAME, GOOD_MAP);
	served = load("m");
	expect_model(served, GOOD_TENSORS);
	expect_files(served, 4);
	ck_assert_str_eq(served->source->name, "m");
	expect_no_warnings(served);
	served_free(served);
}
END_TEST

/* diffusers and transformers have put the variant into either place. */
START_TEST(variants_of_an_index_are_read)
{
	static const char *const names[] = {
		"diffusion_pytorch_model.safetensors.index.json",
		"model.fp16.safetensors.index.json",
		"model.safetensors.index.fp16.json",
		"anything.index.json",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[128];
		struct served *served;

		(void)snprintf(path, sizeof(path), "v%zu/%s", i, names[i]);
		write_shard("v/x", ONE("x"), 1);
		write_index(path, "\"x\":\"x.st\",\"y\":\"sub/y.st\"");
		(void)snprintf(path, sizeof(path), "v%zu/x.st", i);
		write_shard(path, ONE("x"), 1);
		(void)snprintf(path, sizeof(path), "v%zu/sub/y.st", i);
		write_shard(path, ONE("y"), 1);
		(void)snprintf(path, sizeof(path), "v%zu/%s", i, names[i]);
		served = load(path);
		expect_model(served, "y@sub/y.st x@x.st");
		served_free(served);
	}
}
END_TEST

START_TEST(an_index_that_is_no_index_is_refused)
{
	write_shards("m");
	model_dir_write_text("m/" INDEX_NAME, "{\"weight_map\":");
	expect_refused("m", "m/" INDEX_NAME, -EBADMSG,
		       "weight_map: index at byte 14: expected '{', found the end of the "
		       "index");
	expect_map_refused(
		"\"a\":\"../m/model-00001-of-00002.safetensors\"", -EBADMSG,
		"weight_map: tensor 'a': its file "
		"'../m/model-00001-of-00002.safetensors' has '', '.' or '..' in "
		"its path");
}
END_TEST

START_TEST(a_shard_that_is_missing_is_named_with_its_tensor)
{
	write_shards("m");
	expect_map_refused(
		"\"a\":\"model-00001-of-00002.safetensors\","
		"\"x\":\"model-00003-of-00003.safetensors\"",
		-ENOENT,
		"shard 'model-00003-of-00003.safetensors', named for tensor 'x': open: no "
		"such file or directory");
}
END_TEST

START_TEST(a_shard_that_is_no_regular_file_is_refused)
{
	write_shards("m");
	model_dir_write_text("m/sub/x", "x");
	ck_assert_int_eq(mkfifo(model_dir_path("m/fifo"), 0600), 0);
	model_dir_link("m/null", "/dev/null");
	expect_map_refused("\"a\":\"sub\"", -EINVAL,
			   "shard 'sub', named for tensor 'a': not a regular file");
	expect_map_refused("\"a\":\"fifo\"", -EINVAL,
			   "shard 'fifo', named for tensor 'a': not a regular file");
	expect_map_refused("\"a\":\"null\"", -EINVAL,
			   "shard 'null', named for tensor 'a': not a regular file");
}
END_TEST

START_TEST(a_foreign_shard_is_refused)
{
	write_shards("m");
	write_part("m/x.gguf", "a", -1, -1, -1);
	model_dir_write_text("m/x.txt", "not a model");
	model_dir_write_text("m/empty", "");
	expect_map_refused(
		"\"a\":\"x.gguf\"", -EBADMSG,
		"shard 'x.gguf', named for tensor 'a': is a gguf file, expected "
		"safetensors");
	expect_map_refused(
		"\"a\":\"x.txt\"", -E2BIG,
		"shard 'x.txt', named for tensor 'a': is no safetensors file: header "
		"length is 8029109312199880558 bytes, at most 100000000 are read");
	expect_map_refused(
		"\"a\":\"empty\"", -EBADMSG,
		"shard 'empty', named for tensor 'a': is no safetensors file: header "
		"length at byte 0: needs 8 bytes, the file ends 0 bytes later");
}
END_TEST

START_TEST(a_broken_shard_is_named)
{
	write_shards("m");
	write_shard("m/model-00002-of-00002.safetensors", ONE("c"), 2);
	expect_map_refused(
		GOOD_MAP, -EBADMSG,
		"shard 'model-00002-of-00002.safetensors', named for tensor 'c': the "
		"tensors end at byte 65, the file has 69 bytes");
}
END_TEST

START_TEST(a_tensor_that_is_not_in_its_shard_is_refused)
{
	write_shards("m");
	expect_map_refused(
		"\"a\":\"model-00001-of-00002.safetensors\","
		"\"x\":\"model-00002-of-00002.safetensors\"",
		-EBADMSG,
		"tensor 'x': is not in 'model-00002-of-00002.safetensors', where "
		"the index has it");
}
END_TEST

START_TEST(a_tensor_that_is_in_another_shard_is_refused)
{
	write_shards("m");
	expect_map_refused(
		"\"a\":\"model-00002-of-00002.safetensors\","
		"\"b\":\"model-00001-of-00002.safetensors\"",
		-EBADMSG,
		"tensor 'a': is in 'model-00001-of-00002.safetensors', the index "
		"has it in 'model-00002-of-00002.safetensors'");
}
END_TEST

START_TEST(a_tensor_in_two_shards_is_refused)
{
	write_shards("m");
	write_shard("m/model-00002-of-00002.safetensors", TWO("a", "c"), 2);
	expect_map_refused(
		GOOD_MAP, -EEXIST,
		"shard 'model-00002-of-00002.safetensors', named for tensor 'c': tensor "
		"'a': is in 'model-00001-of-00002.safetensors' and in "
		"'model-00002-of-00002.safetensors'");
}
END_TEST

START_TEST(tensors_that_the_index_does_not_name_are_served_with_a_warning)
{
	struct served *served;

	write_shards("m");
	write_index("m/" INDEX_NAME, "\"c\":\"model-00002-of-00002.safetensors\","
				     "\"b\":\"model-00001-of-00002.safetensors\"");
	served = load("m");
	expect_model(served, GOOD_TENSORS);
	expect_one_warning(served,
			   "model-00001-of-00002.safetensors: 1 tensors that the index "
			   "does not name, as 'a'");
	served_free(served);
}
END_TEST

/* Of an index that lost its end, or was kept from another saving of the model. */
START_TEST(numbered_files_that_the_index_does_not_name_are_warned_of)
{
	struct served *served;

	write_shards("m");
	write_shard("m/model-00001-of-00003.safetensors", ONE("x"), 1);
	write_shard("m/model-00001-of-00002.fp16.safetensors", ONE("x"), 1);
	write_index("m/" INDEX_NAME, "\"c\":\"model-00002-of-00002.safetensors\"");
	served = load("m");
	expect_model(served, "c@model-00002-of-00002.safetensors");
	ck_assert_uint_eq(model_warning_count(served->model), 2);
	ck_assert_str_eq(model_warning(served->model, 0),
			 "files numbered like the shards that the index does not name: "
			 "2, as 'model-00001-of-00002.safetensors'");
	ck_assert_str_eq(model_warning(served->model, 1),
			 "'model-00001-of-00002.fp16.safetensors': another model in this "
			 "directory, which is not shown: name it to mount it");
	served_free(served);
}
END_TEST

START_TEST(what_a_shard_is_warned_of_has_its_name)
{
	struct served *served;

	write_shards("m");
	model_dir_write_safetensors("m/model-00002-of-00002.safetensors",
				    " {" ONE("c") "}", 4);
	write_index("m/" INDEX_NAME, GOOD_MAP);
	served = load("m");
	expect_one_warning(served,
			   "model-00002-of-00002.safetensors: header at byte 8: white "
			   "space in front of the '{'");
	served_free(served);
}
END_TEST

START_TEST(two_names_of_one_file_are_refused)
{
	write_shards("m");
	model_dir_link("m/z", "model-00001-of-00002.safetensors");
	expect_map_refused("\"a\":\"model-00001-of-00002.safetensors\",\"b\":\"z\"",
			   -EBADMSG,
			   "shard 'z', named for tensor 'b': is the same file as "
			   "'model-00001-of-00002.safetensors'");
}
END_TEST

START_TEST(an_index_that_names_itself_by_a_link_is_refused)
{
	write_shards("m");
	model_dir_link("m/z", INDEX_NAME);
	expect_map_refused("\"a\":\"z\"", -EBADMSG,
			   "shard 'z', named for tensor 'a': is the index itself");
}
END_TEST

/* The files of an index must be of its format, which may be forced. */
START_TEST(a_forced_format_holds_for_the_files_of_an_index)
{
	write_shards("m");
	write_index("m/" INDEX_NAME, GOOD_MAP);
	served_free(load("m/" INDEX_NAME));
	expect_refused_as(
		"m/" INDEX_NAME, "m/" INDEX_NAME, "gguf", -EBADMSG,
		"shard 'model-00001-of-00002.safetensors', named for tensor 'a': is a "
		"safetensors file, expected gguf");
	write_index("m/pytorch_model.bin.index.json", "\"a\":\"pytorch_model.bin\"");
	model_dir_write_text("m/pytorch_model.bin", "not a model");
	expect_refused(
		"m/pytorch_model.bin.index.json", "m/pytorch_model.bin.index.json",
		-ENOTSUP,
		"shard 'pytorch_model.bin', named for tensor 'a': its content is of no "
		"format that is read");
}
END_TEST

/* ---- Links ---- */

#define HUB      "hub/models--org--some-model"
#define SNAPSHOT HUB "/snapshots/0123"

START_TEST(a_hub_snapshot_with_an_index_links_to_its_blobs)
{
	struct served *served;

	write_shards(HUB "/blobs");
	write_index(HUB "/blobs/ii", GOOD_MAP);
	model_dir_link(SNAPSHOT "/model-00001-of-00002.safetensors",
		       "../../blobs/model-00001-of-00002.safetensors");
	model_dir_link(SNAPSHOT "/model-00002-of-00002.safetensors",
		       "../../blobs/model-00002-of-00002.safetensors");
	model_dir_link(SNAPSHOT "/" INDEX_NAME, "../../blobs/ii");
	served = load(SNAPSHOT);
	expect_model(served, GOOD_TENSORS);
	ck_assert_str_eq(served->source->name, "org/some-model");
	ck_assert_str_eq(served_tensor_file(served, model_tensor(served->model, 2))->path,
			 model_dir_path(HUB "/blobs/model-00002-of-00002.safetensors"));
	expect_no_warnings(served);
	served_free(served);
	served = load(SNAPSHOT "/" INDEX_NAME);
	expect_model(served, GOOD_TENSORS);
	expect_files(served, 3);
	served_free(served);
}
END_TEST

START_TEST(a_part_of_a_pipeline_in_a_snapshot_links_to_its_blobs)
{
	struct served *served;

	write_shard(HUB "/blobs/aa", ONE("a"), 1);
	write_index(HUB "/blobs/ii", "\"a\":\"a.safetensors\"");
	model_dir_link(SNAPSHOT "/unet/a.safetensors", "../../../blobs/aa");
	model_dir_link(SNAPSHOT "/unet/diffusion_pytorch_model.safetensors.index.json",
		       "../../../blobs/ii");
	served = load(SNAPSHOT "/unet");
	expect_model(served, "a@a.safetensors");
	ck_assert_str_eq(served->source->name, "org/some-model/unet");
	served_free(served);
}
END_TEST

START_TEST(a_shard_outside_of_the_directory_is_refused)
{
	write_shards("m");
	write_shard("m2/x", ONE("x"), 1);
	model_dir_link("m/x", "../m2/x");
	model_dir_link("m/sub", "../m2");
	write_index("m/" INDEX_NAME, "\"x\":\"x\"");
	expect_map_refused(
		"\"x\":\"x\"", -EPERM,
		"shard 'x', named for tensor 'x': is a link that leads out of the "
		"model's directory");
	/* By way of a directory that is a link. */
	expect_map_refused(
		"\"x\":\"sub/x\"", -EPERM,
		"shard 'sub/x', named for tensor 'x': is a link that leads out of the "
		"model's directory");
}
END_TEST

START_TEST(a_shard_in_another_repository_is_refused)
{
	write_index(HUB "/blobs/ii", "\"a\":\"a.safetensors\"");
	write_shard(HUB "-2/blobs/aa", ONE("a"), 1);
	model_dir_link(SNAPSHOT "/" INDEX_NAME, "../../blobs/ii");
	model_dir_link(SNAPSHOT "/a.safetensors",
		       "../../../models--org--some-model-2/blobs/aa");
	expect_refused(
		SNAPSHOT, SNAPSHOT "/" INDEX_NAME, -EPERM,
		"shard 'a.safetensors', named for tensor 'a': is a link that leads out of "
		"the model's directory");
	expect_refused(
		SNAPSHOT "/" INDEX_NAME, SNAPSHOT "/" INDEX_NAME, -EPERM,
		"shard 'a.safetensors', named for tensor 'a': is a link that leads out of "
		"the model's directory");
}
END_TEST

/* A snapshot that was copied without its blobs. */
START_TEST(links_to_nothing_are_told_from_files_that_are_missing)
{
	model_dir_link("m/model.safetensors", "../../blobs/aa");
	model_dir_link("m/config.json", "../../blobs/bb");
	expect_refused("m", "m", -ENOENT,
		       "no model in this directory: none of its 0 files is one of: gguf, "
		       "safetensors; 2 links lead to files that do not exist");
	model_dir_write_text("n/config.json", "{}");
	model_dir_link("n/a.safetensors", "../../blobs/aa");
	write_index("n/" INDEX_NAME, "\"a\":\"a.safetensors\"");
	expect_refused("n", "n/" INDEX_NAME, -ENOENT,
		       "shard 'a.safetensors', named for tensor 'a': open: is a link to "
		       "a file that does not exist");
}
END_TEST

START_TEST(files_that_may_not_be_read_are_counted)
{
	bool is_root = geteuid() == 0;

	write_shard("m/model.safetensors", ONE("a"), 1);
	ck_assert_int_eq(chmod(model_dir_path("m/model.safetensors"), 0), 0);
	ck_assert_int_eq(chmod(model_dir_path(""), 0755), 0);
	if (is_root)
		ck_assert_int_eq(seteuid(65534), 0);
	expect_refused("m", "m", -ENOENT,
		       "no model in this directory: none of its 0 files is one of: gguf, "
		       "safetensors; 1 files may not be read");
	if (is_root)
		ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

/* ---- Numbers without an index ---- */

START_TEST(numbered_files_without_an_index_are_one_model_with_a_warning)
{
	struct served *served;

	write_shards("m");
	served = load("m");
	expect_model(served, GOOD_TENSORS);
	expect_one_warning(served,
			   "no index names the 2 files of this model: they were taken "
			   "by their names");
	served_free(served);
	/* Named alone, one of them is what it is. */
	served = load("m/model-00002-of-00002.safetensors");
	expect_model(served, "c@model-00002-of-00002.safetensors");
	ck_assert_str_eq(served->source->name, "model-00002-of-00002");
	expect_one_warning(served,
			   "its name says file 2 of 2: the others are not shown: mount "
			   "their directory or index to have all");
	served_free(served);
}
END_TEST

/* As one of the largest published models has them. */
START_TEST(numbers_need_no_leading_zeros)
{
	struct served *served;

	for (unsigned int i = 1; i <= 10; i++) {
		char name[64];
		char tensor[2] = { (char)('a' + i - 1), '\0' };
		char json[128];

		(void)snprintf(name, sizeof(name), "m/x-%u-of-10.safetensors", i);
		(void)snprintf(json, sizeof(json), ONE("%s"), tensor);
		write_shard(name, json, 1);
	}
	served = load("m");
	ck_assert_uint_eq(model_shard_count(served->model), 10);
	ck_assert_str_eq(model_shard(served->model, 1)->name, "x-2-of-10.safetensors");
	ck_assert_str_eq(model_shard(served->model, 9)->name, "x-10-of-10.safetensors");
	served_free(served);
}
END_TEST

START_TEST(numbered_files_must_be_complete)
{
	write_shard("m/model-00001-of-00003.safetensors", ONE("a"), 1);
	write_shard("m/model-00003-of-00003.safetensors", ONE("c"), 1);
	expect_refused("m", "m", -ENOENT,
		       "shard 'model-00002-of-00003.safetensors': open: no such file or "
		       "directory");
	write_shard("m/model-00002-of-00003.safetensors", ONE("a"), 1);
	expect_refused("m", "m", -EEXIST,
		       "shard 'model-00002-of-00003.safetensors': tensor 'a': is in "
		       "'model-00001-of-00003.safetensors' and in "
		       "'model-00002-of-00003.safetensors'");
}
END_TEST

/* ---- Split GGUF ---- */

#define SPLIT_TENSORS                                      \
	"a@g-00001-of-00003.gguf b@g-00001-of-00003.gguf " \
	"c@g-00002-of-00003.gguf d@g-00003-of-00003.gguf"

START_TEST(the_first_of_a_split_is_the_model)
{
	struct served *served;

	write_split();
	served = load("m/g-00001-of-00003.gguf");
	expect_model(served, SPLIT_TENSORS);
	expect_files(served, 3);
	ck_assert_str_eq(served->source->name, "g");
	ck_assert_str_eq(model_format(served->model), "gguf");
	expect_no_warnings(served);
	served_free(served);
	served = load("m");
	expect_model(served, SPLIT_TENSORS);
	ck_assert_str_eq(served->source->name, "m");
	expect_no_warnings(served);
	served_free(served);
}
END_TEST

START_TEST(the_first_may_have_no_tensors)
{
	struct served *served;

	write_part("m/g-00001-of-00002.gguf", "", 0, 2, 1);
	write_part("m/g-00002-of-00002.gguf", "a", 1, 2, 1);
	served = load("m/g-00001-of-00002.gguf");
	expect_model(served, "a@g-00002-of-00002.gguf");
	served_free(served);
}
END_TEST

START_TEST(a_later_split_says_which_is_the_first)
{
	write_split();
	expect_refused("m/g-00002-of-00003.gguf", "m/g-00002-of-00003.gguf", -EINVAL,
		       "is file 2 of 3 of a model: name the first of them, "
		       "'g-00001-of-00003.gguf'");
}
END_TEST

/* The sentence is the same for the first file and for the directory, but for the path. */
static void expect_split_refused(int err, const char *words)
{
	expect_refused("m/g-00001-of-00003.gguf", "m/g-00001-of-00003.gguf", err, words);
	expect_refused("m", "m", err, words);
}

START_TEST(a_missing_split_is_named)
{
	write_split();
	ck_assert_int_eq(remove(model_dir_path("m/g-00002-of-00003.gguf")), 0);
	expect_split_refused(-ENOENT,
			     "shard 'g-00002-of-00003.gguf': open: no such file or "
			     "directory");
	write_split();
	ck_assert_int_eq(remove(model_dir_path("m/g-00001-of-00003.gguf")), 0);
	expect_refused("m", "m", -ENOENT,
		       "shard 'g-00001-of-00003.gguf': open: no such file or directory");
}
END_TEST

START_TEST(a_foreign_split_is_refused)
{
	write_split();
	write_shard("m/g-00003-of-00003.gguf", ONE("d"), 1);
	expect_split_refused(-EBADMSG, "shard 'g-00003-of-00003.gguf': is a safetensors "
				       "file, expected gguf");
	model_dir_write_text("m/g-00003-of-00003.gguf", "text");
	expect_split_refused(-EBADMSG,
			     "shard 'g-00003-of-00003.gguf': is no gguf file: magic at "
			     "byte 0: 'text', expected 'GGUF'");
}
END_TEST

START_TEST(a_tensor_in_two_splits_is_refused)
{
	write_split();
	write_part("m/g-00003-of-00003.gguf", "a", 2, 3, 4);
	expect_split_refused(-EEXIST,
			     "shard 'g-00003-of-00003.gguf': tensor 'a': is in "
			     "'g-00001-of-00003.gguf' and in 'g-00003-of-00003.gguf'");
}
END_TEST

START_TEST(splits_that_disagree_are_refused)
{
	write_split();
	write_part("m/g-00003-of-00003.gguf", "d", 1, 3, 4);
	expect_split_refused(
		-EBADMSG, "shard 'g-00003-of-00003.gguf': key 'split.no' is 1, counted "
			  "from 0, its name says file 3");
	write_part("m/g-00003-of-00003.gguf", "d", 2, 4, 4);
	expect_split_refused(-EBADMSG, "shard 'g-00003-of-00003.gguf': key 'split.count' "
				       "is 4, its name says 3 files");
	write_part("m/g-00003-of-00003.gguf", "d", 2, 3, 5);
	expect_split_refused(
		-EBADMSG, "shard 'g-00003-of-00003.gguf': key 'split.tensors.count' is "
			  "5, in the first file 4");
	write_part("m/g-00003-of-00003.gguf", "de", 2, 3, 4);
	expect_split_refused(-EBADMSG,
			     "key 'split.tensors.count' is 4, the 3 files have 5 "
			     "tensors");
}
END_TEST

START_TEST(splits_without_their_keys_are_refused)
{
	write_split();
	write_part("m/g-00002-of-00003.gguf", "c", -1, 3, 4);
	expect_split_refused(-EBADMSG,
			     "shard 'g-00002-of-00003.gguf': key 'split.no' is missing");
	write_part("m/g-00002-of-00003.gguf", "c", 1, -1, 4);
	expect_split_refused(-EBADMSG, "shard 'g-00002-of-00003.gguf': key 'split.count' "
				       "is missing");
	write_part("m/g-00002-of-00003.gguf", "c", 1, 3, -1);
	expect_split_refused(-EBADMSG, "shard 'g-00002-of-00003.gguf': key "
				       "'split.tensors.count' is missing");
}
END_TEST

START_TEST(the_first_must_be_what_its_name_says)
{
	write_part("m/g-00001-of-00003.gguf", "a", 1, 3, 4);
	expect_refused("m/g-00001-of-00003.gguf", "m/g-00001-of-00003.gguf", -EBADMSG,
		       "key 'split.no' is 1, counted from 0, its name says file 1");
	write_part("m/g-00001-of-00003.gguf", "a", 0, 2, 4);
	expect_refused("m/g-00001-of-00003.gguf", "m/g-00001-of-00003.gguf", -EBADMSG,
		       "key 'split.count' is 2, its name says 3 files");
	write_part("m/g-00001-of-00003.gguf", "a", 0, 3, -1);
	expect_refused("m/g-00001-of-00003.gguf", "m/g-00001-of-00003.gguf", -EBADMSG,
		       "key 'split.tensors.count' is missing");
	write_part("n/whole.gguf", "a", 0, 3, 4);
	expect_refused("n/whole.gguf", "n/whole.gguf", -EBADMSG,
		       "key 'split.count' is 3, but its name does not end in "
		       "'-00001-of-00003.gguf' or another such number");
	expect_refused("n", "n/whole.gguf", -EBADMSG,
		       "key 'split.count' is 3, but its name does not end in "
		       "'-00001-of-00003.gguf' or another such number");
}
END_TEST

START_TEST(a_split_into_one_is_a_file)
{
	struct served *served;

	write_part("m/g.gguf", "a", 0, 1, 1);
	served = load("m/g.gguf");
	expect_model(served, "a@g.gguf");
	expect_no_warnings(served);
	served_free(served);
	write_part("n/g-00001-of-00001.gguf", "a", 0, 1, 1);
	served_free(load("n"));
	/* A number alone proves nothing. */
	write_part("o/g-00001-of-00002.gguf", "a", -1, -1, -1);
	served = load("o/g-00001-of-00002.gguf");
	expect_one_warning(served,
			   "its name says file 1 of 2, but it has no key 'split.count' "
			   "that says so");
	served_free(served);
}
END_TEST

/* ---- Which model a directory is ---- */

static void expect_other(const struct served *served, const char *other)
{
	char want[256];

	(void)snprintf(
		want, sizeof(want),
		"'%s': another model in this directory, which is not shown: name it "
		"to mount it",
		other);
	expect_one_warning(served, want);
}

START_TEST(an_index_goes_before_other_files)
{
	struct served *served;

	write_shards("m");
	write_index("m/" INDEX_NAME, GOOD_MAP);
	write_shard("m/consolidated.safetensors", ONE("x"), 1);
	served = load("m");
	expect_model(served, GOOD_TENSORS);
	expect_other(served, "consolidated.safetensors");
	served_free(served);
}
END_TEST

START_TEST(a_single_file_goes_before_the_index_of_the_same_name)
{
	struct served *served;

	write_shards("m");
	write_index("m/" INDEX_NAME, GOOD_MAP);
	write_shard("m/model.safetensors", ONE("x"), 1);
	served = load("m");
	expect_model(served, "x@model.safetensors");
	expect_other(served, INDEX_NAME);
	served_free(served);
}
END_TEST

START_TEST(files_that_an_index_names_are_its_own)
{
	struct served *served;

	write_shard("m/x.safetensors", ONE("x"), 1);
	write_shard("m/y.safetensors", ONE("y"), 1);
	write_shard("m/z-00001-of-00002.safetensors", ONE("z"), 1);
	write_index("m/a.safetensors.index.json",
		    "\"x\":\"x.safetensors\",\"y\":\"y.safetensors\","
		    "\"z\":\"z-00001-of-00002.safetensors\"");
	served = load("m");
	expect_model(served, "x@x.safetensors y@y.safetensors "
			     "z@z-00001-of-00002.safetensors");
	expect_no_warnings(served);
	served_free(served);
}
END_TEST

START_TEST(a_side_car_is_not_the_model)
{
	struct served *served;

	write_split();
	write_part("m/mmproj-model-f16.gguf", "x", -1, -1, -1);
	served = load("m");
	expect_model(served, SPLIT_TENSORS);
	expect_other(served, "mmproj-model-f16.gguf");
	served_free(served);
	write_part("b/g-q4.gguf", "a", -1, -1, -1);
	write_part("b/g-mmproj-f16.gguf", "x", -1, -1, -1);
	served = load("b");
	expect_model(served, "a@g-q4.gguf");
	expect_other(served, "g-mmproj-f16.gguf");
	served_free(served);
	write_part("c/g.gguf", "a", -1, -1, -1);
	write_part("c/hammproject.gguf", "x", -1, -1, -1);
	expect_refused("c", "c", -ENOTSUP,
		       "more than one model file in this directory "
		       "('g.gguf' and 'hammproject.gguf'): name one of them");
	/* Alone it is one. */
	write_part("n/mmproj-model-f16.gguf", "x", -1, -1, -1);
	served = load("n");
	expect_model(served, "x@mmproj-model-f16.gguf");
	served_free(served);
	write_part("n/mtp-model.gguf", "x", -1, -1, -1);
	expect_refused(
		"n", "n", -ENOTSUP,
		"more than one model file in this directory "
		"('mmproj-model-f16.gguf' and 'mtp-model.gguf'): name one of them");
}
END_TEST

/* It may be what was meant: another model is not mounted in its place in silence. */
START_TEST(a_file_that_is_not_what_its_name_says_is_warned_of)
{
	struct served *served;

	model_dir_write_text("m/model.safetensors", "version https://");
	model_dir_write_text("m/other.gguf", "");
	write_shard("m/adapter_model.safetensors", ONE("x"), 1);
	served = load("m");
	expect_model(served, "x@adapter_model.safetensors");
	expect_one_warning(served, "'model.safetensors': its name says safetensors, its "
				   "content does not, as of 1 more files");
	served_free(served);
}
END_TEST

START_TEST(several_names_of_one_file_are_one_model)
{
	struct served *served;

	write_shard("m/b.safetensors", ONE("x"), 1);
	model_dir_link("m/a.safetensors", "b.safetensors");
	served = load("m");
	expect_model(served, "x@a.safetensors");
	expect_no_warnings(served);
	served_free(served);
	model_dir_link("m/model.safetensors", "b.safetensors");
	write_shard("m/c.safetensors", ONE("y"), 1);
	served = load("m");
	expect_model(served, "x@model.safetensors");
	expect_other(served, "c.safetensors");
	served_free(served);
}
END_TEST

START_TEST(models_without_preference_are_refused)
{
	write_split();
	write_part("m/h.gguf", "a", -1, -1, -1);
	expect_refused("m", "m", -ENOTSUP,
		       "more than one model file in this directory "
		       "('g-00001-of-00003.gguf' and 'h.gguf'): name one of them");
	write_shards("n");
	write_shard("n/model-00001-of-00003.safetensors", ONE("a"), 1);
	expect_refused("n", "n", -ENOTSUP,
		       "more than one model file in this directory "
		       "('model-00001-of-00002.safetensors' and "
		       "'model-00001-of-00003.safetensors'): name one of them");
}
END_TEST

/* An index of files that are not read does not hide a model that is. */
START_TEST(an_index_of_another_format_is_the_last_resort)
{
	struct served *served;

	write_index("m/pytorch_model.bin.index.json", "\"a\":\"pytorch_model.bin\"");
	model_dir_write_text("m/pytorch_model.bin", "PK");
	expect_refused(
		"m", "m/pytorch_model.bin.index.json", -ENOTSUP,
		"shard 'pytorch_model.bin', named for tensor 'a': its content is of no "
		"format that is read");
	write_shard("m/x.safetensors", ONE("x"), 1);
	served = load("m");
	expect_model(served, "x@x.safetensors");
	expect_no_warnings(served);
	served_free(served);
}
END_TEST

/* ---- Changes ---- */

START_TEST(a_change_of_one_shard_is_its_own)
{
	struct served *served;

	write_shards("m");
	write_index("m/" INDEX_NAME, GOOD_MAP);
	served = load("m");
	write_shard("m/model-00002-of-00002.safetensors", TWO("c", "d"), 2);
	ck_assert(source_file_unchanged(
		served_tensor_file(served, model_tensor(served->model, 0))));
	ck_assert(!source_file_unchanged(
		served_tensor_file(served, model_tensor(served->model, 2))));
	served_free(served);
}
END_TEST

static TCase *dir_case(const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	return tcase;
}

static TCase *index_case(void)
{
	TCase *tcase = dir_case("index");

	tcase_add_test(tcase, an_index_is_a_model);
	tcase_add_test(tcase, a_directory_with_an_index_is_its_model);
	tcase_add_test(tcase, variants_of_an_index_are_read);
	tcase_add_test(tcase, an_index_that_is_no_index_is_refused);
	tcase_add_test(tcase, a_shard_that_is_missing_is_named_with_its_tensor);
	tcase_add_test(tcase, a_shard_that_is_no_regular_file_is_refused);
	tcase_add_test(tcase, a_foreign_shard_is_refused);
	tcase_add_test(tcase, a_broken_shard_is_named);
	tcase_add_test(tcase, a_tensor_that_is_not_in_its_shard_is_refused);
	tcase_add_test(tcase, a_tensor_that_is_in_another_shard_is_refused);
	tcase_add_test(tcase, a_tensor_in_two_shards_is_refused);
	tcase_add_test(tcase,
		       tensors_that_the_index_does_not_name_are_served_with_a_warning);
	tcase_add_test(tcase, numbered_files_that_the_index_does_not_name_are_warned_of);
	tcase_add_test(tcase, what_a_shard_is_warned_of_has_its_name);
	tcase_add_test(tcase, two_names_of_one_file_are_refused);
	tcase_add_test(tcase, an_index_that_names_itself_by_a_link_is_refused);
	tcase_add_test(tcase, a_forced_format_holds_for_the_files_of_an_index);
	tcase_add_test(tcase, a_change_of_one_shard_is_its_own);
	return tcase;
}

static TCase *links_case(void)
{
	TCase *tcase = dir_case("links");

	tcase_add_test(tcase, a_hub_snapshot_with_an_index_links_to_its_blobs);
	tcase_add_test(tcase, a_part_of_a_pipeline_in_a_snapshot_links_to_its_blobs);
	tcase_add_test(tcase, a_shard_outside_of_the_directory_is_refused);
	tcase_add_test(tcase, a_shard_in_another_repository_is_refused);
	tcase_add_test(tcase, links_to_nothing_are_told_from_files_that_are_missing);
	tcase_add_test(tcase, files_that_may_not_be_read_are_counted);
	return tcase;
}

static TCase *numbers_case(void)
{
	TCase *tcase = dir_case("numbers");

	tcase_add_test(tcase,
		       numbered_files_without_an_index_are_one_model_with_a_warning);
	tcase_add_test(tcase, numbers_need_no_leading_zeros);
	tcase_add_test(tcase, numbered_files_must_be_complete);
	return tcase;
}

static TCase *split_case(void)
{
	TCase *tcase = dir_case("split");

	tcase_add_test(tcase, the_first_of_a_split_is_the_model);
	tcase_add_test(tcase, the_first_may_have_no_tensors);
	tcase_add_test(tcase, a_later_split_says_which_is_the_first);
	tcase_add_test(tcase, a_missing_split_is_named);
	tcase_add_test(tcase, a_foreign_split_is_refused);
	tcase_add_test(tcase, a_tensor_in_two_splits_is_refused);
	tcase_add_test(tcase, splits_that_disagree_are_refused);
	tcase_add_test(tcase, splits_without_their_keys_are_refused);
	tcase_add_test(tcase, the_first_must_be_what_its_name_says);
	tcase_add_test(tcase, a_split_into_one_is_a_file);
	return tcase;
}

static TCase *choice_case(void)
{
	TCase *tcase = dir_case("choice");

	tcase_add_test(tcase, an_index_goes_before_other_files);
	tcase_add_test(tcase, a_single_file_goes_before_the_index_of_the_same_name);
	tcase_add_test(tcase, files_that_an_index_names_are_its_own);
	tcase_add_test(tcase, a_side_car_is_not_the_model);
	tcase_add_test(tcase, a_file_that_is_not_what_its_name_says_is_warned_of);
	tcase_add_test(tcase, several_names_of_one_file_are_one_model);
	tcase_add_test(tcase, models_without_preference_are_refused);
	tcase_add_test(tcase, an_index_of_another_format_is_the_last_resort);
	return tcase;
}

UNIT_MAIN("shards", index_case, links_case, numbers_case, split_case, choice_case)
