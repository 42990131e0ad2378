#include "predict_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/hash.h"

/* ---- Names ---- */

/* Digits of a layer's number: more are no number of a layer. */
#define MOST_DIGITS 9u

enum place {
	PLACE_EMBEDDING,
	PLACE_LAYER,
	PLACE_OTHER,
};

struct slice {
	const char *at;
	size_t len;
};

struct name {
	enum place place;
	struct slice prefix; /* all of it where there is no layer */
	uint32_t number;
	struct slice rest;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_separator(char c)
{
	return c == '.' || c == '/';
}

/* Whether a name speaks of what comes before the layers. */
static bool is_embedding(struct slice name)
{
	static const char *const words[] = { "emb", "wte", "wpe" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (memmem(name.at, name.len, words[i], strlen(words[i])))
			return true;
	return false;
}

/* The length of a component if it is a number, else 0. */
static size_t number_length(struct slice name, size_t at, uint32_t *number)
{
	size_t len = 0;

	*number = 0;
	while (at + len < name.len && is_digit(name.at[at + len]) && len < MOST_DIGITS)
		*number = *number * 10 + (uint32_t)(name.at[at + len++] - '0');
	return at + len == name.len || is_separator(name.at[at + len]) ? len : 0;
}

static struct name parse_name(const struct tensor *tensor)
{
	const struct slice whole = { tensor->name, tensor->name_len };
	struct name name = { .place = PLACE_OTHER, .prefix = whole };
	bool begins = true; /* a component */

	for (size_t i = 0; i < whole.len; i++) {
		size_t len = begins ? number_length(whole, i, &name.number) : 0;

		if (len > 0) {
			name.place = PLACE_LAYER;
			name.prefix.len = i;
			name.rest =
				(struct slice){ whole.at + i + len, whole.len - i - len };
			return name;
		}
		begins = is_separator(whole.at[i]);
	}
	name.number = 0;
	if (is_embedding(whole))
		name.place = PLACE_EMBEDDING;
	return name;
}

static bool is_same(struct slice a, struct slice b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static bool is_same_layer(const struct name *a, const struct name *b)
{
	return a->place == PLACE_LAYER && b->place == PLACE_LAYER &&
	       a->number == b->number && is_same(a->prefix, b->prefix);
}

static size_t digits_at(struct slice s, size_t at)
{
	size_t len = 0;

	while (at + len < s.len && is_digit(s.at[at + len]))
		len++;
	return len;
}

static size_t zeros_at(struct slice s, size_t at)
{
	size_t len = 0;

	while (at + len < s.len && s.at[at + len] == '0')
		len++;
	return len;
}

/* Compares the numbers that begin at `*i` and `*j`, and goes on behind them if they are
 * the same. */
static int compare_numbers(struct slice a, size_t *i, struct slice b, size_t *j)
{
	size_t a_len;
	size_t b_len;
	int r;

	*i += zeros_at(a, *i);
	*j += zeros_at(b, *j);
	a_len = digits_at(a, *i);
	b_len = digits_at(b, *j);
	if (a_len != b_len)
		return a_len < b_len ? -1 : 1;
	r = memcmp(a.at + *i, b.at + *j, a_len);
	*i += a_len;
	*j += b_len;
	return r;
}

/* Bytes by their value, but numbers by theirs. */
static int compare_text(struct slice a, struct slice b)
{
	size_t i = 0;
	size_t j = 0;

	while (i < a.len && j < b.len) {
		int r;

		if (is_digit(a.at[i]) && is_digit(b.at[j])) {
			r = compare_numbers(a, &i, b, &j);
		} else {
			r = (int)(unsigned char)a.at[i] - (int)(unsigned char)b.at[j];
			i++;
			j++;
		}
		if (r != 0)
			return r;
	}
	return (int)(i < a.len) - (int)(j < b.len);
}

static int compare_tensors(const void *left, const void *right, void *argument)
{
	const struct model *model = argument;
	uint32_t x;
	uint32_t y;
	struct name a;
	struct name b;
	int r;

	memcpy(&x, left, sizeof(x));
	memcpy(&y, right, sizeof(y));
	a = parse_name(model_tensor(model, x));
	b = parse_name(model_tensor(model, y));
	r = (int)a.place - (int)b.place;
	if (r == 0)
		r = compare_text(a.prefix, b.prefix);
	if (r == 0 && a.number != b.number)
		r = a.number < b.number ? -1 : 1;
	if (r == 0)
		r = compare_text(a.rest, b.rest);
	if (r == 0)
		r = x < y ? -1 : 1;
	return r;
}

/* ---- Orders ---- */

void predict_order_of_file(const struct model *model, struct predict_order *order)
{
	*order = (struct predict_order){
		.model = model,
		.count = (uint32_t)model_tensor_count(model),
	};
}

/* With room for `count` tensors, whose ranks are still to be set. */
static int allocate(const struct model *model, uint32_t count,
		    struct predict_order *order)
{
	size_t tensors = model_tensor_count(model);

	*order = (struct predict_order){ .model = model, .count = count };
	order->at = malloc((count > 0 ? count : 1) * sizeof(*order->at));
	order->rank = malloc((tensors > 0 ? tensors : 1) * sizeof(*order->rank));
	if (!order->at || !order->rank) {
		predict_order_fini(order);
		return -ENOMEM;
	}
	for (size_t i = 0; i < tensors; i++)
		order->rank[i] = PREDICT_NOWHERE;
	return 0;
}

static void set_ranks(struct predict_order *order)
{
	for (uint32_t i = 0; i < order->count; i++)
		order->rank[order->at[i]] = i;
}

int predict_order_by_layers(const struct model *model, struct predict_order *order)
{
	uint32_t count = (uint32_t)model_tensor_count(model);
	int r = allocate(model, count, order);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < count; i++)
		order->at[i] = i;
	qsort_r(order->at, count, sizeof(*order->at), compare_tensors,
		discard_const(model));
	set_ranks(order);
	return 0;
}

int predict_order_of_list(const struct model *model, const uint32_t *tensors,
			  uint32_t count, struct predict_order *order)
{
	int r = allocate(model, count, order);

	if (r < 0)
		return r;
	memcpy(order->at, tensors, count * sizeof(*tensors));
	set_ranks(order);
	return 0;
}

void predict_order_fini(struct predict_order *order)
{
	free(order->at);
	free(order->rank);
	*order = (struct predict_order){ 0 };
}

uint32_t predict_order_at(const struct predict_order *order, uint32_t rank)
{
	return order->at ? order->at[rank] : rank;
}

uint32_t predict_order_rank(const struct predict_order *order, uint32_t tensor)
{
	return order->rank ? order->rank[tensor] : tensor;
}

bool predict_order_is_of_file(const struct predict_order *order)
{
	if (!order->at)
		return true;
	for (uint32_t i = 0; i < order->count; i++)
		if (order->at[i] != i)
			return false;
	return order->count == model_tensor_count(order->model);
}

bool predict_counts(const struct model *model, uint32_t tensor)
{
	return model_tensor(model, tensor)->nbytes >= PREDICT_LEAST_BYTES;
}

/* ---- Layers ---- */

static struct name name_at(const struct predict_order *order, uint32_t rank)
{
	return parse_name(model_tensor(order->model, predict_order_at(order, rank)));
}

static uint32_t end_of_layer(const struct predict_order *order, uint32_t rank)
{
	const struct name name = name_at(order, rank);

	for (rank++; rank < order->count; rank++) {
		const struct name other = name_at(order, rank);

		if (!is_same_layer(&name, &other))
			break;
	}
	return rank;
}

bool predict_order_layer(const struct predict_order *order, uint32_t tensor,
			 struct predict_layer *layer)
{
	uint32_t rank = predict_order_rank(order, tensor);
	const struct name name = parse_name(model_tensor(order->model, tensor));

	if (rank == PREDICT_NOWHERE || name.place != PLACE_LAYER)
		return false;
	layer->end = end_of_layer(order, rank);
	for (layer->begin = rank; layer->begin > 0; layer->begin--) {
		const struct name other = name_at(order, layer->begin - 1);

		if (!is_same_layer(&name, &other))
			break;
	}
	return true;
}

/* ---- Learning ---- */

/* Where a tensor is to stand within its layer. */
struct seat {
	int64_t key;
	uint32_t rank; /* so far */
	uint32_t tensor;
};

/* Keys by what the tensors of one layer are called within it. */
struct lesson {
	struct learned {
		uint64_t hash;
		int64_t key;
		bool taken;
	} * slots;
	uint32_t mask;
	uint64_t seed;
};

/* The slot of a rest, or the free one that it would have. Two that have the same hash are
 * taken for one: tensors are then asked for a little early or late. */
static struct learned *find_slot(const struct lesson *lesson, struct slice rest)
{
	uint64_t hash = hash_seeded(rest.at, rest.len, lesson->seed);
	uint32_t i = (uint32_t)hash & lesson->mask;

	while (lesson->slots[i].taken && lesson->slots[i].hash != hash)
		i = (i + 1) & lesson->mask;
	lesson->slots[i].hash = hash;
	return &lesson->slots[i];
}

static int read_lesson(const struct predict_order *order, struct predict_layer layer,
		       int64_t (*used)(const void *context, uint32_t tensor),
		       const void *context, struct lesson *lesson)
{
	uint32_t size = 8;

	while (size < (layer.end - layer.begin) * 2)
		size *= 2;
	lesson->slots = calloc(size, sizeof(*lesson->slots));
	if (!lesson->slots)
		return -ENOMEM;
	lesson->mask = size - 1;
	lesson->seed = hash_random_seed();
	for (uint32_t i = layer.begin; i < layer.end; i++) {
		const struct name name = name_at(order, i);
		struct learned *slot = find_slot(lesson, name.rest);

		slot->taken = true;
		slot->key = used(context, predict_order_at(order, i));
		if (slot->key == 0)
			slot->key = INT64_MAX;
	}
	return 0;
}

static int64_t key_of(const struct lesson *lesson, struct slice rest)
{
	const struct learned *slot = find_slot(lesson, rest);

	return slot->taken ? slot->key : INT64_MAX;
}

static int compare_seats(const void *left, const void *right)
{
	const struct seat *a = left;
	const struct seat *b = right;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->rank < b->rank ? -1 : 1;
}

/* The tensors between two ranks, which are one layer. */
static void rearrange(struct predict_order *order, struct predict_layer layer,
		      const struct lesson *lesson, struct seat *seats)
{
	uint32_t count = layer.end - layer.begin;

	for (uint32_t i = 0; i < count; i++)
		seats[i] = (struct seat){
			.key = key_of(lesson, name_at(order, layer.begin + i).rest),
			.rank = layer.begin + i,
			.tensor = predict_order_at(order, layer.begin + i),
		};
	qsort(seats, count, sizeof(*seats), compare_seats);
	for (uint32_t i = 0; i < count; i++)
		order->at[layer.begin + i] = seats[i].tensor;
}

int predict_order_learn(struct predict_order *order, struct predict_layer layer,
			int64_t (*used)(const void *context, uint32_t tensor),
			const void *context)
{
	struct lesson lesson = { 0 };
	struct seat *seats = malloc(order->count * sizeof(*seats));
	int r = seats ? read_lesson(order, layer, used, context, &lesson) : -ENOMEM;

	for (uint32_t begin = 0; r == 0 && begin < order->count;) {
		uint32_t end = end_of_layer(order, begin);

		rearrange(order, (struct predict_layer){ begin, end }, &lesson, seats);
		begin = end;
	}
	if (r == 0)
		set_ranks(order);
	free(lesson.slots);
	free(seats);
	return r;
}
