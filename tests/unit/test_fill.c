#include "fill.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "unit.h"

#define MIB         ((uint64_t)1 << 20)
#define PAGE        4096u
#define SOURCE_SIZE (23 * MIB + 1234)

static struct source_file source;
static uint8_t *content; /* of the source */
static int target;

/* A file on the disk: tmpfs has nothing to read around. */
static int new_file(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void make_files(void)
{
	content = malloc(SOURCE_SIZE);
	ck_assert_ptr_nonnull(content);
	for (uint64_t i = 0; i < SOURCE_SIZE; i++)
		content[i] = (uint8_t)(i * 2654435761U >> 13);
	source = (struct source_file){ .fd = new_file(), .size = SOURCE_SIZE };
	ck_assert_int_eq(pwrite(source.fd, content, SOURCE_SIZE, 0),
			 (ssize_t)SOURCE_SIZE);
	target = memfd_create("target", MFD_CLOEXEC);
	ck_assert_int_ge(target, 0);
}

static void remove_files(void)
{
	(void)close(source.fd);
	(void)close(target);
	free(content);
}

static void drop_from_cache(uint64_t from, uint64_t len)
{
	ck_assert_int_eq(fsync(source.fd), 0);
	ck_assert_int_eq(posix_fadvise(source.fd, (off_t)from, (off_t)len,
				       POSIX_FADV_DONTNEED),
			 0);
}

static void check_copy(uint64_t from, uint64_t len, uint64_t to)
{
	uint8_t *copy = malloc(len);

	ck_assert_int_eq(fill_copy(&source, from, len, target, to, NULL), 0);
	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(pread(target, copy, len, (off_t)to), (ssize_t)len);
	ck_assert_mem_eq(copy, content + from, len);
	free(copy);
}

/* Where pieces, blocks and the file end: all, or the file, or neither. */
static const struct {
	uint64_t from;
	uint64_t len;
	uint64_t to;
} ranges[] = {
	{ 0, SOURCE_SIZE, 0 },
	{ 2264, 17 * MIB, 0 },
	{ 2264, 17 * MIB + 5, 2264 },
	{ 4096, 2 * MIB, 0 },
	{ 1, 2 * MIB, 2 * MIB - 1 },
	{ 12345, 77777, 640 },
	{ SOURCE_SIZE - 3 * MIB, 3 * MIB, 128 },
	{ SOURCE_SIZE - 1, 1, 5 },
	{ 4095, 2, 4095 },
	{ 511, 0, 0 },
};

START_TEST(what_is_in_the_page_cache_is_copied_from_there)
{
	check_copy(ranges[_i].from, ranges[_i].len, ranges[_i].to);
}
END_TEST

START_TEST(what_is_not_is_read_around_it)
{
	drop_from_cache(0, 0);
	check_copy(ranges[_i].from, ranges[_i].len, ranges[_i].to);
}
END_TEST

START_TEST(a_source_that_is_cached_in_part_is_copied_whole)
{
	drop_from_cache(5 * MIB, 6 * MIB);
	drop_from_cache(13 * MIB, MIB / 2);
	check_copy(ranges[_i].from, ranges[_i].len, ranges[_i].to);
}
END_TEST

static size_t cached_pages(void)
{
	unsigned char there[SOURCE_SIZE / PAGE + 1];
	void *map = mmap(NULL, SOURCE_SIZE, PROT_READ, MAP_SHARED, source.fd, 0);
	size_t count = 0;

	ck_assert_ptr_ne(map, MAP_FAILED);
	ck_assert_int_eq(mincore(map, SOURCE_SIZE, there), 0);
	for (size_t i = 0; i < sizeof(there); i++)
		count += there[i] & 1;
	ck_assert_int_eq(munmap(map, SOURCE_SIZE), 0);
	return count;
}

/* Without this the tests above would show nothing. */
START_TEST(reading_around_the_cache_leaves_nothing_there)
{
	drop_from_cache(0, 0);
	check_copy(2264, 20 * MIB, 0);
	ck_assert_uint_lt(cached_pages(), SOURCE_SIZE / PAGE / 20);
}
END_TEST

/* Reading what is there must not make the kernel read ahead what is not. */
START_TEST(a_cached_piece_does_not_bring_in_the_next_one)
{
	uint8_t *start = malloc(4 * MIB);

	ck_assert_ptr_nonnull(start);
	drop_from_cache(0, 0);
	for (uint64_t at = 0; at < 4 * MIB; at += 64 * PAGE)
		ck_assert_int_gt(pread(source.fd, start + at, 64 * PAGE, (off_t)at), 0);
	free(start);
	ck_assert_uint_gt(cached_pages(), 4 * MIB / PAGE - 1);
	check_copy(2264, 20 * MIB, 0);
	ck_assert_uint_lt(cached_pages(), 14 * MIB / PAGE);
}
END_TEST

static void check_cut_source(bool cached)
{
	ck_assert_int_eq(ftruncate(source.fd, (off_t)(6 * MIB)), 0);
	if (!cached)
		drop_from_cache(0, 0);
	ck_assert_int_eq(fill_copy(&source, 2264, 17 * MIB, target, 0, NULL), -EIO);
	/* Nothing is left over that would spoil the next copy. */
	check_copy(2264, 5 * MIB, 0);
}

START_TEST(a_source_that_was_cut_is_an_error)
{
	check_cut_source(true);
}
END_TEST

START_TEST(a_source_that_was_cut_is_an_error_around_the_cache)
{
	check_cut_source(false);
}
END_TEST

START_TEST(a_target_that_cannot_be_written_is_an_error)
{
	int full = open("/dev/full", O_RDWR | O_CLOEXEC);

	ck_assert_int_ge(full, 0);
	ck_assert_int_eq(fill_copy(&source, 0, 9 * MIB, full, 0, NULL), -ENOSPC);
	drop_from_cache(0, 0);
	ck_assert_int_eq(fill_copy(&source, 0, 9 * MIB, full, 0, NULL), -ENOSPC);
	ck_assert_int_eq(close(full), 0);
	check_copy(77, 9 * MIB, 0);
}
END_TEST

START_TEST(a_fill_that_is_stopped_ends_early)
{
	const atomic_bool stop = true;

	ck_assert_int_eq(fill_copy(&source, 0, 9 * MIB, target, 0, &stop), -ECANCELED);
	drop_from_cache(0, 0);
	ck_assert_int_eq(fill_copy(&source, 0, 9 * MIB, target, 0, &stop), -ECANCELED);
	check_copy(77, 9 * MIB, 0);
}
END_TEST

/* To one that ends within a page, of any length. */
START_TEST(a_file_in_memory_is_copied_to_another)
{
	int from = memfd_create("from", MFD_CLOEXEC);
	uint8_t *copy = malloc(SOURCE_SIZE);

	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(pwrite(from, content, SOURCE_SIZE, 0), (ssize_t)SOURCE_SIZE);
	ck_assert_int_eq(fill_copy_memory(from, SOURCE_SIZE - 5, target, NULL), 0);
	ck_assert_int_eq(pread(target, copy, SOURCE_SIZE, 0), (ssize_t)SOURCE_SIZE - 5);
	ck_assert_mem_eq(copy, content, SOURCE_SIZE - 5);
	ck_assert_int_eq(fill_copy_memory(from, SOURCE_SIZE + 1, target, NULL), -EIO);
	(void)close(from);
	free(copy);
}
END_TEST

START_TEST(a_copy_of_memory_that_is_stopped_ends_early)
{
	const atomic_bool stop = true;

	ck_assert_int_eq(fill_copy_memory(source.fd, SOURCE_SIZE, target, &stop),
			 -ECANCELED);
	ck_assert_int_eq(lseek(target, 0, SEEK_END), 0);
}
END_TEST

static TCase *copies_case(void)
{
	TCase *tcase = tcase_create("copies");

	tcase_add_checked_fixture(tcase, make_files, remove_files);
	tcase_add_loop_test(tcase, what_is_in_the_page_cache_is_copied_from_there, 0,
			    (int)ARRAY_LEN(ranges));
	tcase_add_loop_test(tcase, what_is_not_is_read_around_it, 0,
			    (int)ARRAY_LEN(ranges));
	tcase_add_loop_test(tcase, a_source_that_is_cached_in_part_is_copied_whole, 0,
			    (int)ARRAY_LEN(ranges));
	tcase_add_test(tcase, reading_around_the_cache_leaves_nothing_there);
	tcase_add_test(tcase, a_cached_piece_does_not_bring_in_the_next_one);
	tcase_add_test(tcase, a_file_in_memory_is_copied_to_another);
	return tcase;
}

static TCase *failures_case(void)
{
	TCase *tcase = tcase_create("failures");

	tcase_add_checked_fixture(tcase, make_files, remove_files);
	tcase_add_test(tcase, a_source_that_was_cut_is_an_error);
	tcase_add_test(tcase, a_source_that_was_cut_is_an_error_around_the_cache);
	tcase_add_test(tcase, a_target_that_cannot_be_written_is_an_error);
	tcase_add_test(tcase, a_fill_that_is_stopped_ends_early);
	tcase_add_test(tcase, a_copy_of_memory_that_is_stopped_ends_early);
	return tcase;
}

UNIT_MAIN("fill", copies_case, failures_case)
