/* Loaders that walk a model in this order or that, and how many of the tensors that they
 * use were asked for in time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "named_model.h"
#include "predict.h"
#include "unit.h"

#define LAYERS 24u
#define BYTES  (20 * NAMED_MIB)
#define TOTAL  (LAYERS * NAMED_PARTS)

static struct model *model;
static struct predict *predict;
static bool *asked;
static unsigned int asked_count;
static unsigned int withdrawn_count;

static int note_request(void *context, struct node node)
{
	(void)context;
	if (asked[node.index])
		return -EALREADY;
	asked[node.index] = true;
	asked_count += predict_counts(model, node.index);
	return 0;
}

static void note_withdrawal(void *context, struct node node)
{
	(void)context;
	asked[node.index] = false;
	withdrawn_count++;
}

static void start_with(struct model *of)
{
	const struct predict_setup setup = {
		.model = of,
		.readahead_bytes = 4 * NAMED_MIB,
		.window_max = 1024 * NAMED_MIB,
		.request = note_request,
		.withdraw = note_withdrawal,
	};

	model = of;
	asked = calloc(model_tensor_count(model), sizeof(*asked));
	ck_assert_ptr_nonnull(asked);
	asked_count = 0;
	withdrawn_count = 0;
	ck_assert_int_eq(predict_new(&setup, &predict), 0);
}

static void start(void)
{
	start_with(named_model_decoder(LAYERS, BYTES));
}

static void stop(void)
{
	predict_free(predict);
	free(asked);
	model_unref(model);
}

static struct predict_summary summary(void)
{
	struct predict_summary sums;

	predict_summarise(predict, &sums);
	return sums;
}

/* Uses a tensor as a mount without passthrough sees it. Returns whether it had been asked
 * for. */
static bool use(uint32_t tensor)
{
	const struct node node = { .kind = NODE_TENSOR, .index = tensor };
	bool was_asked = asked[tensor];

	for (unsigned int i = 0; i < 4; i++) {
		predict_note_read(predict, node, model_tensor(model, tensor)->nbytes / 4);
		predict_drain(predict);
	}
	return was_asked;
}

/* Uses the tensors of one layer. Returns how many were asked for before. */
static unsigned int use_layer(unsigned int layer, const char *const *parts)
{
	unsigned int hits = 0;

	for (unsigned int i = 0; i < NAMED_PARTS; i++)
		hits += use(named_model_find(model, layer, parts[i]));
	return hits;
}

START_TEST(a_loader_that_walks_by_numbers_is_followed_from_the_start)
{
	unsigned int hits = 0;

	start();
	for (unsigned int i = 0; i < LAYERS; i++)
		hits += use_layer(i, named_parts_sorted);
	/* But for the first tensor, of which nobody knows. */
	ck_assert_uint_ge(hits, TOTAL - 2);
	ck_assert_str_eq(summary().order, "layers");
	ck_assert_uint_le(asked_count, TOTAL + 2);
	stop();
}
END_TEST

START_TEST(a_loader_that_calls_modules_is_followed_from_the_second_layer)
{
	start();
	(void)use_layer(0, named_parts_called);
	for (unsigned int i = 1; i < LAYERS; i++)
		ck_assert_uint_eq(use_layer(i, named_parts_called), NAMED_PARTS);
	ck_assert_str_eq(summary().order, "layers");
	ck_assert_uint_le(asked_count, TOTAL + 8);
	stop();
}
END_TEST

/* What is asked for must come in the order in which it is used. */
START_TEST(the_next_layer_is_asked_for_in_the_order_of_the_last)
{
	start();
	(void)use_layer(0, named_parts_called);
	for (unsigned int i = 0; i < NAMED_PARTS; i++)
		ck_assert_msg(asked[named_model_find(model, 1, named_parts_called[i])],
			      "%s is not asked for", named_parts_called[i]);
	stop();
}
END_TEST

START_TEST(a_loader_that_walks_in_file_order_is_still_followed)
{
	unsigned int hits = 0;

	start();
	for (uint32_t i = 0; i < model_tensor_count(model); i++)
		if (predict_counts(model, i))
			hits += use(i);
	ck_assert_uint_ge(hits, TOTAL - NAMED_PARTS);
	ck_assert_str_eq(summary().order, "file");
	ck_assert(!summary().backing_off);
	stop();
}
END_TEST

START_TEST(what_was_asked_for_in_a_wrong_order_is_called_off)
{
	start();
	(void)use_layer(0, named_parts_sorted);
	(void)use_layer(1, named_parts_sorted);
	ck_assert(asked[named_model_find(model, 2, "mlp.down_proj")]);
	(void)use_layer(10, named_parts_sorted);
	ck_assert_str_eq(summary().order, "file");
	ck_assert_uint_gt(withdrawn_count, NAMED_PARTS);
	ck_assert(!asked[named_model_find(model, 2, "mlp.down_proj")]);
	ck_assert(asked[named_model_find(model, 11, "mlp.down_proj")]);
	stop();
}
END_TEST

/* Four threads, of which each takes the next tensor when it is done. */
START_TEST(tensors_that_come_a_little_early_or_late_do_not_matter)
{
	static const unsigned int turns[] = { 1, 0, 3, 2 };
	unsigned int hits = 0;

	start();
	for (unsigned int i = 0; i < TOTAL; i++) {
		unsigned int at = i / 4 * 4 + turns[i % 4];

		hits += use(named_model_find(model, at / NAMED_PARTS,
					     named_parts_called[at % NAMED_PARTS]));
	}
	ck_assert_uint_ge(hits, TOTAL * 3 / 4);
	stop();
}
END_TEST

START_TEST(a_second_walk_is_followed_as_the_first)
{
	start();
	for (unsigned int i = 0; i < LAYERS; i++)
		(void)use_layer(i, named_parts_called);
	for (size_t i = 0; i < model_tensor_count(model); i++)
		asked[i] = false;
	(void)use_layer(0, named_parts_called);
	for (unsigned int i = 1; i < LAYERS; i++)
		ck_assert_uint_eq(use_layer(i, named_parts_called), NAMED_PARTS);
	stop();
}
END_TEST

/* ---- Experts ---- */

#define EXPERTS 12u

static struct model *mixture(void)
{
	struct named_model named;
	char name[96];

	named_model_begin(&named);
	for (unsigned int i = 0; i < LAYERS; i++)
		for (unsigned int expert = 0; expert < EXPERTS; expert++)
			for (unsigned int part = 0; part < 3; part++) {
				(void)snprintf(name, sizeof(name),
					       "model.layers.%u.mlp.experts.%u.%s.weight",
					       (i * 7 + 3) % LAYERS,
					       (expert * 5 + 1) % EXPERTS,
					       (const char *const[]){ "down", "gate",
								      "up" }[part]);
				named_model_add(&named, name, BYTES);
			}
	return named_model_end(&named);
}

static uint32_t expert_tensor(unsigned int layer, unsigned int expert, const char *part)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "mlp.experts.%u.%s", expert, part);
	return named_model_find(model, layer, text);
}

START_TEST(experts_are_followed_expert_by_expert)
{
	unsigned int hits = 0;

	start_with(mixture());
	for (unsigned int i = 0; i < LAYERS; i++)
		for (unsigned int expert = 0; expert < EXPERTS; expert++) {
			hits += use(expert_tensor(i, expert, "gate"));
			hits += use(expert_tensor(i, expert, "up"));
			hits += use(expert_tensor(i, expert, "down"));
		}
	ck_assert_uint_ge(hits, (LAYERS - 1) * EXPERTS * 3);
	stop();
}
END_TEST

START_TEST(experts_are_followed_part_by_part_once_a_layer_was_seen)
{
	static const char *const parts[] = { "up", "gate", "down" };
	unsigned int hits = 0;

	start_with(mixture());
	for (unsigned int i = 0; i < LAYERS; i++)
		for (unsigned int part = 0; part < 3; part++)
			for (unsigned int expert = 0; expert < EXPERTS; expert++)
				hits += use(expert_tensor(i, expert, parts[part]));
	ck_assert_uint_ge(hits, (LAYERS - 1) * EXPERTS * 3);
	stop();
}
END_TEST

/* ---- Being wrong ---- */

/* The same numbers everywhere. */
static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

static uint32_t random_tensor(uint64_t *state)
{
	uint32_t tensor;

	do
		tensor = next_random(state) % (uint32_t)model_tensor_count(model);
	while (!predict_counts(model, tensor));
	return tensor;
}

START_TEST(a_loader_that_jumps_costs_next_to_nothing)
{
	uint64_t state = 1;

	start();
	for (unsigned int i = 0; i < 2000; i++)
		(void)use(random_tensor(&state));
	ck_assert_uint_le(summary().predicted, 2000 * 3 / 100);
	stop();
}
END_TEST

START_TEST(a_loader_that_begins_to_jump_is_soon_left_alone)
{
	uint64_t predicted;
	uint64_t state = 7;

	start();
	for (unsigned int i = 0; i < LAYERS / 2; i++)
		(void)use_layer(i, named_parts_called);
	ck_assert(!summary().backing_off);
	for (unsigned int i = 0; i < 24; i++)
		(void)use(random_tensor(&state));
	ck_assert(summary().backing_off);
	ck_assert_uint_gt(withdrawn_count, 0);
	predicted = summary().predicted;
	for (unsigned int i = 0; i < 200; i++)
		(void)use(random_tensor(&state));
	ck_assert_uint_le(summary().predicted, predicted + 4);
	stop();
}
END_TEST

START_TEST(prediction_comes_back_with_a_run)
{
	uint64_t state = 7;

	start();
	for (unsigned int i = 0; i < LAYERS / 2; i++)
		(void)use_layer(i, named_parts_called);
	for (unsigned int i = 0; i < 24; i++)
		(void)use(random_tensor(&state));
	ck_assert(summary().backing_off);
	for (size_t i = 0; i < model_tensor_count(model); i++)
		asked[i] = false;
	for (unsigned int i = 0; i < 2; i++)
		(void)use_layer(i, named_parts_called);
	ck_assert(!summary().backing_off);
	for (unsigned int i = 2; i < LAYERS; i++)
		ck_assert_uint_eq(use_layer(i, named_parts_called), NAMED_PARTS);
	ck_assert_uint_eq(summary().recent, summary().recent_hits);
	stop();
}
END_TEST

/* ---- Profiles ---- */

#define PROFILED 40u

/* Every third tensor that counts, backwards. */
static uint32_t profiled[PROFILED];

static void start_with_profile(void)
{
	struct model *of = named_model_decoder(LAYERS, BYTES);
	struct predict_order order;
	struct predict_setup setup = {
		.model = of,
		.readahead_bytes = 4 * NAMED_MIB,
		.window_max = 1024 * NAMED_MIB,
		.request = note_request,
		.withdraw = note_withdrawal,
		.profile = &order,
	};
	uint32_t count = 0;

	for (uint32_t i = (uint32_t)model_tensor_count(of); count < PROFILED; i--)
		if (i % 3 == 0 && predict_counts(of, i - 1))
			profiled[count++] = i - 1;
	ck_assert_int_eq(predict_order_of_list(of, profiled, count, &order), 0);
	model = of;
	asked = calloc(model_tensor_count(model), sizeof(*asked));
	ck_assert_ptr_nonnull(asked);
	asked_count = 0;
	withdrawn_count = 0;
	ck_assert_int_eq(predict_new(&setup, &predict), 0);
}

START_TEST(a_profile_is_asked_for_from_the_start_and_within_a_window)
{
	start_with_profile();
	predict_drain(predict);
	ck_assert_uint_eq(asked_count, 0);
	predict_replay(predict);
	predict_drain(predict);
	ck_assert_uint_eq(asked_count, 256 * NAMED_MIB / BYTES + 1);
	ck_assert(asked[profiled[0]]);
	for (uint32_t i = 0; i < PROFILED; i++)
		ck_assert(use(profiled[i]));
	ck_assert_uint_eq(asked_count, PROFILED);
	ck_assert_uint_eq(summary().hits, PROFILED);
	ck_assert_str_eq(summary().order, "profile");
	stop();
}
END_TEST

START_TEST(a_profile_that_is_wrong_gives_way_to_what_is_seen)
{
	start_with_profile();
	predict_replay(predict);
	predict_drain(predict);
	for (unsigned int i = 0; i < 3; i++)
		(void)use_layer(i, named_parts_called);
	ck_assert_str_eq(summary().order, "layers");
	for (unsigned int i = 3; i < LAYERS; i++)
		ck_assert_uint_eq(use_layer(i, named_parts_called), NAMED_PARTS);
	stop();
}
END_TEST

START_TEST(a_profile_that_comes_late_is_not_begun_anew)
{
	start_with_profile();
	(void)use(profiled[0]);
	asked_count = 0;
	predict_replay(predict);
	predict_drain(predict);
	ck_assert_uint_eq(asked_count, 0);
	stop();
}
END_TEST

/* ---- Where opens are seen ---- */

START_TEST(a_first_read_of_what_was_predicted_is_a_hit_and_no_second_one_is)
{
	struct node node = { .kind = NODE_TENSOR };

	start();
	(void)use_layer(0, named_parts_sorted);
	ck_assert_uint_gt(summary().predicted, 6);
	node.index = named_model_find(model, 1, "mlp.down_proj");
	for (unsigned int i = 0; i < 2; i++) {
		predict_note_read(predict, node, 4096);
		predict_drain(predict);
		ck_assert_uint_eq(summary().hits, NAMED_PARTS);
	}
	stop();
}
END_TEST

START_TEST(small_tensors_come_along_and_are_not_counted)
{
	start();
	(void)use_layer(0, named_parts_sorted);
	ck_assert(asked[named_model_find(model, 1, "input_layernorm")]);
	ck_assert(asked[named_model_find(model, 1, "post_attention_layernorm")]);
	ck_assert_uint_eq(summary().predicted, asked_count);
	stop();
}
END_TEST

static TCase *layers_case(void)
{
	TCase *t = tcase_create("layers");

	tcase_add_test(t, a_loader_that_walks_by_numbers_is_followed_from_the_start);
	tcase_add_test(t, a_loader_that_calls_modules_is_followed_from_the_second_layer);
	tcase_add_test(t, the_next_layer_is_asked_for_in_the_order_of_the_last);
	tcase_add_test(t, a_loader_that_walks_in_file_order_is_still_followed);
	tcase_add_test(t, what_was_asked_for_in_a_wrong_order_is_called_off);
	tcase_add_test(t, tensors_that_come_a_little_early_or_late_do_not_matter);
	tcase_add_test(t, a_second_walk_is_followed_as_the_first);
	tcase_add_test(t, experts_are_followed_expert_by_expert);
	tcase_add_test(t, experts_are_followed_part_by_part_once_a_layer_was_seen);
	tcase_add_test(t, a_loader_that_jumps_costs_next_to_nothing);
	tcase_add_test(t, a_loader_that_begins_to_jump_is_soon_left_alone);
	tcase_add_test(t, prediction_comes_back_with_a_run);
	tcase_add_test(t, a_profile_is_asked_for_from_the_start_and_within_a_window);
	tcase_add_test(t, a_profile_that_is_wrong_gives_way_to_what_is_seen);
	tcase_add_test(t, a_profile_that_comes_late_is_not_begun_anew);
	tcase_add_test(t,
		       a_first_read_of_what_was_predicted_is_a_hit_and_no_second_one_is);
	tcase_add_test(t, small_tensors_come_along_and_are_not_counted);
	return t;
}

UNIT_MAIN("predict_layers", layers_case)
