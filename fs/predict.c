#include "predict.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "predict_state.h"
#include "thread.h"

/* Kibibytes that were read of a view since it was last taken for consumed, and which view
 * that was. */
#define SEEN_VIEWS      4u
#define SEEN(kib, view) ((kib)*SEEN_VIEWS + (view))

_Static_assert(VIEW_COUNT <= SEEN_VIEWS, "a view more");

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
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
	if (p->queued < PREDICT_QUEUE_LEN) {
		p->queue[(p->first + p->queued) % PREDICT_QUEUE_LEN] = event;
		p->queued++;
		(void)pthread_cond_signal(&p->wake);
	}
	(void)pthread_mutex_unlock(&p->lock);
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
	uint64_t nbytes = predict_bytes_of(p, node.index);
	int expected;

	if (nbytes < PREDICT_LEAST_BYTES)
		return;
	expected = predict_take_expectation(trace);
	if (expected != NOT_EXPECTED)
		post(p, EVENT_READ, node, expected == PREDICTED);
	if (add_seen(trace, node.view, bytes >> 10, threshold(p, nbytes) >> 10))
		post(p, EVENT_CONSUMED, node, false);
}

void predict_note_open(struct predict *p, struct node node)
{
	struct trace *trace = &p->traces[node.index];
	int expected = predict_take_expectation(trace);

	if (expected == NOT_EXPECTED && !p->setup.opens_are_uses &&
	    (!p->setup.look || predict_bytes_of(p, node.index) < PREDICT_LEAST_BYTES))
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

/* ---- The thread ---- */

/* With the lock held, which is given up meanwhile. */
static void handle_queued(struct predict *p)
{
	while (p->queued > 0 && !p->stopping) {
		struct event event = p->queue[p->first];

		p->first = (p->first + 1) % PREDICT_QUEUE_LEN;
		p->queued--;
		(void)pthread_mutex_unlock(&p->lock);
		predict_handle(p, &event);
		(void)pthread_mutex_lock(&p->lock);
	}
}

void predict_drain(struct predict *p)
{
	(void)pthread_mutex_lock(&p->lock);
	handle_queued(p);
	(void)pthread_mutex_unlock(&p->lock);
}

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

/* ---- Life ---- */

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
