#include "named_model.h"

#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

#define NAME_MAX_LEN 96
#define SMALL_BYTES  8192u

const char *const named_parts_called[NAMED_PARTS] = {
	"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
	"mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj",
};

const char *const named_parts_sorted[NAMED_PARTS] = {
	"mlp.down_proj",    "mlp.gate_proj",    "mlp.up_proj",      "self_attn.k_proj",
	"self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj",
};

void named_model_begin(struct named_model *named)
{
	struct diag diag;
	uint16_t shard;

	named->end = 0;
	ck_assert_int_eq(model_new("test", &named->model), 0);
	ck_assert_int_eq(
		model_add_shard(named->model, "m", UINT64_MAX / 2, &shard, &diag), 0);
}

void named_model_add(struct named_model *named, const char *name, uint64_t bytes)
{
	const struct tensor tensor = { .name = name,
				       .name_len = (uint32_t)strlen(name),
				       .shape = &bytes,
				       .rank = 1,
				       .offset = named->end,
				       .nbytes = bytes,
				       .dtype = DTYPE_U8 };
	struct diag diag;

	ck_assert_int_eq(model_add_tensor(named->model, &tensor, &diag), 0);
	named->end += bytes;
}

struct model *named_model_end(struct named_model *named)
{
	ck_assert_int_eq(model_seal(named->model), 0);
	return named->model;
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(a, b);
}

struct model *named_model_decoder(unsigned int layers, uint64_t bytes)
{
	size_t count = 0;
	char(*names)[NAME_MAX_LEN] =
		calloc((size_t)layers * (NAMED_PARTS + 2) + 2, sizeof(*names));
	struct named_model named;

	ck_assert_ptr_nonnull(names);
	(void)snprintf(names[count++], NAME_MAX_LEN, "model.embed_tokens.weight");
	(void)snprintf(names[count++], NAME_MAX_LEN, "lm_head.weight");
	for (unsigned int i = 0; i < layers; i++) {
		for (unsigned int part = 0; part < NAMED_PARTS; part++)
			(void)snprintf(names[count++], NAME_MAX_LEN,
				       "model.layers.%u.%s.weight", i,
				       named_parts_called[part]);
		(void)snprintf(names[count++], NAME_MAX_LEN,
			       "model.layers.%u.input_layernorm.weight", i);
		(void)snprintf(names[count++], NAME_MAX_LEN,
			       "model.layers.%u.post_attention_layernorm.weight", i);
	}
	qsort(names, count, sizeof(*names), compare_strings);
	named_model_begin(&named);
	for (size_t i = 0; i < count; i++)
		named_model_add(&named, names[i],
				strstr(names[i], "norm") ? SMALL_BYTES : bytes);
	free(names);
	return named_model_end(&named);
}

uint32_t named_model_find(const struct model *model, unsigned int layer, const char *part)
{
	char name[NAME_MAX_LEN];
	const struct tensor *tensor;

	(void)snprintf(name, sizeof(name), "model.layers.%u.%s.weight", layer, part);
	tensor = model_find_tensor(model, name, strlen(name));
	ck_assert_msg(tensor, "no tensor %s", name);
	return (uint32_t)model_tensor_index(model, tensor);
}
