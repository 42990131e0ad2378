/*
 * Names of files that are one of several: STEM-00002-of-00005.SUFFIX, as the writers of
 * safetensors, PyTorch and GGUF files number them, or with other numbers of digits, as
 * large published models have them (model-00001-of-000163, model-1-of-61); and names of
 * the indexes that list such files.
 */
#ifndef PARSERS_SHARD_NAME_H
#define PARSERS_SHARD_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/macros.h"

struct shard_name {
	size_t stem_len; /* bytes in front of "-00002-of-00005" */
	uint32_t number; /* from 1 to `count` */
	uint32_t count;
	uint8_t number_digits;
	uint8_t count_digits;
	const char *suffix; /* what follows, in the name; begins with a dot or is empty */
};

/* Whether the name has a number of that kind; the last one counts. `parsed` points into
 * `name`. */
bool shard_name_parse(const char *name, struct shard_name *parsed);

/* The name of the file with that number beside `name`, which `parsed` is of, with no
 * fewer digits. The caller frees it; NULL when out of memory. */
char *shard_name_make(const char *name, const struct shard_name *parsed, uint32_t number);

/* Whether both names are of one set: the same stem, count and suffix. */
bool shard_name_same_set(const char *a, const struct shard_name *a_parsed, const char *b,
			 const struct shard_name *b_parsed);

/*
 * Bytes of what an index's name says it is the index of: "model.safetensors" of
 * model.safetensors.index.json, and of model.safetensors.index.fp16.json, as variants are
 * named. 0: it is no name of an index.
 */
size_t shard_name_index_len(const char *name);

#endif
