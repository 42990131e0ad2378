/* Models of tensors with names that matter, for tests of prediction. */
#ifndef TESTS_NAMED_MODEL_H
#define TESTS_NAMED_MODEL_H

#include "parsers/model.h"

#define NAMED_MIB ((uint64_t)1 << 20)

/* One that is built, tensor by tensor in the order of the file. */
struct named_model {
	struct model *model;
	uint64_t end; /* of the bytes so far */
};

void named_model_begin(struct named_model *named);
void named_model_add(struct named_model *named, const char *name, uint64_t bytes);

/* Seals it. The caller owns a reference. */
struct model *named_model_end(struct named_model *named);

/*
 * A decoder of `layers` layers as a safetensors file has it, sorted by name: so layer 10
 * comes before layer 2. Each has the seven matrices of `bytes` bytes that most of them
 * have, and two small norms. model.embed_tokens and lm_head are as large as a matrix.
 */
struct model *named_model_decoder(unsigned int layers, uint64_t bytes);

/* Position in the file of model.layers.N.PART.weight. */
uint32_t named_model_find(const struct model *model, unsigned int layer,
			  const char *part);

/* The seven parts as modules are called, and as the file has them. */
#define NAMED_PARTS 7u
extern const char *const named_parts_called[NAMED_PARTS];
extern const char *const named_parts_sorted[NAMED_PARTS];

#endif
