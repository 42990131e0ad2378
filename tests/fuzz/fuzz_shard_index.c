/* Fuzzes the reader of shard indexes, and the names of shards by the way. */
#include <errno.h>

#include "parsers/limits.h"
#include "parsers/shard_index.h"
#include "parsers/shard_name.h"

#define OWN_NAME "i.safetensors.index.json"

/* The name is libFuzzer's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- What must hold whatever the input ---- */

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_words(int err, const struct diag *diag)
{
	require(err == -EBADMSG || err == -E2BIG || err == -EEXIST);
	require(diag->text[0] != '\0');
	for (const char *c = diag->text; *c != '\0'; c++)
		require((unsigned char)*c >= 0x20 && *c != 0x7f);
}

/* Downwards, and written in one way: what openat() gets. */
static void check_path(const char *name)
{
	const char *at = name;

	require(strcmp(name, OWN_NAME) != 0);
	for (;;) {
		size_t len = strcspn(at, "/");

		require(len > 0);
		require(!(len == 1 && at[0] == '.'));
		require(!(len == 2 && at[0] == '.' && at[1] == '.'));
		if (at[len] == '\0')
			return;
		at += len + 1;
	}
}

static void check_number(const char *name)
{
	struct shard_name number;
	char *same;

	(void)shard_name_index_len(name);
	if (!shard_name_parse(name, &number))
		return;
	require(number.number >= 1 && number.number <= number.count);
	same = shard_name_make(name, &number, number.number);
	require(same && strcmp(same, name) == 0);
	free(same);
}

static void check_index(const struct shard_index *index)
{
	require(index->tensor_count > 0 && index->tensor_count <= LIMIT_TENSORS);
	require(index->file_count > 0 && index->file_count <= LIMIT_SHARDS);
	for (size_t i = 0; i < index->file_count; i++) {
		const struct shard_index_file *file = &index->files[i];

		check_path(file->name);
		check_number(file->name);
		require(i == 0 || strcmp(index->files[i - 1].name, file->name) < 0);
		require(file->first < index->tensor_count);
		require(index->tensors[file->first].file == i);
	}
	for (size_t i = 0; i < index->tensor_count; i++)
		require(index->tensors[i].file < index->file_count &&
			index->files[index->tensors[i].file].first <= i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct diag diag = { 0 };
	struct shard_index index;
	struct reader r;
	int err;

	reader_init_memory(&r, data, size, &diag);
	err = shard_index_read(&r, OWN_NAME, &index);
	if (err < 0)
		check_words(err, &diag);
	else
		check_index(&index);
	shard_index_fini(&index);
	reader_fini(&r);
	return 0;
}
