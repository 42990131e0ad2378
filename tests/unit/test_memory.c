/* What is left of memory: the machine's, and that of control groups of both versions. */
#include <errno.h>
#include <stdio.h>

#include "memory_files.h"
#include "unit.h"

static struct memory_room measure(void)
{
	const struct memory_roots roots = memory_files_roots();
	struct memory_room room;
	struct memory *memory;

	ck_assert_int_eq(memory_open(&roots, &memory), 0);
	ck_assert_int_eq(memory_measure(memory, &room), 0);
	memory_close(memory);
	return room;
}

/* ---- The machine ---- */

START_TEST(without_control_groups_it_is_the_machine_that_counts)
{
	struct memory_room room;

	memory_files_machine(64 * GIB, 10 * GIB);
	room = measure();
	ck_assert_uint_eq(room.total, 64 * GIB);
	ck_assert_uint_eq(room.available, 10 * GIB);
	ck_assert_uint_eq(room.reserve, 64 * GIB / 20);
	ck_assert_int_eq(room.spare, (int64_t)(10 * GIB - 64 * GIB / 20));
}
END_TEST

START_TEST(the_reserve_is_at_least_256_mib_and_at_most_a_quarter)
{
	memory_files_machine(2 * GIB, GIB);
	ck_assert_uint_eq(measure().reserve, 256 * MIB);
	memory_files_machine(400 * MIB, 50 * MIB);
	ck_assert_uint_eq(measure().reserve, 100 * MIB);
	ck_assert_int_eq(measure().spare, -(int64_t)(50 * MIB));
}
END_TEST

START_TEST(what_changes_is_seen_without_opening_anew)
{
	const struct memory_roots roots = memory_files_roots();
	struct memory_room room;
	struct memory *memory;

	memory_files_machine(8 * GIB, 4 * GIB);
	ck_assert_int_eq(memory_open(&roots, &memory), 0);
	memory_files_machine(8 * GIB, 2 * GIB);
	ck_assert_int_eq(memory_measure(memory, &room), 0);
	ck_assert_uint_eq(room.available, 2 * GIB);
	memory_close(memory);
}
END_TEST

START_TEST(a_machine_that_says_nothing_is_an_error)
{
	const struct memory_roots roots = memory_files_roots();
	struct memory_room room;
	struct memory *memory;

	ck_assert_int_eq(memory_open(&roots, &memory), 0);
	ck_assert_int_eq(memory_measure(memory, &room), -EIO);
	memory_close(memory);
	model_dir_write_text("proc/meminfo", "MemTotal: 5 kB\nMemAvailableX: 5 kB\n");
	ck_assert_int_eq(memory_open(&roots, &memory), 0);
	ck_assert_int_eq(memory_measure(memory, &room), -EIO);
	memory_close(memory);
}
END_TEST

START_TEST(this_machine_has_memory)
{
	struct memory_room room;

	memory_look(&room);
	ck_assert_uint_gt(room.total, 16 * MIB);
	ck_assert_uint_gt(room.available, 0);
	ck_assert_uint_le(room.available, room.total);
}
END_TEST

/* ---- Control groups ---- */

static void write_v2(const char *group, const char *max, uint64_t current,
		     const char *stat)
{
	char name[256];

	(void)snprintf(name, sizeof(name), "cgroup%s/memory.max", group);
	model_dir_write_text(name, max);
	(void)snprintf(name, sizeof(name), "cgroup%s/memory.high", group);
	model_dir_write_text(name, "max\n");
	(void)snprintf(name, sizeof(name), "cgroup%s/memory.current", group);
	memory_files_number(name, current);
	(void)snprintf(name, sizeof(name), "cgroup%s/memory.stat", group);
	model_dir_write_text(name, stat);
}

static void write_v2_group(const char *path)
{
	char text[256];

	memory_files_machine(64 * GIB, 32 * GIB);
	(void)snprintf(text, sizeof(text), "0::%s\n", path);
	model_dir_write_text("proc/self/cgroup", text);
}

START_TEST(a_limit_of_version_2_counts)
{
	struct memory_room room;

	write_v2_group("/user.slice/job");
	write_v2("/user.slice/job", "1073741824\n", 512 * MIB, "anon 5\n");
	write_v2("/user.slice", "max\n", 40 * GIB, "anon 5\n");
	room = measure();
	ck_assert_uint_eq(room.total, GIB);
	ck_assert_uint_eq(room.available, 512 * MIB);
	ck_assert_uint_eq(room.reserve, 256 * MIB);
	ck_assert_int_eq(room.spare, (int64_t)(256 * MIB));
}
END_TEST

START_TEST(a_limit_of_a_group_around_it_counts)
{
	struct memory_room room;

	write_v2_group("/user.slice/job");
	write_v2("/user.slice/job", "max\n", 512 * MIB, "anon 5\n");
	write_v2("/user.slice", "8589934592\n", 6 * GIB, "anon 5\n");
	room = measure();
	ck_assert_uint_eq(room.total, 8 * GIB);
	ck_assert_uint_eq(room.available, 2 * GIB);
}
END_TEST

START_TEST(the_soft_limit_counts)
{
	write_v2_group("/job");
	write_v2("/job", "4294967296\n", GIB, "anon 5\n");
	model_dir_write_text("cgroup/job/memory.high", "3221225472\n");
	ck_assert_uint_eq(measure().total, 3 * GIB);
	ck_assert_uint_eq(measure().available, 2 * GIB);
}
END_TEST

START_TEST(page_cache_is_available_and_shared_memory_is_not)
{
	write_v2_group("/job");
	write_v2("/job", "4294967296\n", 4 * GIB,
		 "anon 1\nfile 3221225472\nshmem 2147483648\ninactive_anon 2147483648\n"
		 "inactive_file 536870912\nactive_file 268435456\n");
	ck_assert_uint_eq(measure().available, 768 * MIB);
}
END_TEST

START_TEST(a_group_over_its_limit_has_nothing_left)
{
	write_v2_group("/job");
	write_v2("/job", "1073741824\n", 2 * GIB, "anon 5\n");
	ck_assert_uint_eq(measure().available, 0);
	ck_assert_int_eq(measure().spare, -(int64_t)(256 * MIB));
}
END_TEST

START_TEST(the_top_of_a_container_counts_where_its_path_is_hidden)
{
	write_v2_group("/../hidden/scope");
	write_v2("", "2147483648\n", GIB, "anon 5\n");
	ck_assert_uint_eq(measure().total, 2 * GIB);
}
END_TEST

START_TEST(a_limit_of_version_1_counts)
{
	struct memory_room room;

	memory_files_machine(64 * GIB, 32 * GIB);
	model_dir_write_text("proc/self/cgroup",
			     "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n");
	memory_files_number("cgroup/memory/job/memory.limit_in_bytes", 2 * GIB);
	memory_files_number("cgroup/memory/job/memory.usage_in_bytes", 2 * GIB);
	model_dir_write_text("cgroup/memory/job/memory.stat",
			     "inactive_file 5\ntotal_inactive_file 1073741824\n"
			     "total_active_file 0\n");
	/* What version 1 says without a limit. */
	memory_files_number("cgroup/memory/memory.limit_in_bytes", 0x7ffffffffffff000);
	memory_files_number("cgroup/memory/memory.usage_in_bytes", 60 * GIB);
	room = measure();
	ck_assert_uint_eq(room.total, 2 * GIB);
	ck_assert_uint_eq(room.available, GIB);
}
END_TEST

START_TEST(the_machine_counts_where_it_has_less_left_than_the_group)
{
	struct memory_room room;

	write_v2_group("/job");
	write_v2("/job", "34359738368\n", GIB, "anon 5\n");
	memory_files_machine(64 * GIB, 4 * GIB);
	room = measure();
	ck_assert_uint_eq(room.total, 32 * GIB);
	ck_assert_uint_eq(room.available, 4 * GIB);
	ck_assert_uint_eq(room.reserve, 64 * GIB / 20);
}
END_TEST

START_TEST(strange_words_in_the_files_do_no_harm)
{
	write_v2_group("/job");
	write_v2("/job", "a lot\n", GIB, "");
	ck_assert_uint_eq(measure().total, 64 * GIB);
	write_v2("/job", "99999999999999999999999999\n", GIB, "inactive_file\n");
	ck_assert_uint_eq(measure().total, 64 * GIB);
	model_dir_write_text("proc/self/cgroup", "0:\n:::\nmemory\n\n");
	ck_assert_uint_eq(measure().total, 64 * GIB);
}
END_TEST

/* ---- Events ---- */

START_TEST(events_that_are_not_to_be_had_are_left_out)
{
	const struct memory_roots roots = memory_files_roots();
	int fds[MEMORY_EVENTS];

	memory_open_events(&roots, fds);
	ck_assert_int_eq(fds[0], -1);
	ck_assert_int_eq(fds[1], -1);
}
END_TEST

START_TEST(events_are_asked_for_in_the_words_of_the_kernel)
{
	const struct memory_roots roots = memory_files_roots();
	char text[64] = "";
	int fds[MEMORY_EVENTS];

	write_v2_group("/job");
	model_dir_write_text("proc/pressure/memory", "");
	model_dir_write_text("cgroup/job/memory.pressure", "");
	memory_open_events(&roots, fds);
	for (unsigned int i = 0; i < MEMORY_EVENTS; i++) {
		ck_assert_int_gt(pread(fds[i], text, sizeof(text) - 1, 0), 0);
		ck_assert_str_eq(text, "some 150000 1000000");
		(void)close(fds[i]);
	}
}
END_TEST

static TCase *machine_case(void)
{
	TCase *t = tcase_create("machine");

	tcase_add_checked_fixture(t, model_dir_make, model_dir_remove);
	tcase_add_test(t, without_control_groups_it_is_the_machine_that_counts);
	tcase_add_test(t, the_reserve_is_at_least_256_mib_and_at_most_a_quarter);
	tcase_add_test(t, what_changes_is_seen_without_opening_anew);
	tcase_add_test(t, a_machine_that_says_nothing_is_an_error);
	tcase_add_test(t, this_machine_has_memory);
	tcase_add_test(t, events_that_are_not_to_be_had_are_left_out);
	tcase_add_test(t, events_are_asked_for_in_the_words_of_the_kernel);
	return t;
}

static TCase *groups_case(void)
{
	TCase *t = tcase_create("groups");

	tcase_add_checked_fixture(t, model_dir_make, model_dir_remove);
	tcase_add_test(t, a_limit_of_version_2_counts);
	tcase_add_test(t, a_limit_of_a_group_around_it_counts);
	tcase_add_test(t, the_soft_limit_counts);
	tcase_add_test(t, page_cache_is_available_and_shared_memory_is_not);
	tcase_add_test(t, a_group_over_its_limit_has_nothing_left);
	tcase_add_test(t, the_top_of_a_container_counts_where_its_path_is_hidden);
	tcase_add_test(t, a_limit_of_version_1_counts);
	tcase_add_test(t, the_machine_counts_where_it_has_less_left_than_the_group);
	tcase_add_test(t, strange_words_in_the_files_do_no_harm);
	return t;
}

UNIT_MAIN("memory", machine_case, groups_case)
