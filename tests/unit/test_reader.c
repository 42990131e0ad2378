#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "parsers/reader.h"
#include "unit.h"

/* The reader's window has 256 KiB. */
#define WINDOW_BYTES ((size_t)256 << 10)
#define FILE_BYTES   (3 * WINDOW_BYTES + 100)

/* What stands at each offset of the test file. */
static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

static int open_pattern(size_t size)
{
	CLEANUP(free_ptr) uint8_t *bytes = malloc(size);
	int fd = memfd_create("reader", 0);

	ck_assert_int_ge(fd, 0);
	for (size_t i = 0; i < size; i++)
		bytes[i] = pattern(i);
	ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
	return fd;
}

static void expect_pattern(const uint8_t *bytes, size_t pos, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != pattern(pos + i))
			ck_abort_msg("byte %zu differs", pos + i);
}

/* ---- Memory ---- */

static const uint8_t memory[] = { 1,    2,    3,    4,    5,    6,    7,    8,
				  0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8 };

START_TEST(numbers_are_little_endian)
{
	struct diag diag;
	struct reader r;
	uint64_t u64;
	uint32_t u32;
	uint16_t u16;
	uint8_t u8;

	reader_init_memory(&r, memory, sizeof(memory), &diag);
	ck_assert_int_eq(reader_u8(&r, "a", &u8), 0);
	ck_assert_uint_eq(u8, 1);
	ck_assert_int_eq(reader_u16(&r, "b", &u16), 0);
	ck_assert_uint_eq(u16, 0x0302);
	ck_assert_int_eq(reader_u32(&r, "c", &u32), 0);
	ck_assert_uint_eq(u32, 0x07060504);
	ck_assert_int_eq(reader_u64(&r, "d", &u64), 0);
	ck_assert_uint_eq(u64, 0xf9fafbfcfdfeff08);
	ck_assert_uint_eq(r.pos, 15);
	ck_assert_uint_eq(reader_left(&r), 1);
	reader_fini(&r);
}
END_TEST

START_TEST(a_number_cut_by_the_end_is_refused_and_nothing_moves)
{
	struct diag diag;
	struct reader r;
	uint64_t value = 42;

	reader_init_memory(&r, memory, 11, &diag);
	ck_assert_int_eq(reader_seek(&r, "x", 8), 0);
	ck_assert_int_eq(reader_u64(&r, "tensor count", &value), -EBADMSG);
	ck_assert_str_eq(diag.text, "tensor count at byte 8: needs 8 bytes, the file "
				    "ends 3 bytes later");
	ck_assert_uint_eq(value, 42);
	ck_assert_uint_eq(r.pos, 8);
	reader_fini(&r);
}
END_TEST

START_TEST(bytes_of_memory_are_not_copied)
{
	const uint8_t *bytes;
	struct diag diag;
	struct reader r;

	reader_init_memory(&r, memory, sizeof(memory), &diag);
	ck_assert_int_eq(reader_skip(&r, "x", 3), 0);
	ck_assert_int_eq(reader_bytes(&r, "x", 5, &bytes), 0);
	ck_assert_ptr_eq(bytes, memory + 3);
	ck_assert_uint_eq(r.pos, 8);
	reader_fini(&r);
}
END_TEST

START_TEST(a_length_near_64_bits_does_not_wrap)
{
	const uint8_t *bytes;
	struct diag diag;
	struct reader r;

	reader_init_memory(&r, memory, sizeof(memory), &diag);
	ck_assert_int_eq(reader_skip(&r, "x", 2), 0);
	ck_assert_int_eq(reader_bytes(&r, "name", UINT64_MAX, &bytes), -EBADMSG);
	ck_assert_str_eq(diag.text, "name at byte 2: needs 18446744073709551615 bytes, "
				    "the file ends 14 bytes later");
	ck_assert_int_eq(reader_skip(&r, "value", UINT64_MAX - 1), -EBADMSG);
	ck_assert_str_eq(diag.text, "value at byte 2: needs 18446744073709551614 bytes, "
				    "the file ends 14 bytes later");
	ck_assert_int_eq(reader_seek(&r, "data", UINT64_MAX), -EBADMSG);
	ck_assert_str_eq(diag.text, "data: starts at byte 18446744073709551615, the file "
				    "has 16 bytes");
	ck_assert_uint_eq(r.pos, 2);
	reader_fini(&r);
}
END_TEST

START_TEST(the_end_can_be_reached_but_not_passed)
{
	const uint8_t *bytes;
	struct diag diag;
	struct reader r;

	reader_init_memory(&r, memory, sizeof(memory), &diag);
	ck_assert_int_eq(reader_seek(&r, "data", 16), 0);
	ck_assert_uint_eq(reader_left(&r), 0);
	ck_assert_int_eq(reader_bytes(&r, "x", 0, &bytes), 0);
	ck_assert_int_eq(reader_skip(&r, "x", 0), 0);
	ck_assert_int_eq(reader_skip(&r, "x", 1), -EBADMSG);
	ck_assert_int_eq(reader_seek(&r, "data", 17), -EBADMSG);
	ck_assert_int_eq(reader_seek(&r, "data", 0), 0);
	ck_assert_int_eq(reader_skip(&r, "x", 16), 0);
	reader_fini(&r);
}
END_TEST

START_TEST(nothing_can_be_read_of_an_empty_file)
{
	struct diag diag;
	struct reader r;
	uint8_t value;

	reader_init_memory(&r, "", 0, &diag);
	ck_assert_int_eq(reader_u8(&r, "magic", &value), -EBADMSG);
	ck_assert_str_eq(diag.text, "magic at byte 0: needs 1 bytes, the file ends 0 "
				    "bytes later");
	reader_fini(&r);
}
END_TEST

/* ---- Files ---- */

START_TEST(a_file_larger_than_the_window_is_read_through)
{
	CLEANUP(close_fd) int fd = open_pattern(FILE_BYTES);
	struct diag diag;
	struct reader r;
	size_t pos = 0;

	reader_init_fd(&r, fd, FILE_BYTES, &diag);
	/* A step that divides nothing, so that pieces cross the ends of windows. */
	while (FILE_BYTES - pos >= 997) {
		const uint8_t *bytes;

		ck_assert_int_eq(reader_bytes(&r, "piece", 997, &bytes), 0);
		expect_pattern(bytes, pos, 997);
		pos += 997;
		ck_assert_uint_eq(r.pos, pos);
	}
	ck_assert_uint_eq(reader_left(&r), FILE_BYTES - pos);
	reader_fini(&r);
}
END_TEST

START_TEST(a_piece_larger_than_the_window_comes_whole)
{
	CLEANUP(close_fd) int fd = open_pattern(FILE_BYTES);
	const uint8_t *bytes;
	struct diag diag;
	struct reader r;

	reader_init_fd(&r, fd, FILE_BYTES, &diag);
	ck_assert_int_eq(reader_skip(&r, "x", 5), 0);
	ck_assert_int_eq(reader_bytes(&r, "header", 2 * WINDOW_BYTES, &bytes), 0);
	expect_pattern(bytes, 5, 2 * WINDOW_BYTES);
	ck_assert_int_eq(reader_bytes(&r, "rest", reader_left(&r), &bytes), 0);
	expect_pattern(bytes, 5 + 2 * WINDOW_BYTES, WINDOW_BYTES + 95);
	reader_fini(&r);
}
END_TEST

START_TEST(reading_can_go_back_and_forth)
{
	static const size_t stops[] = { 0,
					FILE_BYTES - 8,
					WINDOW_BYTES - 4,
					WINDOW_BYTES,
					1,
					2 * WINDOW_BYTES - 1,
					0 };
	CLEANUP(close_fd) int fd = open_pattern(FILE_BYTES);
	struct diag diag;
	struct reader r;

	reader_init_fd(&r, fd, FILE_BYTES, &diag);
	for (size_t i = 0; i < ARRAY_LEN(stops); i++) {
		const uint8_t *bytes;

		ck_assert_int_eq(reader_seek(&r, "stop", stops[i]), 0);
		ck_assert_int_eq(reader_bytes(&r, "stop", 8, &bytes), 0);
		expect_pattern(bytes, stops[i], 8);
	}
	reader_fini(&r);
}
END_TEST

START_TEST(the_descriptor_keeps_its_own_position)
{
	CLEANUP(close_fd) int fd = open_pattern(100);
	struct diag diag;
	struct reader r;
	uint8_t value;

	ck_assert_int_eq(lseek(fd, 42, SEEK_SET), 42);
	reader_init_fd(&r, fd, 100, &diag);
	ck_assert_int_eq(reader_u8(&r, "first", &value), 0);
	ck_assert_uint_eq(value, pattern(0));
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 42);
	reader_fini(&r);
}
END_TEST

START_TEST(bytes_above_the_given_size_do_not_exist)
{
	CLEANUP(close_fd) int fd = open_pattern(100);
	struct diag diag;
	struct reader r;
	uint64_t value;

	reader_init_fd(&r, fd, 10, &diag);
	ck_assert_int_eq(reader_u64(&r, "a", &value), 0);
	ck_assert_int_eq(reader_u64(&r, "b", &value), -EBADMSG);
	ck_assert_str_eq(diag.text,
			 "b at byte 8: needs 8 bytes, the file ends 2 bytes later");
	reader_fini(&r);
}
END_TEST

START_TEST(a_file_cut_while_it_is_read_is_an_error)
{
	CLEANUP(close_fd) int fd = open_pattern(FILE_BYTES);
	const uint8_t *bytes;
	struct diag diag;
	struct reader r;

	reader_init_fd(&r, fd, FILE_BYTES, &diag);
	ck_assert_int_eq(reader_bytes(&r, "start", 8, &bytes), 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)WINDOW_BYTES + 10), 0);
	ck_assert_int_eq(reader_seek(&r, "rest", WINDOW_BYTES), 0);
	ck_assert_int_eq(reader_bytes(&r, "rest", 8, &bytes), -EBADMSG);
	ck_assert_str_eq(diag.text, "read at byte 262154: the file became shorter while "
				    "it was read");
	/* The failed window is not used. */
	ck_assert_int_eq(reader_seek(&r, "rest", WINDOW_BYTES), 0);
	ck_assert_int_eq(reader_bytes(&r, "rest", 8, &bytes), -EBADMSG);
	reader_fini(&r);
}
END_TEST

START_TEST(a_failing_read_says_why)
{
	CLEANUP(close_fd) int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct diag diag;
	struct reader r;
	uint8_t value;

	ck_assert_int_ge(fd, 0);
	reader_init_fd(&r, fd, 100, &diag);
	ck_assert_int_eq(reader_u8(&r, "magic", &value), -EIO);
	ck_assert_str_eq(diag.text, "read at byte 0: bad file descriptor");
	reader_fini(&r);
}
END_TEST

START_TEST(a_size_that_is_not_there_takes_no_memory_first)
{
	CLEANUP(close_fd) int fd = open_pattern(10);
	const uint8_t *bytes;
	struct diag diag;
	struct reader r;

	reader_init_fd(&r, fd, 10, &diag);
	ck_assert_int_eq(reader_bytes(&r, "name", (uint64_t)1 << 50, &bytes), -EBADMSG);
	ck_assert_uint_eq(r.capacity, 0);
	reader_fini(&r);
}
END_TEST

static TCase *memory_case(void)
{
	TCase *tcase = tcase_create("memory");

	tcase_add_test(tcase, numbers_are_little_endian);
	tcase_add_test(tcase, a_number_cut_by_the_end_is_refused_and_nothing_moves);
	tcase_add_test(tcase, bytes_of_memory_are_not_copied);
	tcase_add_test(tcase, a_length_near_64_bits_does_not_wrap);
	tcase_add_test(tcase, the_end_can_be_reached_but_not_passed);
	tcase_add_test(tcase, nothing_can_be_read_of_an_empty_file);
	return tcase;
}

static TCase *files_case(void)
{
	TCase *tcase = tcase_create("files");

	tcase_add_test(tcase, a_file_larger_than_the_window_is_read_through);
	tcase_add_test(tcase, a_piece_larger_than_the_window_comes_whole);
	tcase_add_test(tcase, reading_can_go_back_and_forth);
	tcase_add_test(tcase, the_descriptor_keeps_its_own_position);
	tcase_add_test(tcase, bytes_above_the_given_size_do_not_exist);
	tcase_add_test(tcase, a_file_cut_while_it_is_read_is_an_error);
	tcase_add_test(tcase, a_failing_read_says_why);
	tcase_add_test(tcase, a_size_that_is_not_there_takes_no_memory_first);
	return tcase;
}

UNIT_MAIN("reader", memory_case, files_case)
