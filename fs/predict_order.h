/*
 * Orders in which the tensors of a model may be used: that of the file, that of the
 * numbers in their names, or one that was written down. An order has one place ("rank")
 * for each of its tensors. Of one thread, but for the model.
 *
 *     name    model.layers.10.self_attn.q_proj.weight
 *             |<- prefix ->|  |<------ rest ------->|
 *                          10 is the number of the layer: the first part of a name that
 *                          is a number and nothing else
 *
 * By layers: what has no layer and is an embedding, then each prefix with its layers by
 * number, then what else has none. Within a layer by the rest, with numbers in it by
 * their value: so experts go 2, 10 and not 10, 2. Which order a loader has within a layer
 * cannot be seen in names, but in how it used one: then others are used alike.
 */
#ifndef FS_PREDICT_ORDER_H
#define FS_PREDICT_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "parsers/model.h"
#include "util/macros.h"

/* Smaller tensors do not count: reading them is over before anything could be gained. */
#define PREDICT_LEAST_BYTES ((uint64_t)1 << 20)

/* The rank of a tensor that an order does not have. */
#define PREDICT_NOWHERE UINT32_MAX

struct predict_order {
	const struct model *model;
	uint32_t count; /* of its tensors */
	uint32_t *at;   /* tensor by rank; NULL: the order of the file */
	uint32_t *rank; /* by tensor; NULL with `at` */
};

void predict_order_of_file(const struct model *model, struct predict_order *order);

/* 0 or -ENOMEM. Compares names some times for each tensor: 0.2 s for 92,000 of them. */
MUST_CHECK int predict_order_by_layers(const struct model *model,
				       struct predict_order *order);

/* The `count` tensors of a list, of which none is in it twice. 0 or -ENOMEM. */
MUST_CHECK int predict_order_of_list(const struct model *model, const uint32_t *tensors,
				     uint32_t count, struct predict_order *order);

void predict_order_fini(struct predict_order *order);

uint32_t predict_order_at(const struct predict_order *order, uint32_t rank);
uint32_t predict_order_rank(const struct predict_order *order, uint32_t tensor);

/* Whether it is that of the file. */
bool predict_order_is_of_file(const struct predict_order *order);

/* Whether a tensor is large enough to count. */
bool predict_counts(const struct model *model, uint32_t tensor);

/* Ranks of the tensors of one layer, in an order by layers: from `begin` up to `end`. */
struct predict_layer {
	uint32_t begin;
	uint32_t end;
};

/* The layer that a tensor belongs to; false where it belongs to none. */
bool predict_order_layer(const struct predict_order *order, uint32_t tensor,
			 struct predict_layer *layer);

/*
 * Orders the tensors of all layers as those of one of them were used. `used` says when
 * one was, as a number that grows; 0: it was not, those come last; below that: where it
 * cannot be known, those come first. 0 or -ENOMEM: then nothing has changed.
 */
MUST_CHECK int predict_order_learn(struct predict_order *order,
				   struct predict_layer layer,
				   int64_t (*used)(const void *context, uint32_t tensor),
				   const void *context);

#endif
