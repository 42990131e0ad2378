/* Who wants a file not to be evicted: people and jobs are counted apart. */
#include "inodes.h"
#include "model_dir.h"
#include "pins.h"
#include "unit.h"

static const char two_json[] =
	"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
	"\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}";

static struct weightfs fs;
static struct pins *pins;

static void make_pins(void)
{
	const struct inodes_setup setup = { .fs = &fs,
					    .backings = backing_table,
					    .limit = 1 << 20 };
	struct diag diag;

	model_dir_make();
	model_dir_write_safetensors("m.safetensors", two_json, 8);
	fs = (struct weightfs){ .tmpfs = -1 };
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &fs.served, &diag), 0);
	/* Nothing is made here, so the threads that would are not started. */
	ck_assert_int_eq(inodes_new(&setup, &fs.inodes), 0);
	ck_assert_int_eq(pins_new(&fs, &pins), 0);
}

static void free_pins(void)
{
	pins_free(pins);
	inodes_free(fs.inodes);
	served_free(fs.served);
	model_dir_remove();
}

static struct node node_of(uint32_t tensor, enum view view)
{
	return layout_tensor(view, tensor);
}

/* Files that will not be evicted, as inodes.c knows them. */
static uint64_t kept(void)
{
	struct inodes_summary sums;

	inodes_summarise(fs.inodes, &sums);
	return sums.pinned;
}

static bool set(struct node node, bool pinned)
{
	bool changed;

	ck_assert_int_eq(pins_set(pins, node, pinned, &changed), 0);
	return changed;
}

START_TEST(a_pin_is_set_once_and_taken_away_once)
{
	struct node a = node_of(0, VIEW_RAW);

	ck_assert(!pins_is_set(pins, a));
	ck_assert(set(a, true));
	ck_assert(!set(a, true));
	ck_assert(pins_is_set(pins, a));
	ck_assert_uint_eq(pins_count(pins), 1);
	ck_assert_uint_eq(kept(), 1);
	ck_assert(set(a, false));
	ck_assert(!set(a, false));
	ck_assert_uint_eq(pins_count(pins), 0);
	ck_assert_uint_eq(kept(), 0);
}
END_TEST

START_TEST(views_and_tensors_are_pinned_apart)
{
	ck_assert(set(node_of(1, VIEW_NPY), true));
	ck_assert(!pins_is_set(pins, node_of(1, VIEW_RAW)));
	ck_assert(!pins_is_set(pins, node_of(0, VIEW_NPY)));
	ck_assert(pins_is_set(pins, node_of(1, VIEW_NPY)));
}
END_TEST

START_TEST(what_two_jobs_hold_is_kept_until_both_let_go)
{
	struct node a = node_of(0, VIEW_RAW);

	ck_assert_int_eq(pins_hold(pins, a), 0);
	ck_assert_int_eq(pins_hold(pins, a), 0);
	pins_release(pins, a);
	ck_assert(pins_is_held(pins, a));
	ck_assert_uint_eq(kept(), 1);
	pins_release(pins, a);
	ck_assert(!pins_is_held(pins, a));
	ck_assert_uint_eq(kept(), 0);
}
END_TEST

START_TEST(a_job_that_lets_go_leaves_a_persons_pin)
{
	struct node a = node_of(0, VIEW_RAW);

	ck_assert_int_eq(pins_hold(pins, a), 0);
	ck_assert_uint_eq(pins_count(pins), 0);
	ck_assert(set(a, true));
	pins_release(pins, a);
	ck_assert(pins_is_set(pins, a));
	ck_assert_uint_eq(kept(), 1);
}
END_TEST

START_TEST(unpinning_leaves_what_a_job_holds)
{
	struct node a = node_of(0, VIEW_RAW);

	ck_assert(set(a, true));
	ck_assert_int_eq(pins_hold(pins, a), 0);
	ck_assert(set(a, false));
	ck_assert_uint_eq(kept(), 1);
	pins_release(pins, a);
	ck_assert_uint_eq(kept(), 0);
}
END_TEST

static TCase *pins_case(void)
{
	TCase *t = tcase_create("pins");

	tcase_add_checked_fixture(t, make_pins, free_pins);
	tcase_add_test(t, a_pin_is_set_once_and_taken_away_once);
	tcase_add_test(t, views_and_tensors_are_pinned_apart);
	tcase_add_test(t, what_two_jobs_hold_is_kept_until_both_let_go);
	tcase_add_test(t, a_job_that_lets_go_leaves_a_persons_pin);
	tcase_add_test(t, unpinning_leaves_what_a_job_holds);
	return t;
}

UNIT_MAIN("pins", pins_case)
