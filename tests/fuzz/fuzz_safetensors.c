/*
 * Fuzzes the safetensors parser. Its mutator changes the header and the data as two
 * pieces and keeps the header's length right, or nearly all inputs would fail at their
 * first eight bytes.
 */
#include <errno.h>

#include "parse_bytes.h"
#include "parsers/formats.h"
#include "parsers/json_scan.h"
#include "parsers/limits.h"

/* The names are libFuzzer's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed);
/* Weak: a program that only replays inputs is linked without libFuzzer. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size,
					      size_t max_size);

/* ---- What must hold whatever the input ---- */

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_words(int err, const struct diag *diag)
{
	require(err == -EBADMSG || err == -ENOTSUP || err == -E2BIG || err == -EEXIST);
	require(diag->text[0] != '\0');
	for (const char *c = diag->text; *c != '\0'; c++)
		require((unsigned char)*c >= 0x20 && *c != 0x7f);
}

/* In the order of the sealed model, tensors follow each other up to the end. */
static void check_tensors(const struct model *model, size_t size)
{
	uint64_t end = 0;

	for (size_t i = 0; i < model_tensor_count(model); i++) {
		const struct tensor *t = model_tensor(model, i);
		uint64_t nbytes;

		require(t->dtype < DTYPE_COUNT && t->rank <= LIMIT_RANK);
		require(dtype_nbytes((enum dtype)t->dtype, t->shape, t->rank, &nbytes) ==
			0);
		require(nbytes == t->nbytes);
		require(t->offset >= 10 && t->offset <= size);
		require(t->nbytes <= size - t->offset);
		require(i == 0 || t->offset == end);
		require(model_find_tensor(model, t->name, t->name_len) == t);
		end = t->offset + t->nbytes;
	}
	require(model_tensor_count(model) == 0 || end == size);
}

/* A good file has good metadata: one object of strings. */
static void check_metadata(const uint8_t *data, size_t size, bool is_good)
{
	struct diag diag = { 0 };
	CLEANUP(free_ptr)
	char *json = metadata_of_bytes(&parser_safetensors, data, size, &diag);
	struct json_scan s;
	bool more = true;

	if (!json) {
		require(!is_good && diag.text[0] != '\0');
		return;
	}
	json_scan_init(&s, json, strlen(json), "metadata", 0, &diag);
	require(json_scan_begin_object(&s) == 0);
	for (;;) {
		require(json_scan_next_key(&s, &more, NULL) == 0);
		if (!more)
			break;
		require(json_scan_string(&s, NULL) == 0);
	}
	require(json_scan_end(&s) == 0);
	json_scan_fini(&s);
}

static bool is_probed(const uint8_t *data, size_t size)
{
	struct diag diag;
	struct reader r;

	reader_init_memory(&r, data, size, &diag);
	return parser_safetensors.probe(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parsed parsed;

	parse_bytes(&parser_safetensors, data, size, &parsed);
	if (parsed.err < 0) {
		check_words(parsed.err, &parsed.diag);
	} else {
		require(is_probed(data, size));
		check_tensors(parsed.model, size);
	}
	check_metadata(data, size, parsed.err == 0);
	parsed_fini(&parsed);
	return 0;
}

/* ---- Mutation ---- */

#define LENGTH_BYTES 8u
#define MOST_DATA    64u

static void put_length(uint8_t *data, uint64_t len)
{
	for (unsigned int i = 0; i < LENGTH_BYTES; i++)
		data[i] = (uint8_t)(len >> 8 * i);
}

/* Bytes of the header, or SIZE_MAX when the file is too short for what it says. */
static size_t header_len(const uint8_t *data, size_t size)
{
	uint64_t len = 0;

	if (size < LENGTH_BYTES)
		return SIZE_MAX;
	for (unsigned int i = LENGTH_BYTES; i-- > 0;)
		len = len << 8 | data[i];
	return len <= size - LENGTH_BYTES ? (size_t)len : SIZE_MAX;
}

/* Gives the file `count` bytes of data behind a header of `len` bytes. */
static size_t put_data(uint8_t *data, size_t len, size_t count, size_t max_size)
{
	size_t room = max_size - LENGTH_BYTES - len;

	if (count > room)
		count = room;
	memset(data + LENGTH_BYTES + len, 0, count);
	put_length(data, len);
	return LENGTH_BYTES + len + count;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed)
{
	size_t len = header_len(data, size);
	size_t count;

	/* The length itself, or what has no header, now and then. */
	if (len == SIZE_MAX || seed % 32 == 0)
		return LLVMFuzzerMutate(data, size, max_size);
	count = size - LENGTH_BYTES - len;
	if (seed % 8 == 1)
		return put_data(data, len, seed / 8 % MOST_DATA, max_size);
	/* What the tensors hold is of no interest, only how much of it there is. */
	len = LLVMFuzzerMutate(data + LENGTH_BYTES, len,
			       max_size - LENGTH_BYTES - (count < 64 ? count : 64));
	if (len > max_size - LENGTH_BYTES)
		len = max_size - LENGTH_BYTES;
	return put_data(data, len, count, max_size);
}
