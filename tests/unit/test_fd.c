/* Writing in full, and opening again what is open. */
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "hugetmpfs.h"
#include "unit.h"

static int new_file(void)
{
	int fd = memfd_create("fd", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

START_TEST(all_bytes_are_written_where_they_belong)
{
	CLEANUP(close_fd) int fd = new_file();
	char bytes[8] = { 0 };

	ck_assert_int_eq(fd_write_fully(fd, "abc", 3, 4), 0);
	ck_assert_int_eq(fd_write_fully(fd, "", 0, 100), 0);
	ck_assert_int_eq(pread(fd, bytes, sizeof(bytes), 0), 7);
	ck_assert_mem_eq(bytes, "\0\0\0\0abc", 8);
}
END_TEST

START_TEST(what_cannot_be_written_is_told)
{
	CLEANUP(close_fd) int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fd_write_fully(fd, "abc", 3, 0), -ENOSPC);
	ck_assert_int_eq(fd_write_fully(-1, "abc", 3, 0), -EBADF);
}
END_TEST

START_TEST(the_same_file_is_opened_again_with_other_rights)
{
	CLEANUP(close_fd) int fd = new_file();
	CLEANUP(close_fd) int reader = fd_reopen(fd, O_RDONLY);
	char bytes[3];

	ck_assert_int_ge(reader, 0);
	ck_assert_int_eq(fd_write_fully(fd, "abc", 3, 0), 0);
	ck_assert_int_eq(pread(reader, bytes, sizeof(bytes), 0), 3);
	ck_assert_int_eq(fd_write_fully(reader, "x", 1, 0), -EBADF);
	ck_assert_int_eq(fcntl(reader, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}
END_TEST

START_TEST(a_descriptor_that_can_write_is_never_handed_on)
{
	int fd = new_file();
	int reader = hugetmpfs_read_only(fd);

	ck_assert_int_ge(reader, 0);
	ck_assert_int_eq(fcntl(reader, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	(void)close(reader);
	/* Nothing has this number: so it cannot be opened again. */
	ck_assert_int_eq(hugetmpfs_read_only(fd), -ENOENT);
}
END_TEST

static TCase *fd_case(void)
{
	TCase *tcase = tcase_create("fd");

	tcase_add_test(tcase, all_bytes_are_written_where_they_belong);
	tcase_add_test(tcase, what_cannot_be_written_is_told);
	tcase_add_test(tcase, the_same_file_is_opened_again_with_other_rights);
	tcase_add_test(tcase, a_descriptor_that_can_write_is_never_handed_on);
	return tcase;
}

UNIT_MAIN("fd", fd_case)
