/*
 * Which tensors are wanted next. What the reads show to be consumed whole, one tensor
 * after the other, is followed by more of the same: so those are asked for before they
 * are used. Looking into tensors predicts nothing.
 *
 *     reads of a tensor that add up to most of it --+
 *     an open or a first read of a predicted one ---+--> queue --> thread
 *     its release ----------------------------------+                |
 *                                                                    v
 *                  request <-- window <-- run <-- order in force: predict_belief.h
 *                                          ^
 *                              hits and misses: backing off
 *
 * A tensor counts as consumed when most of it was read from the daemon or, where the
 * kernel reads it by passthrough and the daemon sees nothing, when it was open for as
 * long as reading it takes. The longer the run of consumed tensors that ends with it, the
 * more bytes behind it are asked for. When fewer than half of the last predictions came
 * true nothing is predicted until a longer run is seen, each time a longer one.
 */
#ifndef FS_PREDICT_H
#define FS_PREDICT_H

#include <stdint.h>

#include "layout.h"
#include "parsers/model.h"
#include "predict_order.h"
#include "util/macros.h"

struct predict;

enum predict_sight {
	PREDICT_SEEN,   /* by its READs, which are noted */
	PREDICT_UNSEEN, /* by how long it is open */
	PREDICT_UNREAD, /* by its pages in memory: most of it was not */
	PREDICT_READ,   /* by its pages: most of it was */
};

struct predict_setup {
	const struct model *model; /* outlives the predictor */
	uint64_t readahead_bytes;  /* a single touch of a mapping reads so much */
	uint64_t window_max;       /* bytes; no more are predicted at a time */
	bool opens_are_uses;       /* who opens a tensor will read it */

	/* An order that was recorded, which is taken over; NULL for none. It is followed
	 * from predict_replay() on, until it proves wrong. */
	struct predict_order *profile;
	enum view profile_view; /* in which its tensors are asked for */

	/* Brings a tensor in, in the background; 0, -EALREADY where it is there, -ENOSPC
	 * where it does not fit, or another negative errno. Also asks for small tensors
	 * that stand between the others. Fine to repeat. Called from one thread at a
	 * time, without a lock. */
	int (*request)(void *context, struct node node);

	/* Calls off a request that is not begun. NULL: that cannot be. */
	void (*withdraw)(void *context, struct node node);

	/* How it is known whether a tensor that is open was read: asked of opens that
	 * were not expected, too. NULL: expected ones are PREDICT_UNSEEN, others do not
	 * tell. */
	enum predict_sight (*look)(void *context, struct node node);

	/* Whether a client still has a mapping of a tensor that it has closed. NULL: that
	 * is not known. */
	bool (*is_mapped)(void *context, struct node node);
	void *context;
};

/* 0 or -ENOMEM. */
MUST_CHECK int predict_new(const struct predict_setup *setup, struct predict **predict);

/* Starts the thread. 0 or a negative errno. */
MUST_CHECK int predict_start(struct predict *predict);

/* Stops the thread if it was started: nothing is asked for from here on. Other calls go
 * on to be fine, in any thread; so is NULL. */
void predict_stop(struct predict *predict);

/* Stops, and frees; NULL is fine. No other call may be in progress. */
void predict_free(struct predict *predict);

/* Requests can be made: begins with what the profile has first. Without one nothing
 * happens. Once; any thread. */
void predict_replay(struct predict *predict);

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
	uint64_t predicted;       /* tensors that were asked for */
	uint64_t hits;            /* of those, opened or read afterwards */
	unsigned int recent;      /* the last predictions whose outcome is known */
	unsigned int recent_hits; /* of those */
	const char *order;        /* in force: predict_stage_name() */
	bool backing_off;         /* nothing is predicted: too much was wrong */
};

void predict_summarise(const struct predict *predict, struct predict_summary *summary);

#endif
