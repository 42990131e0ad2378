/* What the option numa= means on machines with one node and with several, by files like
 * those of sysfs. Where memory really comes to lie is seen by tests/numa. */
#include <errno.h>
#include <numaif.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "layout.h"
#include "placement.h"
#include "placement_rules.h"
#include "sysfs_files.h"
#include "unit.h"

#define MIB ((uint64_t)1 << 20)

static const struct node some_tensor = { .kind = NODE_TENSOR };

static int make(const char *option, struct placement **placement, struct diag *diag)
{
	struct placement_setup setup = {
		.subject = "/mnt",
		.sysfs = sysfs_files_root(),
		.allowed = UINT64_MAX,
		.source = makedev(7, 1),
	};

	ck_assert(placement_parse(option, &setup.choice));
	return placement_new(&setup, placement, diag);
}

static struct placement *expect(const char *option)
{
	struct placement *placement = NULL;
	struct diag diag;

	ck_assert_int_eq(make(option, &placement, &diag), 0);
	return placement;
}

static void expect_refused(const char *option, const char *words)
{
	struct placement *placement = NULL;
	struct diag diag;

	ck_assert_int_eq(make(option, &placement, &diag), -EINVAL);
	ck_assert_str_eq(diag.text, words);
}

/* The nodes that a choice comes to, on a machine with nodes 0 and 1. */
static struct placement_summary summarise(const char *option)
{
	struct placement *placement = expect(option);
	struct placement_summary summary;

	placement_summarise(placement, &summary);
	placement_free(placement);
	return summary;
}

/* ---- Text ---- */

START_TEST(choices_are_written_as_they_are_read)
{
	static const char *const texts[] = { "local", "auto", "interleave", "mirror", "0",
					     "0,1",   "3,59", "gpu:0",      "gpu:12" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		CLEANUP(strbuf_fini) struct strbuf out = { 0 };
		struct placement_choice choice;

		ck_assert_msg(placement_parse(texts[i], &choice), "%s", texts[i]);
		placement_write_choice(&choice, &out);
		ck_assert_str_eq(out.data, texts[i]);
	}
}
END_TEST

START_TEST(what_is_no_choice_is_refused)
{
	static const char *const texts[] = { "",        "Local", "60",    "0,",
					     ",0",      "0,,1",  "-1",    "0-1",
					     "gpu",     "gpu:",  "gpu:x", "gpu:-1",
					     "gpu:0,1", "99999", "0 1" };
	struct placement_choice choice;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		ck_assert_msg(!placement_parse(texts[i], &choice), "%s", texts[i]);
}
END_TEST

/* ---- Machines with several nodes ---- */

START_TEST(nodes_are_those_that_were_named)
{
	sysfs_files_nodes("0-2\n", 3);
	ck_assert_uint_eq(summarise("2,0").policy.nodes, 5);
	ck_assert(!summarise("2,0").policy.interleave);
	ck_assert_ptr_null(summarise("1").no_effect);
}
END_TEST

START_TEST(a_node_that_is_not_there_is_refused_with_those_that_are)
{
	sysfs_files_nodes("0-1\n", 2);
	expect_refused("2", "option numa: no memory on node 2: there are 0,1");
	expect_refused("1,5,7", "option numa: no memory on node 5,7: there are 0,1");
}
END_TEST

START_TEST(to_interleave_takes_all_nodes)
{
	sysfs_files_nodes("0,3\n", 4);
	ck_assert_uint_eq(summarise("interleave").policy.nodes, 9);
	ck_assert(summarise("interleave").policy.interleave);
}
END_TEST

START_TEST(local_and_mirror_leave_memory_to_the_threads)
{
	sysfs_files_nodes("0-1\n", 2);
	ck_assert_uint_eq(summarise("local").policy.nodes, 0);
	ck_assert_uint_eq(summarise("mirror").policy.nodes, 0);
}
END_TEST

START_TEST(auto_is_the_node_of_the_disk)
{
	struct placement *placement;
	struct placement_summary summary;

	sysfs_files_nodes("0-1\n", 2);
	ck_assert_uint_eq(summarise("auto").policy.nodes, 0);
	model_dir_write_text("sys/devices/pci1/numa_node", "1\n");
	model_dir_write_text("sys/devices/pci1/sdb/size", "8\n");
	model_dir_link("sys/dev/block/7:1", "../../devices/pci1/sdb");
	placement = expect("auto");
	placement_summarise(placement, &summary);
	ck_assert_uint_eq(summary.policy.nodes, 2);
	ck_assert_str_eq(summary.origin, "sdb");
	placement_free(placement);
}
END_TEST

START_TEST(auto_leaves_memory_to_the_threads_where_the_disk_is_at_a_node_without)
{
	sysfs_files_nodes("0-1\n", 2);
	model_dir_write_text("sys/devices/pci1/numa_node", "2\n");
	model_dir_write_text("sys/devices/pci1/sdb/size", "8\n");
	model_dir_link("sys/dev/block/7:1", "../../devices/pci1/sdb");
	ck_assert_uint_eq(summarise("auto").policy.nodes, 0);
}
END_TEST

START_TEST(a_gpu_is_found_or_refused)
{
	sysfs_files_nodes("0-1\n", 2);
	expect_refused("gpu:0", "option numa: gpu:0: no such NVIDIA GPU: there are none");
	sysfs_files_gpu("0000:81:00.0", "0x10de\n", 1);
	ck_assert_uint_eq(summarise("gpu:0").policy.nodes, 2);
	sysfs_files_gpu("0000:91:00.0", "0x10de\n", -1);
	expect_refused("gpu:1", "option numa: gpu:1: it is at no node with memory");
	expect_refused("gpu:2", "option numa: gpu:2: no such NVIDIA GPU: there are 2");
}
END_TEST

START_TEST(nodes_that_a_cpuset_forbids_are_not_there)
{
	struct placement_setup setup = {
		.subject = "/mnt",
		.allowed = 6,
		.choice = { .mode = PLACEMENT_NODES, .nodes = 1 },
	};
	struct placement *placement;
	struct diag diag;

	sysfs_files_nodes("0-2\n", 3);
	setup.sysfs = sysfs_files_root();
	ck_assert_int_eq(placement_new(&setup, &placement, &diag), -EINVAL);
	ck_assert_str_eq(diag.text, "option numa: no memory on node 0: there are 1,2");
}
END_TEST

/* ---- Machines with one ---- */

START_TEST(a_machine_with_one_node_takes_every_choice)
{
	static const char *const texts[] = { "local", "auto", "interleave", "mirror",
					     "0",     "0,1",  "59",         "gpu:3" };

	sysfs_files_nodes("0\n", 1);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct placement_summary summary = summarise(texts[i]);

		ck_assert_str_eq(summary.no_effect, "this machine has one NUMA node");
		ck_assert_uint_eq(summary.policy.nodes, 0);
		ck_assert_uint_eq(summary.nodes, 1);
	}
}
END_TEST

START_TEST(a_kernel_that_refuses_takes_every_choice)
{
	static const struct {
		int error;
		const char *words;
	} cases[] = {
		{ -ENOSYS, "this kernel has no NUMA" },
		{ -EPERM, "this process may not place its memory" },
	};

	sysfs_files_nodes("0-1\n", 2);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct placement_setup setup = {
			.subject = "/mnt",
			.sysfs = sysfs_files_root(),
			.unavailable = cases[i].error,
			.choice = { .mode = PLACEMENT_NODES, .nodes = 2 },
		};
		struct placement_summary summary;
		struct placement *placement;
		struct diag diag;

		ck_assert_int_eq(placement_new(&setup, &placement, &diag), 0);
		placement_summarise(placement, &summary);
		ck_assert_str_eq(summary.no_effect, cases[i].words);
		ck_assert_uint_eq(summary.nodes, 1);
		placement_free(placement);
	}
}
END_TEST

START_TEST(a_file_is_not_touched_where_there_is_one_node)
{
	struct placement *placement;
	struct placement_summary summary;

	sysfs_files_nodes("0\n", 1);
	placement = expect("0");
	/* No file at all: to touch it would fail. */
	ck_assert_uint_eq(placement_bind_file(placement, -1, MIB, some_tensor), 0);
	ck_assert_uint_eq(placement_bind_file(NULL, -1, MIB, some_tensor), 0);
	placement_summarise(placement, &summary);
	ck_assert_uint_eq(summary.failed, 0);
	ck_assert_uint_eq(summary.bound, 0);
	placement_free(placement);
}
END_TEST

/* ---- Files ---- */

/* The policy that the kernel has for the first page of a file. */
static int mode_of(int fd)
{
	void *map = mmap(NULL, MIB, PROT_READ, MAP_SHARED, fd, 0);
	int mode = -1;

	ck_assert_ptr_ne(map, MAP_FAILED);
	ck_assert_int_eq(get_mempolicy(&mode, NULL, 0, map, MPOL_F_ADDR), 0);
	(void)munmap(map, MIB);
	return mode;
}

static int make_file(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)MIB), 0);
	return fd;
}

/* The kernel under the test may have no NUMA, or not let it place memory. */
static bool can_place(void)
{
	int unavailable;

	(void)placement_allowed(&unavailable);
	if (unavailable < 0)
		(void)fprintf(stderr, "test_placement: not tested: no NUMA here\n");
	return unavailable == 0;
}

START_TEST(a_file_is_bound_while_it_is_filled_and_preferred_afterwards)
{
	CLEANUP(close_fd) int fd = make_file();
	struct placement *placement;
	uint64_t claim;

	if (!can_place())
		return;
	sysfs_files_nodes("0-1\n", 2);
	placement = expect("0");
	claim = placement_bind_file(placement, fd, MIB, some_tensor);
	ck_assert_uint_eq(claim, MIB);
	ck_assert_int_eq(mode_of(fd), MPOL_BIND);
	placement_settle_file(placement, fd, MIB, some_tensor, claim);
	ck_assert_int_ne(mode_of(fd), MPOL_BIND);
	placement_free(placement);
}
END_TEST

START_TEST(a_file_for_which_a_node_has_no_room_is_not_bound)
{
	CLEANUP(close_fd) int fd = make_file();
	struct placement *placement;
	struct placement_summary summary;

	if (!can_place())
		return;
	sysfs_files_nodes("0-1\n", 2);
	/* 409 MiB are left alone. */
	sysfs_files_memory(0, 8192, 300, 109);
	placement = expect("0");
	ck_assert_uint_eq(placement_bind_file(placement, fd, MIB, some_tensor), 0);
	ck_assert_int_ne(mode_of(fd), MPOL_BIND);
	placement_summarise(placement, &summary);
	ck_assert_uint_eq(summary.no_room, 1);
	ck_assert_uint_eq(summary.failed, 0);
	placement_free(placement);
}
END_TEST

START_TEST(files_that_are_filled_at_a_time_do_not_take_the_same_room)
{
	CLEANUP(close_fd) int one = make_file();
	CLEANUP(close_fd) int other = make_file();
	struct placement *placement;
	uint64_t claim;

	if (!can_place())
		return;
	sysfs_files_nodes("0-1\n", 2);
	sysfs_files_memory(0, 8192, 411, 0); /* one MiB above what is left alone */
	placement = expect("0");
	claim = placement_bind_file(placement, one, MIB, some_tensor);
	ck_assert_uint_eq(claim, MIB);
	ck_assert_uint_eq(placement_bind_file(placement, other, MIB, some_tensor), 0);
	placement_settle_file(placement, one, MIB, some_tensor, claim);
	ck_assert_uint_eq(placement_bind_file(placement, other, MIB, some_tensor), MIB);
	placement_free(placement);
}
END_TEST

START_TEST(files_of_a_mirror_are_bound_to_the_node_of_their_tree)
{
	static const struct node copy = { .kind = NODE_TENSOR, .copy = 3 };
	CLEANUP(close_fd) int fd = make_file();
	struct placement *placement;
	uint64_t claim;

	if (!can_place())
		return;
	sysfs_files_nodes("0,2\n", 3);
	placement = expect("mirror");
	claim = placement_bind_file(placement, fd, MIB, some_tensor);
	ck_assert_uint_eq(claim, MIB);
	ck_assert_int_eq(mode_of(fd), MPOL_BIND);
	placement_settle_file(placement, fd, MIB, some_tensor, claim);
	/* Which this machine may not have: then the kernel refuses it. */
	sysfs_files_memory(2, 8192, 1, 1);
	ck_assert_uint_eq(placement_bind_file(placement, fd, MIB, copy), 0);
	placement_free(placement);
}
END_TEST

START_TEST(a_file_that_cannot_be_bound_is_noted)
{
	struct placement *placement;
	struct placement_summary summary;

	sysfs_files_nodes("0-1\n", 2);
	placement = expect("0");
	ck_assert_uint_eq(placement_bind_file(placement, -1, MIB, some_tensor), 0);
	placement_summarise(placement, &summary);
	ck_assert_uint_eq(summary.failed, 1);
	ck_assert_int_eq(summary.error, -EBADF);
	placement_free(placement);
}
END_TEST

START_TEST(the_memory_of_a_node_is_what_it_says)
{
	struct placement_memory memory;
	struct placement *placement;

	sysfs_files_nodes("0-1\n", 2);
	sysfs_files_memory(1, 100, 30, 20);
	placement = expect("0");
	ck_assert_int_eq(placement_memory(placement, 1, &memory), 0);
	ck_assert_uint_eq(memory.total, 100 * MIB);
	ck_assert_uint_eq(memory.free, 30 * MIB);
	ck_assert_uint_eq(memory.file_cache, 20 * MIB);
	ck_assert_int_eq(placement_memory(placement, 2, &memory), -ENODEV);
	ck_assert_int_eq(placement_memory(placement, 99, &memory), -ENODEV);
	placement_free(placement);
}
END_TEST

/* ---- Threads ---- */

static const char model_json[] =
	"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
	"\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}";

/* How the kernel allocates for the calling thread. */
static int thread_mode(void)
{
	int mode = -1;

	ck_assert_int_eq(get_mempolicy(&mode, NULL, 0, NULL, 0), 0);
	return mode;
}

/* As a thread that the deviating one has started. */
static void *enter_none(void *placement)
{
	placement_enter_tensor(placement, PLACEMENT_NO_TENSOR);
	return thread_mode() == MPOL_INTERLEAVE ? discard_const("inherited") : NULL;
}

START_TEST(threads_allocate_by_the_rule_of_the_tensor_they_read)
{
	const struct placement_policy spread = { 1, true };
	struct placement_setup setup = {
		.subject = "/mnt",
		.allowed = UINT64_MAX,
		.choice = { .mode = PLACEMENT_NODES, .nodes = 1 },
	};
	struct placement *placement;
	struct served *served;
	struct diag diag;
	pthread_t thread;
	void *blame;

	if (!can_place())
		return;
	sysfs_files_nodes("0-1\n", 2);
	model_dir_write_safetensors("m.safetensors", model_json, 2);
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &served, &diag), 0);
	setup.sysfs = sysfs_files_root();
	setup.model = served->model;
	ck_assert_int_eq(placement_new(&setup, &placement, &diag), 0);
	ck_assert_int_eq(thread_mode(), MPOL_DEFAULT);
	placement_enter_thread(placement);
	ck_assert(thread_mode() == MPOL_PREFERRED_MANY ||
		  thread_mode() == MPOL_PREFERRED);
	placement_enter_tensor(placement, 1);
	ck_assert_int_ne(thread_mode(), MPOL_INTERLEAVE);

	ck_assert_int_eq(placement_rules_add(placement_rules_of(placement), "b", spread),
			 0);
	placement_enter_tensor(placement, 0);
	ck_assert_int_ne(thread_mode(), MPOL_INTERLEAVE);
	placement_enter_node(placement, layout_tensor(VIEW_NPY, 1));
	ck_assert_int_eq(thread_mode(), MPOL_INTERLEAVE);
	ck_assert_int_eq(pthread_create(&thread, NULL, enter_none, placement), 0);
	ck_assert_int_eq(pthread_join(thread, &blame), 0);
	ck_assert_ptr_null(blame);
	placement_enter_node(placement, (struct node){ .kind = NODE_FILE, .index = 1 });
	ck_assert_int_ne(thread_mode(), MPOL_INTERLEAVE);
	placement_free(placement);
	served_free(served);
}
END_TEST

START_TEST(what_the_process_was_started_with_stands_where_the_option_says_nothing)
{
	const unsigned long first = 1;
	const struct placement_policy local = { 0, false };
	struct placement_setup setup = { .subject = "/mnt", .allowed = UINT64_MAX };
	struct placement *placement;
	struct served *served;
	struct diag diag;

	if (!can_place())
		return;
	sysfs_files_nodes("0-1\n", 2);
	model_dir_write_safetensors("m.safetensors", model_json, 2);
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &served, &diag), 0);
	setup.sysfs = sysfs_files_root();
	setup.model = served->model;
	ck_assert_int_eq(set_mempolicy(MPOL_INTERLEAVE, &first, 65), 0);
	ck_assert_int_eq(placement_new(&setup, &placement, &diag), 0);
	placement_enter_thread(placement);
	ck_assert_int_eq(thread_mode(), MPOL_INTERLEAVE);

	ck_assert_int_eq(placement_rules_add(placement_rules_of(placement), "b", local),
			 0);
	placement_enter_tensor(placement, 1);
	ck_assert_int_eq(thread_mode(), MPOL_DEFAULT);
	placement_enter_tensor(placement, 0);
	ck_assert_int_eq(thread_mode(), MPOL_INTERLEAVE);
	placement_free(placement);
	served_free(served);
}
END_TEST

static TCase *text_case(void)
{
	TCase *tcase = tcase_create("text");

	tcase_add_test(tcase, choices_are_written_as_they_are_read);
	tcase_add_test(tcase, what_is_no_choice_is_refused);
	return tcase;
}

static TCase *choices_case(void)
{
	TCase *tcase = tcase_create("choices");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, nodes_are_those_that_were_named);
	tcase_add_test(tcase, a_node_that_is_not_there_is_refused_with_those_that_are);
	tcase_add_test(tcase, to_interleave_takes_all_nodes);
	tcase_add_test(tcase, local_and_mirror_leave_memory_to_the_threads);
	tcase_add_test(tcase, auto_is_the_node_of_the_disk);
	tcase_add_test(
		tcase,
		auto_leaves_memory_to_the_threads_where_the_disk_is_at_a_node_without);
	tcase_add_test(tcase, a_gpu_is_found_or_refused);
	tcase_add_test(tcase, nodes_that_a_cpuset_forbids_are_not_there);
	tcase_add_test(tcase, a_machine_with_one_node_takes_every_choice);
	tcase_add_test(tcase, a_kernel_that_refuses_takes_every_choice);
	return tcase;
}

static TCase *files_case(void)
{
	TCase *tcase = tcase_create("files");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, a_file_is_not_touched_where_there_is_one_node);
	tcase_add_test(tcase,
		       a_file_is_bound_while_it_is_filled_and_preferred_afterwards);
	tcase_add_test(tcase, a_file_for_which_a_node_has_no_room_is_not_bound);
	tcase_add_test(tcase, files_that_are_filled_at_a_time_do_not_take_the_same_room);
	tcase_add_test(tcase, files_of_a_mirror_are_bound_to_the_node_of_their_tree);
	tcase_add_test(tcase, a_file_that_cannot_be_bound_is_noted);
	tcase_add_test(tcase, the_memory_of_a_node_is_what_it_says);
	return tcase;
}

static TCase *threads_case(void)
{
	TCase *tcase = tcase_create("threads");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, threads_allocate_by_the_rule_of_the_tensor_they_read);
	tcase_add_test(
		tcase,
		what_the_process_was_started_with_stands_where_the_option_says_nothing);
	return tcase;
}

UNIT_MAIN("placement", text_case, choices_case, files_case, threads_case)
