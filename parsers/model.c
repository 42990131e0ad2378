#include "parsers/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "parsers/limits.h"
#include "util/arena.h"
#include "util/hash.h"

/* Warnings beyond these are dropped: a hostile file could cause one for each tensor. */
#define MOST_WARNINGS 64

struct model {
	atomic_uint refs;
	const char *format;
	struct arena arena; /* names, shapes, reasons */

	struct tensor *tensors;
	size_t tensor_count;
	size_t tensor_capacity;
	uint64_t total_bytes;

	struct shard *shards;
	size_t shard_count;

	struct skipped_tensor *skipped;
	size_t skipped_count;
	size_t skipped_capacity;

	const char *warnings[MOST_WARNINGS];
	size_t warning_count;

	/* Open addressing by name: index of the tensor plus one, 0 is free. */
	uint32_t *slots;
	size_t slot_mask; /* number of slots (a power of two) less one */
	uint64_t hash_seed;
};

#define FIRST_SLOTS 64

int model_new(const char *format, struct model **model)
{
	struct model *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->slots = calloc(FIRST_SLOTS, sizeof(*m->slots));
	if (!m->slots) {
		free(m);
		return -ENOMEM;
	}
	m->slot_mask = FIRST_SLOTS - 1;
	m->hash_seed = hash_random_seed();
	m->format = format;
	atomic_init(&m->refs, 1);
	*model = m;
	return 0;
}

struct model *model_ref(struct model *model)
{
	(void)atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
	return model;
}

void model_unref(struct model *model)
{
	if (!model ||
	    atomic_fetch_sub_explicit(&model->refs, 1, memory_order_acq_rel) > 1)
		return;
	arena_fini(&model->arena);
	free(model->tensors);
	free(model->shards);
	free(model->skipped);
	free(model->slots);
	free(model);
}

static int fail_memory(struct diag *diag)
{
	return diag_fail(diag, -ENOMEM, "out of memory");
}

int model_add_shard(struct model *model, const char *name, uint64_t size, uint16_t *index,
		    struct diag *diag)
{
	struct shard *shards;
	char *copy;

	if (model->shard_count >= LIMIT_SHARDS)
		return diag_fail(diag, -E2BIG, "more than %u files", LIMIT_SHARDS);
	shards = reallocarray(model->shards, model->shard_count + 1, sizeof(*shards));
	if (!shards)
		return fail_memory(diag);
	model->shards = shards;
	copy = arena_copy(&model->arena, name, strlen(name));
	if (!copy)
		return fail_memory(diag);
	shards[model->shard_count] = (struct shard){ .name = copy, .size = size };
	*index = (uint16_t)model->shard_count++;
	return 0;
}

void model_set_part(struct model *model, uint16_t shard, const struct shard_part *part)
{
	model->shards[shard].part = *part;
}

/* The slot that holds the tensor of this name, or the free one where it belongs. */
static uint32_t *find_slot(const struct model *model, const char *name, size_t len)
{
	size_t at = (size_t)hash_seeded(name, len, model->hash_seed) & model->slot_mask;

	for (;;) {
		uint32_t *slot = &model->slots[at];
		const struct tensor *t;

		if (*slot == 0)
			return slot;
		t = &model->tensors[*slot - 1];
		if (t->name_len == len && memcmp(t->name, name, len) == 0)
			return slot;
		at = (at + 1) & model->slot_mask;
	}
}

/* Fills a table of `count` slots (a power of two) with all tensors. */
static int rehash(struct model *model, size_t count)
{
	uint32_t *slots = calloc(count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	free(model->slots);
	model->slots = slots;
	model->slot_mask = count - 1;
	for (size_t i = 0; i < model->tensor_count; i++) {
		const struct tensor *t = &model->tensors[i];

		*find_slot(model, t->name, t->name_len) = (uint32_t)i + 1;
	}
	return 0;
}

/* The slots grow first: a full table would be searched for ever. */
static int reserve_tensors(struct model *model, size_t capacity)
{
	size_t slots = model->slot_mask + 1;
	struct tensor *tensors;

	while (slots / 4 * 3 < capacity)
		slots *= 2;
	if (slots > model->slot_mask + 1 && rehash(model, slots) < 0)
		return -ENOMEM;
	if (capacity <= model->tensor_capacity)
		return 0;
	tensors = reallocarray(model->tensors, capacity, sizeof(*tensors));
	if (!tensors)
		return -ENOMEM;
	model->tensors = tensors;
	model->tensor_capacity = capacity;
	return 0;
}

void model_reserve(struct model *model, size_t count)
{
	if (count > LIMIT_TENSORS)
		count = LIMIT_TENSORS;
	/* Only a hint: without the memory, model_add_tensor() will say so. */
	(void)reserve_tensors(model, model->tensor_count + count);
}

/* For one use in an error: quoting each tensor's name beforehand costs a fifth of the
 * time that a large model takes. */
#define QUOTED(t) DIAG_QUOTED((t)->name, (t)->name_len)

static int check_size(const struct tensor *t, struct diag *diag)
{
	uint64_t nbytes;

	switch (dtype_nbytes((enum dtype)t->dtype, t->shape, t->rank, &nbytes)) {
	case -EOVERFLOW:
		return diag_fail(
			diag, -EBADMSG,
			"tensor %s: its shape has more elements or bytes than 64 bits count",
			QUOTED(t));
	case -EINVAL:
		return diag_fail(
			diag, -EBADMSG,
			"tensor %s: its shape does not fill whole blocks of %u elements of %s",
			QUOTED(t), dtype_info((enum dtype)t->dtype)->block_elems,
			dtype_info((enum dtype)t->dtype)->name);
	default:
		break;
	}
	if (nbytes != t->nbytes)
		return diag_fail(diag, -EBADMSG,
				 "tensor %s: has %" PRIu64
				 " bytes, its dtype and shape need %" PRIu64,
				 QUOTED(t), t->nbytes, nbytes);
	return 0;
}

static int check_range(const struct model *model, const struct tensor *t,
		       struct diag *diag)
{
	const struct shard *shard = &model->shards[t->shard];
	uint64_t end;

	if (__builtin_add_overflow(t->offset, t->nbytes, &end))
		return diag_fail(diag, -EBADMSG,
				 "tensor %s: %" PRIu64 " bytes at %" PRIu64
				 " end above 2^64",
				 QUOTED(t), t->nbytes, t->offset);
	if (end > shard->size)
		return diag_fail(diag, -EBADMSG,
				 "tensor %s: data ends at %" PRIu64 ", file has %" PRIu64
				 " bytes",
				 QUOTED(t), end, shard->size);
	return 0;
}

static int check_tensor(const struct model *model, const struct tensor *t,
			struct diag *diag)
{
	int err;

	if (t->name_len > LIMIT_NAME_BYTES)
		return diag_fail(diag, -E2BIG,
				 "tensor %s: name has %u bytes, at most %u are served",
				 QUOTED(t), t->name_len, LIMIT_NAME_BYTES);
	if (t->rank > LIMIT_RANK)
		return diag_fail(diag, -E2BIG,
				 "tensor %s: %u dimensions, at most %u are served",
				 QUOTED(t), t->rank, LIMIT_RANK);
	if (model->tensor_count >= LIMIT_TENSORS)
		return diag_fail(diag, -E2BIG, "tensor %s: more than %u tensors",
				 QUOTED(t), LIMIT_TENSORS);
	err = check_size(t, diag);
	if (err < 0)
		return err;
	return check_range(model, t, diag);
}

static int fail_duplicate(const struct model *model, const struct tensor *tensor,
			  const struct tensor *before, struct diag *diag)
{
	const char *first = model->shards[before->shard].name;
	const char *second = model->shards[tensor->shard].name;

	if (before->shard == tensor->shard)
		return diag_fail(diag, -EEXIST, "tensor %s: the name occurs twice",
				 QUOTED(tensor));
	return diag_fail(diag, -EEXIST, "tensor %s: is in %s and in %s", QUOTED(tensor),
			 DIAG_QUOTED(first, strlen(first)),
			 DIAG_QUOTED(second, strlen(second)));
}

int model_add_tensor(struct model *model, const struct tensor *tensor, struct diag *diag)
{
	struct tensor copy = *tensor;
	uint32_t *slot;
	uint64_t *shape;
	int err;

	err = check_tensor(model, tensor, diag);
	if (err < 0)
		return err;
	if (model->tensor_count == model->tensor_capacity &&
	    reserve_tensors(model, model->tensor_count ? model->tensor_count * 2 : 16) <
		    0)
		return fail_memory(diag);
	slot = find_slot(model, tensor->name, tensor->name_len);
	if (*slot != 0)
		return fail_duplicate(model, tensor, &model->tensors[*slot - 1], diag);
	copy.name = arena_copy(&model->arena, tensor->name, tensor->name_len);
	shape = arena_alloc(&model->arena, tensor->rank * sizeof(*shape));
	if (!copy.name || !shape)
		return fail_memory(diag);
	if (tensor->rank > 0)
		memcpy(shape, tensor->shape, tensor->rank * sizeof(*shape));
	copy.shape = shape;
	model->tensors[model->tensor_count++] = copy;
	*slot = (uint32_t)model->tensor_count;
	/* Tensors of some formats may share bytes: a sum above 2^64 stays at that. */
	if (__builtin_add_overflow(model->total_bytes, tensor->nbytes,
				   &model->total_bytes))
		model->total_bytes = UINT64_MAX;
	return 0;
}

int model_skip_tensor(struct model *model, const char *name, size_t len,
		      const char *reason, struct diag *diag)
{
	struct skipped_tensor copy = { .name_len = len };

	if (model->skipped_count >= LIMIT_TENSORS)
		return diag_fail(diag, -E2BIG, "more than %u tensors", LIMIT_TENSORS);
	if (model->skipped_count == model->skipped_capacity) {
		size_t capacity =
			model->skipped_capacity ? model->skipped_capacity * 2 : 16;
		struct skipped_tensor *grown =
			reallocarray(model->skipped, capacity, sizeof(*grown));

		if (!grown)
			return fail_memory(diag);
		model->skipped = grown;
		model->skipped_capacity = capacity;
	}
	copy.name = arena_copy(&model->arena, name, len);
	copy.reason = arena_copy(&model->arena, reason, strlen(reason));
	if (!copy.name || !copy.reason)
		return fail_memory(diag);
	model->skipped[model->skipped_count++] = copy;
	return 0;
}

void model_warn(struct model *model, const char *format, ...)
{
	char text[512];
	va_list args;
	char *copy;

	if (model->warning_count == MOST_WARNINGS)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	copy = arena_copy(&model->arena, text, strlen(text));
	if (copy)
		model->warnings[model->warning_count++] = copy;
}

void model_prefix_warnings(struct model *model, size_t first, const char *subject)
{
	for (size_t i = first; i < model->warning_count; i++) {
		char text[1024];
		const char *copy;

		(void)snprintf(text, sizeof(text), "%s: %s", subject, model->warnings[i]);
		copy = arena_copy(&model->arena, text, strlen(text));
		if (copy)
			model->warnings[i] = copy;
	}
}

/* By shard and offset; empty tensors may share an offset, so the name decides then. */
static int compare_tensors(const void *left, const void *right)
{
	const struct tensor *a = left;
	const struct tensor *b = right;
	size_t common = a->name_len < b->name_len ? a->name_len : b->name_len;
	int order;

	if (a->shard != b->shard)
		return a->shard < b->shard ? -1 : 1;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	if (a->nbytes != b->nbytes)
		return a->nbytes < b->nbytes ? -1 : 1;
	order = memcmp(a->name, b->name, common);
	return order ? order : (a->name_len > b->name_len) - (a->name_len < b->name_len);
}

static bool is_sorted(const struct model *model)
{
	for (size_t i = 1; i < model->tensor_count; i++)
		if (compare_tensors(&model->tensors[i - 1], &model->tensors[i]) > 0)
			return false;
	return true;
}

int model_seal(struct model *model)
{
	if (model->tensor_count > 0 && model->tensor_count < model->tensor_capacity) {
		struct tensor *fitting = reallocarray(model->tensors, model->tensor_count,
						      sizeof(*model->tensors));

		if (!fitting)
			return -ENOMEM;
		model->tensors = fitting;
		model->tensor_capacity = model->tensor_count;
	}
	if (is_sorted(model))
		return 0;
	qsort(model->tensors, model->tensor_count, sizeof(*model->tensors),
	      compare_tensors);
	return rehash(model, model->slot_mask + 1);
}

const char *model_format(const struct model *model)
{
	return model->format;
}

size_t model_tensor_count(const struct model *model)
{
	return model->tensor_count;
}

size_t model_shard_count(const struct model *model)
{
	return model->shard_count;
}

size_t model_skipped_count(const struct model *model)
{
	return model->skipped_count;
}

size_t model_warning_count(const struct model *model)
{
	return model->warning_count;
}

uint64_t model_total_bytes(const struct model *model)
{
	return model->total_bytes;
}

const struct tensor *model_tensor(const struct model *model, size_t index)
{
	return &model->tensors[index];
}

const struct shard *model_shard(const struct model *model, size_t index)
{
	return &model->shards[index];
}

const struct skipped_tensor *model_skipped(const struct model *model, size_t index)
{
	return &model->skipped[index];
}

const char *model_warning(const struct model *model, size_t index)
{
	return model->warnings[index];
}

const struct tensor *model_find_tensor(const struct model *model, const char *name,
				       size_t len)
{
	uint32_t slot = *find_slot(model, name, len);

	return slot ? &model->tensors[slot - 1] : NULL;
}

size_t model_tensor_index(const struct model *model, const struct tensor *tensor)
{
	return (size_t)(tensor - model->tensors);
}
