/* The layout is in the header. Hostile: read by the strict scanner, in linear time, with
 * bounded memory. */
#include "parsers/shard_index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "parsers/key_set.h"
#include "parsers/limits.h"

#define MOST_BYTES     (1u << 27) /* 92,000 tensors take 9 MB */
#define MOST_FILE_NAME 1024u      /* bytes; published names have about 40 */
#define MOST_KEYS      1000u      /* with the map: writers have two */

static const char map_key[] = "weight_map";

struct walk {
	struct shard_index *index;
	struct json_scan *scan;
	struct diag *diag;
	const char *own_name;
	struct key_set names; /* of tensors */
	struct key_set files; /* numbers are positions in index->files */
	size_t file_capacity;
};

static int fail_memory(struct diag *diag)
{
	return diag_fail(diag, -ENOMEM, "out of memory");
}

/* ---- Names of files ---- */

/* Whether one of the components between slashes is `wanted`. */
static bool has_component(struct json_text name, const char *wanted)
{
	const char *at = name.bytes;
	const char *end = name.bytes + name.len;
	size_t len = strlen(wanted);

	for (;;) {
		const char *slash = memchr(at, '/', (size_t)(end - at));
		size_t n = (size_t)((slash ? slash : end) - at);

		if (n == len && memcmp(at, wanted, len) == 0)
			return true;
		if (!slash)
			return false;
		at = slash + 1;
	}
}

/* Only a path downwards, written in the one way there is to write it, so that two names
 * are two files unless there are links. */
static int check_file_name(const struct walk *w, struct json_text name)
{
	char quoted[DIAG_QUOTE_MAX];

	if (name.len == 0)
		return diag_fail(w->diag, -EBADMSG, "its file has an empty name");
	if (name.len > MOST_FILE_NAME)
		return diag_fail(w->diag, -E2BIG,
				 "its file's name has %zu bytes, at most %u are read",
				 name.len, MOST_FILE_NAME);
	(void)diag_quote(quoted, name.bytes, name.len);
	if (memchr(name.bytes, '\0', name.len))
		return diag_fail(w->diag, -EBADMSG, "its file %s has a NUL in its name",
				 quoted);
	if (name.bytes[0] == '/')
		return diag_fail(w->diag, -EBADMSG, "its file %s is an absolute path",
				 quoted);
	if (has_component(name, "") || has_component(name, ".") ||
	    has_component(name, ".."))
		return diag_fail(w->diag, -EBADMSG,
				 "its file %s has '', '.' or '..' in its path", quoted);
	if (name.len == strlen(w->own_name) &&
	    memcmp(name.bytes, w->own_name, name.len) == 0)
		return diag_fail(w->diag, -EBADMSG, "its file %s is the index itself",
				 quoted);
	return 0;
}

static int add_file(struct walk *w, struct json_text name)
{
	struct shard_index *index = w->index;
	char *copy;
	int err;

	err = check_file_name(w, name);
	if (err < 0)
		return err;
	if (index->file_count == LIMIT_SHARDS)
		return diag_fail(w->diag, -E2BIG, "more than %u files", LIMIT_SHARDS);
	if (index->file_count == w->file_capacity) {
		size_t capacity = w->file_capacity ? w->file_capacity * 2 : 16;
		struct shard_index_file *files =
			reallocarray(index->files, capacity, sizeof(*files));

		if (!files)
			return fail_memory(w->diag);
		index->files = files;
		w->file_capacity = capacity;
	}
	copy = arena_copy(&index->arena, name.bytes, name.len);
	if (!copy || key_set_add(&w->files, copy, name.len) < 0)
		return fail_memory(w->diag);
	index->files[index->file_count++] =
		(struct shard_index_file){ .name = copy,
					   .first = (uint32_t)index->tensor_count };
	return 0;
}

/* The position of the file of that name, which may be new. */
static int find_file(struct walk *w, struct json_text name, uint16_t *file)
{
	size_t position = key_set_find(&w->files, name.bytes, name.len);
	int err;

	if (position == SIZE_MAX) {
		position = w->index->file_count;
		err = add_file(w, name);
		if (err < 0)
			return err;
	}
	*file = (uint16_t)position;
	return 0;
}

/* ---- Tensors ---- */

static int add_tensor(struct walk *w, const struct shard_index_tensor *tensor)
{
	struct shard_index *index = w->index;

	if (index->tensor_count == index->tensor_capacity) {
		size_t capacity =
			index->tensor_capacity ? index->tensor_capacity * 2 : 256;
		struct shard_index_tensor *tensors =
			reallocarray(index->tensors, capacity, sizeof(*tensors));

		if (!tensors)
			return fail_memory(w->diag);
		index->tensors = tensors;
		index->tensor_capacity = capacity;
	}
	index->tensors[index->tensor_count++] = *tensor;
	return 0;
}

/* Errors get the tensor's name in front in read_pair(). */
static int read_value(struct walk *w, struct json_text name)
{
	struct shard_index_tensor tensor = { .name = name.bytes,
					     .name_len = (uint32_t)name.len };
	struct json_text file;
	int err;

	if (w->index->tensor_count == LIMIT_TENSORS)
		return diag_fail(w->diag, -E2BIG, "more than %u tensors", LIMIT_TENSORS);
	err = key_set_add(&w->names, name.bytes, name.len);
	if (err == -EEXIST)
		return diag_fail(w->diag, err, "the name occurs twice");
	if (err < 0)
		return fail_memory(w->diag);
	err = json_scan_string(w->scan, &file);
	if (err < 0)
		return err;
	err = find_file(w, file, &tensor.file);
	if (err < 0)
		return err;
	return add_tensor(w, &tensor);
}

static int read_pair(struct walk *w, struct json_text name)
{
	char prefix[DIAG_QUOTE_MAX + sizeof("tensor ")];
	int err = read_value(w, name);

	if (err < 0 && err != -ENOMEM) {
		(void)snprintf(prefix, sizeof(prefix), "tensor %s",
			       DIAG_QUOTED(name.bytes, name.len));
		diag_prefix(w->diag, prefix);
	}
	return err;
}

static int read_map(struct walk *w)
{
	struct json_text name;
	bool more;
	int err;

	err = json_scan_begin_object(w->scan);
	while (err == 0) {
		err = json_scan_next_key(w->scan, &more, &name);
		if (err < 0 || !more)
			break;
		err = read_pair(w, name);
	}
	if (err < 0)
		diag_prefix(w->diag, map_key);
	return err;
}

/* ---- The document ---- */

static int read_member(struct walk *w, struct json_text key, struct key_set *keys)
{
	int err = key_set_add(keys, key.bytes, key.len);

	if (err == -EEXIST)
		return diag_fail(w->diag, err, "key %s occurs twice",
				 DIAG_QUOTED(key.bytes, key.len));
	if (err < 0)
		return fail_memory(w->diag);
	if (keys->count > MOST_KEYS)
		return diag_fail(w->diag, -E2BIG, "more than %u keys", MOST_KEYS);
	if (key.len == strlen(map_key) && memcmp(key.bytes, map_key, key.len) == 0)
		return read_map(w);
	return json_scan_skip(w->scan);
}

static int read_document(struct walk *w)
{
	CLEANUP(key_set_fini) struct key_set keys = { 0 };
	struct json_text key;
	bool more;
	int err;

	err = json_scan_begin_object(w->scan);
	while (err == 0) {
		err = json_scan_next_key(w->scan, &more, &key);
		if (err < 0 || !more)
			break;
		err = read_member(w, key, &keys);
	}
	if (err < 0)
		return err;
	err = json_scan_end(w->scan);
	if (err < 0)
		return err;
	if (key_set_find(&keys, map_key, strlen(map_key)) == SIZE_MAX)
		return diag_fail(w->diag, -EBADMSG, "key '%s' is missing", map_key);
	if (w->index->tensor_count == 0)
		return diag_fail(w->diag, -EBADMSG, "%s: names no tensor", map_key);
	return 0;
}

/* ---- Order ---- */

struct sorted_file {
	struct shard_index_file file;
	size_t was; /* position before */
};

static int compare_files(const void *left, const void *right)
{
	return strcmp(((const struct sorted_file *)left)->file.name,
		      ((const struct sorted_file *)right)->file.name);
}

/* Writers sort by tensors; files in the order of their numbers are what people expect,
 * and what a loader reads. */
static int sort_files(struct walk *w)
{
	struct shard_index *index = w->index;
	CLEANUP(free_ptr)
	struct sorted_file *sorted =
		reallocarray(NULL, index->file_count, sizeof(*sorted));
	CLEANUP(free_ptr)
	uint16_t *becomes = reallocarray(NULL, index->file_count, sizeof(*becomes));

	if (!sorted || !becomes)
		return fail_memory(w->diag);
	for (size_t i = 0; i < index->file_count; i++)
		sorted[i] = (struct sorted_file){ .file = index->files[i], .was = i };
	qsort(sorted, index->file_count, sizeof(*sorted), compare_files);
	for (size_t i = 0; i < index->file_count; i++) {
		index->files[i] = sorted[i].file;
		becomes[sorted[i].was] = (uint16_t)i;
	}
	for (size_t i = 0; i < index->tensor_count; i++)
		index->tensors[i].file = becomes[index->tensors[i].file];
	return 0;
}

/* ---- The whole file ---- */

static int scan_index(struct reader *r, const char *own_name, struct shard_index *index,
		      const uint8_t *text)
{
	struct walk w = { .index = index,
			  .scan = &index->scan,
			  .diag = r->diag,
			  .own_name = own_name };
	int err;

	json_scan_init(&index->scan, text, (size_t)r->size, "index", 0, r->diag);
	err = read_document(&w);
	if (err == 0)
		err = sort_files(&w);
	key_set_fini(&w.names);
	key_set_fini(&w.files);
	return err;
}

int shard_index_read(struct reader *r, const char *own_name, struct shard_index *index)
{
	const uint8_t *text;
	int err;

	*index = (struct shard_index){ 0 };
	if (r->size > MOST_BYTES)
		return diag_fail(r->diag, -E2BIG,
				 "index has %" PRIu64 " bytes, at most %u are read",
				 r->size, MOST_BYTES);
	err = reader_seek(r, "index", 0);
	if (err < 0)
		return err;
	err = reader_bytes(r, "index", r->size, &text);
	if (err < 0)
		return err;
	return scan_index(r, own_name, index, text);
}

void shard_index_fini(struct shard_index *index)
{
	json_scan_fini(&index->scan);
	arena_fini(&index->arena);
	free(index->tensors);
	free(index->files);
	*index = (struct shard_index){ 0 };
}
