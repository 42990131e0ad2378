/* Which tensors are used, and asking for what follows them. */
#include <errno.h>

#include "predict_state.h"

/* What nobody reads faster than: a tensor that was open for less than its bytes take at
 * this rate (64 GB/s) was not read whole. */
#define MOST_BYTES_PER_NS 64u

/* Bytes ahead of the second tensor of a run, doubled for each further one; ahead of the
 * first one it is the next tensor. */
#define FIRST_WINDOW  ((uint64_t)64 << 20)
#define MOST_DOUBLING 5u

/* A tensor was consumed lately: within so many uses. */
#define LATELY 16u

/* ---- Predicting ---- */

/* Asks for one, which is so many tensors ahead; false when no more fit. Smaller ones than
 * count come along: their outcome is not looked at. */
static bool ask_for(struct predict *p, struct node node, uint32_t distance)
{
	atomic_int *expected = &p->traces[node.index].expected;
	int nothing = NOT_EXPECTED;
	int r;

	if (p->question_count == PREDICT_OPEN_QUESTIONS)
		return false;
	r = p->setup.request(p->setup.context, node);
	if (!predict_counts(p->setup.model, node.index))
		return true;
	if (r == 0) {
		atomic_store_explicit(expected, PREDICTED, memory_order_relaxed);
		predict_add_question(p, node, distance);
		(void)atomic_fetch_add_explicit(&p->predicted, 1, memory_order_relaxed);
	} else if (r == -EALREADY) {
		(void)atomic_compare_exchange_strong(expected, &nothing, EXPECTED);
	}
	return r != -ENOSPC;
}

static uint64_t window_of(const struct predict *p, const struct predict_run *run)
{
	unsigned int doubling =
		run->length - 2 < MOST_DOUBLING ? run->length - 2 : MOST_DOUBLING;
	uint64_t window = run->length < 2 ? 1 : FIRST_WINDOW << doubling;

	return window < p->setup.window_max ? window : p->setup.window_max;
}

/* Asks for what follows a run. */
static void predict_behind(struct predict *p, struct predict_run *run, enum view view)
{
	const struct predict_order *order = predict_belief_order(&p->belief);
	uint64_t window = window_of(p, run);
	uint32_t distance = 0;
	uint64_t bytes = 0;

	for (uint32_t rank = run->next; rank < order->count && bytes < window; rank++) {
		const struct node node = {
			.kind = NODE_TENSOR,
			.view = view,
			.index = predict_order_at(order, rank),
		};

		if (predict_counts(p->setup.model, node.index)) {
			distance++;
			bytes += predict_bytes_of(p, node.index);
		}
		if (bytes > p->setup.window_max)
			return;
		if (rank < run->asked)
			continue;
		if (!ask_for(p, node, distance))
			return;
		run->asked = rank + 1;
	}
}

/* ---- Uses ---- */

/* The rank behind what a run asks for. */
static uint32_t end_of_window(const struct predict *p, const struct predict_run *run)
{
	const struct predict_order *order = predict_belief_order(&p->belief);
	uint64_t window = window_of(p, run);
	uint32_t rank = run->next;

	for (uint64_t bytes = 0; rank < order->count && bytes < window; rank++)
		bytes += predict_bytes_of(p, predict_order_at(order, rank));
	return rank;
}

/* What was asked for in another order would only stand in the way. */
static void take_back_others(struct predict *p, const struct predict_run *run)
{
	const struct predict_order *order = predict_belief_order(&p->belief);
	uint32_t end = run ? end_of_window(p, run) : 0;

	for (unsigned int i = p->question_count; i > 0; i--) {
		struct node node = predict_take_question(p);
		uint32_t rank = predict_order_rank(order, node.index);

		if (run && rank >= run->next && rank < end)
			predict_add_question(p, node, rank - run->next);
		else if (predict_take_expectation(&p->traces[node.index]) == PREDICTED)
			predict_call_off(p, node);
	}
}

static void use(struct predict *p, struct node node)
{
	enum predict_stage before = p->belief.in_force;
	struct predict_run *run = predict_belief_use(&p->belief, node.index);

	if (p->belief.in_force != before || p->belief.learned == p->belief.time)
		take_back_others(p, run);
	if (predict_is_in_vain(p, run))
		return;
	predict_give_up_overdue(p);
	if (run && predict_is_believed(p, node.index, run))
		predict_behind(p, run, node.view);
}

static void forget_open(struct predict *p, uint32_t index)
{
	unsigned int i = 0;

	p->traces[index].opened_ns = 0;
	while (i < p->watched_count && p->watched[i].index != index)
		i++;
	if (i < p->watched_count)
		p->watched[i] = p->watched[--p->watched_count];
}

static void watch_open(struct predict *p, struct node node, uint64_t time_ns)
{
	struct trace *trace = &p->traces[node.index];

	if (trace->opened_ns == 0) {
		if (p->watched_count == PREDICT_WATCHED_MAX)
			forget_open(p, p->watched[0].index);
		p->watched[p->watched_count++] = node;
	}
	trace->opened_ns = time_ns;
}

static void take_for_consumed(struct predict *p, struct node node)
{
	struct trace *trace = &p->traces[node.index];

	forget_open(p, node.index);
	if (!trace->foreseen)
		use(p, node);
	trace->foreseen = false;
	trace->consumed_at = p->belief.time;
}

static enum predict_sight sight_of(const struct predict *p, struct node node)
{
	return p->setup.look ? p->setup.look(p->setup.context, node) : PREDICT_UNSEEN;
}

/* Those that have been open long enough to be read whole. They may still be: there are
 * loaders that keep all their mappings. */
static void look_at_open(struct predict *p, uint64_t now)
{
	for (unsigned int i = p->watched_count; i > 0; i--) {
		struct node node = p->watched[i - 1];
		uint64_t open_ns = now - p->traces[node.index].opened_ns;

		if (open_ns < predict_bytes_of(p, node.index) / MOST_BYTES_PER_NS)
			continue;
		switch (sight_of(p, node)) {
		case PREDICT_SEEN:
			forget_open(p, node.index);
			break;
		case PREDICT_UNREAD:
			break;
		case PREDICT_UNSEEN:
		case PREDICT_READ:
			take_for_consumed(p, node);
			break;
		}
	}
}

/* Whether an open of this tensor tells that a run goes on: what it ends with was read,
 * and not only looked into. */
static bool goes_on(const struct predict *p, uint32_t index)
{
	const struct predict_run *run = predict_belief_foresees(&p->belief, index);
	const struct trace *last;

	if (!run || run->next == 0)
		return run != NULL;
	last = &p->traces[predict_order_at(predict_belief_order(&p->belief),
					   run->next - 1)];
	return last->consumed_at > 0 && p->belief.time - last->consumed_at < LATELY;
}

/* ---- Events ---- */

/* Not once the tensors are used already. */
static void replay(struct predict *p, enum view view)
{
	struct predict_candidate *c = &p->belief.candidates[STAGE_PROFILE];

	if (c->exists && p->belief.time == 0)
		predict_behind(p, &c->runs[0], view);
}

static void begun(struct predict *p, const struct event *event)
{
	if (event->hit) {
		(void)atomic_fetch_add_explicit(&p->hits, 1, memory_order_relaxed);
		predict_count_outcome(p, true);
	}
	if (goes_on(p, event->node.index)) {
		p->traces[event->node.index].foreseen = true;
		use(p, event->node);
	}
}

/* Most loaders close a file once they have mapped it: the mapping is what is open. */
static void released(struct predict *p, struct node node)
{
	struct trace *trace = &p->traces[node.index];

	if (trace->opened_ns > 0 && p->setup.is_mapped &&
	    p->setup.is_mapped(p->setup.context, node))
		return;
	forget_open(p, node.index);
	trace->foreseen = false;
}

void predict_handle(struct predict *p, const struct event *event)
{
	look_at_open(p, event->time_ns);
	switch (event->kind) {
	case EVENT_CONSUMED:
		take_for_consumed(p, event->node);
		break;
	case EVENT_OPENED:
		begun(p, event);
		watch_open(p, event->node, event->time_ns);
		break;
	case EVENT_READ:
		begun(p, event);
		break;
	case EVENT_REPLAY:
		replay(p, event->node.view);
		break;
	case EVENT_RELEASED:
		released(p, event->node);
		break;
	}
	atomic_store_explicit(&p->shown_stage, (int)p->belief.in_force,
			      memory_order_relaxed);
	atomic_store_explicit(&p->shown_recent, p->recent_count, memory_order_relaxed);
	atomic_store_explicit(&p->shown_recent_hits, predict_recent_hits(p),
			      memory_order_relaxed);
	atomic_store_explicit(&p->shown_backing_off, p->backing_off,
			      memory_order_relaxed);
}
