/*
 * safetensors: 8 bytes of header length N, N bytes of JSON, then the bytes of the
 * tensors.
 *
 *     {"__metadata__": {"format": "pt"},
 *      "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
 *
 * data_offsets count from the end of the header. The tensors cover the rest of the file
 * without holes and without overlap, in any order. This follows the reference
 * implementation (safetensors 0.8), but for three of its laxities: keys that occur twice,
 * a tensor given as an array, and deep nesting are refused.
 */
#include <errno.h>
#include <inttypes.h>

#include "parsers/formats.h"
#include "parsers/json_scan.h"
#include "parsers/key_set.h"
#include "parsers/limits.h"

#define LENGTH_BYTES  8u
#define HEADER_MOST   100000000u /* MAX_HEADER_SIZE of the reference */
#define METADATA_KEY  "__metadata__"
#define METADATA_MOST 1000000u /* keys; files have a handful */
#define UNKNOWN_MOST  1000u    /* fields of one tensor; files have none */

/* One tensor as the header has it. */
struct entry {
	struct json_text name;
	uint64_t begin; /* from the end of the header */
	uint64_t end;
	const uint64_t *shape;
	uint8_t rank;
	uint8_t dtype;
};

struct header {
	struct json_scan scan;
	struct diag *diag;
	uint64_t data_pos; /* offset of the first byte behind the header, in the file */
	bool led_by_space;
	bool has_metadata;
	struct entry *entries;
	size_t count;
	size_t capacity;
	struct arena shapes;
};

static bool text_is(struct json_text text, const char *wanted)
{
	size_t len = strlen(wanted);

	return text.len == len && memcmp(text.bytes, wanted, len) == 0;
}

static int fail_memory(struct diag *diag)
{
	return diag_fail(diag, -ENOMEM, "out of memory");
}

/* ---- The header as JSON text ---- */

static int read_length(struct reader *r, uint64_t *len)
{
	int err;

	err = reader_u64(r, "header length", len);
	if (err < 0)
		return err;
	if (*len > HEADER_MOST)
		return diag_fail(r->diag, -E2BIG,
				 "header length is %" PRIu64
				 " bytes, at most %u are read",
				 *len, HEADER_MOST);
	return 0;
}

/* Reads the header and starts to scan it. header_close() in either case. */
static int header_open(struct reader *r, struct header *h)
{
	const uint8_t *text;
	uint64_t len;
	int err;

	*h = (struct header){ .diag = r->diag };
	err = reader_seek(r, "header", 0);
	if (err < 0)
		return err;
	err = read_length(r, &len);
	if (err < 0)
		return err;
	err = reader_bytes(r, "header", len, &text);
	if (err < 0)
		return err;
	h->data_pos = r->pos;
	h->led_by_space = len > 0 && text[0] != '{';
	json_scan_init(&h->scan, text, (size_t)len, "header", LENGTH_BYTES, r->diag);
	return json_scan_begin_object(&h->scan);
}

static void header_close(struct header *h)
{
	json_scan_fini(&h->scan);
	arena_fini(&h->shapes);
	free(h->entries);
}

/* Notes a key of an object; refuses one that was there before. */
static int add_key(struct header *h, struct key_set *keys, struct json_text key)
{
	uint64_t pos = json_scan_pos(&h->scan);

	switch (key_set_add(keys, key.bytes, key.len)) {
	case 0:
		return 0;
	case -EEXIST:
		return diag_fail(h->diag, -EEXIST,
				 "header before byte %" PRIu64 ": key %s occurs twice",
				 pos, DIAG_QUOTED(key.bytes, key.len));
	default:
		return fail_memory(h->diag);
	}
}

/* ---- One tensor. Errors get its name in front in read_tensor(). ---- */

static int read_dtype(struct header *h, struct entry *entry)
{
	struct json_text name;
	enum dtype dtype;
	int err;

	err = json_scan_string(&h->scan, &name);
	if (err < 0)
		return err;
	dtype = dtype_from_safetensors(name.bytes, name.len);
	if (dtype == DTYPE_COUNT)
		return diag_fail(h->diag, -ENOTSUP, "dtype %s is not known",
				 DIAG_QUOTED(name.bytes, name.len));
	entry->dtype = (uint8_t)dtype;
	return 0;
}

static int read_shape(struct header *h, struct entry *entry)
{
	uint64_t dims[LIMIT_RANK];
	unsigned int rank = 0;
	uint64_t *shape;
	bool more;
	int err;

	err = json_scan_begin_array(&h->scan);
	while (err == 0) {
		err = json_scan_next_element(&h->scan, &more);
		if (err < 0 || !more)
			break;
		if (rank == LIMIT_RANK)
			return diag_fail(h->diag, -E2BIG,
					 "shape has more than %u dimensions", LIMIT_RANK);
		err = json_scan_u64(&h->scan, &dims[rank++]);
	}
	if (err < 0)
		return err;
	shape = arena_alloc(&h->shapes, rank * sizeof(*shape));
	if (!shape)
		return fail_memory(h->diag);
	memcpy(shape, dims, rank * sizeof(*shape));
	entry->shape = shape;
	entry->rank = (uint8_t)rank;
	return 0;
}

static int read_offsets(struct header *h, struct entry *entry)
{
	uint64_t offsets[2];
	unsigned int count = 0;
	bool more;
	int err;

	err = json_scan_begin_array(&h->scan);
	while (err == 0) {
		err = json_scan_next_element(&h->scan, &more);
		if (err < 0 || !more)
			break;
		if (count == 2)
			return diag_fail(h->diag, -EBADMSG,
					 "data_offsets has more than 2 numbers");
		err = json_scan_u64(&h->scan, &offsets[count++]);
	}
	if (err < 0)
		return err;
	if (count < 2)
		return diag_fail(h->diag, -EBADMSG, "data_offsets has %u of 2 numbers",
				 count);
	if (offsets[0] > offsets[1])
		return diag_fail(h->diag, -EBADMSG,
				 "data_offsets begin at %" PRIu64
				 " and end before, at %" PRIu64,
				 offsets[0], offsets[1]);
	entry->begin = offsets[0];
	entry->end = offsets[1];
	return 0;
}

static const struct {
	const char *name;
	int (*read)(struct header *h, struct entry *entry);
} fields[] = {
	{ "dtype", read_dtype },
	{ "shape", read_shape },
	{ "data_offsets", read_offsets },
};

/* `seen` has a bit for each known field; `unknown` holds the others, which are allowed.
 */
static int read_field(struct header *h, struct json_text key, unsigned int *seen,
		      struct key_set *unknown, struct entry *entry)
{
	int err;

	for (unsigned int i = 0; i < ARRAY_LEN(fields); i++) {
		if (!text_is(key, fields[i].name))
			continue;
		if (*seen & 1u << i)
			return diag_fail(h->diag, -EEXIST, "field '%s' occurs twice",
					 fields[i].name);
		*seen |= 1u << i;
		return fields[i].read(h, entry);
	}
	if (unknown->count == UNKNOWN_MOST)
		return diag_fail(h->diag, -E2BIG, "more than %u unknown fields",
				 UNKNOWN_MOST);
	err = add_key(h, unknown, key);
	if (err < 0)
		return err;
	return json_scan_skip(&h->scan);
}

static int read_fields(struct header *h, struct entry *entry)
{
	CLEANUP(key_set_fini) struct key_set unknown = { 0 };
	unsigned int seen = 0;
	struct json_text key;
	bool more;
	int err;

	err = json_scan_begin_object(&h->scan);
	while (err == 0) {
		err = json_scan_next_key(&h->scan, &more, &key);
		if (err < 0 || !more)
			break;
		err = read_field(h, key, &seen, &unknown, entry);
	}
	if (err < 0)
		return err;
	for (unsigned int i = 0; i < ARRAY_LEN(fields); i++)
		if (!(seen & 1u << i))
			return diag_fail(h->diag, -EBADMSG, "field '%s' is missing",
					 fields[i].name);
	return 0;
}

static int add_entry(struct header *h, const struct entry *entry)
{
	struct entry *entries = h->entries;
	size_t capacity = h->capacity ? h->capacity * 2 : 64;

	if (h->count == LIMIT_TENSORS)
		return diag_fail(h->diag, -E2BIG, "more than %u tensors", LIMIT_TENSORS);
	if (h->count == h->capacity) {
		entries = reallocarray(entries, capacity, sizeof(*entries));
		if (!entries)
			return fail_memory(h->diag);
		h->entries = entries;
		h->capacity = capacity;
	}
	entries[h->count++] = *entry;
	return 0;
}

static int read_tensor(struct header *h, struct json_text name)
{
	char prefix[DIAG_QUOTE_MAX + sizeof("tensor ")] = "tensor ";
	struct entry entry = { .name = name };
	int err;

	err = read_fields(h, &entry);
	if (err < 0) {
		(void)diag_quote(prefix + strlen(prefix), name.bytes, name.len);
		diag_prefix(h->diag, prefix);
		return err;
	}
	return add_entry(h, &entry);
}

/* ---- Metadata: an object of strings, or null ---- */

static int read_pair(struct header *h, struct json_text key, struct key_set *keys,
		     struct jsonw *out)
{
	struct json_text value;
	int err;

	if (keys->count == METADATA_MOST)
		return diag_fail(h->diag, -E2BIG, "more than %u keys", METADATA_MOST);
	if (key.len > LIMIT_NAME_BYTES)
		return diag_fail(h->diag, -E2BIG,
				 "key %s has %zu bytes, at most %u are read",
				 DIAG_QUOTED(key.bytes, key.len), key.len,
				 LIMIT_NAME_BYTES);
	err = add_key(h, keys, key);
	if (err < 0)
		return err;
	if (!out)
		return json_scan_string(&h->scan, NULL);
	err = json_scan_string(&h->scan, &value);
	if (err < 0)
		return err;
	jsonw_key_bytes(out, key.bytes, key.len);
	jsonw_string_bytes(out, value.bytes, value.len);
	return 0;
}

static int read_pairs(struct header *h, struct jsonw *out)
{
	CLEANUP(key_set_fini) struct key_set keys = { 0 };
	struct json_text key;
	bool more;
	int err;

	if (json_scan_peek(&h->scan) == JSON_LITERAL)
		return json_scan_null(&h->scan);
	err = json_scan_begin_object(&h->scan);
	while (err == 0) {
		err = json_scan_next_key(&h->scan, &more, &key);
		if (err < 0 || !more)
			break;
		err = read_pair(h, key, &keys, out);
	}
	return err;
}

/* Checks the metadata and, where `out` is not NULL, writes its pairs. */
static int read_metadata(struct header *h, struct jsonw *out)
{
	int err;

	if (h->has_metadata)
		return diag_fail(h->diag, -EEXIST, "%s occurs twice", METADATA_KEY);
	h->has_metadata = true;
	err = read_pairs(h, out);
	if (err < 0)
		diag_prefix(h->diag, METADATA_KEY);
	return err;
}

/* ---- The whole file ---- */

static int read_header(struct header *h)
{
	struct json_text key;
	bool more;
	int err = 0;

	while (err == 0) {
		err = json_scan_next_key(&h->scan, &more, &key);
		if (err < 0)
			return err;
		if (!more)
			return json_scan_end(&h->scan);
		err = text_is(key, METADATA_KEY) ? read_metadata(h, NULL)
						 : read_tensor(h, key);
	}
	return err;
}

static int compare_entries(const void *left, const void *right)
{
	const struct entry *a = left;
	const struct entry *b = right;

	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	return (a->end > b->end) - (a->end < b->end);
}

/* Most writers keep the order already. */
static void sort_entries(struct header *h)
{
	for (size_t i = 1; i < h->count; i++) {
		if (compare_entries(&h->entries[i - 1], &h->entries[i]) > 0) {
			qsort(h->entries, h->count, sizeof(*h->entries), compare_entries);
			return;
		}
	}
}

static int add_tensors(const struct header *h, struct model *model, uint16_t shard)
{
	model_reserve(model, h->count);
	for (size_t i = 0; i < h->count; i++) {
		const struct entry *e = &h->entries[i];
		struct tensor tensor = {
			.name = e->name.bytes,
			.name_len = (uint32_t)e->name.len,
			.shape = e->shape,
			.nbytes = e->end - e->begin,
			.shard = shard,
			.rank = e->rank,
			.dtype = e->dtype,
		};
		int err;

		if (__builtin_add_overflow(h->data_pos, e->begin, &tensor.offset))
			return diag_fail(h->diag, -EBADMSG,
					 "tensor %s: data_offsets begin at %" PRIu64
					 ", which is above 2^64 in the file",
					 DIAG_QUOTED(e->name.bytes, e->name.len),
					 e->begin);
		err = model_add_tensor(model, &tensor, h->diag);
		if (err < 0)
			return err;
	}
	return 0;
}

/* The sorted tensors follow each other without holes and overlap up to the end of the
 * file: no byte means two things, and none hides something else. */
static int check_cover(const struct header *h, uint64_t file_size)
{
	uint64_t data_size = file_size - h->data_pos;
	const struct entry *before = NULL;
	uint64_t end = 0;

	for (size_t i = 0; i < h->count; i++) {
		const struct entry *e = &h->entries[i];

		if (e->begin > end)
			return diag_fail(h->diag, -EBADMSG,
					 "tensor %s: data_offsets begin at %" PRIu64
					 ", the tensors in front of it end at %" PRIu64,
					 DIAG_QUOTED(e->name.bytes, e->name.len),
					 e->begin, end);
		if (before && e->begin < end)
			return diag_fail(
				h->diag, -EBADMSG,
				"tensor %s: data_offsets begin at %" PRIu64
				", inside tensor %s, which ends at %" PRIu64,
				DIAG_QUOTED(e->name.bytes, e->name.len), e->begin,
				DIAG_QUOTED(before->name.bytes, before->name.len), end);
		before = e;
		end = e->end;
	}
	if (end != data_size)
		return diag_fail(h->diag, -EBADMSG,
				 "the tensors end at byte %" PRIu64
				 ", the file has %" PRIu64 " bytes",
				 h->data_pos + end, file_size);
	return 0;
}

static int parse_header(struct header *h, const struct reader *r, struct model *model,
			uint16_t shard)
{
	int err;

	err = read_header(h);
	if (err < 0)
		return err;
	if (h->led_by_space)
		model_warn(model, "header at byte %u: white space in front of the '{'",
			   LENGTH_BYTES);
	sort_entries(h);
	err = add_tensors(h, model, shard);
	if (err < 0)
		return err;
	return check_cover(h, r->size);
}

static int safetensors_parse(struct reader *r, struct model *model, uint16_t shard)
{
	struct header h;
	int err;

	err = header_open(r, &h);
	if (err == 0)
		err = parse_header(&h, r, model, shard);
	header_close(&h);
	return err;
}

static int write_pairs(struct header *h, struct jsonw *out)
{
	struct json_text key;
	bool more;
	int err = 0;

	while (err == 0) {
		err = json_scan_next_key(&h->scan, &more, &key);
		if (err < 0 || !more)
			break;
		if (text_is(key, METADATA_KEY))
			return read_metadata(h, out);
		err = json_scan_skip(&h->scan);
	}
	return err;
}

static int safetensors_write_metadata(struct reader *r, struct jsonw *out)
{
	struct header h;
	int err;

	jsonw_begin_object(out);
	err = header_open(r, &h);
	if (err == 0)
		err = write_pairs(&h, out);
	header_close(&h);
	jsonw_end_object(out);
	return err;
}

/* There is no magic: the length fits the file and the header starts as an object. */
static bool safetensors_probe(struct reader *r)
{
	uint64_t len;
	uint8_t c;

	if (read_length(r, &len) < 0 || len > reader_left(r))
		return false;
	while (len-- > 0 && reader_u8(r, "header", &c) == 0)
		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return c == '{';
	return false;
}

static const char *const suffixes[] = { ".safetensors", NULL };

const struct parser_ops parser_safetensors = {
	.name = "safetensors",
	.longname = "safetensors (Hugging Face)",
	.suffixes = suffixes,
	.probe = safetensors_probe,
	.parse = safetensors_parse,
	.write_metadata = safetensors_write_metadata,
};
