#include <errno.h>
#include <stdio.h>

#include "parsers/limits.h"
#include "parsers/shard_index.h"
#include "unit.h"
#include "util/strbuf.h"

#define OWN_NAME "model.safetensors.index.json"

struct read {
	struct reader reader;
	struct shard_index index;
	struct diag diag;
	int err;
};

static void read_bytes(const void *text, size_t len, struct read *r)
{
	*r = (struct read){ 0 };
	reader_init_memory(&r->reader, text, len, &r->diag);
	r->err = shard_index_read(&r->reader, OWN_NAME, &r->index);
}

static void read_fini(struct read *r)
{
	shard_index_fini(&r->index);
	reader_fini(&r->reader);
}

static void expect_bytes_refused(const void *text, size_t len, int err, const char *words)
{
	struct read r;

	read_bytes(text, len, &r);
	ck_assert_str_eq(r.diag.text, words);
	ck_assert_int_eq(r.err, err);
	read_fini(&r);
}

static void expect_refused(const char *text, int err, const char *words)
{
	expect_bytes_refused(text, strlen(text), err, words);
}

/* An index with one tensor, 'a'. `file` is JSON text; `words` follow "weight_map: ". */
static void expect_file_refused(const char *file, int err, const char *words)
{
	char text[512];
	char want[512];

	(void)snprintf(text, sizeof(text), "{\"weight_map\":{\"a\":%s}}", file);
	(void)snprintf(want, sizeof(want), "weight_map: tensor 'a': %s", words);
	expect_refused(text, err, want);
}

/* ---- What is read ---- */

static void expect_tensor(const struct shard_index *index, size_t i, const char *name,
			  size_t len, const char *file)
{
	const struct shard_index_tensor *t = &index->tensors[i];

	ck_assert_uint_eq(t->name_len, len);
	ck_assert_mem_eq(t->name, name, len);
	ck_assert_str_eq(index->files[t->file].name, file);
}

START_TEST(tensors_and_files_are_read)
{
	static const char text[] =
		" {\"metadata\": {\"total_size\": -1e99, \"x\": [{}]},\n"
		"\"weight_map\": {\"b\": \"m-2\", \"a\": \"m-1\",\n"
		"\"\\u0063\": \"m-\\u0032\", \"d\\u0000\": \"sub/m\"},"
		"\"more\": null}\n";
	struct read r;

	read_bytes(text, strlen(text), &r);
	ck_assert_msg(r.err == 0, "%s", r.diag.text);
	ck_assert_uint_eq(r.index.tensor_count, 4);
	ck_assert_uint_eq(r.index.file_count, 3);
	expect_tensor(&r.index, 0, "b", 1, "m-2");
	expect_tensor(&r.index, 1, "a", 1, "m-1");
	expect_tensor(&r.index, 2, "c", 1, "m-2");
	expect_tensor(&r.index, 3, "d\0", 2, "sub/m");
	read_fini(&r);
}
END_TEST

/* The order of the tensors is the writer's, that of the files is that of their names. */
START_TEST(files_are_in_the_order_of_their_names)
{
	static const char text[] =
		"{\"weight_map\":{\"a\":\"m-3\",\"b\":\"m-1\",\"c\":\"m-2\",\"d\":\"m-1\"}}";
	struct read r;

	read_bytes(text, strlen(text), &r);
	ck_assert_int_eq(r.err, 0);
	ck_assert_str_eq(r.index.files[0].name, "m-1");
	ck_assert_uint_eq(r.index.files[0].first, 1);
	ck_assert_str_eq(r.index.files[1].name, "m-2");
	ck_assert_uint_eq(r.index.files[1].first, 2);
	ck_assert_str_eq(r.index.files[2].name, "m-3");
	ck_assert_uint_eq(r.index.files[2].first, 0);
	read_fini(&r);
}
END_TEST

START_TEST(a_name_of_dots_that_climbs_nowhere_is_a_name)
{
	static const char text[] =
		"{\"weight_map\":{\"a\":\"...\",\"b\":\".a\",\"c\":\"..a/b..\"}}";
	struct read r;

	read_bytes(text, strlen(text), &r);
	ck_assert_msg(r.err == 0, "%s", r.diag.text);
	ck_assert_uint_eq(r.index.file_count, 3);
	read_fini(&r);
}
END_TEST

/* ---- Names of files that lead elsewhere ---- */

START_TEST(a_file_outside_is_refused)
{
	expect_file_refused("\"/etc/passwd\"", -EBADMSG,
			    "its file '/etc/passwd' is an absolute path");
	expect_file_refused("\"/\"", -EBADMSG, "its file '/' is an absolute path");
	expect_file_refused("\"../x\"", -EBADMSG,
			    "its file '../x' has '', '.' or '..' in its path");
	expect_file_refused("\"a/../../x\"", -EBADMSG,
			    "its file 'a/../../x' has '', '.' or '..' in its path");
	expect_file_refused("\"a/..\"", -EBADMSG,
			    "its file 'a/..' has '', '.' or '..' in its path");
	expect_file_refused("\"..\"", -EBADMSG,
			    "its file '..' has '', '.' or '..' in its path");
	expect_file_refused("\"\\u002e\\u002e\\/x\"", -EBADMSG,
			    "its file '../x' has '', '.' or '..' in its path");
}
END_TEST

START_TEST(a_file_has_one_way_to_be_written)
{
	expect_file_refused("\".\"", -EBADMSG,
			    "its file '.' has '', '.' or '..' in its path");
	expect_file_refused("\"./x\"", -EBADMSG,
			    "its file './x' has '', '.' or '..' in its path");
	expect_file_refused("\"a//x\"", -EBADMSG,
			    "its file 'a//x' has '', '.' or '..' in its path");
	expect_file_refused("\"a/\"", -EBADMSG,
			    "its file 'a/' has '', '.' or '..' in its path");
}
END_TEST

START_TEST(a_file_has_a_name)
{
	expect_file_refused("\"\"", -EBADMSG, "its file has an empty name");
	expect_file_refused("\"x\\u0000y\"", -EBADMSG,
			    "its file 'x\\x00y' has a NUL in its name");
	expect_file_refused("\"\\u0000\"", -EBADMSG,
			    "its file '\\x00' has a NUL in its name");
}
END_TEST

START_TEST(a_file_name_has_a_limit)
{
	CLEANUP(strbuf_fini) struct strbuf text;
	struct read r;

	strbuf_init(&text);
	strbuf_add_str(&text, "{\"weight_map\":{\"a\":\"");
	for (unsigned int i = 0; i < 1024; i++)
		strbuf_add_char(&text, 'x');
	strbuf_add_str(&text, "\"}}");
	read_bytes(text.data, text.len, &r);
	ck_assert_int_eq(r.err, 0);
	read_fini(&r);
	text.len -= 3;
	strbuf_add_str(&text, "x\"}}");
	expect_bytes_refused(text.data, text.len, -E2BIG,
			     "weight_map: tensor 'a': its file's name has 1025 bytes, at "
			     "most 1024 are read");
}
END_TEST

START_TEST(an_index_does_not_name_itself)
{
	expect_file_refused("\"" OWN_NAME "\"", -EBADMSG,
			    "its file '" OWN_NAME "' is the index itself");
}
END_TEST

START_TEST(a_file_is_a_string)
{
	expect_file_refused("1", -EBADMSG,
			    "index at byte 19: expected a string, found '1'");
	expect_file_refused("null", -EBADMSG,
			    "index at byte 19: expected a string, found 'n'");
	expect_file_refused("[\"x\"]", -EBADMSG,
			    "index at byte 19: expected a string, found '['");
	expect_file_refused("{}", -EBADMSG,
			    "index at byte 19: expected a string, found '{'");
}
END_TEST

START_TEST(names_cannot_bring_escape_sequences)
{
	expect_file_refused("\"/\\u001b[2J\"", -EBADMSG,
			    "its file '/\\x1b[2J' is an absolute path");
}
END_TEST

/* ---- The document ---- */

START_TEST(a_tensor_is_named_once)
{
	expect_refused("{\"weight_map\":{\"a\":\"x\",\"a\":\"x\"}}", -EEXIST,
		       "weight_map: tensor 'a': the name occurs twice");
	expect_refused("{\"weight_map\":{\"a\":\"x\",\"\\u0061\":\"y\"}}", -EEXIST,
		       "weight_map: tensor 'a': the name occurs twice");
}
END_TEST

START_TEST(a_key_of_the_document_occurs_once)
{
	expect_refused("{\"weight_map\":{\"a\":\"x\"},\"weight_map\":{\"b\":\"x\"}}",
		       -EEXIST, "key 'weight_map' occurs twice");
	expect_refused("{\"metadata\":{},\"metadata\":{}}", -EEXIST,
		       "key 'metadata' occurs twice");
}
END_TEST

START_TEST(the_map_must_name_something)
{
	expect_refused("{}", -EBADMSG, "key 'weight_map' is missing");
	expect_refused("{\"metadata\":{\"weight_map\":{\"a\":\"x\"}}}", -EBADMSG,
		       "key 'weight_map' is missing");
	expect_refused("{\"weight_map\":{}}", -EBADMSG, "weight_map: names no tensor");
	expect_refused("{\"weight_map\":[]}", -EBADMSG,
		       "weight_map: index at byte 14: expected '{', found '['");
}
END_TEST

START_TEST(only_json_is_read)
{
	expect_refused("", -EBADMSG,
		       "index at byte 0: expected '{', found the end of the index");
	expect_refused("[]", -EBADMSG, "index at byte 0: expected '{', found '['");
	expect_refused("\xef\xbb\xbf{}", -EBADMSG,
		       "index at byte 0: expected '{', found byte 0xef");
	expect_refused("{\"weight_map\":{\"a\":\"x\"}} {}", -EBADMSG,
		       "index at byte 25: expected nothing but white space, found '{'");
	expect_refused(
		"{\"weight_map\":{\"a\":\"x\",}}", -EBADMSG,
		"weight_map: index at byte 23: expected a key in quotes, found '}'");
	expect_refused("{\"weight_map\":{\"a\":\"x", -EBADMSG,
		       "weight_map: tensor 'a': index at byte 21: expected '\"' behind a "
		       "string, found the end of the index");
	expect_refused("{\"weight_map\":{\"\xff\":\"x\"}}", -EBADMSG,
		       "weight_map: index at byte 16: invalid UTF-8 in a string");
}
END_TEST

START_TEST(nesting_is_bounded)
{
	expect_refused("{\"metadata\":[[[[[[[[[[[[[[[[[[[[", -E2BIG,
		       "index at byte 27: nested deeper than 16 levels of brackets");
}
END_TEST

/* ---- Limits ---- */

/* "weight_map" and `others` keys. */
static void make_keys(unsigned int others, struct strbuf *text)
{
	strbuf_init(text);
	strbuf_add_str(text, "{\"weight_map\":{\"a\":\"x\"}");
	for (unsigned int i = 0; i < others; i++)
		strbuf_addf(text, ",\"%u\":0", i);
	strbuf_add_str(text, "}");
}

START_TEST(there_are_at_most_so_many_keys)
{
	CLEANUP(strbuf_fini) struct strbuf most;
	CLEANUP(strbuf_fini) struct strbuf more;
	struct read r;

	make_keys(999, &most);
	read_bytes(most.data, most.len, &r);
	ck_assert_int_eq(r.err, 0);
	read_fini(&r);
	make_keys(1000, &more);
	expect_bytes_refused(more.data, more.len, -E2BIG, "more than 1000 keys");
}
END_TEST

START_TEST(there_are_at_most_so_many_files)
{
	CLEANUP(strbuf_fini) struct strbuf text;

	strbuf_init(&text);
	strbuf_add_str(&text, "{\"weight_map\":{");
	for (unsigned int i = 0; i <= LIMIT_SHARDS; i++)
		strbuf_addf(&text, "%s\"t%u\":\"f%u\"", i ? "," : "", i, i);
	strbuf_add_str(&text, "}}");
	expect_bytes_refused(text.data, text.len, -E2BIG,
			     "weight_map: tensor 't4096': more than 4096 files");
}
END_TEST

/* Linear: a quadratic search would take minutes. */
START_TEST(there_are_at_most_so_many_tensors)
{
	CLEANUP(strbuf_fini) struct strbuf text;
	struct read r;

	strbuf_init(&text);
	strbuf_add_str(&text, "{\"weight_map\":{");
	for (unsigned int i = 0; i < LIMIT_TENSORS; i++)
		strbuf_addf(&text, "%s\"t%u\":\"f%u\"", i ? "," : "", i,
			    i % LIMIT_SHARDS);
	strbuf_add_str(&text, "}}");
	read_bytes(text.data, text.len, &r);
	ck_assert_msg(r.err == 0, "%s", r.diag.text);
	ck_assert_uint_eq(r.index.tensor_count, LIMIT_TENSORS);
	ck_assert_uint_eq(r.index.file_count, LIMIT_SHARDS);
	read_fini(&r);
	text.len -= 2;
	strbuf_add_str(&text, ",\"z\":\"f0\"}}");
	expect_bytes_refused(text.data, text.len, -E2BIG,
			     "weight_map: tensor 'z': more than 1000000 tensors");
}
END_TEST

START_TEST(the_text_has_a_limit)
{
	struct shard_index index;
	struct reader reader;
	struct diag diag;

	/* Refused before anything is read. */
	reader_init_fd(&reader, -1, (1u << 27) + 1, &diag);
	ck_assert_int_eq(shard_index_read(&reader, OWN_NAME, &index), -E2BIG);
	ck_assert_str_eq(diag.text,
			 "index has 134217729 bytes, at most 134217728 are read");
	shard_index_fini(&index);
	reader_fini(&reader);
}
END_TEST

static TCase *good_case(void)
{
	TCase *tcase = tcase_create("good");

	tcase_add_test(tcase, tensors_and_files_are_read);
	tcase_add_test(tcase, files_are_in_the_order_of_their_names);
	tcase_add_test(tcase, a_name_of_dots_that_climbs_nowhere_is_a_name);
	return tcase;
}

static TCase *names_case(void)
{
	TCase *tcase = tcase_create("names");

	tcase_add_test(tcase, a_file_outside_is_refused);
	tcase_add_test(tcase, a_file_has_one_way_to_be_written);
	tcase_add_test(tcase, a_file_has_a_name);
	tcase_add_test(tcase, a_file_name_has_a_limit);
	tcase_add_test(tcase, an_index_does_not_name_itself);
	tcase_add_test(tcase, a_file_is_a_string);
	tcase_add_test(tcase, names_cannot_bring_escape_sequences);
	return tcase;
}

static TCase *document_case(void)
{
	TCase *tcase = tcase_create("document");

	tcase_add_test(tcase, a_tensor_is_named_once);
	tcase_add_test(tcase, a_key_of_the_document_occurs_once);
	tcase_add_test(tcase, the_map_must_name_something);
	tcase_add_test(tcase, only_json_is_read);
	tcase_add_test(tcase, nesting_is_bounded);
	return tcase;
}

static TCase *limits_case(void)
{
	TCase *tcase = tcase_create("limits");

	tcase_add_test(tcase, there_are_at_most_so_many_keys);
	tcase_add_test(tcase, there_are_at_most_so_many_files);
	tcase_add_test(tcase, there_are_at_most_so_many_tensors);
	tcase_add_test(tcase, the_text_has_a_limit);
	return tcase;
}

UNIT_MAIN("shard_index", good_case, names_case, document_case, limits_case)
