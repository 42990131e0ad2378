#include <stdint.h>

#include "unit.h"
#include "util/arena.h"

START_TEST(an_unused_arena_needs_nothing)
{
	struct arena arena = { 0 };

	arena_fini(&arena);
	ck_assert_ptr_null(arena.chunks);
}
END_TEST

/* Copies of odd lengths between them disturb the alignment. */
START_TEST(allocations_are_aligned_to_8_and_apart)
{
	CLEANUP(arena_fini) struct arena arena = { 0 };
	unsigned char *pieces[2000];

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		pieces[i] = arena_alloc(&arena, i % 61);
		ck_assert_ptr_nonnull(pieces[i]);
		ck_assert_uint_eq((uintptr_t)pieces[i] % 8, 0);
		memset(pieces[i], (int)(i & 0xff), i % 61);
		ck_assert_ptr_nonnull(arena_copy(&arena, "x", i % 2));
	}
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		unsigned char expected[61];

		memset(expected, (int)(i & 0xff), sizeof(expected));
		ck_assert_mem_eq(pieces[i], expected, i % 61);
	}
}
END_TEST

START_TEST(a_copy_has_all_bytes_and_a_nul_behind)
{
	CLEANUP(arena_fini) struct arena arena = { 0 };
	const char *first = arena_copy(&arena, "a\0b", 3);
	const char *empty = arena_copy(&arena, NULL, 0);
	const char *last = arena_copy(&arena, "xyz", 2);

	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_nonnull(empty);
	ck_assert_ptr_nonnull(last);
	ck_assert_mem_eq(first, "a\0b", 4);
	ck_assert_str_eq(empty, "");
	ck_assert_str_eq(last, "xy");
}
END_TEST

START_TEST(pieces_larger_than_any_chunk_have_room)
{
	CLEANUP(arena_fini) struct arena arena = { 0 };
	const char *before = arena_copy(&arena, "before", 6);
	const size_t size = (size_t)5 << 20;
	char *large = arena_alloc(&arena, size);
	const char *behind = arena_copy(&arena, "behind", 6);

	ck_assert_ptr_nonnull(before);
	ck_assert_ptr_nonnull(large);
	ck_assert_ptr_nonnull(behind);
	memset(large, 'x', size);
	ck_assert_str_eq(before, "before");
	ck_assert_str_eq(behind, "behind");
}
END_TEST

START_TEST(sizes_near_the_address_space_are_refused)
{
	CLEANUP(arena_fini) struct arena arena = { 0 };

	ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX));
	ck_assert_ptr_null(arena_copy(&arena, "", SIZE_MAX));
	ck_assert_ptr_nonnull(arena_alloc(&arena, 8));
	ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX - 7));
	ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX / 2 + 1));
	ck_assert_ptr_null(arena_copy(&arena, "", SIZE_MAX - 1));
	ck_assert_ptr_nonnull(arena_alloc(&arena, 8));
}
END_TEST

START_TEST(an_arena_may_be_used_again)
{
	struct arena arena = { 0 };

	ck_assert_ptr_nonnull(arena_alloc(&arena, 100));
	arena_fini(&arena);
	ck_assert_str_eq(arena_copy(&arena, "next", 4), "next");
	arena_fini(&arena);
}
END_TEST

static TCase *arena_case(void)
{
	TCase *t = tcase_create("arena");

	tcase_add_test(t, an_unused_arena_needs_nothing);
	tcase_add_test(t, allocations_are_aligned_to_8_and_apart);
	tcase_add_test(t, a_copy_has_all_bytes_and_a_nul_behind);
	tcase_add_test(t, pieces_larger_than_any_chunk_have_room);
	tcase_add_test(t, sizes_near_the_address_space_are_refused);
	tcase_add_test(t, an_arena_may_be_used_again);
	return t;
}

UNIT_MAIN("arena", arena_case)
