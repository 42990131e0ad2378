/* Which pages of a file are counted, and that nothing is read in for that: on this
 * machine, whose file system may hold all pages in memory, and with one node as well as
 * with more. That pages move between nodes is seen by tests/numa. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "model_dir.h"
#include "placement_pages.h"
#include "unit.h"

#define CHUNK PLACEMENT_CHUNK
#define SIZE  (2 * CHUNK + 100)

static uint64_t page;

static uint64_t sum_of(const struct placement_tally *tally)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++)
		sum += tally->bytes[i];
	return sum;
}

static void begin(void)
{
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	model_dir_make();
}

static int make_memory_file(uint64_t written)
{
	char bytes[512] = "x";
	int fd = memfd_create("test", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)SIZE), 0);
	for (uint64_t at = 0; at < written; at += sizeof(bytes))
		ck_assert_int_eq(pwrite(fd, bytes, sizeof(bytes), (off_t)at),
				 sizeof(bytes));
	return fd;
}

/* Kernels without NUMA cannot say where pages are. */
static bool can_count(int fd)
{
	struct placement_tally tally = { .moved = 0 };
	int r = placement_count_chunk(fd, SIZE, 0, &tally);

	if (r < 0)
		(void)fprintf(stderr, "test_placement_pages: not tested here: %d\n", r);
	return r == 0;
}

START_TEST(every_page_of_memory_is_counted_once)
{
	struct placement_tally tally = { .moved = 0 };
	CLEANUP(close_fd) int fd = make_memory_file(SIZE);

	if (!can_count(fd))
		return;
	for (uint64_t i = 0; i < 4; i++)
		ck_assert_int_eq(placement_count_chunk(fd, SIZE, i, &tally), 0);
	ck_assert_uint_eq(sum_of(&tally), 2 * CHUNK + page);
}
END_TEST

START_TEST(holes_are_not_counted_and_stay)
{
	struct placement_tally tally = { .moved = 0 };
	CLEANUP(close_fd) int fd = make_memory_file(3 * page);
	uint64_t cached;

	if (!can_count(fd) || placement_cached(fd, 0, SIZE, &cached) < 0)
		return;
	ck_assert_uint_eq(cached, 3 * page);
	for (uint64_t i = 0; i < 3; i++)
		ck_assert_int_eq(placement_count_chunk(fd, SIZE, i, &tally), 0);
	ck_assert_uint_eq(sum_of(&tally), 3 * page);
	ck_assert_int_eq(placement_cached(fd, 0, SIZE, &cached), 0);
	ck_assert_uint_eq(cached, 3 * page);
}
END_TEST

START_TEST(a_file_on_disk_is_not_read_in_to_be_counted)
{
	struct placement_tally tally = { .moved = 0 };
	CLEANUP(close_fd) int fd = -1;
	uint64_t cached = 1;
	char *bytes = calloc(1, SIZE);
	char byte;

	ck_assert_ptr_nonnull(bytes);
	memset(bytes, 'x', SIZE);
	model_dir_write("file", bytes, SIZE);
	free(bytes);
	fd = open(model_dir_path("file"), O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fsync(fd), 0);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	if (!can_count(fd) || placement_cached(fd, 0, SIZE, &cached) < 0 || cached > 0) {
		(void)fprintf(stderr,
			      "test_placement_pages: not tested: %llu bytes of a "
			      "file stay in memory here\n",
			      (unsigned long long)cached);
		return;
	}
	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(CHUNK + 7 * page)), 1);
	ck_assert_int_eq(placement_cached(fd, 0, SIZE, &cached), 0);
	for (uint64_t i = 0; i < 3; i++)
		ck_assert_int_eq(placement_count_chunk(fd, SIZE, i, &tally), 0);
	ck_assert_uint_eq(sum_of(&tally), cached);
	ck_assert_uint_lt(cached, CHUNK);
	tally = (struct placement_tally){ .moved = 0 };
	ck_assert_int_eq(placement_count_chunk(fd, SIZE, 0, &tally), 0);
	ck_assert_uint_eq(sum_of(&tally), 0);
}
END_TEST

START_TEST(a_file_that_was_cut_is_no_crash)
{
	struct placement_tally tally = { .moved = 0 };
	CLEANUP(close_fd) int fd = make_memory_file(SIZE);

	if (!can_count(fd))
		return;
	ck_assert_int_eq(ftruncate(fd, (off_t)page), 0);
	for (uint64_t i = 0; i < 3; i++)
		(void)!placement_count_chunk(fd, SIZE, i, &tally);
	ck_assert_uint_eq(sum_of(&tally), page);
}
END_TEST

START_TEST(what_is_where_it_belongs_is_not_moved)
{
	struct placement_tally tally = { .moved = 0 };
	struct placement_target target = { { 1, false }, CHUNK };
	CLEANUP(close_fd) int fd = make_memory_file(SIZE);

	if (!can_count(fd))
		return;
	/* On a machine with more nodes this makes it so. */
	ck_assert_int_eq(placement_move_range(fd, 0, CHUNK, &target, &tally), 0);
	tally = (struct placement_tally){ .moved = 0 };
	ck_assert_int_eq(placement_move_range(fd, 0, CHUNK, &target, &tally), 0);
	ck_assert_uint_eq(tally.moved, 0);
	ck_assert_uint_eq(tally.left, 0);
	target.policy.nodes = 0;
	ck_assert_int_eq(placement_move_range(-1, 0, CHUNK, &target, &tally), 0);
}
END_TEST

START_TEST(a_node_that_is_not_there_is_an_error)
{
	struct placement_tally tally = { .moved = 0 };
	const struct placement_target target = { { NUMA_NODE(59), false }, CHUNK };
	CLEANUP(close_fd) int fd = make_memory_file(SIZE);

	if (!can_count(fd))
		return;
	ck_assert_int_lt(placement_move_range(fd, 0, CHUNK, &target, &tally), 0);
	ck_assert_uint_eq(tally.moved, 0);
	ck_assert_uint_eq(tally.left, CHUNK);
}
END_TEST

static TCase *pages_case(void)
{
	TCase *tcase = tcase_create("pages");

	tcase_add_checked_fixture(tcase, begin, model_dir_remove);
	tcase_add_test(tcase, every_page_of_memory_is_counted_once);
	tcase_add_test(tcase, holes_are_not_counted_and_stay);
	tcase_add_test(tcase, a_file_on_disk_is_not_read_in_to_be_counted);
	tcase_add_test(tcase, a_file_that_was_cut_is_no_crash);
	tcase_add_test(tcase, what_is_where_it_belongs_is_not_moved);
	tcase_add_test(tcase, a_node_that_is_not_there_is_an_error);
	return tcase;
}

UNIT_MAIN("placement_pages", pages_case)
