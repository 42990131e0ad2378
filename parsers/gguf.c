/*
 * GGUF, versions 2 and 3 (ggml's gguf.cpp, 2026-08). All numbers are little-endian.
 *
 *	4	magic "GGUF"
 *	u32	version
 *	u64	tensor count
 *	u64	key count
 *	for each key:
 *		string	key		u64 length, then the bytes, no NUL
 *		u32	type		enum kv_type
 *			value		a number, a string, or an array:
 *					u32 type, u64 count, the elements
 *	for each tensor:
 *		string	name		at most 63 bytes
 *		u32	rank		at most 4
 *		u64	dimension	`rank` times, innermost first
 *		u32	type		enum ggml_type
 *		u64	offset		from the start of the data
 *	padding to the alignment (key general.alignment, else 32)
 *	data of the tensors, in their order, each padded to the alignment
 *
 * Of the keys nothing is kept. The section of tensors is read twice, because where the
 * data starts is known only at its end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "parsers/formats.h"
#include "parsers/gguf_kv.h"
#include "parsers/key_set.h"
#include "parsers/limits.h"

#define MOST_RANK 4u       /* GGML_MAX_DIMS */
#define MOST_NAME 63u      /* GGML_MAX_NAME less the NUL */
#define MOST_KEYS 1000000u /* published files have about 50 */

/* The smallest key (one byte, with a value of one byte) and the smallest tensor. */
#define LEAST_KEY_BYTES    14u
#define LEAST_TENSOR_BYTES 24u

#define TENSOR_COUNT_POS 8u
#define KEY_COUNT_POS    16u

/* ---- Header ---- */

static int read_magic(struct reader *r)
{
	const uint8_t *magic;
	int err;

	err = reader_bytes(r, "magic", 4, &magic);
	if (err < 0)
		return err;
	if (memcmp(magic, "FUGG", 4) == 0)
		return diag_fail(r->diag, -ENOTSUP,
				 "magic at byte 0: 'FUGG' marks a big-endian file, only "
				 "little-endian ones are read");
	if (memcmp(magic, "GGUF", 4) != 0)
		return diag_fail(r->diag, -EBADMSG,
				 "magic at byte 0: %s, expected 'GGUF'",
				 DIAG_QUOTED(magic, 4));
	return 0;
}

static int read_version(struct reader *r, uint32_t *version)
{
	uint32_t v;
	int err;

	err = reader_u32(r, "version", &v);
	if (err < 0)
		return err;
	if (v == 0)
		return diag_fail(r->diag, -EBADMSG,
				 "version at byte 4: 0, there is no such version");
	if (v == 1)
		return diag_fail(
			r->diag, -ENOTSUP,
			"version at byte 4: 1, its 32-bit layout is not read, only "
			"versions 2 and 3 are");
	/* A small number with its bytes swapped. */
	if ((v & 0xffff) == 0)
		return diag_fail(
			r->diag, -ENOTSUP,
			"version at byte 4: %" PRIu32 " is %" PRIu32
			" in a big-endian file, only little-endian ones are read",
			v, __builtin_bswap32(v));
	if (v > 3)
		return diag_fail(r->diag, -ENOTSUP,
				 "version at byte 4: %" PRIu32
				 ", only versions 2 and 3 are read",
				 v);
	*version = v;
	return 0;
}

static int read_header(struct reader *r, struct gguf_header *h)
{
	int err;

	err = reader_seek(r, "magic", 0);
	if (err < 0)
		return err;
	err = read_magic(r);
	if (err < 0)
		return err;
	err = read_version(r, &h->version);
	if (err < 0)
		return err;
	err = reader_u64(r, "tensor count", &h->tensor_count);
	if (err < 0)
		return err;
	err = reader_u64(r, "key count", &h->key_count);
	if (err < 0)
		return err;
	err = gguf_check_count(r, "tensor count", TENSOR_COUNT_POS, h->tensor_count,
			       LEAST_TENSOR_BYTES, LIMIT_TENSORS);
	if (err < 0)
		return err;
	return gguf_check_count(r, "key count", KEY_COUNT_POS, h->key_count,
				LEAST_KEY_BYTES, MOST_KEYS);
}

/* ---- Tensors ---- */

struct tensor_info {
	uint64_t pos; /* where in the file */
	char name[MOST_NAME + 1];
	uint32_t name_len;
	uint32_t rank;
	uint64_t shape[MOST_RANK]; /* outermost first */
	enum dtype dtype;
	uint64_t nbytes;
	uint64_t offset; /* in the data */
};

static int read_rank(struct reader *r, uint32_t *rank)
{
	uint64_t pos = r->pos;
	int err;

	err = reader_u32(r, "rank", rank);
	if (err < 0)
		return err;
	if (*rank > MOST_RANK)
		return diag_fail(r->diag, -EBADMSG,
				 "rank at byte %" PRIu64 ": %" PRIu32
				 " dimensions, at most %u are allowed",
				 pos, *rank, MOST_RANK);
	return 0;
}

/*
 * The dimensions that are not zero must have a product below 2^63: numpy and ggml count
 * elements in 64 bits with a sign, also those of a tensor that is empty.
 */
static int read_shape(struct reader *r, struct tensor_info *t)
{
	int64_t elements = 1;
	int err;

	for (uint32_t i = 0; i < t->rank; i++) {
		uint64_t pos = r->pos;
		int64_t before = elements;
		uint64_t n;

		err = reader_u64(r, "dimension", &n);
		if (err < 0)
			return err;
		if (n > INT64_MAX)
			return diag_fail(r->diag, -EBADMSG,
					 "dimension at byte %" PRIu64 ": %" PRId64
					 " is negative",
					 pos, (int64_t)n);
		if (n > 0 && __builtin_mul_overflow(before, n, &elements))
			return diag_fail(r->diag, -EBADMSG,
					 "dimension at byte %" PRIu64 ": %" PRIu64
					 " times %" PRId64
					 " are more elements than 2^63 - 1",
					 pos, n, before);
		t->shape[t->rank - 1 - i] = n;
	}
	return 0;
}

static int read_dtype(struct reader *r, enum dtype *dtype)
{
	uint64_t pos = r->pos;
	uint32_t id;
	int err;

	err = reader_u32(r, "type", &id);
	if (err < 0)
		return err;
	*dtype = dtype_from_ggml(id);
	if (*dtype == DTYPE_COUNT)
		return diag_fail(r->diag, -ENOTSUP,
				 "type at byte %" PRIu64 ": %" PRId32
				 " is removed from ggml or not known",
				 pos, (int32_t)id);
	return 0;
}

static int compute_nbytes(struct diag *diag, struct tensor_info *t)
{
	const struct dtype_info *info = dtype_info(t->dtype);

	switch (dtype_nbytes(t->dtype, t->shape, t->rank, &t->nbytes)) {
	case 0:
		return 0;
	case -EINVAL:
		return diag_fail(diag, -EBADMSG,
				 "rows of %" PRIu64 " elements, %s has blocks of %u",
				 t->rank ? t->shape[t->rank - 1] : 1, info->name,
				 info->block_elems);
	default:
		return diag_fail(diag, -EBADMSG,
				 "more blocks of %u bytes than 2^64 - 1 bytes hold",
				 info->block_bytes);
	}
}

/* What stands behind the name. */
static int read_layout(struct reader *r, struct tensor_info *t)
{
	int err;

	err = read_rank(r, &t->rank);
	if (err < 0)
		return err;
	err = read_shape(r, t);
	if (err < 0)
		return err;
	err = read_dtype(r, &t->dtype);
	if (err < 0)
		return err;
	err = compute_nbytes(r->diag, t);
	if (err < 0)
		return err;
	return reader_u64(r, "offset", &t->offset);
}

/* Puts "tensor 'NAME' at byte POS: " in front of what was worded already. */
static int blame_tensor(struct diag *diag, int err, const struct tensor_info *t)
{
	char prefix[DIAG_QUOTE_MAX + 64];

	(void)snprintf(prefix, sizeof(prefix), "tensor %s at byte %" PRIu64,
		       DIAG_QUOTED(t->name, t->name_len), t->pos);
	diag_prefix(diag, prefix);
	return err;
}

static int read_tensor(struct reader *r, struct tensor_info *t)
{
	const uint8_t *name;
	uint64_t len;
	int err;

	*t = (struct tensor_info){ .pos = r->pos };
	err = gguf_read_length(r, "tensor name", MOST_NAME, &len);
	if (err < 0)
		return err;
	err = reader_bytes(r, "tensor name", len, &name);
	if (err < 0)
		return err;
	memcpy(t->name, name, (size_t)len);
	t->name_len = (uint32_t)len;
	err = read_layout(r, t);
	return err < 0 ? blame_tensor(r->diag, err, t) : 0;
}

/* `value` up to the next multiple of `alignment`, a power of two; -EOVERFLOW above 2^64.
 */
static int align_up(uint64_t value, uint32_t alignment, uint64_t *aligned)
{
	uint64_t sum;

	if (__builtin_add_overflow(value, (uint64_t)alignment - 1, &sum))
		return -EOVERFLOW;
	*aligned = sum & ~((uint64_t)alignment - 1);
	return 0;
}

/* The second pass over the section of tensors. */
struct tensor_walk {
	struct reader *r;
	struct model *model;
	uint16_t shard;
	uint32_t alignment;
	uint64_t data_pos; /* in the file */
	uint64_t data_end; /* of the tensors so far, from data_pos, padded */
	struct key_set names;
};

/* ggml demands that each tensor follows the one before, and so do we: a gap or an overlap
 * means that the file is not what its writer meant. */
static int place_tensor(struct tensor_walk *w, const struct tensor_info *t,
			uint64_t *offset)
{
	uint64_t end;

	if (t->offset != w->data_end)
		return diag_fail(w->r->diag, -EBADMSG,
				 "data at offset %" PRIu64 ", expected %" PRIu64
				 " behind the tensor before",
				 t->offset, w->data_end);
	if (__builtin_add_overflow(t->offset, t->nbytes, &end) ||
	    align_up(end, w->alignment, &end) < 0 ||
	    __builtin_add_overflow(w->data_pos, t->offset, offset))
		return diag_fail(w->r->diag, -EBADMSG,
				 "%" PRIu64 " bytes at offset %" PRIu64 " end above 2^64",
				 t->nbytes, t->offset);
	w->data_end = end;
	return 0;
}

/* ggml compares names as C strings: what stands behind a NUL does not tell two apart. */
static int note_tensor_name(struct tensor_walk *w, const struct tensor_info *t)
{
	const struct tensor *added =
		model_tensor(w->model, model_tensor_count(w->model) - 1);
	size_t len = strnlen(added->name, added->name_len);

	switch (key_set_add(&w->names, added->name, len)) {
	case 0:
		return 0;
	case -EEXIST:
		return diag_fail(w->r->diag, -EEXIST,
				 "%" PRIu32
				 " bytes of name, C programs see the first %zu, "
				 "which occurred",
				 t->name_len, len);
	default:
		return diag_fail(w->r->diag, -ENOMEM, "out of memory");
	}
}

static int add_tensor(struct tensor_walk *w, const struct tensor_info *t)
{
	struct tensor tensor = { .name = t->name,
				 .shape = t->shape,
				 .nbytes = t->nbytes,
				 .name_len = t->name_len,
				 .shard = w->shard,
				 .rank = (uint8_t)t->rank,
				 .dtype = (uint8_t)t->dtype };
	int err;

	err = place_tensor(w, t, &tensor.offset);
	if (err < 0)
		return blame_tensor(w->r->diag, err, t);
	err = model_add_tensor(w->model, &tensor, w->r->diag);
	if (err < 0)
		return err;
	if (t->name_len == 0)
		model_warn(w->model, "tensor at byte %" PRIu64 ": its name is empty",
			   t->pos);
	err = note_tensor_name(w, t);
	return err < 0 ? blame_tensor(w->r->diag, err, t) : 0;
}

/* Moves over the section of tensors to learn where it ends. */
static int skip_tensors(struct reader *r, uint64_t count)
{
	struct tensor_info t;
	int err = 0;

	for (uint64_t i = 0; err == 0 && i < count; i++)
		err = read_tensor(r, &t);
	return err;
}

static int walk_tensors(struct tensor_walk *w, uint64_t count)
{
	uint64_t first = w->r->pos;
	struct tensor_info t;
	int err;

	err = skip_tensors(w->r, count);
	if (err < 0)
		return err;
	if (align_up(w->r->pos, w->alignment, &w->data_pos) < 0)
		return diag_fail(w->r->diag, -EBADMSG,
				 "data behind byte %" PRIu64
				 ": starts above 2^64 with an alignment of %" PRIu32,
				 w->r->pos, w->alignment);
	err = reader_seek(w->r, "tensors", first);
	for (uint64_t i = 0; err == 0 && i < count; i++) {
		err = read_tensor(w->r, &t);
		if (err == 0)
			err = add_tensor(w, &t);
	}
	return err;
}

static void warn_of_oddities(const struct tensor_walk *w)
{
	uint64_t end;

	if (w->alignment % 8 != 0)
		model_warn(w->model,
			   "key 'general.alignment': %" PRIu32
			   " is no multiple of 8 as the format demands",
			   w->alignment);
	if (!__builtin_add_overflow(w->data_pos, w->data_end, &end) && end < w->r->size)
		model_warn(w->model,
			   "the file has %" PRIu64
			   " bytes, its last tensor ends at %" PRIu64,
			   w->r->size, end);
}

static int gguf_parse(struct reader *r, struct model *model, uint16_t shard)
{
	struct tensor_walk w = { .r = r, .model = model, .shard = shard };
	struct gguf_facts facts;
	struct gguf_header h;
	int err;

	err = read_header(r, &h);
	if (err < 0)
		return err;
	err = gguf_read_keys(r, &h, NULL, &facts);
	if (err < 0)
		return err;
	w.alignment = facts.alignment;
	model_set_part(model, shard, &facts.part);
	err = gguf_check_count(r, "tensor count", TENSOR_COUNT_POS, h.tensor_count,
			       LEAST_TENSOR_BYTES, LIMIT_TENSORS);
	if (err < 0)
		return err;
	model_reserve(model, (size_t)h.tensor_count);
	err = walk_tensors(&w, h.tensor_count);
	key_set_fini(&w.names);
	if (err == 0)
		warn_of_oddities(&w);
	return err;
}

static int gguf_write_metadata(struct reader *r, struct jsonw *out)
{
	struct gguf_facts facts;
	struct gguf_header h;
	int err;

	err = read_header(r, &h);
	if (err < 0)
		return err;
	jsonw_begin_object(out);
	err = gguf_read_keys(r, &h, out, &facts);
	if (err < 0)
		return err;
	jsonw_end_object(out);
	err = out->out->err;
	return err < 0 ? diag_fail(r->diag, err, "metadata does not fit memory") : 0;
}

static const struct parser_magic magics[] = {
	{ .offset = 0, .bytes = "GGUF", .len = 4 },
	/* Not read, but then the words say why. */
	{ .offset = 0, .bytes = "FUGG", .len = 4 },
	{ .bytes = NULL },
};

static const char *const suffixes[] = { ".gguf", NULL };

const struct parser_ops parser_gguf = {
	.name = "gguf",
	.longname = "GGUF (ggml, llama.cpp)",
	.magics = magics,
	.suffixes = suffixes,
	.parse = gguf_parse,
	.write_metadata = gguf_write_metadata,
};
