#include "predict.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "predict_belief.h"
#include "thread.h"

/* What nobody reads faster than: a tensor that was open for less than its bytes take at
 * this rate (64 GB/s) was not read whole. */
#define MOST_BYTES_PER_NS 64u

/* Bytes ahead of the second tensor of a run, doubled for each further one; ahead of the
 * first one it is the next tensor. */
#define FIRST_WINDOW  ((uint64_t)64 << 20)
#define MOST_DOUBLING 5u

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

/* Predicted, and what comes of it is not known. */
#define OPEN_QUESTIONS 2048u

/* Tensors that are open, and may still turn out to be read. */
#define WATCHED_MAX 64u

/* A tensor was consumed lately: within so many uses. */
#define LATELY 16u

#define QUEUE_LEN 256u

enum event_kind {
	EVENT_CONSUMED, /* by reads of the daemon */
	EVENT_OPENED,   /* as expected */
	EVENT_READ,     /* the same, where the daemon sees no opens */
	EVENT_RELEASED,
	EVENT_REPLAY, /* of the profile, from its start */
};

struct event {
	enum event_kind kind;
	struct node node;
	uint64_t time_ns;
	bool hit; /* of what was predicted */
};

/* Kibibytes that were read of a view since it was last taken for consumed, and which view
 * that was. */
#define SEEN_VIEWS      4u
#define SEEN(kib, view) ((kib)*SEEN_VIEWS + (view))

_Static_assert(VIEW_COUNT <= SEEN_VIEWS, "a view more");

/* What an open or read of a tensor would tell. */
enum expectation {
	NOT_EXPECTED,
	EXPECTED,  /* that a run goes on: its file was there already */
	PREDICTED, /* the same, and that it was right to make its file */
};

struct trace {
	atomic_uint_fast64_t seen; /* see SEEN() */
	atomic_int expected;       /* enum expectation */
	atomic_bool watched;       /* was predicted, and is open */
	/* Only the thread that handles events looks at these. */
	bool foreseen;        /* its open was taken for a use */
	uint32_t consumed_at; /* number of the use; 0: never */
	uint32_t due;         /* use at which its prediction was wrong */
	uint64_t opened_ns;   /* 0: not watched, or known to be consumed */
};

/* The rest is of the thread that handles events, but what is atomic. */
struct predict {
	struct predict_setup setup;
	struct trace *traces; /* by index of the tensor */

	pthread_mutex_t lock; /* protects the queue */
	pthread_cond_t wake;
	struct event queue[QUEUE_LEN];
	unsigned int first;
	unsigned int queued;
	bool stopping;
	pthread_t thread;
	bool started;

	struct predict_belief belief;
	struct node open_questions[OPEN_QUESTIONS]; /* the oldest first */
	unsigned int oldest_question;
	unsigned int question_count;
	struct node watched[WATCHED_MAX]; /* whose opened_ns is set */
	unsigned int watched_count;

	uint32_t recent; /* a bit each, the last one lowest: whether it was right */
	unsigned int recent_count;
	uint8_t strays; /* a bit for each of the last uses: whether it belongs to no run
			 */
	bool backing_off;
	unsigned int doubt; /* length of a run that is believed again */

	atomic_uint_fast64_t predicted;
	atomic_uint_fast64_t hits;
	atomic_int shown_stage;        /* enum predict_stage */
	atomic_uint shown_recent;      /* predictions whose outcome is known */
	atomic_uint shown_recent_hits; /* of those */
	atomic_bool shown_backing_off;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t bytes_of(const struct predict *p, uint32_t index)
{
	return model_tensor(p->setup.model, index)->nbytes;
}

/* Most of it, but more than one touch of a mapping makes the kernel read, if it has more
 * than that. */
static uint64_t threshold(const struct predict *p, uint64_t nbytes)
{
	uint64_t peek = p->setup.readahead_bytes * 2;
	uint64_t most = nbytes / 4 * 3;

	if (peek > nbytes)
		peek = nbytes;
	return most > peek ? most : peek;
}

/* ---- What others note ---- */

/* One that finds the queue full is lost: there will be others. */
static void post(struct predict *p, enum event_kind kind, struct node node, bool hit)
{
	const struct event event = {
		.kind = kind, .node = node, .time_ns = now_ns(), .hit = hit
	};

	(void)pthread_mutex_lock(&p->lock);
	if (p->queued < QUEUE_LEN) {
		p->queue[(p->first + p->queued) % QUEUE_LEN] = event;
		p->queued++;
		(void)pthread_cond_signal(&p->wake);
	}
	(void)pthread_mutex_unlock(&p->lock);
}

/* What was expected of a tensor that is now opened or read, once. */
static int take_expectation(struct trace *trace)
{
	if (atomic_load_explicit(&trace->expected, memory_order_relaxed) == NOT_EXPECTED)
		return NOT_EXPECTED;
	return atomic_exchange_explicit(&trace->expected, NOT_EXPECTED,
					memory_order_relaxed);
}

/* Adds to what was read of a tensor; true for the one READ that makes it enough. Readers
 * of another view begin anew. */
static bool add_seen(struct trace *trace, enum view view, uint64_t kib, uint64_t enough)
{
	atomic_uint_fast64_t *seen = &trace->seen;
	uint64_t before = atomic_load_explicit(seen, memory_order_relaxed);

	if (before % SEEN_VIEWS == view) {
		before = atomic_fetch_add_explicit(seen, SEEN(kib, 0),
						   memory_order_relaxed);
		kib += before / SEEN_VIEWS;
	} else {
		atomic_store_explicit(seen, SEEN(kib, view), memory_order_relaxed);
	}
	return kib >= enough &&
	       atomic_exchange_explicit(seen, 0, memory_order_relaxed) / SEEN_VIEWS >=
		       enough;
}

void predict_note_read(struct predict *p, struct node node, uint64_t bytes)
{
	struct trace *trace = &p->traces[node.index];
	uint64_t nbytes = bytes_of(p, node.index);
	int expected;

	if (nbytes < PREDICT_LEAST_BYTES)
		return;
	expected = take_expectation(trace);
	if (expected != NOT_EXPECTED)
		post(p, EVENT_READ, node, expected == PREDICTED);
	if (add_seen(trace, node.view, bytes >> 10, threshold(p, nbytes) >> 10))
		post(p, EVENT_CONSUMED, node, false);
}

void predict_note_open(struct predict *p, struct node node)
{
	struct trace *trace = &p->traces[node.index];
	int expected = take_expectation(trace);

	if (expected == NOT_EXPECTED && !p->setup.opens_are_uses)
		return;
	atomic_store_explicit(&trace->watched, true, memory_order_relaxed);
	post(p, EVENT_OPENED, node, expected == PREDICTED);
}

void predict_note_release(struct predict *p, struct node node)
{
	struct trace *trace = &p->traces[node.index];

	if (atomic_load_explicit(&trace->watched, memory_order_relaxed) &&
	    atomic_exchange_explicit(&trace->watched, false, memory_order_relaxed))
		post(p, EVENT_RELEASED, node, false);
}

void predict_replay(struct predict *p)
{
	const struct node first = { .kind = NODE_TENSOR, .view = p->setup.profile_view };

	if (p->belief.candidates[STAGE_PROFILE].exists)
		post(p, EVENT_REPLAY, first, false);
}

/* ---- How good predictions are ---- */

static void withdraw(struct predict *p, struct node node)
{
	if (p->setup.withdraw)
		p->setup.withdraw(p->setup.context, node);
}

/* The oldest prediction whose outcome is not known any more. */
static struct node take_question(struct predict *p)
{
	struct node node = p->open_questions[p->oldest_question];

	p->oldest_question = (p->oldest_question + 1) % OPEN_QUESTIONS;
	p->question_count--;
	return node;
}

/* Its tensor is so many ahead of what is used now. */
static void add_question(struct predict *p, struct node node, uint32_t distance)
{
	unsigned int last = p->oldest_question + p->question_count++;

	p->open_questions[last % OPEN_QUESTIONS] = node;
	p->traces[node.index].due = p->belief.time + 2 * distance + LATEST_USE;
}

static unsigned int recent_hits(const struct predict *p)
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
		struct node node = take_question(p);

		if (take_expectation(&p->traces[node.index]) != PREDICTED)
			continue;
		withdraw(p, node);
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

static void count_outcome(struct predict *p, bool hit)
{
	note_outcome(p, hit);
	if (recent_hits(p) >= RECENT_GOOD)
		p->doubt = 0;
	if (p->backing_off || p->recent_count < RECENT_LEAST ||
	    recent_hits(p) * 2 >= p->recent_count)
		return;
	if (p->doubt < PREDICT_RUN_MAX)
		p->doubt *= 2;
	back_off(p);
}

/* Predictions that should have come true by now are wrong. */
static void give_up_overdue(struct predict *p)
{
	while (p->question_count > 0) {
		struct node node = p->open_questions[p->oldest_question];
		struct trace *trace = &p->traces[node.index];
		bool open = atomic_load_explicit(&trace->expected,
						 memory_order_relaxed) == PREDICTED;

		if (open && trace->due > p->belief.time)
			return;
		(void)take_question(p);
		if (!open || take_expectation(trace) != PREDICTED)
			continue;
		withdraw(p, node);
		count_outcome(p, false);
	}
}

static bool is_believed(struct predict *p, uint32_t index, const struct predict_run *run)
{
	bool telling = bytes_of(p, index) >= TELLING_BYTES;

	if (p->backing_off && run->length < p->doubt)
		return false;
	if (p->backing_off)
		come_back(p);
	return run->length >= (telling ? RUN_TELLING : RUN_SMALL) ||
	       (telling && p->belief.time == 1);
}

/* ---- Predicting ---- */

/* Asks for one, which is so many tensors ahead; false when no more fit. Smaller ones than
 * count come along: their outcome is not looked at. */
static bool ask_for(struct predict *p, struct node node, uint32_t distance)
{
	atomic_int *expected = &p->traces[node.index].expected;
	int nothing = NOT_EXPECTED;
	int r;

	if (p->question_count == OPEN_QUESTIONS)
		return false;
	r = p->setup.request(p->setup.context, node);
	if (!predict_counts(p->setup.model, node.index))
		return true;
	if (r == 0) {
		atomic_store_explicit(expected, PREDICTED, memory_order_relaxed);
		add_question(p, node, distance);
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
			bytes += bytes_of(p, node.index);
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
		bytes += bytes_of(p, predict_order_at(order, rank));
	return rank;
}

/* What was asked for in another order would only stand in the way. */
static void take_back_others(struct predict *p, const struct predict_run *run)
{
	const struct predict_order *order = predict_belief_order(&p->belief);
	uint32_t end = run ? end_of_window(p, run) : 0;

	for (unsigned int i = p->question_count; i > 0; i--) {
		struct node node = take_question(p);
		uint32_t rank = predict_order_rank(order, node.index);

		if (run && rank >= run->next && rank < end)
			add_question(p, node, rank - run->next);
		else if (take_expectation(&p->traces[node.index]) == PREDICTED)
			withdraw(p, node);
	}
}

/* Two in a row may be chance. True where it begins to be in vain to predict. */
static bool strays(struct predict *p, const struct predict_run *run)
{
	bool is_stray = !run || run->length < 3;

	p->strays = (uint8_t)(p->strays << 1 | is_stray);
	if (p->backing_off || !is_stray || __builtin_popcount(p->strays) < STRAYS_MAX)
		return false;
	back_off(p);
	return true;
}

static void use(struct predict *p, struct node node)
{
	enum predict_stage before = p->belief.in_force;
	struct predict_run *run = predict_belief_use(&p->belief, node.index);

	if (p->belief.in_force != before || p->belief.learned == p->belief.time)
		take_back_others(p, run);
	if (strays(p, run))
		return;
	give_up_overdue(p);
	if (run && is_believed(p, node.index, run))
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
		if (p->watched_count == WATCHED_MAX)
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

/* Those that have been open long enough to be read whole. They may still be: there are
 * loaders that keep all their mappings. */
static void look_at_open(struct predict *p, uint64_t now)
{
	for (unsigned int i = p->watched_count; i > 0; i--) {
		struct node node = p->watched[i - 1];
		uint64_t open_ns = now - p->traces[node.index].opened_ns;

		if (open_ns >= bytes_of(p, node.index) / MOST_BYTES_PER_NS)
			take_for_consumed(p, node);
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
		count_outcome(p, true);
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

static void handle(struct predict *p, const struct event *event)
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
	atomic_store_explicit(&p->shown_recent_hits, recent_hits(p),
			      memory_order_relaxed);
	atomic_store_explicit(&p->shown_backing_off, p->backing_off,
			      memory_order_relaxed);
}

/* With the lock held, which is given up meanwhile. */
static void handle_queued(struct predict *p)
{
	while (p->queued > 0 && !p->stopping) {
		struct event event = p->queue[p->first];

		p->first = (p->first + 1) % QUEUE_LEN;
		p->queued--;
		(void)pthread_mutex_unlock(&p->lock);
		handle(p, &event);
		(void)pthread_mutex_lock(&p->lock);
	}
}

void predict_drain(struct predict *p)
{
	(void)pthread_mutex_lock(&p->lock);
	handle_queued(p);
	(void)pthread_mutex_unlock(&p->lock);
}

/* ---- Life ---- */

static void *run(void *argument)
{
	struct predict *p = argument;

	(void)pthread_mutex_lock(&p->lock);
	while (!p->stopping) {
		handle_queued(p);
		if (!p->stopping)
			(void)pthread_cond_wait(&p->wake, &p->lock);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return NULL;
}

int predict_new(const struct predict_setup *setup, struct predict **predict)
{
	struct predict *p = calloc(1, sizeof(*p));
	size_t count = model_tensor_count(setup->model);

	if (!p)
		return -ENOMEM;
	p->setup = *setup;
	p->traces = calloc(count > 0 ? count : 1, sizeof(*p->traces));
	if (!p->traces || predict_belief_init(setup->model, &p->belief) < 0) {
		free(p->traces);
		free(p);
		return -ENOMEM;
	}
	if (setup->profile)
		predict_belief_set_profile(&p->belief, setup->profile);
	p->shown_stage = (int)p->belief.in_force;
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->wake, NULL);
	*predict = p;
	return 0;
}

int predict_start(struct predict *p)
{
	int r = thread_start(&p->thread, run, p);

	p->started = r == 0;
	return r;
}

void predict_stop(struct predict *p)
{
	if (!p)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->stopping = true;
	(void)pthread_cond_signal(&p->wake);
	(void)pthread_mutex_unlock(&p->lock);
	if (p->started)
		(void)pthread_join(p->thread, NULL);
	p->started = false;
}

void predict_free(struct predict *p)
{
	if (!p)
		return;
	predict_stop(p);
	(void)pthread_cond_destroy(&p->wake);
	(void)pthread_mutex_destroy(&p->lock);
	predict_belief_fini(&p->belief);
	free(p->traces);
	free(p);
}

void predict_summarise(const struct predict *p, struct predict_summary *summary)
{
	summary->predicted = atomic_load_explicit(&p->predicted, memory_order_relaxed);
	summary->hits = atomic_load_explicit(&p->hits, memory_order_relaxed);
	summary->recent = atomic_load_explicit(&p->shown_recent, memory_order_relaxed);
	summary->recent_hits =
		atomic_load_explicit(&p->shown_recent_hits, memory_order_relaxed);
	summary->order = predict_stage_name((enum predict_stage)atomic_load_explicit(
		&p->shown_stage, memory_order_relaxed));
	summary->backing_off =
		atomic_load_explicit(&p->shown_backing_off, memory_order_relaxed);
}
