/*
 * Which tensors are wanted next. What the reads show to be consumed whole, one tensor
 * after the other in the order of the file, is followed by more of the same: so those are
 * made resident before they are opened. Looking into tensors predicts nothing.
 *
 *     reads of a streamed tensor ---+
 *     an open of a predicted one ---+--> queue --> thread: run length, window --> request
 *     its release ------------------+
 *
 * A tensor counts as consumed when most of it was read from the daemon or, where the
 * kernel reads it by passthrough and the daemon sees nothing, when it was open for as
 * long as reading it takes. The longer the run of consumed tensors that ends with it, the
 * more bytes behind it are asked for. When predictions turn out to be wrong, a run has to
 * be longer before it is believed.
 */
#ifndef FS_PREDICT_H
#define FS_PREDICT_H

#include <stdint.h>

#include "layout.h"
#include "parsers/model.h"
#include "util/macros.h"

/* Smaller tensors are streamed: reading them is over before anything could be gained. */
#define PREDICT_LEAST_BYTES ((uint64_t)1 << 20)

struct predict;

struct predict_setup {
	const struct model *model; /* outlives the predictor */
	uint64_t readahead_bytes;  /* a single touch of a mapping reads so much */
	uint64_t window_max;       /* bytes; no more are predicted at a time */
	/* Makes a file in the background; 0, -EALREADY where it is there, -ENOSPC where
	 * it does not fit, or another negative errno. Fine to repeat. Called from one
	 * thread at a time, without a lock. */
	int (*request)(void *context, struct node node);
	void *context;
};

/* 0 or -ENOMEM. */
MUST_CHECK int predict_new(const struct predict_setup *setup, struct predict **predict);

/* Starts the thread. 0 or a negative errno. */
MUST_CHECK int predict_start(struct predict *predict);

/* Stops the thread if it was started; NULL is fine. No other call may be in progress. */
void predict_free(struct predict *predict);

/* The daemon has answered a READ of a tensor with so many bytes. No lock but where a
 * tensor is found to be consumed. Any thread. */
void predict_note_read(struct predict *predict, struct node node, uint64_t bytes);

/* A tensor is opened, or an open of it is released. Matters for those that were
 * predicted: the daemon sees no reads of them. Any thread. */
void predict_note_open(struct predict *predict, struct node node);
void predict_note_release(struct predict *predict, struct node node);

/* Does in the caller what the thread would do; for tests, where there is no thread. */
void predict_drain(struct predict *predict);

struct predict_summary {
	uint64_t predicted; /* tensors that were asked for */
	uint64_t hits;      /* of those, opened afterwards */
};

void predict_summarise(const struct predict *predict, struct predict_summary *summary);

#endif
