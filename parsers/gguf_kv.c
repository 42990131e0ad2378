/*
 * The keys and values of GGUF; the layout is at the top of gguf.c.
 *
 * Values are read once and either written as JSON or skipped, so that a vocabulary of
 * megabytes costs no memory. The keys are kept while they are read, to find those that
 * occur twice.
 */
#include "parsers/gguf_kv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "parsers/key_set.h"
#include "parsers/limits.h"
#include "util/arena.h"

#define DEFAULT_ALIGNMENT 32u
#define MOST_ALIGNMENT    (1u << 20)  /* ggml sets no limit; published files use 32 */
#define MOST_STRING       (1u << 30)  /* GGUF_MAX_STRING_LENGTH */
#define MOST_ELEMENTS     (1u << 30)  /* GGUF_MAX_ARRAY_ELEMENTS */
#define MOST_KEY_BYTES    (64u << 20) /* all keys together: they are kept while reading */
#define MOST_METADATA     (64u << 20) /* bytes of JSON; large vocabularies need 15 MiB */

enum kv_type {
	KV_U8,
	KV_I8,
	KV_U16,
	KV_I16,
	KV_U32,
	KV_I32,
	KV_F32,
	KV_BOOL,
	KV_STRING,
	KV_ARRAY,
	KV_U64,
	KV_I64,
	KV_F64,
	KV_TYPE_COUNT,
};

/* Bytes of a value of each type; 0 where the value says so itself. */
static const uint8_t kv_size[KV_TYPE_COUNT] = {
	[KV_U8] = 1,  [KV_I8] = 1,  [KV_U16] = 2, [KV_I16] = 2,
	[KV_U32] = 4, [KV_I32] = 4, [KV_F32] = 4, [KV_BOOL] = 1,
	[KV_U64] = 8, [KV_I64] = 8, [KV_F64] = 8,
};

/* ---- Lengths and counts ---- */

int gguf_read_length(struct reader *r, const char *what, uint64_t most, uint64_t *len)
{
	uint64_t pos = r->pos;
	uint64_t n;
	int err;

	err = reader_u64(r, what, &n);
	if (err < 0)
		return err;
	if (n > reader_left(r))
		return diag_fail(r->diag, -EBADMSG,
				 "%s at byte %" PRIu64 ": has %" PRIu64 " bytes, %" PRIu64
				 " are left in the file",
				 what, pos, n, reader_left(r));
	if (n > most)
		return diag_fail(r->diag, -E2BIG,
				 "%s at byte %" PRIu64 ": has %" PRIu64
				 " bytes, at most %" PRIu64 " are allowed",
				 what, pos, n, most);
	*len = n;
	return 0;
}

int gguf_check_count(struct reader *r, const char *what, uint64_t pos, uint64_t count,
		     unsigned int unit, uint64_t most)
{
	if (count > reader_left(r) / unit)
		return diag_fail(r->diag, -EBADMSG,
				 "%s at byte %" PRIu64 ": %" PRIu64
				 " of at least %u bytes each, %" PRIu64
				 " bytes are left in the file",
				 what, pos, count, unit, reader_left(r));
	if (count > most)
		return diag_fail(r->diag, -E2BIG,
				 "%s at byte %" PRIu64 ": %" PRIu64 ", at most %" PRIu64
				 " are served",
				 what, pos, count, most);
	return 0;
}

/* ---- Keys and values ---- */

/* One pass over the section of keys. */
struct kv_walk {
	struct reader *r;
	struct jsonw *out; /* where the values go; NULL: they are skipped */
	struct gguf_facts facts;
	struct key_set keys;
	struct arena arena; /* copies of the keys */
	uint64_t key_bytes; /* in them */
};

/* A number of `size` bytes (1, 2, 4 or 8), not sign-extended. */
static int read_bits(struct reader *r, const char *what, unsigned int size,
		     uint64_t *bits)
{
	const uint8_t *bytes;
	uint64_t v = 0;
	int err;

	err = reader_bytes(r, what, size, &bytes);
	if (err < 0)
		return err;
	for (unsigned int i = size; i-- > 0;)
		v = v << 8 | bytes[i];
	*bits = v;
	return 0;
}

static void write_float(struct jsonw *out, uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	jsonw_double(out, (double)value, 9);
}

static void write_double(struct jsonw *out, uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	jsonw_double(out, value, 17);
}

static void write_number(struct jsonw *out, enum kv_type type, uint64_t bits)
{
	switch (type) {
	case KV_I8:
		jsonw_i64(out, (int8_t)bits);
		break;
	case KV_I16:
		jsonw_i64(out, (int16_t)bits);
		break;
	case KV_I32:
		jsonw_i64(out, (int32_t)bits);
		break;
	case KV_I64:
		jsonw_i64(out, (int64_t)bits);
		break;
	case KV_F32:
		write_float(out, (uint32_t)bits);
		break;
	case KV_F64:
		write_double(out, bits);
		break;
	case KV_BOOL:
		jsonw_bool(out, bits != 0);
		break;
	case KV_U8:
	case KV_U16:
	case KV_U32:
	case KV_U64:
	case KV_STRING:
	case KV_ARRAY:
	case KV_TYPE_COUNT:
		jsonw_u64(out, bits);
		break;
	}
}

/* Before `more` bytes of the file are written as JSON. */
static int check_room(struct kv_walk *w, uint64_t more)
{
	size_t len = w->out->out->len;

	if (len > MOST_METADATA || more > MOST_METADATA - len)
		return diag_fail(
			w->r->diag, -E2BIG,
			"value at byte %" PRIu64 ": %" PRIu64
			" bytes more than %zu, at most %u are served as metadata",
			w->r->pos, more, len, MOST_METADATA);
	return 0;
}

static int read_string(struct kv_walk *w)
{
	const uint8_t *bytes;
	uint64_t len = 0;
	int err;

	err = gguf_read_length(w->r, "string", MOST_STRING, &len);
	if (err < 0)
		return err;
	if (!w->out)
		return reader_skip(w->r, "string", len);
	err = check_room(w, len);
	if (err < 0)
		return err;
	err = reader_bytes(w->r, "string", len, &bytes);
	if (err < 0)
		return err;
	jsonw_string_bytes(w->out, (const char *)bytes, (size_t)len);
	return 0;
}

/* A value that is no array. */
static int read_scalar(struct kv_walk *w, enum kv_type type)
{
	uint64_t bits;
	int err;

	if (type == KV_STRING)
		return read_string(w);
	if (!w->out)
		return reader_skip(w->r, "value", kv_size[type]);
	err = check_room(w, kv_size[type]);
	if (err < 0)
		return err;
	err = read_bits(w->r, "value", kv_size[type], &bits);
	if (err < 0)
		return err;
	write_number(w->out, type, bits);
	return 0;
}

static int read_type(struct reader *r, const char *what, enum kv_type *type)
{
	uint64_t pos = r->pos;
	uint32_t id;
	int err;

	err = reader_u32(r, what, &id);
	if (err < 0)
		return err;
	if (id >= KV_TYPE_COUNT)
		return diag_fail(r->diag, -EBADMSG,
				 "%s at byte %" PRIu64 ": %" PRId32 ", types are 0 to %d",
				 what, pos, (int32_t)id, KV_TYPE_COUNT - 1);
	*type = (enum kv_type)id;
	return 0;
}

/* The type and the count in front of an array. Arrays in arrays are refused as ggml does.
 */
static int read_array_head(struct reader *r, enum kv_type *type, uint64_t *count)
{
	uint64_t pos = r->pos;
	unsigned int unit;
	int err;

	err = read_type(r, "type of array", type);
	if (err < 0)
		return err;
	if (*type == KV_ARRAY)
		return diag_fail(r->diag, -ENOTSUP,
				 "type of array at byte %" PRIu64
				 ": %d, arrays in arrays are not read",
				 pos, KV_ARRAY);
	pos = r->pos;
	err = reader_u64(r, "array", count);
	if (err < 0)
		return err;
	unit = *type == KV_STRING ? sizeof(uint64_t) : kv_size[*type];
	return gguf_check_count(r, "elements of array", pos, *count, unit, MOST_ELEMENTS);
}

static int read_array(struct kv_walk *w)
{
	enum kv_type type = KV_ARRAY; /* gcc at -O3 does not see that it gets set */
	uint64_t count;
	int err;

	err = read_array_head(w->r, &type, &count);
	if (err < 0)
		return err;
	/* The count was held against the rest of the file, so this does not wrap. */
	if (!w->out && type != KV_STRING)
		return reader_skip(w->r, "array", count * kv_size[type]);
	if (w->out)
		jsonw_begin_array(w->out);
	for (uint64_t i = 0; i < count; i++) {
		err = read_scalar(w, type);
		if (err < 0)
			return err;
	}
	if (w->out)
		jsonw_end_array(w->out);
	return 0;
}

/* ---- Keys that say how to parse ---- */

/* A number whose type must be that one, as it must for ggml. */
static int read_wanted(struct kv_walk *w, enum kv_type type, enum kv_type wanted,
		       const char *wanted_name, uint64_t *bits)
{
	int err;

	if (type != wanted)
		return diag_fail(w->r->diag, -EBADMSG,
				 "type before byte %" PRIu64 ": %d, expected %d (%s)",
				 w->r->pos, (int)type, (int)wanted, wanted_name);
	err = read_bits(w->r, "value", kv_size[wanted], bits);
	if (err < 0)
		return err;
	if (w->out)
		write_number(w->out, wanted, *bits);
	return 0;
}

static int read_alignment(struct kv_walk *w, enum kv_type type)
{
	uint64_t pos = w->r->pos;
	uint32_t alignment;
	uint64_t bits = 0;
	int err;

	err = read_wanted(w, type, KV_U32, "u32", &bits);
	if (err < 0)
		return err;
	alignment = (uint32_t)bits;
	if (alignment == 0 || (alignment & (alignment - 1)) != 0)
		return diag_fail(w->r->diag, -EBADMSG,
				 "value at byte %" PRIu64 ": %" PRIu32
				 " is not a power of two",
				 pos, alignment);
	if (alignment > MOST_ALIGNMENT)
		return diag_fail(w->r->diag, -E2BIG,
				 "value at byte %" PRIu64 ": %" PRIu32
				 ", at most %u is served",
				 pos, alignment, MOST_ALIGNMENT);
	w->facts.alignment = alignment;
	return 0;
}

static int read_split_number(struct kv_walk *w, enum kv_type type)
{
	uint64_t bits = 0;
	int err = read_wanted(w, type, KV_U16, "u16", &bits);

	if (err < 0)
		return err;
	w->facts.part.has_number = true;
	w->facts.part.number = (uint16_t)bits;
	return 0;
}

static int read_split_count(struct kv_walk *w, enum kv_type type)
{
	uint64_t bits = 0;
	int err = read_wanted(w, type, KV_U16, "u16", &bits);

	if (err < 0)
		return err;
	w->facts.part.has_count = true;
	w->facts.part.count = (uint16_t)bits;
	return 0;
}

static int read_split_tensors(struct kv_walk *w, enum kv_type type)
{
	uint64_t bits = 0;
	int err = read_wanted(w, type, KV_I32, "i32", &bits);

	if (err < 0)
		return err;
	w->facts.part.has_tensors = true;
	w->facts.part.tensors = (int32_t)bits;
	return 0;
}

struct known_key {
	const char *name;
	int (*read)(struct kv_walk *w, enum kv_type type);
};

static const struct known_key known_keys[] = {
	{ "general.alignment", read_alignment },
	{ "split.no", read_split_number },
	{ "split.count", read_split_count },
	{ "split.tensors.count", read_split_tensors },
};

/* NULL: the value is of no interest. */
static const struct known_key *find_known_key(const uint8_t *key, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(known_keys); i++)
		if (strlen(known_keys[i].name) == len &&
		    memcmp(key, known_keys[i].name, len) == 0)
			return &known_keys[i];
	return NULL;
}

/* Refuses a key that occurred. */
static int note_key(struct kv_walk *w, const void *key, size_t len)
{
	const char *copy;
	int err;

	if (len > MOST_KEY_BYTES - w->key_bytes)
		return diag_fail(w->r->diag, -E2BIG,
				 "%zu bytes more than the %" PRIu64
				 " of the keys before, at most %u are served",
				 len, w->key_bytes, MOST_KEY_BYTES);
	w->key_bytes += len;
	copy = arena_copy(&w->arena, key, len);
	err = copy ? key_set_add(&w->keys, copy, len) : -ENOMEM;
	if (err == -EEXIST)
		return diag_fail(w->r->diag, err, "the key occurs twice");
	return err < 0 ? diag_fail(w->r->diag, err, "out of memory") : 0;
}

/*
 * ggml looks keys up as C strings: "general.alignment", NUL and anything is its alignment
 * too, and the data would start elsewhere for ggml than for us. No writer makes such
 * keys.
 */
static int check_key(struct kv_walk *w, const uint8_t *key, size_t len)
{
	size_t seen = strnlen((const char *)key, len);

	if (seen < len && find_known_key(key, seen))
		return diag_fail(w->r->diag, -EBADMSG,
				 "has %zu bytes, C programs see the first %zu of them",
				 len, seen);
	return note_key(w, key, len);
}

static int read_value(struct kv_walk *w, const struct known_key *known)
{
	enum kv_type type = KV_U8;
	int err;

	err = read_type(w->r, "type", &type);
	if (err < 0)
		return err;
	if (known)
		return known->read(w, type);
	if (type == KV_ARRAY)
		return read_array(w);
	return read_scalar(w, type);
}

/* Puts "key 'NAME' at byte POS: " in front of what was worded already. */
static int blame_key(struct kv_walk *w, int err, const char *quoted, uint64_t pos)
{
	char prefix[DIAG_QUOTE_MAX + 64];

	(void)snprintf(prefix, sizeof(prefix), "key %s at byte %" PRIu64, quoted, pos);
	diag_prefix(w->r->diag, prefix);
	return err;
}

static int read_kv(struct kv_walk *w)
{
	char quoted[DIAG_QUOTE_MAX];
	uint64_t pos = w->r->pos;
	const struct known_key *known;
	const uint8_t *key;
	uint64_t len = 0;
	int err;

	err = gguf_read_length(w->r, "key", LIMIT_NAME_BYTES, &len);
	if (err < 0)
		return err;
	if (len == 0)
		return diag_fail(w->r->diag, -EBADMSG,
				 "key at byte %" PRIu64 ": is empty", pos);
	err = reader_bytes(w->r, "key", len, &key);
	if (err < 0)
		return err;
	(void)diag_quote(quoted, key, (size_t)len);
	known = find_known_key(key, (size_t)len);
	err = check_key(w, key, (size_t)len);
	if (err < 0)
		return blame_key(w, err, quoted, pos);
	if (w->out)
		jsonw_key_bytes(w->out, (const char *)key, (size_t)len);
	err = read_value(w, known);
	return err < 0 ? blame_key(w, err, quoted, pos) : 0;
}

/* The fields of the header, named as gguf-py names them; a file with keys of these names
 * is refused by gguf-py too. */
static int write_header_field(struct kv_walk *w, const char *key, uint64_t value)
{
	int err = note_key(w, key, strlen(key));

	if (err < 0)
		return err;
	if (w->out) {
		jsonw_key(w->out, key);
		jsonw_u64(w->out, value);
	}
	return 0;
}

static int walk_keys(struct kv_walk *w, const struct gguf_header *h)
{
	int err;

	err = write_header_field(w, "GGUF.version", h->version);
	if (err < 0)
		return err;
	err = write_header_field(w, "GGUF.tensor_count", h->tensor_count);
	if (err < 0)
		return err;
	err = write_header_field(w, "GGUF.kv_count", h->key_count);
	for (uint64_t i = 0; err == 0 && i < h->key_count; i++)
		err = read_kv(w);
	return err;
}

int gguf_read_keys(struct reader *r, const struct gguf_header *h, struct jsonw *out,
		   struct gguf_facts *facts)
{
	struct kv_walk w = { .r = r,
			     .out = out,
			     .facts = { .alignment = DEFAULT_ALIGNMENT } };
	int err;

	err = walk_keys(&w, h);
	key_set_fini(&w.keys);
	arena_fini(&w.arena);
	if (err == 0)
		*facts = w.facts;
	return err;
}
