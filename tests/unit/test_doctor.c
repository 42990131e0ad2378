#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "mountctl/doctor.h"
#include "unit.h"

/* A machine made of files below a directory of its own. */
static char root[] = "/tmp/weightfs-doctor-XXXXXX";
static struct machine machine;
static struct finding found;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void make_machine(void)
{
	ck_assert_ptr_nonnull(mkdtemp(root));
	machine = (struct machine){ .root = root, .path = "", .is_root = true };
	found = (struct finding){ .mark = MARK_OK };
}

static void remove_machine(void)
{
	finding_fini(&found);
	(void)nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* With the directories above it. `len` bytes, so that there may be NULs. */
static void put_bytes(const char *path, const char *bytes, size_t len)
{
	char full[PATH_MAX];
	FILE *file;

	(void)snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/'));
	     slash++) {
		*slash = '\0';
		(void)mkdir(full, 0755);
		*slash = '/';
	}
	file = fopen(full, "we");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
	ck_assert_int_eq(fclose(file), 0);
}

static void put(const char *path, const char *text)
{
	put_bytes(path, text, strlen(text));
}

static struct json parse(const char *text)
{
	struct json value;

	ck_assert_int_eq(json_parse(text, strlen(text), &value), 0);
	return value;
}

static void run(const struct check *check)
{
	finding_fini(&found);
	found = (struct finding){ .mark = MARK_OK };
	check->run(&machine, &found);
}

/* The mark, a part of the value, and that costs stand where something is not well. */
static void expect(enum mark mark, const char *part)
{
	ck_assert_msg(found.mark == mark && found.value.data &&
			      strstr(found.value.data, part),
		      "mark %d, '%s'", found.mark, found.value.data);
	ck_assert_int_eq(found.cost.len > 0, mark != MARK_OK);
}

static void expect_advice(const char *part)
{
	ck_assert_ptr_nonnull(found.advice.data);
	ck_assert_msg(strstr(found.advice.data, part) != NULL, "'%s'", found.advice.data);
}

START_TEST(a_machine_without_the_device_mounts_nothing)
{
	run(&check_fuse_device);
	expect(MARK_MISSING, "no such file");
	expect_advice("modprobe fuse");
	put("/dev/fuse", "");
	run(&check_fuse_device);
	expect(MARK_OK, "/dev/fuse");
	ck_assert(check_fuse_device.vital && check_mounting.vital && check_daemon.vital);
}
END_TEST

START_TEST(without_an_answer_of_the_daemons_program_nothing_mounts)
{
	run(&check_daemon);
	expect(MARK_MISSING, "cannot be run");
	machine.probe = parse("{\"version\":\"1.2.3\"}");
	run(&check_daemon);
	expect(MARK_OK, "weightfs 1.2.3");
	run(&check_passthrough);
	expect(MARK_MISSING, "weightfs did not say");
}
END_TEST

START_TEST(root_that_may_not_mount_is_told_why)
{
	machine.probe = parse("{\"session\":{\"ok\":false,\"reason\":"
			      "\"it takes root (CAP_SYS_ADMIN)\"}}");
	run(&check_mounting);
	expect(MARK_MISSING, "CAP_SYS_ADMIN");
	expect_advice("--cap-add SYS_ADMIN");
}
END_TEST

START_TEST(a_user_mounts_by_a_program_with_the_rights_for_it)
{
	char path[PATH_MAX];
	char program[PATH_MAX + 16];

	machine.is_root = false;
	machine.probe = parse("{\"session\":{\"ok\":false,\"reason\":\"no\"}}");
	run(&check_mounting);
	expect(MARK_MISSING, "no fusermount3");
	expect_advice("fuse3");
	put("/bin/fusermount3", "");
	(void)snprintf(path, sizeof(path), "/nowhere:%s/bin", root);
	(void)snprintf(program, sizeof(program), "%s/bin/fusermount3", root);
	machine.path = path;
	ck_assert_int_eq(chmod(program, 0755), 0);
	run(&check_mounting);
	expect(MARK_MISSING, "is not set-user-ID root");
	if (geteuid() != 0)
		return;
	ck_assert_int_eq(chmod(program, 04755), 0);
	run(&check_mounting);
	expect(MARK_OK, program);
	put("/proc/self/status", "Name:\tx\nNoNewPrivs:\t1\n");
	run(&check_mounting);
	expect(MARK_MISSING, "no_new_privs");
}
END_TEST

START_TEST(allow_other_needs_its_line_and_no_comment)
{
	run(&check_allow_other);
	expect(MARK_OK, "root may");
	machine.is_root = false;
	run(&check_allow_other);
	expect(MARK_HINT, "not set");
	put("/etc/fuse.conf", "#user_allow_other\nuser_allow_otherwise\n");
	run(&check_allow_other);
	expect(MARK_HINT, "not set");
	put("/etc/fuse.conf", "mount_max = 100\nuser_allow_other \n");
	run(&check_allow_other);
	expect(MARK_OK, "is set");
}
END_TEST

START_TEST(versions_of_linux_are_compared_as_numbers)
{
	put("/proc/sys/kernel/osrelease", "6.10.2-arch1\n");
	run(&check_kernel);
	expect(MARK_OK, "Linux 6.10.2-arch1");
	put("/proc/sys/kernel/osrelease", "6.8.0-45-generic\n");
	run(&check_kernel);
	expect(MARK_HINT, "Linux 6.8.0");
}
END_TEST

START_TEST(each_reason_against_passthrough_has_its_remedy)
{
	static const char *const cases[][2] = {
		{ "it takes root (CAP_SYS_ADMIN)", "mount as root" },
		{ "it takes root outside of a user namespace",
		  "outside of the container" },
		{ "a filter of system calls (seccomp) forbids x", "seccomp profile" },
		{ "this kernel is Linux 6.1, which has none: 6.9 has", "Linux 6.9" },
		{ "this kernel was built without it (CONFIG_FUSE_PASSTHROUGH)",
		  "built with it" },
	};
	char text[256];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		(void)snprintf(text, sizeof(text),
			       "{\"passthrough\":{\"ok\":false,\"reason\":\"%s\"}}",
			       cases[i][0]);
		machine.probe = parse(text);
		run(&check_passthrough);
		expect(MARK_MISSING, cases[i][0]);
		expect_advice(cases[i][1]);
	}
	machine.probe = parse("{\"passthrough\":{\"ok\":true}}");
	run(&check_passthrough);
	expect(MARK_OK, "");
}
END_TEST

START_TEST(readahead_takes_root_and_a_setting_that_can_be_written)
{
	run(&check_readahead);
	expect(MARK_MISSING, "no such file");
	put("/sys/class/bdi/8:0/read_ahead_kb", "128\n");
	machine.probe = parse("{\"readahead_bytes\":4194304}");
	run(&check_readahead);
	expect(MARK_OK, "4096 KiB");
	machine.is_root = false;
	run(&check_readahead);
	expect(MARK_MISSING, "stays at 128 KiB");
}
END_TEST

START_TEST(a_sandbox_without_a_part_is_a_hint)
{
	machine.probe = parse("{\"landlock\":{\"ok\":false,\"reason\":\"it is not in the "
			      "kernel's lsm= list\"},\"seccomp\":{\"ok\":true}}");
	run(&check_sandbox);
	expect(MARK_HINT, "lsm=");
	expect_advice("add landlock");
	machine.probe = parse("{\"landlock\":{\"ok\":true},\"landlock_abi\":3,"
			      "\"seccomp\":{\"ok\":true}}");
	run(&check_sandbox);
	expect(MARK_OK, "version 3");
}
END_TEST

static TCase *fuse_case(void)
{
	TCase *tcase = tcase_create("fuse");

	tcase_add_checked_fixture(tcase, make_machine, remove_machine);
	tcase_add_test(tcase, a_machine_without_the_device_mounts_nothing);
	tcase_add_test(tcase, without_an_answer_of_the_daemons_program_nothing_mounts);
	tcase_add_test(tcase, root_that_may_not_mount_is_told_why);
	tcase_add_test(tcase, a_user_mounts_by_a_program_with_the_rights_for_it);
	tcase_add_test(tcase, allow_other_needs_its_line_and_no_comment);
	tcase_add_test(tcase, versions_of_linux_are_compared_as_numbers);
	tcase_add_test(tcase, each_reason_against_passthrough_has_its_remedy);
	tcase_add_test(tcase, readahead_takes_root_and_a_setting_that_can_be_written);
	tcase_add_test(tcase, a_sandbox_without_a_part_is_a_hint);
	return tcase;
}

#define MEMORY_64_GIB "MemTotal:       67108864 kB\nMemFree: 1 kB\n"

START_TEST(a_machine_without_a_group_has_no_limit)
{
	put("/proc/meminfo", MEMORY_64_GIB);
	run(&check_memory_limit);
	expect(MARK_OK, "none");
}
END_TEST

START_TEST(the_least_limit_of_a_group_and_those_above_counts)
{
	put("/proc/meminfo", MEMORY_64_GIB);
	machine.probe = parse("{\"resident_limit\":34359738368}");
	put("/proc/self/cgroup", "0::/user.slice/job\n");
	put("/sys/fs/cgroup/user.slice/job/memory.max", "max\n");
	run(&check_memory_limit);
	expect(MARK_OK, "none");
	put("/sys/fs/cgroup/user.slice/memory.max", "8589934592\n");
	run(&check_memory_limit);
	expect(MARK_HINT, "8.0 GiB");
	expect_advice("resident_limit=4096M");
	machine.probe = parse("{\"resident_limit\":4294967296}");
	run(&check_memory_limit);
	expect(MARK_OK, "8.0 GiB");
}
END_TEST

START_TEST(version_1_of_groups_is_read_too)
{
	put("/proc/meminfo", MEMORY_64_GIB);
	put("/proc/self/cgroup", "9:name=systemd:/\n4:memory:/job/a\n0::/\n");
	put("/sys/fs/cgroup/memory/job/a/memory.limit_in_bytes", "9223372036854771712\n");
	run(&check_memory_limit);
	expect(MARK_OK, "none");
	put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
	run(&check_memory_limit);
	expect(MARK_OK, "1.0 GiB");
}
END_TEST

START_TEST(lines_of_groups_that_are_none_do_no_harm)
{
	put("/proc/meminfo", MEMORY_64_GIB);
	put("/proc/self/cgroup",
	    "\n:\n::\nmemory\n0:memory\n0::\n4:memory:\n0::/../..\n");
	run(&check_memory_limit);
	expect(MARK_OK, "none");
}
END_TEST

START_TEST(memory_names_the_default_limit)
{
	put("/proc/meminfo", MEMORY_64_GIB);
	machine.probe = parse("{\"resident_limit\":34359738368,"
			      "\"huge_pages\":{\"ok\":true},"
			      "\"passthrough\":{\"ok\":true}}");
	run(&check_memory);
	expect(MARK_OK, "64.0 GiB, of which resident tensors take up to 32.0 GiB");
}
END_TEST

START_TEST(memory_is_not_promised_where_nothing_can_be_resident)
{
	put("/proc/meminfo", MEMORY_64_GIB);
	machine.probe = parse("{\"resident_limit\":34359738368,"
			      "\"huge_pages\":{\"ok\":true},"
			      "\"passthrough\":{\"ok\":false}}");
	run(&check_memory);
	expect(MARK_OK, "64.0 GiB; no tensor can be resident here");
}
END_TEST

START_TEST(pressure_may_be_absent)
{
	run(&check_pressure);
	expect(MARK_HINT, "no /proc/pressure/memory");
	put("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	run(&check_pressure);
	expect(MARK_OK, "/proc/pressure/memory");
}
END_TEST

START_TEST(nodes_are_counted_by_what_is_online)
{
	run(&check_numa);
	expect(MARK_OK, "one node");
	put("/sys/devices/system/node/online", "0\n");
	run(&check_numa);
	expect(MARK_OK, "one node");
	put("/sys/devices/system/node/online", "0-1\n");
	machine.probe = parse("{\"numa\":{\"ok\":true}}");
	run(&check_numa);
	expect(MARK_OK, "nodes 0-1");
}
END_TEST

START_TEST(nodes_on_which_nothing_can_be_placed_are_a_hint)
{
	put("/sys/devices/system/node/online", "0,2\n");
	machine.probe = parse("{\"numa\":{\"ok\":false,\"reason\":\"a seccomp filter "
			      "forbids it\"}}");
	run(&check_numa);
	expect(MARK_HINT, "a seccomp filter forbids it");
	expect_advice("let the container's seccomp profile allow it");
}
END_TEST

START_TEST(slow_cores_of_a_virtual_machine_are_a_hint)
{
	put("/sys/devices/system/cpu/cpuidle/current_driver", "haltpoll\n");
	put("/sys/module/haltpoll/parameters/guest_halt_poll_ns", "0\n");
	run(&check_idle_cores);
	expect(MARK_HINT, "haltpoll, polls for 0 ns");
	expect_advice("echo 100000 >/sys/module/haltpoll/parameters/guest_halt_poll_ns");
	put("/sys/module/haltpoll/parameters/guest_halt_poll_ns", "200000\n");
	run(&check_idle_cores);
	expect(MARK_OK, "200000");
	put("/sys/module/haltpoll/parameters/guest_halt_poll_ns", "0\n");
	put("/sys/devices/system/cpu/cpuidle/current_driver", "intel_idle\n");
	run(&check_idle_cores);
	expect(MARK_OK, "intel_idle");
}
END_TEST

START_TEST(huge_pages_tell_no_tmpfs_from_small_pages)
{
	machine.probe = parse("{\"tmpfs\":{\"ok\":true},\"huge_pages\":{\"ok\":false,"
			      "\"reason\":\"the kernel gave a small page\"}}");
	run(&check_huge_pages);
	expect(MARK_MISSING, "small page");
	ck_assert_ptr_nonnull(strstr(found.cost.data, "4 KiB"));
	machine.probe = parse("{\"tmpfs\":{\"ok\":false},\"huge_pages\":{\"ok\":false,"
			      "\"reason\":\"it takes root (CAP_SYS_ADMIN)\"}}");
	run(&check_huge_pages);
	expect(MARK_MISSING, "CAP_SYS_ADMIN");
	ck_assert_ptr_nonnull(strstr(found.cost.data, "streamed"));
}
END_TEST

START_TEST(io_uring_that_is_switched_off_has_its_setting_named)
{
	machine.probe = parse("{\"io_uring\":{\"ok\":false,\"reason\":\"the setting "
			      "kernel.io_uring_disabled forbids it\"}}");
	run(&check_io_uring);
	expect(MARK_MISSING, "io_uring_disabled");
	expect_advice("sysctl kernel.io_uring_disabled=0");
}
END_TEST

START_TEST(the_driver_is_found_in_the_linkers_cache)
{
	static const char cache[] = "glibc-ld.so.cache1.1\0libcuda.so.1\0"
				    "/usr/lib/x/libcuda.so.1\0libc.so.6\0/lib/libc.so.6";

	run(&check_cuda);
	expect(MARK_OK, "none");
	put("/proc/driver/nvidia/version", "NVRM version: 1\n");
	run(&check_cuda);
	expect(MARK_MISSING, "no libcuda.so.1");
	put_bytes("/etc/ld.so.cache", cache, sizeof(cache));
	run(&check_cuda);
	expect(MARK_OK, "/usr/lib/x/libcuda.so.1");
	ck_assert_str_eq(found.value.data, "/usr/lib/x/libcuda.so.1");
}
END_TEST

static TCase *memory_case(void)
{
	TCase *tcase = tcase_create("memory");

	tcase_add_checked_fixture(tcase, make_machine, remove_machine);
	tcase_add_test(tcase, a_machine_without_a_group_has_no_limit);
	tcase_add_test(tcase, the_least_limit_of_a_group_and_those_above_counts);
	tcase_add_test(tcase, version_1_of_groups_is_read_too);
	tcase_add_test(tcase, lines_of_groups_that_are_none_do_no_harm);
	tcase_add_test(tcase, memory_names_the_default_limit);
	tcase_add_test(tcase, memory_is_not_promised_where_nothing_can_be_resident);
	tcase_add_test(tcase, pressure_may_be_absent);
	tcase_add_test(tcase, nodes_are_counted_by_what_is_online);
	tcase_add_test(tcase, nodes_on_which_nothing_can_be_placed_are_a_hint);
	tcase_add_test(tcase, slow_cores_of_a_virtual_machine_are_a_hint);
	tcase_add_test(tcase, huge_pages_tell_no_tmpfs_from_small_pages);
	tcase_add_test(tcase, io_uring_that_is_switched_off_has_its_setting_named);
	tcase_add_test(tcase, the_driver_is_found_in_the_linkers_cache);
	return tcase;
}

START_TEST(a_changed_file_is_missing)
{
	machine.status = parse("{\"shards\":[{\"state\":\"ok\"},{\"state\":\"ok\"}]}");
	run(&check_mount_files);
	expect(MARK_OK, "as they were");
	machine.status =
		parse("{\"shards\":[{\"state\":\"ok\"},{\"state\":\"changed\"}]}");
	run(&check_mount_files);
	expect(MARK_MISSING, "1 of 2 changed");
}
END_TEST

START_TEST(the_reason_of_the_mount_is_passed_on_with_a_remedy)
{
	machine.status = parse("{\"passthrough\":{\"available\":false,\"reason\":"
			       "\"it takes root (CAP_SYS_ADMIN)\"}}");
	run(&check_mount_passthrough);
	expect(MARK_MISSING, "it takes root (CAP_SYS_ADMIN)");
	expect_advice("mount as root");
	machine.status = parse("{\"passthrough\":{\"available\":true}}");
	run(&check_mount_passthrough);
	expect(MARK_OK, "in use");
}
END_TEST

START_TEST(what_a_mount_does_without_by_choice_is_no_lack)
{
	machine.status = parse("{\"options\":{\"backing\":\"stream\"},"
			       "\"passthrough\":{\"available\":false,\"reason\":"
			       "\"the option backing=stream is set\"},"
			       "\"clone\":{\"available\":false,\"reason\":"
			       "\"there is no passthrough\"}}");
	run(&check_mount_passthrough);
	expect(MARK_OK, "backing=stream");
	run(&check_mount_clones);
	expect(MARK_OK, "there is no passthrough");
	machine.status = parse("{\"options\":{\"backing\":\"resident\"},"
			       "\"clone\":{\"available\":false,\"reason\":"
			       "\"the option backing=resident is set\"}}");
	run(&check_mount_clones);
	expect(MARK_OK, "backing=resident");
}
END_TEST

START_TEST(what_this_machine_could_do_for_another_model_is_a_hint)
{
	machine.probe = parse("{\"passthrough\":{\"ok\":true}}");
	machine.status = parse("{\"options\":{\"backing\":\"auto\"},"
			       "\"passthrough\":{\"available\":false,\"reason\":"
			       "\"no tensor is as large as 80 KiB\"}}");
	run(&check_mount_passthrough);
	expect(MARK_HINT, "80 KiB");
	machine.probe = parse("{\"passthrough\":{\"ok\":false}}");
	run(&check_mount_passthrough);
	expect(MARK_MISSING, "80 KiB");
}
END_TEST

START_TEST(clones_are_available_or_say_why_not)
{
	machine.status = parse("{}");
	run(&check_mount_clones);
	expect(MARK_OK, "makes none");
	machine.status = parse("{\"clone\":{\"available\":true}}");
	run(&check_mount_clones);
	expect(MARK_OK, "share");
	machine.status = parse("{\"clone\":{\"available\":false,\"reason\":\"no XFS\"}}");
	run(&check_mount_clones);
	expect(MARK_HINT, "no XFS");
}
END_TEST

#define RESIDENT(members)                                                               \
	"{\"resident\":{\"limit\":4096,\"effective_limit\":4096,\"used\":2048," members \
	"}}"

START_TEST(want_of_room_is_a_hint_at_the_limit_and_an_evict_is_none)
{
	machine.status = parse("{\"resident\":{\"limit\":0,\"used\":0,\"evicted\":0}}");
	run(&check_mount_memory);
	expect(MARK_OK, "nothing is resident");
	machine.status = parse(RESIDENT("\"files\":1,\"evicted\":7"));
	run(&check_mount_memory);
	expect(MARK_OK, "2.0 KiB of 4.0 KiB in use, 1 file; since the mount 0 evicted");
	machine.status = parse(RESIDENT("\"files\":1,\"evicted_for_room\":3"));
	run(&check_mount_memory);
	expect(MARK_HINT, "3 evicted for want of room, 0 refused for it");
	expect_advice("resident_limit=");
	machine.status = parse(RESIDENT("\"files\":1,\"no_room\":10"));
	run(&check_mount_memory);
	expect(MARK_HINT, "0 evicted for want of room, 10 refused for it");
	expect_advice("resident_limit=");
}
END_TEST

START_TEST(a_bound_on_open_files_is_not_taken_for_one_on_memory)
{
	machine.status =
		parse(RESIDENT("\"files\":100,\"most_files\":100,\"no_room\":5"));
	run(&check_mount_memory);
	expect(MARK_HINT, "100 files");
	expect_advice("ulimit -Hn");
	machine.status = parse(RESIDENT("\"files\":99,\"most_files\":100"));
	run(&check_mount_memory);
	expect(MARK_OK, "99 files");
}
END_TEST

START_TEST(memory_that_is_or_was_short_is_a_hint)
{
	machine.status = parse("{\"resident\":{\"limit\":4096,\"effective_limit\":1024,"
			       "\"pressure_events\":1,\"evicted_for_room\":5}}");
	run(&check_mount_memory);
	expect(MARK_HINT, "memory short 1 time");
	expect_advice("end what takes the memory");
	machine.status = parse(RESIDENT("\"pressure_events\":2"));
	run(&check_mount_memory);
	expect(MARK_HINT, "memory short 2 times");
}
END_TEST

START_TEST(the_backing_counts_tensors_by_name)
{
	machine.status =
		parse("{\"options\":{\"backing\":\"auto\"},\"backings\":"
		      "{\"stream\":{\"tensors\":3},\"resident\":{\"tensors\":1}}}");
	run(&check_mount_backing);
	ck_assert_str_eq(found.value.data, "auto: stream 3 tensors, resident 1 tensor");
}
END_TEST

START_TEST(what_the_sandbox_of_a_mount_lacks_is_named)
{
	machine.status = parse("{\"sandbox\":{\"landlock\":false,\"seccomp\":true}}");
	run(&check_mount_sandbox);
	expect(MARK_HINT, "no landlock, seccomp");
}
END_TEST

START_TEST(readahead_of_a_mount_says_whether_it_was_raised)
{
	machine.status =
		parse("{\"readahead\":{\"bytes\":131072,\"source\":\"default\"}}");
	run(&check_mount_readahead);
	expect(MARK_MISSING, "128.0 KiB");
	machine.status = parse("{\"readahead\":{\"bytes\":4194304,\"source\":\"bdi\"}}");
	run(&check_mount_readahead);
	expect(MARK_OK, "4.0 MiB");
}
END_TEST

static TCase *mount_case(void)
{
	TCase *tcase = tcase_create("mount");

	tcase_add_checked_fixture(tcase, make_machine, remove_machine);
	tcase_add_test(tcase, a_changed_file_is_missing);
	tcase_add_test(tcase, the_reason_of_the_mount_is_passed_on_with_a_remedy);
	tcase_add_test(tcase, what_a_mount_does_without_by_choice_is_no_lack);
	tcase_add_test(tcase, what_this_machine_could_do_for_another_model_is_a_hint);
	tcase_add_test(tcase, clones_are_available_or_say_why_not);
	tcase_add_test(tcase, want_of_room_is_a_hint_at_the_limit_and_an_evict_is_none);
	tcase_add_test(tcase, a_bound_on_open_files_is_not_taken_for_one_on_memory);
	tcase_add_test(tcase, memory_that_is_or_was_short_is_a_hint);
	tcase_add_test(tcase, the_backing_counts_tensors_by_name);
	tcase_add_test(tcase, what_the_sandbox_of_a_mount_lacks_is_named);
	tcase_add_test(tcase, readahead_of_a_mount_says_whether_it_was_raised);
	return tcase;
}

UNIT_MAIN("doctor", fuse_case, memory_case, mount_case)
