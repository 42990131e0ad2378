/*
 * What the files predict.c, predict_uses.c and predict_outcome.c share, and nobody else
 * includes: the predictor's state. predict.c has what others note, the thread and its
 * life; predict_uses.c makes uses of what was noted, and asks for what follows them;
 * predict_outcome.c judges what came of that.
 */
#ifndef FS_PREDICT_STATE_H
#define FS_PREDICT_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "predict.h"
#include "predict_belief.h"

/* Predicted, and what comes of it is not known. */
#define PREDICT_OPEN_QUESTIONS 2048u

/* Tensors that are open, and may still turn out to be read. */
#define PREDICT_WATCHED_MAX 64u

#define PREDICT_QUEUE_LEN 256u

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

/* What an open or read of a tensor would tell. */
enum expectation {
	NOT_EXPECTED,
	EXPECTED,  /* that a run goes on: its file was there already */
	PREDICTED, /* the same, and that it was right to make its file */
};

struct trace {
	atomic_uint_fast64_t seen; /* see SEEN() in predict.c */
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
	struct event queue[PREDICT_QUEUE_LEN];
	unsigned int first;
	unsigned int queued;
	bool stopping;
	pthread_t thread;
	bool started;

	struct predict_belief belief;
	struct node open_questions[PREDICT_OPEN_QUESTIONS]; /* the oldest first */
	unsigned int oldest_question;
	unsigned int question_count;
	struct node watched[PREDICT_WATCHED_MAX]; /* whose opened_ns is set */
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

/* Inline, as each READ of a tensor needs these two. */
static inline uint64_t predict_bytes_of(const struct predict *p, uint32_t index)
{
	return model_tensor(p->setup.model, index)->nbytes;
}

/* What was expected of a tensor that is now opened or read, once. */
static inline int predict_take_expectation(struct trace *trace)
{
	if (atomic_load_explicit(&trace->expected, memory_order_relaxed) == NOT_EXPECTED)
		return NOT_EXPECTED;
	return atomic_exchange_explicit(&trace->expected, NOT_EXPECTED,
					memory_order_relaxed);
}

/* ---- predict_uses.c; only the thread calls this ---- */

/* Does what follows from something that was noted. Without the lock. */
void predict_handle(struct predict *p, const struct event *event);

/* ---- predict_outcome.c; only the thread calls these ---- */

/* Calls off a request that is not begun. */
void predict_call_off(struct predict *p, struct node node);

/* The oldest prediction whose outcome is not known any more. */
struct node predict_take_question(struct predict *p);

/* Its tensor is so many ahead of what is used now. */
void predict_add_question(struct predict *p, struct node node, uint32_t distance);

/* How many of the last predictions were right. */
unsigned int predict_recent_hits(const struct predict *p);

/* Counts a prediction whose outcome is known. Too many wrong ones: backs off. */
void predict_count_outcome(struct predict *p, bool hit);

/* Predictions that should have come true by now are wrong. */
void predict_give_up_overdue(struct predict *p);

/* Whether what follows a run is to be asked for, now that it has come to this tensor. */
bool predict_is_believed(struct predict *p, uint32_t index,
			 const struct predict_run *run);

/* Counts a use, which belongs to this run or to none. True where it begins to be in vain
 * to predict: then it has backed off. */
bool predict_is_in_vain(struct predict *p, const struct predict_run *run);

#endif
