/* How good predictions are: hits and misses, when to back off and when to come back. */
#include "predict_state.h"

/* One tensor of so many bytes, read whole, tells more than smaller ones, which are looked
 * at whole by mistake too easily. */
#define TELLING_BYTES ((uint64_t)16 << 20)

/* Tensors of a run before it is believed. The very first one needs no other. */
#define RUN_TELLING 2u
#define RUN_SMALL   3u

/* The same while predictions are wrong, doubled each time that it was believed in vain.
 */
#define RUN_DOUBTED 4u

/* What came of the last predictions; so many have to be known before they are judged. */
#define RECENT_MAX   32u
#define RECENT_LEAST 4u

/* So many of them right, and what was wrong before is forgotten. */
#define RECENT_GOOD 24u

/* Uses until a prediction is called wrong, besides two for each tensor in front of it,
 * since loaders may take turns. */
#define LATEST_USE 6u

/* Where so many of the last eight uses belong to no run it is in vain to predict. */
#define STRAYS_MAX 6

void predict_call_off(struct predict *p, struct node node)
{
	if (p->setup.withdraw)
		p->setup.withdraw(p->setup.context, node);
}

struct node predict_take_question(struct predict *p)
{
	struct node node = p->open_questions[p->oldest_question];

	p->oldest_question = (p->oldest_question + 1) % PREDICT_OPEN_QUESTIONS;
	p->question_count--;
	return node;
}

void predict_add_question(struct predict *p, struct node node, uint32_t distance)
{
	unsigned int last = p->oldest_question + p->question_count++;

	p->open_questions[last % PREDICT_OPEN_QUESTIONS] = node;
	p->traces[node.index].due = p->belief.time + 2 * distance + LATEST_USE;
}

unsigned int predict_recent_hits(const struct predict *p)
{
	return (unsigned int)__builtin_popcount(p->recent);
}

static void note_outcome(struct predict *p, bool hit)
{
	p->recent = p->recent << 1 | hit;
	if (p->recent_count < RECENT_MAX)
		p->recent_count++;
}

/* All that was predicted was wrong, and nobody is to wait for the disk because of it. */
static void back_off(struct predict *p)
{
	p->backing_off = true;
	if (p->doubt < RUN_DOUBTED)
		p->doubt = RUN_DOUBTED;
	predict_belief_end_runs(&p->belief);
	while (p->question_count > 0) {
		struct node node = predict_take_question(p);

		if (predict_take_expectation(&p->traces[node.index]) != PREDICTED)
			continue;
		predict_call_off(p, node);
		note_outcome(p, false);
	}
}

static void come_back(struct predict *p)
{
	p->backing_off = false;
	p->strays = 0;
	p->recent = 0;
	p->recent_count = 0;
}

void predict_count_outcome(struct predict *p, bool hit)
{
	note_outcome(p, hit);
	if (predict_recent_hits(p) >= RECENT_GOOD)
		p->doubt = 0;
	if (p->backing_off || p->recent_count < RECENT_LEAST ||
	    predict_recent_hits(p) * 2 >= p->recent_count)
		return;
	if (p->doubt < PREDICT_RUN_MAX)
		p->doubt *= 2;
	back_off(p);
}

void predict_give_up_overdue(struct predict *p)
{
	while (p->question_count > 0) {
		struct node node = p->open_questions[p->oldest_question];
		struct trace *trace = &p->traces[node.index];
		bool open = atomic_load_explicit(&trace->expected,
						 memory_order_relaxed) == PREDICTED;

		if (open && trace->due > p->belief.time)
			return;
		(void)predict_take_question(p);
		if (!open || predict_take_expectation(trace) != PREDICTED)
			continue;
		predict_call_off(p, node);
		predict_count_outcome(p, false);
	}
}

bool predict_is_believed(struct predict *p, uint32_t index, const struct predict_run *run)
{
	bool telling = predict_bytes_of(p, index) >= TELLING_BYTES;

	if (p->backing_off && run->length < p->doubt)
		return false;
	if (p->backing_off)
		come_back(p);
	return run->length >= (telling ? RUN_TELLING : RUN_SMALL) ||
	       (telling && p->belief.time == 1);
}

/* Two in a row may be chance. */
bool predict_is_in_vain(struct predict *p, const struct predict_run *run)
{
	bool is_stray = !run || run->length < 3;

	p->strays = (uint8_t)(p->strays << 1 | is_stray);
	if (p->backing_off || !is_stray || __builtin_popcount(p->strays) < STRAYS_MAX)
		return false;
	back_off(p);
	return true;
}
