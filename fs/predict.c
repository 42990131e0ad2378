#include "predict.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "thread.h"

/* What nobody reads faster than: a tensor that was open for less than its bytes take at
 * this rate (64 GB/s) was not read whole. */
#define MOST_BYTES_PER_NS 64u

/* Bytes ahead of the second tensor of a run, doubled for each further one; ahead of the
 * first one it is the next tensor. */
#define FIRST_WINDOW  ((uint64_t)64 << 20)
#define MOST_DOUBLING 5u

/* One tensor of so many bytes, read whole, is a run; smaller ones are looked at whole by
 * mistake too easily. */
#define TELLING_BYTES ((uint64_t)16 << 20)

/* Tensors of a run before it is believed: a telling one, small ones, and any once
 * predictions were wrong. */
#define RUN_TELLING 1u
#define RUN_SMALL   3u
#define RUN_DOUBTED 4u

/* Runs are followed back so far, also where several loaders take turns. */
#define RUN_MAX  16u
#define TURN_MAX 16u

/* Wrong predictions are forgotten in the end. */
#define COUNTED_MAX 512u

#define QUEUE_LEN 256u

enum event_kind {
	EVENT_CONSUMED, /* by reads of the daemon */
	EVENT_OPENED,   /* as expected */
	EVENT_RELEASED,
};

struct event {
	enum event_kind kind;
	struct node node;
	uint64_t time_ns;
	bool hit; /* EVENT_OPENED: of what was predicted */
};

/* Kibibytes that were read of a view since it was last taken for consumed, and which view
 * that was. */
#define SEEN_VIEWS      4u
#define SEEN(kib, view) ((kib)*SEEN_VIEWS + (view))

_Static_assert(VIEW_COUNT <= SEEN_VIEWS, "a view more");

/* What an open of a tensor would tell. */
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
	uint32_t consumed_at; /* number of the event; 0: never */
	uint64_t opened_ns;   /* 0: not watched, or known to be consumed */
};

struct predict {
	struct predict_setup setup;
	uint32_t tensor_count;
	struct trace *traces; /* by index of the tensor */

	pthread_mutex_t lock; /* protects the queue */
	pthread_cond_t wake;
	struct event queue[QUEUE_LEN];
	unsigned int first;
	unsigned int queued;
	bool stopping;
	pthread_t thread;
	bool started;

	/* Only the thread that handles events writes these. */
	uint32_t event_count;
	uint32_t window_count; /* tensors of the last window */
	uint32_t recent_predicted;
	uint32_t recent_hits;
	atomic_uint_fast64_t predicted;
	atomic_uint_fast64_t hits;
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

/* Readers of another view begin anew. What is lost where several threads do this at once
 * is a tensor that is found to be consumed a little later. */
void predict_note_read(struct predict *p, struct node node, uint64_t bytes)
{
	atomic_uint_fast64_t *seen = &p->traces[node.index].seen;
	uint64_t nbytes = bytes_of(p, node.index);
	uint64_t before = atomic_load_explicit(seen, memory_order_relaxed);
	uint64_t kib = bytes >> 10;

	if (nbytes < PREDICT_LEAST_BYTES)
		return;
	if (before % SEEN_VIEWS == node.view)
		kib += before / SEEN_VIEWS;
	if (kib < threshold(p, nbytes) >> 10) {
		atomic_store_explicit(seen, SEEN(kib, node.view), memory_order_relaxed);
		return;
	}
	atomic_store_explicit(seen, 0, memory_order_relaxed);
	post(p, EVENT_CONSUMED, node, false);
}

void predict_note_open(struct predict *p, struct node node)
{
	struct trace *trace = &p->traces[node.index];
	int expected = atomic_load_explicit(&trace->expected, memory_order_relaxed);

	if (expected != NOT_EXPECTED)
		expected = atomic_exchange_explicit(&trace->expected, NOT_EXPECTED,
						    memory_order_relaxed);
	if (expected == NOT_EXPECTED)
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

/* ---- Runs ---- */

/* The next larger tensor in front of this one; false at the first. */
static bool predecessor(const struct predict *p, uint32_t index, uint32_t *before)
{
	while (index > 0)
		if (bytes_of(p, --index) >= PREDICT_LEAST_BYTES) {
			*before = index;
			return true;
		}
	return false;
}

/* Consumed tensors in a row, one soon after the other, that end with this one. */
static unsigned int run_length(const struct predict *p, uint32_t index)
{
	unsigned int run = 0;
	uint32_t at = p->traces[index].consumed_at;

	while (at > 0 && ++run < RUN_MAX) {
		uint32_t earlier;

		if (!predecessor(p, index, &index))
			break;
		earlier = p->traces[index].consumed_at;
		if (earlier == 0 || earlier >= at || at - earlier > TURN_MAX)
			break;
		at = earlier;
	}
	return run;
}

static bool is_doubted(const struct predict *p)
{
	return p->recent_predicted > p->recent_hits + p->window_count + RUN_DOUBTED &&
	       p->recent_hits * 2 < p->recent_predicted;
}

static bool is_believed(const struct predict *p, uint32_t index, unsigned int run)
{
	if (is_doubted(p))
		return run >= RUN_DOUBTED;
	return run >= (bytes_of(p, index) >= TELLING_BYTES ? RUN_TELLING : RUN_SMALL);
}

/* ---- Predicting ---- */

static void count_prediction(struct predict *p)
{
	(void)atomic_fetch_add_explicit(&p->predicted, 1, memory_order_relaxed);
	if (++p->recent_predicted < COUNTED_MAX)
		return;
	p->recent_predicted /= 2;
	p->recent_hits /= 2;
}

/* Asks for one; false when no more fit. */
static bool ask_for(struct predict *p, struct node node)
{
	atomic_int *expected = &p->traces[node.index].expected;
	int r = p->setup.request(p->setup.context, node);
	int nothing = NOT_EXPECTED;

	if (r == 0) {
		atomic_store_explicit(expected, PREDICTED, memory_order_relaxed);
		count_prediction(p);
	} else if (r == -EALREADY) {
		(void)atomic_compare_exchange_strong(expected, &nothing, EXPECTED);
	}
	return r != -ENOSPC;
}

static uint64_t window_of(unsigned int run)
{
	unsigned int doubling = run - 2 < MOST_DOUBLING ? run - 2 : MOST_DOUBLING;

	return run < 2 ? 1 : FIRST_WINDOW << doubling;
}

/* Asks for what follows a tensor that ends a run. */
static void predict_behind(struct predict *p, struct node node, unsigned int run)
{
	uint64_t window = window_of(run);
	uint64_t bytes = 0;

	if (window > p->setup.window_max)
		window = p->setup.window_max;
	p->window_count = 0;
	while (++node.index < p->tensor_count && bytes < window) {
		uint64_t nbytes = bytes_of(p, node.index);

		if (nbytes < PREDICT_LEAST_BYTES)
			continue;
		bytes += nbytes;
		if (bytes > p->setup.window_max || !ask_for(p, node))
			return;
		p->window_count++;
	}
}

/* Whether it was open long enough to be read whole; then it is taken for consumed. */
static bool was_read(struct predict *p, uint32_t index, uint64_t now)
{
	struct trace *trace = &p->traces[index];

	if (trace->opened_ns == 0 ||
	    (now - trace->opened_ns) * MOST_BYTES_PER_NS < bytes_of(p, index))
		return false;
	trace->opened_ns = 0;
	trace->consumed_at = ++p->event_count;
	return true;
}

/* The length of the run that ends in front of a tensor. What it ends with may still be
 * open, as in a loader that keeps all its mappings. */
static unsigned int run_before(struct predict *p, uint32_t index, uint64_t now)
{
	uint32_t before;

	if (!predecessor(p, index, &before))
		return 0;
	(void)was_read(p, before, now);
	if (p->event_count - p->traces[before].consumed_at > TURN_MAX)
		return 0;
	return run_length(p, before);
}

/* ---- Events ---- */

static void consumed(struct predict *p, const struct event *event)
{
	unsigned int run = run_before(p, event->node.index, event->time_ns) + 1;

	p->traces[event->node.index].consumed_at = ++p->event_count;
	if (is_believed(p, event->node.index, run))
		predict_behind(p, event->node, run);
}

/* That a predicted tensor is opened confirms a run. */
static void opened(struct predict *p, const struct event *event)
{
	unsigned int run = run_before(p, event->node.index, event->time_ns);

	if (event->hit) {
		p->recent_hits++;
		(void)atomic_fetch_add_explicit(&p->hits, 1, memory_order_relaxed);
	}
	p->traces[event->node.index].opened_ns = event->time_ns;
	if (run > 0)
		predict_behind(p, event->node, run + 1);
}

static void released(struct predict *p, const struct event *event)
{
	unsigned int run;

	if (!was_read(p, event->node.index, event->time_ns))
		return;
	run = run_length(p, event->node.index);
	if (is_believed(p, event->node.index, run))
		predict_behind(p, event->node, run);
}

static void handle(struct predict *p, const struct event *event)
{
	switch (event->kind) {
	case EVENT_CONSUMED:
		consumed(p, event);
		break;
	case EVENT_OPENED:
		opened(p, event);
		break;
	case EVENT_RELEASED:
		released(p, event);
		break;
	}
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
	p->tensor_count = (uint32_t)count;
	p->traces = calloc(count > 0 ? count : 1, sizeof(*p->traces));
	if (!p->traces) {
		free(p);
		return -ENOMEM;
	}
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

void predict_free(struct predict *p)
{
	if (!p)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->stopping = true;
	(void)pthread_cond_signal(&p->wake);
	(void)pthread_mutex_unlock(&p->lock);
	if (p->started)
		(void)pthread_join(p->thread, NULL);
	(void)pthread_cond_destroy(&p->wake);
	(void)pthread_mutex_destroy(&p->lock);
	free(p->traces);
	free(p);
}

void predict_summarise(const struct predict *p, struct predict_summary *summary)
{
	summary->predicted = atomic_load_explicit(&p->predicted, memory_order_relaxed);
	summary->hits = atomic_load_explicit(&p->hits, memory_order_relaxed);
}
