/* What the page cache has of a file, on the file system that the tests run on. */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>

#include "model_dir.h"
#include "pagecache.h"
#include "unit.h"
#include "util/cachestat.h"

#define PAGES 600u

static struct source_file file;
static uint64_t page;

/* Bytes that were written: what was never written is read without waiting. */
static void write_pages(void)
{
	static const char bytes[512];

	for (uint64_t at = 0; at < PAGES * page; at += sizeof(bytes))
		ck_assert_int_eq(pwrite(file.fd, bytes, sizeof(bytes), (off_t)at),
				 sizeof(bytes));
}

/* The file ends in the middle of a page. */
static void make_file(void)
{
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	model_dir_make();
	model_dir_write("file", "x", 1);
	file = (struct source_file){ .size = PAGES * page - 100 };
	file.fd = open(model_dir_path("file"), O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(file.fd, 0);
	write_pages();
	ck_assert_int_eq(ftruncate(file.fd, (off_t)file.size), 0);
	file.bytes = mmap(NULL, file.size, PROT_READ, MAP_SHARED, file.fd, 0);
	ck_assert_ptr_ne(file.bytes, MAP_FAILED);
	/* Dirty pages would stay. */
	ck_assert_int_eq(fsync(file.fd), 0);
	pagecache_drop(&file, 0, file.size);
}

static void remove_file(void)
{
	ck_assert_int_eq(munmap(discard_const(file.bytes), file.size), 0);
	ck_assert_int_eq(close(file.fd), 0);
	model_dir_remove();
}

/* A kernel that does not tell, and a file system without a page cache of its own (tmpfs
 * drops nothing), can be told nothing about. */
static bool can_be_tested(void)
{
	uint64_t bytes;
	int r = pagecache_count(&file, 0, file.size, &bytes);

	if (r == 0 && bytes == 0)
		return true;
	(void)printf("page cache: not tested here: %d, %llu bytes stay\n", r,
		     (unsigned long long)bytes);
	return false;
}

static uint64_t cached(uint64_t from, uint64_t len)
{
	uint64_t bytes = 0;

	ck_assert_int_eq(pagecache_count(&file, from, len, &bytes), 0);
	return bytes;
}

START_TEST(what_is_read_is_there_until_it_is_dropped)
{
	if (!can_be_tested())
		return;
	pagecache_ask(&file, 0, file.size);
	ck_assert_int_eq(pagecache_wait(&file, 0, file.size), 0);
	ck_assert_uint_eq(cached(0, file.size), file.size);
	pagecache_drop(&file, 0, file.size);
	ck_assert_uint_eq(cached(0, file.size), 0);
}
END_TEST

START_TEST(waiting_reads_what_nobody_asked_for)
{
	if (!can_be_tested())
		return;
	ck_assert_int_eq(pagecache_wait(&file, 10 * page + 5, 40 * page), 0);
	ck_assert_uint_eq(cached(10 * page + 5, 40 * page), 40 * page);
}
END_TEST

START_TEST(what_was_waited_for_is_not_kept_by_the_mapping)
{
	if (!can_be_tested())
		return;
	ck_assert_int_eq(pagecache_wait(&file, 0, file.size), 0);
	ck_assert_uint_eq(cached(0, file.size), file.size);
	ck_assert_int_eq(posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	ck_assert_uint_eq(cached(0, file.size), 0);
}
END_TEST

START_TEST(a_range_counts_no_more_than_its_bytes)
{
	if (!can_be_tested())
		return;
	ck_assert_int_eq(pagecache_wait(&file, 0, file.size), 0);
	ck_assert_uint_eq(cached(7, 1), 1);
	ck_assert_uint_eq(cached(page - 1, 2), 2);
	ck_assert_uint_eq(cached(0, 0), 0);
}
END_TEST

/* Pages that others need as well stay. Where a page is part of a larger block of the
 * cache that lies partly outside, it stays as well. */
START_TEST(only_whole_pages_are_dropped)
{
	if (!can_be_tested())
		return;
	ck_assert_int_eq(pagecache_wait(&file, 0, file.size), 0);
	pagecache_drop(&file, 1, page * (PAGES - 2));
	ck_assert_uint_eq(cached(0, page), page);
	ck_assert_uint_eq(cached((PAGES - 2) * page, page), page);
	ck_assert_uint_lt(cached(0, file.size), file.size);
}
END_TEST

START_TEST(what_the_own_mapping_touched_is_dropped_as_well)
{
	volatile uint8_t sum = 0;

	if (!can_be_tested())
		return;
	for (uint64_t at = 0; at < file.size; at += page)
		sum = (uint8_t)(sum + file.bytes[at]);
	pagecache_drop(&file, 0, file.size);
	ck_assert_uint_eq(cached(0, file.size), 0);
}
END_TEST

/* In the process of this test alone. */
static void forbid_cachestat(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	ck_assert_ptr_nonnull(filter);
	ck_assert_int_eq(
		seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SYS_cachestat, 0), 0);
	ck_assert_int_eq(seccomp_load(filter), 0);
	seccomp_release(filter);
}

START_TEST(without_cachestat_the_mapping_tells)
{
	struct cachestat stat;

	if (!can_be_tested())
		return;
	forbid_cachestat();
	ck_assert_int_eq(cachestat_range(file.fd, 0, page, &stat), -1);
	ck_assert_uint_eq(cached(0, file.size), 0);
	ck_assert_int_eq(pagecache_wait(&file, 0, file.size), 0);
	ck_assert_uint_eq(cached(0, file.size), file.size);
	ck_assert_uint_eq(cached(7, 1), 1);
	pagecache_drop(&file, 512 * page, 64 * page);
	ck_assert_uint_eq(cached(512 * page, 64 * page), 0);
	ck_assert_uint_ge(cached(0, 512 * page), 500 * page);
}
END_TEST

/* To others than the owner it says that all is there. */
START_TEST(without_cachestat_others_are_told_nothing)
{
	uint64_t bytes;

	if (geteuid() != 0) {
		(void)printf("page cache: not tested here: needs root\n");
		return;
	}
	forbid_cachestat();
	ck_assert_int_eq(fchown(file.fd, 65534, 65534), 0);
	ck_assert_int_eq(pagecache_count(&file, 0, file.size, &bytes), -ENOSYS);
	ck_assert_uint_eq(bytes, 0);
}
END_TEST

START_TEST(a_page_is_there_or_not)
{
	if (!can_be_tested())
		return;
	ck_assert(!pagecache_has(&file, 300 * page));
	ck_assert_int_eq(pagecache_wait(&file, 0, file.size), 0);
	ck_assert(pagecache_has(&file, 300 * page));
	ck_assert(pagecache_has(&file, file.size - 1));
}
END_TEST

START_TEST(a_file_that_was_cut_cannot_be_read)
{
	ck_assert_int_eq(ftruncate(file.fd, (off_t)page), 0);
	ck_assert_int_eq(pagecache_wait(&file, 0, file.size), -EIO);
}
END_TEST

START_TEST(a_descriptor_that_cannot_be_asked_gives_an_error)
{
	const struct source_file broken = { .fd = -1, .size = 4096 };
	uint64_t bytes = 1;

	ck_assert_int_lt(pagecache_count(&broken, 0, 4096, &bytes), 0);
	ck_assert_uint_eq(bytes, 0);
	ck_assert_int_eq(pagecache_wait(&broken, 0, 4096), -EIO);
}
END_TEST

static TCase *pagecache_case(void)
{
	TCase *t = tcase_create("pagecache");

	tcase_add_checked_fixture(t, make_file, remove_file);
	tcase_add_test(t, what_is_read_is_there_until_it_is_dropped);
	tcase_add_test(t, waiting_reads_what_nobody_asked_for);
	tcase_add_test(t, what_was_waited_for_is_not_kept_by_the_mapping);
	tcase_add_test(t, a_range_counts_no_more_than_its_bytes);
	tcase_add_test(t, only_whole_pages_are_dropped);
	tcase_add_test(t, what_the_own_mapping_touched_is_dropped_as_well);
	tcase_add_test(t, without_cachestat_the_mapping_tells);
	tcase_add_test(t, without_cachestat_others_are_told_nothing);
	tcase_add_test(t, a_page_is_there_or_not);
	tcase_add_test(t, a_file_that_was_cut_cannot_be_read);
	tcase_add_test(t, a_descriptor_that_cannot_be_asked_gives_an_error);
	return t;
}

UNIT_MAIN("pagecache", pagecache_case)
