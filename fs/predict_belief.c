#include "predict_belief.h"

#include <errno.h>

/* A run of so many uses goes on where up to REACH tensors are passed over or come late,
 * as with loaders of several threads. A shorter one goes on with the very next. */
#define RUN_FIRM 3u
#define REACH    4u

/* A run is forgotten after so many uses of others, and one that is firm. */
#define RUN_PATIENCE  3u
#define FIRM_PATIENCE 64u

#define MOST_SCORE 4u

/* Tensors that do not count are passed over, but not without end. */
#define MOST_STEPS 10000u

/* To learn makes the whole order anew, so there are uses in between: as many as this
 * share of all tensors. */
#define LEARN_SHARE 256u

const char *predict_stage_name(enum predict_stage stage)
{
	static const char *const names[] = {
		[STAGE_FILE] = "file",
		[STAGE_LAYERS] = "layers",
		[STAGE_PROFILE] = "profile",
	};

	return names[stage];
}

int predict_belief_init(const struct model *model, struct predict_belief *belief)
{
	size_t count = model_tensor_count(model);

	*belief = (struct predict_belief){ .model = model };
	belief->used_at = calloc(count > 0 ? count : 1, sizeof(*belief->used_at));
	if (!belief->used_at)
		return -ENOMEM;
	predict_order_of_file(model, &belief->candidates[STAGE_FILE].order);
	belief->candidates[STAGE_FILE].exists = true;
	return 0;
}

void predict_belief_fini(struct predict_belief *belief)
{
	for (unsigned int i = 0; i < STAGE_COUNT; i++)
		predict_order_fini(&belief->candidates[i].order);
	free(belief->used_at);
	belief->used_at = NULL;
}

void predict_belief_set_profile(struct predict_belief *belief,
				struct predict_order *order)
{
	struct predict_candidate *c = &belief->candidates[STAGE_PROFILE];

	c->order = *order;
	c->exists = true;
	c->score = MOST_SCORE;
	c->runs[0].length = RUN_FIRM + 1;
	belief->in_force = STAGE_PROFILE;
	*order = (struct predict_order){ 0 };
}

/* ---- Runs ---- */

/* Tensors that count from rank `from` up to `to`, or more than `most`. */
static uint32_t distance(const struct predict_order *order, uint32_t from, uint32_t to,
			 uint32_t most)
{
	uint32_t found = 0;

	if (to - from > MOST_STEPS)
		return most + 1;
	while (from < to && found <= most)
		found += predict_counts(order->model, predict_order_at(order, from++));
	return found;
}

enum fit {
	NEW,  /* no run foretold it */
	LATE, /* it was foretold, and passed over; or is used once more */
	NEXT,
};

static enum fit fits(const struct predict_candidate *c, const struct predict_run *run,
		     uint32_t rank, uint32_t time)
{
	bool firm = run->length >= RUN_FIRM;
	uint32_t reach = firm ? REACH : 1;

	if (run->length == 0 || time - run->time > (firm ? FIRM_PATIENCE : RUN_PATIENCE))
		return NEW;
	if (rank >= run->next)
		return distance(&c->order, run->next, rank, reach) < reach ? NEXT : NEW;
	return distance(&c->order, rank, run->next, reach) <= reach ? LATE : NEW;
}

/* The run that a use fits best. */
static struct predict_run *find_run(struct predict_candidate *c, uint32_t rank,
				    uint32_t time, enum fit *fit)
{
	struct predict_run *best = NULL;

	*fit = NEW;
	for (unsigned int i = 0; i < PREDICT_RUNS; i++) {
		enum fit f = fits(c, &c->runs[i], rank, time);

		if (f > *fit || (best && f == *fit && c->runs[i].length > best->length)) {
			*fit = f;
			best = &c->runs[i];
		}
	}
	return best;
}

static struct predict_run *oldest_run(struct predict_candidate *c)
{
	struct predict_run *oldest = &c->runs[0];

	for (unsigned int i = 0; i < PREDICT_RUNS && oldest->length > 0; i++)
		if (c->runs[i].length == 0 || c->runs[i].time < oldest->time)
			oldest = &c->runs[i];
	return oldest;
}

static struct predict_run *follow(struct predict_candidate *c, uint32_t rank,
				  uint32_t time, enum fit *fit)
{
	struct predict_run *run = find_run(c, rank, time, fit);

	if (!run) {
		run = oldest_run(c);
		*run = (struct predict_run){ .asked = rank + 1 };
	}
	run->time = time;
	if (*fit == LATE)
		return run;
	run->next = rank + 1;
	if (run->asked < run->next)
		run->asked = run->next;
	if (run->length < PREDICT_RUN_MAX)
		run->length++;
	return run;
}

/* ---- Which order ---- */

static void judge(struct predict_belief *b, const enum fit fits[static STAGE_COUNT])
{
	bool foretold = false;

	for (unsigned int i = 0; i < STAGE_COUNT; i++)
		foretold = foretold || (b->candidates[i].exists && fits[i] == NEXT);
	for (unsigned int i = 0; foretold && i < STAGE_COUNT; i++) {
		struct predict_candidate *c = &b->candidates[i];

		if (fits[i] == NEW)
			c->score /= 2;
		else if (fits[i] == NEXT && c->score < MOST_SCORE)
			c->score++;
	}
	for (unsigned int i = 0; i < STAGE_COUNT; i++)
		if (b->candidates[i].exists &&
		    b->candidates[i].score > b->candidates[b->in_force].score)
			b->in_force = (enum predict_stage)i;
}

/* At the first use: names cost time that nobody should wait for at the mount. Without
 * memory there is one order less. */
static void make_layers(struct predict_belief *b)
{
	struct predict_candidate *c = &b->candidates[STAGE_LAYERS];

	if (b->time > 1 || predict_order_by_layers(b->model, &c->order) < 0)
		return;
	c->exists = true;
	if (b->in_force == STAGE_FILE && !predict_order_is_of_file(&c->order))
		b->in_force = STAGE_LAYERS;
}

/* ---- Learning ---- */

/* As predict_order_learn() asks. */
static int64_t used_in_layer(const void *context, uint32_t tensor)
{
	const struct predict_belief *b = context;
	uint32_t at = b->used_at[tensor];

	if (!predict_counts(b->model, tensor))
		return -1;
	return at >= b->layer_begun ? at : 0;
}

/* The layer that was used last ended with `tensor`: the next one can be foretold. */
static void learn(struct predict_belief *b, uint32_t tensor)
{
	struct predict_candidate *c = &b->candidates[STAGE_LAYERS];
	uint32_t pause = b->candidates[STAGE_FILE].order.count / LEARN_SHARE;
	unsigned int most = 0;

	if (b->learned > 0 && b->time - b->learned < pause)
		return;
	if (predict_order_learn(&c->order, b->layer, used_in_layer, b) < 0)
		return;
	b->learned = b->time;
	for (unsigned int i = 0; i < STAGE_COUNT; i++)
		if (b->candidates[i].score > most)
			most = b->candidates[i].score;
	c->score = most;
	b->in_force = STAGE_LAYERS;
	memset(c->runs, 0, sizeof(c->runs));
	c->runs[0] = (struct predict_run){
		.next = predict_order_rank(&c->order, tensor) + 1,
		.asked = predict_order_rank(&c->order, tensor) + 1,
		.length =
			b->layer_uses < PREDICT_RUN_MAX ? b->layer_uses : PREDICT_RUN_MAX,
		.time = b->time,
	};
}

/* Whether it was used in another order than the one in force has. With loaders of several
 * threads some tensors always are. */
static bool was_surprising(const struct predict_belief *b)
{
	return b->layer_surprises > 0 && b->layer_surprises >= b->layer_uses / 4 &&
	       b->layer_uses > 1 && b->layer_uses >= b->layer_size / 2;
}

static void enter_layer(struct predict_belief *b, struct predict_layer layer)
{
	const struct predict_order *order = &b->candidates[STAGE_LAYERS].order;

	b->layer_before = b->layer;
	b->layer = layer;
	b->layer_begun = b->time;
	b->layer_size = 0;
	b->layer_uses = 0;
	b->layer_surprises = 0;
	for (uint32_t i = layer.begin; i < layer.end; i++)
		b->layer_size += predict_counts(b->model, predict_order_at(order, i));
}

static bool is_in(struct predict_layer layer, uint32_t rank)
{
	return rank >= layer.begin && rank < layer.end;
}

/* `before` is when the tensor was used before: a layer that begins once more is entered
 * anew. What comes late of the layer before is passed over. */
static void follow_layer(struct predict_belief *b, uint32_t tensor, uint32_t before,
			 enum fit fit)
{
	const struct predict_order *order = &b->candidates[STAGE_LAYERS].order;
	uint32_t rank = predict_order_rank(order, tensor);
	bool again = is_in(b->layer, rank) && before >= b->layer_begun;
	struct predict_layer layer = { 0 };

	if (fit == LATE && (again || !is_in(b->layer, rank)))
		return;
	if (is_in(b->layer_before, rank) && before < b->layer_begun &&
	    b->layer_uses < b->layer_size)
		return;
	if (!is_in(b->layer, rank) || again) {
		if (!again && was_surprising(b))
			learn(b, tensor);
		if (predict_order_layer(order, tensor, &layer))
			enter_layer(b, layer);
		else
			b->layer = layer;
	}
	if (!is_in(b->layer, rank))
		return;
	if (b->layer_uses++ > 0 && fit == NEW)
		b->layer_surprises++;
	if (b->layer_uses == b->layer_size && was_surprising(b)) {
		learn(b, tensor);
		b->layer_surprises = 0;
	}
}

/* ---- Uses ---- */

struct predict_run *predict_belief_use(struct predict_belief *b, uint32_t tensor)
{
	struct predict_run *runs[STAGE_COUNT] = { NULL };
	enum fit fits[STAGE_COUNT] = { NEW };
	uint32_t before = b->used_at[tensor];

	b->used_at[tensor] = ++b->time;
	make_layers(b);
	for (unsigned int i = 0; i < STAGE_COUNT; i++) {
		struct predict_candidate *c = &b->candidates[i];
		uint32_t rank = c->exists ? predict_order_rank(&c->order, tensor)
					  : PREDICT_NOWHERE;

		if (rank != PREDICT_NOWHERE)
			runs[i] = follow(c, rank, b->time, &fits[i]);
	}
	judge(b, fits);
	if (b->candidates[STAGE_LAYERS].exists)
		follow_layer(b, tensor, before, fits[b->in_force]);
	if (b->learned == b->time)
		return &b->candidates[STAGE_LAYERS].runs[0];
	return runs[b->in_force];
}

void predict_belief_end_runs(struct predict_belief *b)
{
	for (unsigned int i = 0; i < STAGE_COUNT; i++)
		memset(b->candidates[i].runs, 0, sizeof(b->candidates[i].runs));
}

const struct predict_run *predict_belief_foresees(const struct predict_belief *b,
						  uint32_t tensor)
{
	const struct predict_candidate *c = &b->candidates[b->in_force];
	uint32_t rank = predict_order_rank(&c->order, tensor);

	for (unsigned int i = 0; rank != PREDICT_NOWHERE && i < PREDICT_RUNS; i++)
		if (fits(c, &c->runs[i], rank, b->time) == NEXT)
			return &c->runs[i];
	return NULL;
}

const struct predict_order *predict_belief_order(const struct predict_belief *b)
{
	return &b->candidates[b->in_force].order;
}
