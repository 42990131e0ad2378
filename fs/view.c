#include "view.h"

#include <string.h>

#include "parsers/limits.h"
#include "path.h"
#include "util/jsonw.h"
#include "util/utf8.h"

#define PAGE 4096u

/* numpy itself aligns the data of a .npy file to this. */
#define NPY_ALIGN 64u

const struct view_info *view_info(enum view view)
{
	static const struct view_info views[VIEW_COUNT] = {
		[VIEW_RAW] = { .dir = "tensors", .suffix = "" },
		[VIEW_NPY] = { .dir = "npy", .suffix = ".npy" },
		[VIEW_SAFETENSORS] = { .dir = "safetensors", .suffix = ".safetensors" },
	};

	return &views[view];
}

/* The smallest total that is at least `least` and congruent to the source offset. */
static uint64_t congruent(uint64_t least, uint64_t source_offset)
{
	return least + (source_offset - least) % PAGE;
}

/* The shape of a tensor whose elements the view has no type for, counted in bytes: the
 * innermost dimension where its blocks do not span rows, else one dimension of all bytes.
 */
static unsigned int byte_shape(const struct tensor *t, uint64_t shape[static LIMIT_RANK])
{
	const struct dtype_info *info = dtype_info((enum dtype)t->dtype);

	if (t->rank == 0 || t->shape[t->rank - 1] % info->block_elems != 0) {
		shape[0] = t->nbytes;
		return 1;
	}
	memcpy(shape, t->shape, t->rank * sizeof(*shape));
	shape[t->rank - 1] =
		t->shape[t->rank - 1] / info->block_elems * info->block_bytes;
	return t->rank;
}

/* ---- .npy ---- */

/* The Python dictionary of the header, without padding. */
static void add_npy_dict(const struct tensor *t, struct strbuf *out)
{
	const struct dtype_info *info = dtype_info((enum dtype)t->dtype);
	uint64_t bytes[LIMIT_RANK];
	const uint64_t *shape = t->shape;
	unsigned int rank = t->rank;

	if (!info->numpy) {
		rank = byte_shape(t, bytes);
		shape = bytes;
	}
	strbuf_add_str(out, "{'descr': '");
	strbuf_add_str(out, info->numpy ? info->numpy : "|u1");
	strbuf_add_str(out, "', 'fortran_order': False, 'shape': (");
	for (unsigned int i = 0; i < rank; i++)
		strbuf_addf(out, i == 0 ? "%llu" : ", %llu",
			    (unsigned long long)shape[i]);
	strbuf_add_str(out, rank == 1 ? ",), }" : "), }");
}

/* Magic, version, header length, dictionary, newline: padded to the total that is
 * returned. numpy reads at most 10,010 bytes; 64 dimensions of 20 digits and a page are
 * far below. */
static uint64_t npy_total(const struct tensor *t, size_t dict_len)
{
	uint64_t least = 6 + 2 + 2 + (uint64_t)dict_len + 1;

	if (t->nbytes == 0)
		return (least + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
	return congruent(least, t->offset);
}

static void add_spaces(struct strbuf *out, uint64_t count)
{
	static const char spaces[64] = "                                "
				       "                               ";

	while (count > 0) {
		size_t n =
			count < sizeof(spaces) - 1 ? (size_t)count : sizeof(spaces) - 1;

		strbuf_add(out, spaces, n);
		count -= n;
	}
}

static uint64_t npy_header_len(const struct tensor *t)
{
	struct strbuf dict;

	strbuf_init_counting(&dict);
	add_npy_dict(t, &dict);
	return npy_total(t, dict.len);
}

static void npy_write_header(const struct tensor *t, struct strbuf *out)
{
	uint64_t total = npy_header_len(t);
	uint64_t header_len = total - 10;
	size_t start = out->len;

	strbuf_add(out, "\x93NUMPY\x01\x00", 8);
	strbuf_add_char(out, (char)(header_len & 0xff));
	strbuf_add_char(out, (char)(header_len >> 8));
	add_npy_dict(t, out);
	add_spaces(out, total - (out->len - start) - 1);
	strbuf_add_char(out, '\n');
}

/* ---- .safetensors ---- */

/* The tensor's own name. Where a safetensors header cannot hold it (it is no UTF-8, or is
 * the key of the metadata) its encoded form, which is no other tensor's name. */
static void add_safetensors_key(const struct tensor *t, struct jsonw *w)
{
	static const char metadata[] = "__metadata__";
	struct strbuf key;

	if (t->name_len == strlen(metadata) &&
	    memcmp(t->name, metadata, t->name_len) == 0) {
		jsonw_key(w, "%__metadata__");
	} else if (utf8_is_valid(t->name, t->name_len)) {
		jsonw_key_bytes(w, t->name, t->name_len);
	} else {
		/* Only GGUF names can be invalid, and those have less than 64 bytes. */
		char storage[3 * 64 + 1];

		strbuf_init_fixed(&key, storage, sizeof(storage));
		path_encode(&key, t->name, t->name_len, true);
		jsonw_key_bytes(w, storage, key.len);
	}
}

static void add_safetensors_json(const struct tensor *t, struct strbuf *out)
{
	const struct dtype_info *info = dtype_info((enum dtype)t->dtype);
	uint64_t bytes[LIMIT_RANK];
	const uint64_t *shape = t->shape;
	unsigned int rank = t->rank;
	struct jsonw w;

	if (!info->safetensors) {
		rank = byte_shape(t, bytes);
		shape = bytes;
	}
	jsonw_init(&w, out);
	jsonw_begin_object(&w);
	add_safetensors_key(t, &w);
	jsonw_begin_object(&w);
	jsonw_key(&w, "dtype");
	jsonw_string(&w, info->safetensors ? info->safetensors : "U8");
	jsonw_key(&w, "shape");
	jsonw_begin_array(&w);
	for (unsigned int i = 0; i < rank; i++)
		jsonw_u64(&w, shape[i]);
	jsonw_end_array(&w);
	jsonw_key(&w, "data_offsets");
	jsonw_begin_array(&w);
	jsonw_u64(&w, 0);
	jsonw_u64(&w, t->nbytes);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
	jsonw_end_object(&w);
}

static uint64_t safetensors_header_len(const struct tensor *t)
{
	struct strbuf json;
	uint64_t least;

	strbuf_init_counting(&json);
	add_safetensors_json(t, &json);
	least = 8 + (uint64_t)json.len;
	return t->nbytes == 0 ? least : congruent(least, t->offset);
}

static void safetensors_write_header(const struct tensor *t, struct strbuf *out)
{
	uint64_t total = safetensors_header_len(t);
	size_t start = out->len;

	for (unsigned int i = 0; i < 8; i++)
		strbuf_add_char(out, (char)((total - 8) >> (8 * i) & 0xff));
	add_safetensors_json(t, out);
	add_spaces(out, total - (out->len - start));
}

uint64_t view_header_len(enum view view, const struct tensor *tensor)
{
	if (view == VIEW_NPY)
		return npy_header_len(tensor);
	if (view == VIEW_SAFETENSORS)
		return safetensors_header_len(tensor);
	return 0;
}

void view_write_header(enum view view, const struct tensor *tensor, struct strbuf *out)
{
	if (view == VIEW_NPY)
		npy_write_header(tensor, out);
	else if (view == VIEW_SAFETENSORS)
		safetensors_write_header(tensor, out);
}
