/*
 * Fuzzes the GGUF parser. The mutator knows where the lengths, counts, types and offsets
 * of a file stand and writes values there that are likely to wrap; the rest is
 * libFuzzer's.
 */
#include <errno.h>
#include <stdbool.h>

#include "parse_bytes.h"
#include "parsers/formats.h"

/* The names are libFuzzer's. NOLINTBEGIN(readability-identifier-naming) */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed);
/* Weak: a program that only replays inputs is linked without libFuzzer. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size,
					      size_t max_size);
/* NOLINTEND(readability-identifier-naming) */

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

static void check_tensor(const struct model *model, size_t index, uint64_t size)
{
	const struct tensor *t = model_tensor(model, index);
	uint64_t nbytes;

	require(t->dtype < DTYPE_COUNT && t->rank <= 4 && t->name_len < 64);
	require(dtype_nbytes((enum dtype)t->dtype, t->shape, t->rank, &nbytes) == 0);
	require(nbytes == t->nbytes);
	require(t->offset <= size && t->nbytes <= size - t->offset);
	require(model_find_tensor(model, t->name, t->name_len) == t);
	if (index > 0) {
		const struct tensor *before = model_tensor(model, index - 1);

		require(before->offset + before->nbytes <= t->offset);
	}
}

/* One object, with brackets that close in order of nesting (there are two levels) and no
 * bare control character. */
static void check_json(const char *json)
{
	bool in_string = false;
	int depth = 0;

	require(json[0] == '{');
	for (const char *c = json; *c != '\0'; c++) {
		require((unsigned char)*c >= 0x20);
		if (in_string && *c == '\\')
			c++;
		else if (*c == '"')
			in_string = !in_string;
		else if (!in_string && (*c == '{' || *c == '['))
			require(++depth <= 2);
		else if (!in_string && (*c == '}' || *c == ']'))
			require(--depth > 0 || c[1] == '\0');
	}
	require(!in_string && depth == 0);
}

static void check_metadata(const uint8_t *data, size_t size, bool is_good)
{
	struct diag diag = { 0 };
	CLEANUP(free_ptr) char *json = metadata_of_bytes(&parser_gguf, data, size, &diag);

	if (json)
		check_json(json);
	else
		require(!is_good && diag.text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parsed parsed;

	parse_bytes(&parser_gguf, data, size, &parsed);
	if (parsed.err < 0)
		check_words(parsed.err, &parsed.diag);
	for (size_t i = 0; parsed.model && i < model_tensor_count(parsed.model); i++)
		check_tensor(parsed.model, i, size);
	check_metadata(data, size, parsed.err == 0);
	parsed_fini(&parsed);
	return 0;
}

/* ---- Where the numbers of a file stand ---- */

#define MOST_FIELDS 512

/* Of values. */
enum {
	TYPE_STRING = 8,
	TYPE_ARRAY = 9,
};

struct field {
	size_t pos;
	unsigned int width; /* 4 or 8 bytes */
};

struct layout {
	const uint8_t *data;
	size_t size;
	size_t pos;
	struct field fields[MOST_FIELDS];
	size_t count;
	bool ended; /* the file, or the room for fields */
};

static uint64_t get(const uint8_t *data, unsigned int width)
{
	uint64_t v = 0;

	for (unsigned int i = width; i-- > 0;)
		v = v << 8 | data[i];
	return v;
}

/* Notes the number that stands here and returns it. */
static uint64_t take_field(struct layout *l, unsigned int width)
{
	uint64_t value;

	if (l->ended || l->size - l->pos < width || l->count == MOST_FIELDS) {
		l->ended = true;
		return 0;
	}
	value = get(l->data + l->pos, width);
	l->fields[l->count++] = (struct field){ .pos = l->pos, .width = width };
	l->pos += width;
	return value;
}

static void take_bytes(struct layout *l, uint64_t len)
{
	if (l->ended || len > l->size - l->pos)
		l->ended = true;
	else
		l->pos += (size_t)len;
}

static void take_string(struct layout *l)
{
	take_bytes(l, take_field(l, 8));
}

static void take_value(struct layout *l, uint64_t type)
{
	static const uint8_t sizes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

	if (type >= ARRAY_LEN(sizes) || type == TYPE_ARRAY)
		l->ended = true;
	else if (type == TYPE_STRING)
		take_string(l);
	else
		take_bytes(l, sizes[type]);
}

static void take_key(struct layout *l)
{
	uint64_t count = 1;
	uint64_t type;

	take_string(l);
	type = take_field(l, 4);
	if (type == TYPE_ARRAY) {
		type = take_field(l, 4);
		count = take_field(l, 8);
	}
	for (uint64_t i = 0; i < count && !l->ended; i++)
		take_value(l, type);
}

static void take_tensor(struct layout *l)
{
	uint64_t rank;

	take_string(l);
	rank = take_field(l, 4);
	for (uint64_t i = 0; i < rank && !l->ended; i++)
		(void)take_field(l, 8);
	(void)take_field(l, 4);
	(void)take_field(l, 8);
}

static void find_fields(struct layout *l)
{
	uint64_t tensors;
	uint64_t keys;

	take_bytes(l, 4);
	(void)take_field(l, 4);
	tensors = take_field(l, 8);
	keys = take_field(l, 8);
	for (uint64_t i = 0; i < keys && !l->ended; i++)
		take_key(l);
	for (uint64_t i = 0; i < tensors && !l->ended; i++)
		take_tensor(l);
}

/* ---- Mutation ---- */

/* xorshift64: enough for choices, the same for the same seed. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t odd_value(uint64_t *state, uint64_t old, uint64_t left)
{
	uint64_t choice = next_random(state);
	uint64_t power = UINT64_C(1) << (next_random(state) % 64);

	switch (choice % 8) {
	case 0:
		return old + 1;
	case 1:
		return old - 1;
	case 2:
		return power;
	case 3:
		return power - 1;
	case 4:
		return 0 - power;
	case 5:
		return left - next_random(state) % 3;
	case 6:
		return old + power;
	default:
		return next_random(state) % 45; /* covers the numbers of all types */
	}
}

static void change_field(uint8_t *data, size_t size, uint64_t *state)
{
	struct layout l = { .data = data, .size = size };
	struct field field;
	uint64_t value;

	find_fields(&l);
	if (l.count == 0)
		return;
	field = l.fields[next_random(state) % l.count];
	value = odd_value(state, get(data + field.pos, field.width),
			  size - field.pos - field.width);
	for (unsigned int i = 0; i < field.width; i++)
		data[field.pos + i] = (uint8_t)(value >> (8 * i));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed)
{
	static const uint8_t good_start[8] = { 'G', 'G', 'U', 'F', 3 };
	uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	if (next_random(&state) % 2 == 0)
		change_field(data, size, &state);
	else
		size = LLVMFuzzerMutate(data, size, max_size);
	/* Most inputs shall come past the first eight bytes. */
	if (size >= 8 && next_random(&state) % 64 != 0) {
		memcpy(data, good_start, sizeof(good_start));
		data[4] = next_random(&state) % 8 == 0 ? 2 : 3;
	}
	return size;
}
