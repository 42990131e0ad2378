/*
 * Which order the tensors are used in. Each candidate follows the uses in its own order,
 * as runs: uses that come one behind the other there. Where candidates disagree, those
 * that foretold a use gain, the others lose; the best one is in force.
 *
 *     a use ---> file     0 1 2 [3]             run of 4
 *           ---> layers   0 10 [3]              3 is behind nothing: a new run
 *           ---> profile  7 0 1 2 [3]           run of 5
 *
 * When a layer is over, and the order in force did not foretell how it was used, the
 * others are taken to be used like it. Of one thread.
 */
#ifndef FS_PREDICT_BELIEF_H
#define FS_PREDICT_BELIEF_H

#include "predict_order.h"

/* Several loaders at a time have a run each. */
#define PREDICT_RUNS 8u

/* No longer than this. */
#define PREDICT_RUN_MAX 64u

/* The better one is known, the later it stands. */
enum predict_stage {
	STAGE_FILE,
	STAGE_LAYERS,
	STAGE_PROFILE,
	STAGE_COUNT,
};

struct predict_run {
	uint32_t next;   /* the rank behind the last use */
	uint32_t asked;  /* the rank behind what was asked for */
	uint32_t length; /* uses, up to PREDICT_RUN_MAX; 0: no run */
	uint32_t time;   /* of the last use */
};

struct predict_candidate {
	struct predict_order order;
	bool exists;
	unsigned int score;
	struct predict_run runs[PREDICT_RUNS];
};

struct predict_belief {
	const struct model *model;
	struct predict_candidate candidates[STAGE_COUNT];
	enum predict_stage in_force;
	uint32_t time;     /* uses so far */
	uint32_t *used_at; /* when each tensor was used last; 0: never */

	/* The layer that is being used, and how; an empty one for none. */
	struct predict_layer layer;
	struct predict_layer layer_before;
	uint32_t layer_begun; /* its first use */
	uint32_t layer_size;  /* tensors that count */
	uint32_t layer_uses;
	uint32_t layer_surprises;
	uint32_t learned; /* when that was */
};

/* The order of the file is there from the start; that by layers is made at the first use.
 * 0 or -ENOMEM. */
MUST_CHECK int predict_belief_init(const struct model *model,
				   struct predict_belief *belief);
void predict_belief_fini(struct predict_belief *belief);

/* Takes over an order that was written down, which is in force until it proves wrong. */
void predict_belief_set_profile(struct predict_belief *belief,
				struct predict_order *order);

/* A tensor is used, which is at least PREDICT_LEAST_BYTES large. Returns the run that it
 * ends in the order in force, or NULL where that does not have it. */
struct predict_run *predict_belief_use(struct predict_belief *belief, uint32_t tensor);

/* All runs are over; which order is in force stays. */
void predict_belief_end_runs(struct predict_belief *belief);

/* The run in the order in force that a use of this tensor would prolong; NULL for none.
 */
const struct predict_run *predict_belief_foresees(const struct predict_belief *belief,
						  uint32_t tensor);

const struct predict_order *predict_belief_order(const struct predict_belief *belief);

/* "file", "layers", "profile" */
const char *predict_stage_name(enum predict_stage stage);

#endif
