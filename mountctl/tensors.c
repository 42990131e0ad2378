#include "mountctl/tensors.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "mountctl/guard.h"
#include "mountctl/text.h"

int tensors_take(struct json model, struct tensors *tensors)
{
	struct json list = json_get(model, "tensors");
	struct json_iter iter = json_iter(list);
	struct tensors found = { .model = model };
	struct json entry;

	found.list = calloc(json_count(list) + 1, sizeof(*found.list));
	if (!found.list)
		return -ENOMEM;
	while (json_next(&iter, NULL, &entry)) {
		struct tensor_entry *tensor = &found.list[found.count];

		tensor->json = entry;
		tensor->index = found.count;
		tensor->name = json_dup_printable(json_get(entry, "name"));
		tensor->dtype = json_get(entry, "dtype");
		tensor->file = json_get(entry, "file");
		tensor->nbytes = json_u64(json_get(entry, "nbytes"));
		tensor->offset = json_u64(json_get(entry, "offset"));
		if (!tensor->name) {
			tensors_fini(&found);
			return -ENOMEM;
		}
		found.count++;
	}
	*tensors = found;
	return 0;
}

int tensors_load(const char *dir, struct strbuf *text, struct tensors *tensors)
{
	CLEANUP(free_ptr) char *path = NULL;
	struct json model;
	int r;

	if (asprintf(&path, "%s/model.json", dir) < 0) {
		path = NULL;
		return text_error(dir, "read model.json", ENOMEM);
	}
	r = guard_read_file(path, text);
	if (r == -ENOENT || r == -ENOTDIR) {
		(void)text_error(dir, TENSORS_NO_MODEL, 0);
		return r;
	}
	if (r < 0)
		return text_error(path, "read", -r);
	if (text->len == 0 || json_parse(text->data, text->len, &model) < 0 ||
	    json_type(json_get(model, "tensors")) != JSON_ARRAY) {
		(void)text_error(path, "not a list of tensors", 0);
		return -EBADMSG;
	}
	r = tensors_take(model, tensors);
	return r < 0 ? text_error(path, "read", -r) : 0;
}

void tensors_fini(struct tensors *tensors)
{
	for (size_t i = 0; i < tensors->count; i++)
		free(tensors->list[i].name);
	free(tensors->list);
	*tensors = (struct tensors){ 0 };
}

char *tensor_shape_text(struct json shape)
{
	struct strbuf text = { 0 };
	struct json_iter iter = json_iter(shape);
	struct json dimension;

	while (json_next(&iter, NULL, &dimension))
		strbuf_addf(&text, "%s%" PRIu64, text.len > 0 ? "," : "",
			    json_u64(dimension));
	if (text.len == 0)
		strbuf_add_str(&text, "scalar");
	return strbuf_steal(&text);
}

static int compare_json(struct json a, struct json b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int r = len > 0 ? memcmp(a.at, b.at, len) : 0;

	return r != 0 ? r : (a.len > b.len) - (a.len < b.len);
}

/* Names with numbers in them are ordered as people count: layers.2 before layers.10. */
void tensors_complain_of_pattern(const char *pattern)
{
	CLEANUP(strbuf_fini) struct strbuf quoted = { 0 };

	/* An empty one could not be seen otherwise. */
	strbuf_addf(&quoted, "'%s'", pattern);
	(void)text_error(quoted.data ? quoted.data : pattern, "no tensor has such a name",
			 0);
}

int tensors_by_name(const void *a, const void *b)
{
	const struct tensor_entry *x = a;
	const struct tensor_entry *y = b;

	return strverscmp(x->name, y->name);
}

int tensors_by_size(const void *a, const void *b)
{
	const struct tensor_entry *x = a;
	const struct tensor_entry *y = b;

	if (x->nbytes != y->nbytes)
		return x->nbytes < y->nbytes ? 1 : -1;
	return tensors_by_name(a, b);
}

int tensors_by_dtype(const void *a, const void *b)
{
	const struct tensor_entry *x = a;
	const struct tensor_entry *y = b;
	int r = compare_json(x->dtype, y->dtype);

	return r != 0 ? r : tensors_by_name(a, b);
}

int tensors_by_file(const void *a, const void *b)
{
	const struct tensor_entry *x = a;
	const struct tensor_entry *y = b;
	int r = compare_json(x->file, y->file);

	if (r != 0)
		return r;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

struct dtype_sum {
	struct json dtype;
	uint64_t tensors;
	uint64_t bytes;
};

static int by_bytes(const void *a, const void *b)
{
	const struct dtype_sum *x = a;
	const struct dtype_sum *y = b;

	return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

/* `sums` has room for one sum a tensor. Returns how many there are. */
static size_t sum_dtypes(struct tensors *tensors, struct dtype_sum *sums)
{
	size_t count = 0;

	qsort(tensors->list, tensors->count, sizeof(*tensors->list), tensors_by_dtype);
	for (size_t i = 0; i < tensors->count; i++) {
		const struct tensor_entry *tensor = &tensors->list[i];

		if (count == 0 || compare_json(sums[count - 1].dtype, tensor->dtype) != 0)
			sums[count++].dtype = tensor->dtype;
		sums[count - 1].tensors++;
		sums[count - 1].bytes += tensor->nbytes;
	}
	qsort(sums, count, sizeof(*sums), by_bytes);
	return count;
}

int tensors_print_dtypes(struct tensors *tensors, int indent)
{
	static const struct table_column columns[] = {
		{ "DTYPE", false },
		{ "TENSORS", true },
		{ "SIZE", true },
	};
	CLEANUP(free_ptr)
	struct dtype_sum *sums = calloc(tensors->count + 1, sizeof(*sums));
	CLEANUP(table_fini) struct table table;
	size_t count = sums ? sum_dtypes(tensors, sums) : 0;

	table_init(&table, columns, ARRAY_LEN(columns));
	if (!sums)
		return text_error("dtypes", "count", ENOMEM);
	for (size_t i = 0; i < count; i++) {
		CLEANUP(free_ptr) char *dtype = json_dup_printable(sums[i].dtype);
		char number[24];

		(void)snprintf(number, sizeof(number), "%" PRIu64, sums[i].tensors);
		table_add(&table, dtype ? dtype : "?");
		table_add(&table, number);
		table_add_size(&table, sums[i].bytes);
	}
	return table_print(&table, indent);
}
