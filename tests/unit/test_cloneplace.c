/* Which shards can be cloned, and why none can. */
#include "cloneplace.h"

#include <errno.h>

#include "unit.h"

/* Two shards in one place, and a third where nothing can be cloned. */
static struct cloneplaces places;
static uint8_t by_shard[3];
static atomic_bool refused[3];
static const struct source_file source = { .path = "model" };

static void setup(void)
{
	places = (struct cloneplaces){
		.places = { { .dir = 0 }, { .dir = -EROFS } },
		.count = 2,
		.shards = 3,
		.by_shard = by_shard,
		.refused = refused,
	};
	by_shard[2] = 1;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		atomic_store(&refused[i], false);
}

START_TEST(shards_have_the_place_of_their_file_system)
{
	ck_assert_ptr_eq(cloneplace_of(&places, 0), &places.places[0]);
	ck_assert_ptr_eq(cloneplace_of(&places, 1), &places.places[0]);
	ck_assert_ptr_null(cloneplace_of(&places, 2));
	ck_assert_int_eq(cloneplace_file(&places.places[1]), -EROFS);
}
END_TEST

START_TEST(there_is_an_error_once_the_last_shard_was_refused)
{
	ck_assert_int_eq(cloneplace_error(&places), 0);
	cloneplace_refuse(&places, &source, 0, -ETXTBSY);
	ck_assert_ptr_null(cloneplace_of(&places, 0));
	ck_assert_int_eq(cloneplace_error(&places), 0);
	cloneplace_refuse(&places, &source, 1, -EACCES);
	ck_assert_int_eq(cloneplace_error(&places), -EACCES);
}
END_TEST

static TCase *places_case(void)
{
	TCase *tcase = tcase_create("places");

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_add_test(tcase, shards_have_the_place_of_their_file_system);
	tcase_add_test(tcase, there_is_an_error_once_the_last_shard_was_refused);
	return tcase;
}

UNIT_MAIN("cloneplace", places_case)
