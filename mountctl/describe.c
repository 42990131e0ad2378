#include "mountctl/describe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "mountctl/json.h"
#include "mountctl/spawn.h"
#include "mountctl/table.h"
#include "mountctl/tensors.h"
#include "mountctl/text.h"
#include "util/log.h"

/* How many of the largest tensors are shown. */
#define LARGEST_MAX 10

/* Characters of a metadata value before it is cut. */
#define VALUE_MAX 60

static void title(const char *text)
{
	(void)printf("\n%s%s%s\n", text_style(TEXT_BOLD), text, text_style(TEXT_PLAIN));
}

static int print_largest(struct tensors *tensors)
{
	static const struct table_column columns[] = {
		{ "NAME", false },
		{ "DTYPE", false },
		{ "SHAPE", true },
		{ "SIZE", true },
	};
	CLEANUP(table_fini) struct table table;

	qsort(tensors->list, tensors->count, sizeof(*tensors->list), tensors_by_size);
	table_init(&table, columns, ARRAY_LEN(columns));
	for (size_t i = 0; i < tensors->count && i < LARGEST_MAX; i++) {
		const struct tensor_entry *tensor = &tensors->list[i];
		CLEANUP(free_ptr) char *dtype = json_dup_printable(tensor->dtype);
		CLEANUP(free_ptr)
		char *shape = tensor_shape_text(json_get(tensor->json, "shape"));

		table_add(&table, tensor->name);
		table_add(&table, dtype ? dtype : "?");
		table_add(&table, shape ? shape : "?");
		table_add_size(&table, tensor->nbytes);
	}
	return table_print(&table, 2);
}

/* Appends a string in one line: what does not fit is cut between two characters. */
static void add_cut(struct strbuf *out, struct json string)
{
	CLEANUP(strbuf_fini) struct strbuf raw = { 0 };
	size_t chars = 0;
	size_t len = 0;

	json_add_string(&raw, string);
	/* Newlines are the one control character that is common in values. */
	for (size_t i = 0; i < raw.len; i++)
		if (raw.data[i] == '\n' || raw.data[i] == '\t' || raw.data[i] == '\r')
			raw.data[i] = ' ';
	while (len < raw.len && chars < VALUE_MAX) {
		len++;
		while (len < raw.len && ((unsigned char)raw.data[len] & 0xc0) == 0x80)
			len++;
		chars++;
	}
	text_escape(out, raw.data, len);
	if (len < raw.len)
		strbuf_addf(out, "... (%zu bytes)", raw.len);
}

static void add_value(struct strbuf *out, struct json value)
{
	switch (json_type(value)) {
	case JSON_STRING:
		add_cut(out, value);
		break;
	case JSON_ARRAY:
		strbuf_addf(out, "[%" PRIu64 " values]", json_count(value));
		break;
	case JSON_OBJECT:
		strbuf_addf(out, "{%" PRIu64 " members}", json_count(value));
		break;
	case JSON_NUMBER:
	case JSON_LITERAL:
		text_escape(out, value.at, value.len);
		break;
	case JSON_NONE:
	default:
		break;
	}
}

static int print_metadata(struct json metadata)
{
	static const struct table_column columns[] = { { NULL, false }, { NULL, false } };
	struct json_iter iter = json_iter(metadata);
	CLEANUP(table_fini) struct table table;
	struct json key;
	struct json value;

	table_init(&table, columns, ARRAY_LEN(columns));
	while (json_next(&iter, &key, &value)) {
		CLEANUP(free_ptr) char *name = json_dup_printable(key);
		CLEANUP(strbuf_fini) struct strbuf text = { 0 };

		add_value(&text, value);
		table_add(&table, name ? name : "?");
		table_add(&table, text.data ? text.data : "");
	}
	return table_print(&table, 2);
}

static void print_list(const char *heading, struct json list, const char *member)
{
	struct json_iter iter = json_iter(list);
	struct json item;
	bool first = true;

	while (json_next(&iter, NULL, &item)) {
		CLEANUP(free_ptr)
		char *text = json_dup_printable(member ? json_get(item, member) : item);
		CLEANUP(free_ptr) char *name = json_dup_printable(json_get(item, "name"));

		if (first)
			title(heading);
		first = false;
		(void)printf("  %s%s%s\n", name ? name : "", name && *name ? ": " : "",
			     text ? text : "");
	}
}

/* The files that have tensors. They come file by file. */
static size_t count_files(const struct tensors *tensors)
{
	struct json last = { 0 };
	size_t count = 0;

	for (size_t i = 0; i < tensors->count; i++) {
		struct json file = tensors->list[i].file;

		if (count == 0 || file.len != last.len ||
		    memcmp(file.at, last.at, last.len) != 0)
			count++;
		last = file;
	}
	return count;
}

static void print_summary(const struct tensors *tensors)
{
	size_t files = count_files(tensors);
	struct json model = tensors->model;
	CLEANUP(free_ptr) char *name = json_dup_printable(json_get(model, "name"));
	CLEANUP(free_ptr) char *format = json_dup_printable(json_get(model, "format"));
	char size[TEXT_BYTES_MAX];

	(void)printf("%-8s %s\n%-8s %s\n%-8s %zu\n%-8s %s\n", "name", name ? name : "",
		     "format", format ? format : "", "tensors", tensors->count, "size",
		     text_bytes(json_u64(json_get(model, "total_bytes")), size));
	if (files > 1)
		(void)printf("%-8s %zu\n", "files", files);
}

static int print_description(struct json document)
{
	struct json metadata = json_get(document, "metadata");
	CLEANUP(tensors_fini) struct tensors tensors = { 0 };
	int r = tensors_take(json_get(document, "model"), &tensors);

	if (r < 0)
		return text_error("info", "tensors", -r);
	print_summary(&tensors);
	title("dtypes");
	r = tensors_print_dtypes(&tensors, 2);
	if (r < 0)
		return r;
	title("largest tensors");
	r = print_largest(&tensors);
	if (r == 0 && json_count(metadata) > 0) {
		title("metadata");
		r = print_metadata(metadata);
	}
	print_list("skipped", json_get(tensors.model, "skipped"), "reason");
	print_list("warnings", json_get(document, "warnings"), NULL);
	return r;
}

/* Runs weightfs --describe. 0, or a negative errno with a message logged. */
static int fetch_description(const char *path, struct spawn_result *result)
{
	CLEANUP(free_ptr) char *program = spawn_find_weightfs();
	CLEANUP(free_ptr) char *source = NULL;
	const char *argv[] = { program, "--describe", NULL, NULL };
	int r;

	/* A path that is not taken for an option. */
	if (asprintf(&source, "%s%s", *path == '-' ? "./" : "", path) < 0)
		source = NULL;
	if (!program || !source)
		return text_error(path, "describe", ENOMEM);
	argv[2] = source;
	r = spawn_run(argv, result);
	if (r < 0)
		return text_error(program, "run", -r);
	if (spawn_relay_errors(result, "weightfs") == 0 && result->status != 0)
		(void)text_error(path, "describe: weightfs failed without a word", 0);
	return result->status == 0 ? 0 : -EIO;
}

int describe_model(const char *path, bool json)
{
	CLEANUP(spawn_result_fini) struct spawn_result result = { 0 };
	struct json document;
	int r = fetch_description(path, &result);

	if (r < 0)
		return r;
	if (result.out.len == 0 ||
	    json_parse(result.out.data, result.out.len, &document) < 0 ||
	    json_type(json_get(document, "model")) != JSON_OBJECT) {
		(void)text_error(path, "describe: weightfs gave no such document", 0);
		return -EBADMSG;
	}
	if (!json)
		return print_description(document);
	(void)fwrite(document.at, 1, document.len, stdout);
	(void)putchar('\n');
	return 0;
}
