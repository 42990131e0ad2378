/*
 * A model: its files ("shards") and the byte ranges in them that are tensors.
 *
 * One thread builds it (model_new, model_add_*), seals it, and from then on it is
 * immutable and may be read by any number of threads without a lock. It is reference
 * counted.
 */
#ifndef PARSERS_MODEL_H
#define PARSERS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parsers/diag.h"
#include "parsers/dtype.h"

struct model;

/* What a file says of itself where it is one of several (the keys split.* of GGUF). */
struct shard_part {
	bool has_number;
	bool has_count;
	bool has_tensors;
	uint32_t number; /* from 0 */
	uint32_t count;  /* files */
	int64_t tensors; /* in all files */
};

/* One file of the model. */
struct shard {
	const char *name; /* relative to the model's directory, NUL-terminated */
	uint64_t size;    /* bytes */
	struct shard_part part;
};

struct tensor {
	const char *name; /* name_len bytes, which may be anything, NUL included */
	const uint64_t
		*shape;  /* `rank` dimensions in elements, row-major, outermost first */
	uint64_t offset; /* of the first byte, in the shard */
	uint64_t nbytes;
	uint32_t name_len;
	uint16_t shard; /* index for model_shard() */
	uint8_t rank;
	uint8_t dtype; /* enum dtype */
};

/* A tensor that the file holds but that is not served. */
struct skipped_tensor {
	const char *name;
	size_t name_len;
	const char *reason;
};

/* `format` is the parser's name and is not copied. Returns 0 or -ENOMEM. */
MUST_CHECK int model_new(const char *format, struct model **model);
struct model *model_ref(struct model *model);
void model_unref(struct model *model); /* NULL is fine */

/* ---- Building, one thread, before model_seal() ---- */

/* The name is copied. Returns 0, -E2BIG or -ENOMEM. */
MUST_CHECK int model_add_shard(struct model *model, const char *name, uint64_t size,
			       uint16_t *index, struct diag *diag);

/* Keeps what the file says of itself. */
void model_set_part(struct model *model, uint16_t shard, const struct shard_part *part);

/* Makes room for `count` more tensors: a hint that saves growing step by step. */
void model_reserve(struct model *model, size_t count);

/*
 * The gate for every tensor of every format. Name and shape are copied. Checks that the
 * range lies within the shard, that `nbytes` is what dtype and shape say, that the rank
 * and the name's length are within the limits and that the name is new. Returns 0,
 * -EBADMSG, -EEXIST (duplicate name, in this or another shard), -E2BIG (over a limit) or
 * -ENOMEM.
 */
MUST_CHECK int model_add_tensor(struct model *model, const struct tensor *tensor,
				struct diag *diag);

/* Notes a tensor that is not served. Name and reason are copied. */
MUST_CHECK int model_skip_tensor(struct model *model, const char *name, size_t len,
				 const char *reason, struct diag *diag);

/* Notes something odd that does not stop the model from being served. */
PRINTF_LIKE(2, 3) void model_warn(struct model *model, const char *format, ...);

/* Puts "SUBJECT: " in front of the warnings from the `first` one on, where it was not
 * known before that there is more than one subject. */
void model_prefix_warnings(struct model *model, size_t first, const char *subject);

/* Orders the tensors by shard and offset and gives back spare memory. Returns 0 or
 * -ENOMEM. */
MUST_CHECK int model_seal(struct model *model);

/* ---- Reading, any thread, after model_seal() ---- */

const char *model_format(const struct model *model);
size_t model_tensor_count(const struct model *model);
size_t model_shard_count(const struct model *model);
size_t model_skipped_count(const struct model *model);
size_t model_warning_count(const struct model *model);
uint64_t model_total_bytes(const struct model *model); /* sum of nbytes */

/* `index` must be below the count; what is returned lives as long as the model. */
const struct tensor *model_tensor(const struct model *model, size_t index);
const struct shard *model_shard(const struct model *model, size_t index);
const struct skipped_tensor *model_skipped(const struct model *model, size_t index);
const char *model_warning(const struct model *model, size_t index);

/* The tensor of that name, or NULL. */
const struct tensor *model_find_tensor(const struct model *model, const char *name,
				       size_t len);

/* The position of a tensor of this model, as model_tensor() takes it. */
size_t model_tensor_index(const struct model *model, const struct tensor *tensor);

#endif
