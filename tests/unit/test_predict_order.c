#include "named_model.h"
#include "predict_order.h"
#include "unit.h"

static struct predict_order order;

/* Names in the order of the file; all tensors are large, but for those called small. */
static struct model *model_of(const char *const *names)
{
	struct named_model named;

	named_model_begin(&named);
	for (; *names; names++)
		named_model_add(&named, *names,
				strstr(*names, "small") ? 100 : 2 * NAMED_MIB);
	return named_model_end(&named);
}

static void expect_order(const char *const *names)
{
	uint32_t rank = 0;

	for (; names[rank]; rank++) {
		uint32_t tensor = predict_order_at(&order, rank);

		ck_assert_str_eq(model_tensor(order.model, tensor)->name, names[rank]);
		ck_assert_uint_eq(predict_order_rank(&order, tensor), rank);
	}
	ck_assert_uint_eq(order.count, rank);
}

static void expect_layers(const char *const *file, const char *const *names)
{
	struct model *model = model_of(file);

	ck_assert_int_eq(predict_order_by_layers(model, &order), 0);
	expect_order(names);
	predict_order_fini(&order);
	model_unref(model);
}

START_TEST(layers_go_by_their_number)
{
	static const char *const file[] = { "model.layers.0.w",  "model.layers.1.w",
					    "model.layers.10.w", "model.layers.11.w",
					    "model.layers.2.w",  NULL };
	static const char *const names[] = { "model.layers.0.w",  "model.layers.1.w",
					     "model.layers.2.w",  "model.layers.10.w",
					     "model.layers.11.w", NULL };

	expect_layers(file, names);
}
END_TEST

START_TEST(embeddings_come_first_and_heads_last)
{
	static const char *const file[] = { "lm_head.weight", "model.embed_tokens.weight",
					    "model.layers.0.w", "model.norm.weight",
					    NULL };
	static const char *const names[] = { "model.embed_tokens.weight",
					     "model.layers.0.w", "lm_head.weight",
					     "model.norm.weight", NULL };
	static const char *const gguf[] = { "token_embd.weight", "output.weight",
					    "blk.0.attn_q.weight", NULL };
	static const char *const gguf_names[] = { "token_embd.weight",
						  "blk.0.attn_q.weight", "output.weight",
						  NULL };

	expect_layers(file, names);
	expect_layers(gguf, gguf_names);
}
END_TEST

START_TEST(experts_go_by_their_number_within_a_layer)
{
	static const char *const file[] = {
		"model.layers.10.mlp.experts.0.up", "model.layers.3.mlp.experts.0.up",
		"model.layers.3.mlp.experts.1.up",  "model.layers.3.mlp.experts.10.up",
		"model.layers.3.mlp.experts.2.up",  NULL
	};
	static const char *const names[] = {
		"model.layers.3.mlp.experts.0.up",  "model.layers.3.mlp.experts.1.up",
		"model.layers.3.mlp.experts.2.up",  "model.layers.3.mlp.experts.10.up",
		"model.layers.10.mlp.experts.0.up", NULL
	};

	expect_layers(file, names);
}
END_TEST

START_TEST(only_a_whole_part_of_a_name_is_the_number_of_a_layer)
{
	static const char *const file[] = { "conv10.weight", "conv2.weight", "h/10/w",
					    "h/9/w", NULL };
	static const char *const names[] = { "h/9/w", "h/10/w", "conv2.weight",
					     "conv10.weight", NULL };

	expect_layers(file, names);
}
END_TEST

START_TEST(numbers_of_any_length_are_compared)
{
	static const char *const file[] = { "a.99999999999999999999999999.w", "a.5.w",
					    "a.99999999999999999999999998.w", "a.007.w",
					    NULL };
	/* The first two are no numbers of layers. */
	static const char *const names[] = { "a.5.w", "a.007.w",
					     "a.99999999999999999999999998.w",
					     "a.99999999999999999999999999.w", NULL };

	expect_layers(file, names);
}
END_TEST

START_TEST(one_stack_of_layers_comes_after_the_other)
{
	static const char *const file[] = { "decoder.block.0.w", "encoder.block.0.w",
					    "decoder.block.1.w", "encoder.block.1.w",
					    NULL };
	static const char *const names[] = { "decoder.block.0.w", "decoder.block.1.w",
					     "encoder.block.0.w", "encoder.block.1.w",
					     NULL };

	expect_layers(file, names);
}
END_TEST

START_TEST(an_order_may_be_that_of_the_file)
{
	static const char *const file[] = { "h.0.a", "h.1.a", "h.2.a", NULL };
	struct model *model = model_of(file);

	predict_order_of_file(model, &order);
	ck_assert(predict_order_is_of_file(&order));
	expect_order(file);
	ck_assert_int_eq(predict_order_by_layers(model, &order), 0);
	ck_assert(predict_order_is_of_file(&order));
	predict_order_fini(&order);
	model_unref(model);
}
END_TEST

START_TEST(a_list_may_lack_tensors)
{
	static const char *const file[] = { "a", "b", "c", NULL };
	static const char *const names[] = { "c", "a", NULL };
	static const uint32_t list[] = { 2, 0 };
	struct model *model = model_of(file);

	ck_assert_int_eq(predict_order_of_list(model, list, 2, &order), 0);
	expect_order(names);
	ck_assert_uint_eq(predict_order_rank(&order, 1), PREDICT_NOWHERE);
	ck_assert(!predict_order_is_of_file(&order));
	predict_order_fini(&order);
	model_unref(model);
}
END_TEST

/* ---- Learning ---- */

/* By the last letter: c first, then a; b was not used. */
static int64_t used_c_a(const void *context, uint32_t tensor)
{
	const struct tensor *t = model_tensor(context, tensor);

	if (strstr(t->name, "small"))
		return -1;
	switch (t->name[t->name_len - 1]) {
	case 'c':
		return 7;
	case 'a':
		return 9;
	default:
		return 0;
	}
}

START_TEST(other_layers_are_used_as_one_was)
{
	static const char *const file[] = { "h.0.a", "h.0.b", "h.0.c",     "h.0.small",
					    "h.1.a", "h.1.c", "h.1.small", "h.2.b",
					    "h.2.c", "h.2.z", "x",         NULL };
	static const char *const names[] = { "h.0.small", "h.0.c", "h.0.a", "h.0.b",
					     "h.1.small", "h.1.c", "h.1.a", "h.2.c",
					     "h.2.b",     "h.2.z", "x",     NULL };
	struct predict_layer layer = { 0 };
	struct model *model = model_of(file);

	ck_assert_int_eq(predict_order_by_layers(model, &order), 0);
	ck_assert(predict_order_layer(&order, 2, &layer));
	ck_assert_uint_eq(layer.begin, 0);
	ck_assert_uint_eq(layer.end, 4);
	ck_assert_int_eq(predict_order_learn(&order, layer, used_c_a, model), 0);
	expect_order(names);
	predict_order_fini(&order);
	model_unref(model);
}
END_TEST

START_TEST(what_has_no_layer_belongs_to_none)
{
	static const char *const file[] = { "a", "b.1", "c", NULL };
	struct predict_layer layer = { 0 };
	struct model *model = model_of(file);

	ck_assert_int_eq(predict_order_by_layers(model, &order), 0);
	ck_assert(!predict_order_layer(&order, 0, &layer));
	ck_assert(predict_order_layer(&order, 1, &layer));
	ck_assert_uint_eq(layer.end - layer.begin, 1);
	predict_order_fini(&order);
	model_unref(model);
}
END_TEST

START_TEST(a_model_without_tensors_has_orders_without_any)
{
	static const char *const file[] = { NULL };
	struct model *model = model_of(file);

	ck_assert_int_eq(predict_order_by_layers(model, &order), 0);
	ck_assert_uint_eq(order.count, 0);
	predict_order_fini(&order);
	model_unref(model);
}
END_TEST

static TCase *order_case(void)
{
	TCase *t = tcase_create("order");

	tcase_add_test(t, layers_go_by_their_number);
	tcase_add_test(t, embeddings_come_first_and_heads_last);
	tcase_add_test(t, experts_go_by_their_number_within_a_layer);
	tcase_add_test(t, only_a_whole_part_of_a_name_is_the_number_of_a_layer);
	tcase_add_test(t, numbers_of_any_length_are_compared);
	tcase_add_test(t, one_stack_of_layers_comes_after_the_other);
	tcase_add_test(t, an_order_may_be_that_of_the_file);
	tcase_add_test(t, a_list_may_lack_tensors);
	tcase_add_test(t, other_layers_are_used_as_one_was);
	tcase_add_test(t, what_has_no_layer_belongs_to_none);
	tcase_add_test(t, a_model_without_tensors_has_orders_without_any);
	return t;
}

UNIT_MAIN("predict_order", order_case)
