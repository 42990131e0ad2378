/*
 * The index of a model in several files, as transformers and diffusers write it beside
 * them (model.safetensors.index.json, pytorch_model.bin.index.json):
 *
 *     {"metadata": {"total_size": 123},
 *      "weight_map": {"a.weight": "model-00001-of-00002.safetensors", ...}}
 *
 * This reads the text and knows no files: names are checked to stay in the directory as
 * they are written; where a link leads is for whoever opens them. `metadata` is checked
 * as JSON and ignored, because its sizes are often wrong.
 */
#ifndef PARSERS_SHARD_INDEX_H
#define PARSERS_SHARD_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "parsers/json_scan.h"
#include "parsers/reader.h"
#include "util/arena.h"

struct shard_index_tensor {
	const char *name; /* name_len bytes of UTF-8, not terminated; may hold NUL */
	uint32_t name_len;
	uint16_t file; /* in shard_index.files */
};

struct shard_index_file {
	const char *name; /* relative to the index, terminated */
	uint32_t first;   /* the first tensor that is said to be in it */
};

struct shard_index {
	struct shard_index_tensor *tensors; /* in the order of the text; names differ */
	size_t tensor_count;                /* at least 1 */
	struct shard_index_file *files;     /* in the order of their names */
	size_t file_count;

	/* Private. */
	size_t tensor_capacity;
	struct arena arena;
	struct json_scan scan;
};

/*
 * Reads the index from the start of the file. `own_name` is the index's own name, which
 * it must not list. 0; -EBADMSG, -EEXIST (a key or a tensor twice), -E2BIG, -EIO or
 * -ENOMEM with the words in r->diag. Names of tensors lie in what the reader has read:
 * use it for nothing else, and keep it, until shard_index_fini(), which is needed in
 * either case.
 */
MUST_CHECK int shard_index_read(struct reader *r, const char *own_name,
				struct shard_index *index);
void shard_index_fini(struct shard_index *index);

#endif
