/* NUMA nodes, and which of them disks and GPUs are at, by files like those of sysfs. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "numa_topology.h"
#include "sysfs_files.h"
#include "unit.h"

/* ---- Lists ---- */

static void add(unsigned int number, void *context)
{
	uint64_t *bits = context;

	*bits |= NUMA_NODE(number);
}

static bool read_list(const char *text, uint64_t *bits)
{
	*bits = 0;
	return numa_read_list(text, NUMA_MOST_NODES, add, bits);
}

START_TEST(lists_are_numbers_and_ranges)
{
	uint64_t bits;

	ck_assert(read_list("0", &bits) && bits == 1);
	ck_assert(read_list("0-3,8", &bits) && bits == 0x10f);
	ck_assert(read_list("", &bits) && bits == 0);
	ck_assert(read_list("2,4-4", &bits) && bits == 0x14);
}
END_TEST

START_TEST(numbers_beyond_the_most_are_left_out)
{
	uint64_t bits;

	ck_assert(read_list("1,60,58-4294967295", &bits));
	ck_assert_uint_eq(bits, NUMA_NODE(1) | NUMA_NODE(58) | NUMA_NODE(59));
}
END_TEST

START_TEST(what_is_no_list_is_refused)
{
	static const char *const texts[] = {
		"x", "1-", "3-1", "1 2", ",1", "-1", "99999999999999999999", "1,x"
	};
	uint64_t bits;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		ck_assert_msg(!read_list(texts[i], &bits), "%s", texts[i]);
}
END_TEST

/* ---- Nodes ---- */

START_TEST(nodes_are_those_with_memory)
{
	sysfs_files_nodes("0,2\n", 3);
	ck_assert_uint_eq(numa_nodes_with_memory(sysfs_files_root()), 5);
}
END_TEST

START_TEST(without_a_word_about_memory_nodes_are_those_online)
{
	model_dir_write_text("sys/devices/system/node/online", "0-1\n");
	ck_assert_uint_eq(numa_nodes_with_memory(sysfs_files_root()), 3);
}
END_TEST

START_TEST(a_kernel_without_numa_has_no_nodes)
{
	ck_assert_uint_eq(numa_nodes_with_memory(sysfs_files_root()), 0);
}
END_TEST

START_TEST(a_node_has_its_processors)
{
	cpu_set_t cpus;

	model_dir_write_text("sys/devices/system/node/node1/cpulist", "4-6,1023,1024\n");
	numa_node_cpus(sysfs_files_root(), 1, &cpus);
	ck_assert_int_eq(CPU_COUNT(&cpus), 4);
	ck_assert(CPU_ISSET(4, &cpus) && CPU_ISSET(6, &cpus) && CPU_ISSET(1023, &cpus));
	numa_node_cpus(sysfs_files_root(), 2, &cpus);
	ck_assert_int_eq(CPU_COUNT(&cpus), 0);
}
END_TEST

/* ---- Disks ---- */

/* A device whose directory is `dir`, below sys/devices/. */
static void add_device(unsigned int id, const char *dir)
{
	char target[256];
	char name[64];

	(void)snprintf(name, sizeof(name), "sys/dev/block/7:%u", id);
	(void)snprintf(target, sizeof(target), "../../devices/%s", dir);
	model_dir_link(name, target);
}

static int node_of(unsigned int id, const char *expected)
{
	char name[NUMA_DEVICE_MAX] = "";
	int node = numa_node_of_disk(sysfs_files_root(), makedev(7, id), name);

	if (expected)
		ck_assert_str_eq(name, expected);
	return node;
}

START_TEST(a_partition_is_where_its_controller_is)
{
	model_dir_write_text("sys/devices/pci0/0000:01:00.0/numa_node", "1\n");
	model_dir_write_text("sys/devices/pci0/0000:01:00.0/nvme0/n1/p2/partition",
			     "2\n");
	add_device(1, "pci0/0000:01:00.0/nvme0/n1/p2");
	ck_assert_int_eq(node_of(1, "p2"), 1);
}
END_TEST

START_TEST(a_disk_at_no_node_has_none)
{
	model_dir_write_text("sys/devices/pci0/numa_node", "-1\n");
	model_dir_write_text("sys/devices/pci0/sda/size", "8\n");
	add_device(1, "pci0/sda");
	ck_assert_int_eq(node_of(1, NULL), -ENODEV);
	ck_assert_int_eq(node_of(2, NULL), -ENODEV);
}
END_TEST

START_TEST(a_mapped_device_is_where_what_it_is_made_of_is)
{
	model_dir_write_text("sys/devices/pci0/numa_node", "-1\n");
	model_dir_write_text("sys/devices/pci0/sda/size", "8\n");
	model_dir_write_text("sys/devices/pci1/numa_node", "3\n");
	model_dir_write_text("sys/devices/pci1/sdb/size", "8\n");
	model_dir_write_text("sys/devices/virtual/md0/size", "8\n");
	model_dir_link("sys/devices/virtual/md0/slaves/sda", "../../../pci0/sda");
	model_dir_link("sys/devices/virtual/md0/slaves/sdb", "../../../pci1/sdb");
	model_dir_link("sys/devices/virtual/dm-0/slaves/md0", "../../md0");
	add_device(1, "virtual/dm-0");
	ck_assert_int_eq(node_of(1, "sdb"), 3);
}
END_TEST

START_TEST(a_loop_device_is_where_its_file_is)
{
	char name[64];
	struct stat st;

	model_dir_write_text("image", "x");
	ck_assert_int_eq(stat(model_dir_path("image"), &st), 0);
	model_dir_write_text("sys/devices/pci1/numa_node", "2\n");
	model_dir_write_text("sys/devices/pci1/sdb/size", "8\n");
	(void)snprintf(name, sizeof(name), "sys/dev/block/%u:%u", major(st.st_dev),
		       minor(st.st_dev));
	model_dir_link(name, "../../devices/pci1/sdb");
	model_dir_write_text("sys/devices/virtual/loop0/loop/backing_file",
			     model_dir_path("image"));
	add_device(200, "virtual/loop0");
	ck_assert_int_eq(node_of(200, "sdb"), 2);
}
END_TEST

START_TEST(devices_made_of_each_other_end_somewhere)
{
	model_dir_write_text("sys/devices/virtual/dm-0/size", "8\n");
	model_dir_link("sys/devices/virtual/dm-0/slaves/dm-1", "../../dm-1");
	model_dir_link("sys/devices/virtual/dm-1/slaves/dm-0", "../../dm-0");
	add_device(1, "virtual/dm-0");
	ck_assert_int_eq(node_of(1, NULL), -ENODEV);
}
END_TEST

START_TEST(a_node_that_cannot_be_is_none)
{
	model_dir_write_text("sys/devices/pci0/numa_node", "60\n");
	model_dir_write_text("sys/devices/pci0/sda/size", "8\n");
	add_device(1, "pci0/sda");
	ck_assert_int_eq(node_of(1, NULL), -ENODEV);
	model_dir_write_text("sys/devices/pci0/numa_node", "many\n");
	ck_assert_int_eq(node_of(1, NULL), -ENODEV);
}
END_TEST

/* ---- GPUs ---- */

START_TEST(gpus_are_numbered_by_their_address)
{
	unsigned int count;

	sysfs_files_gpu("0000:81:00.0", "0x10de\n", 1);
	sysfs_files_gpu("0000:01:00.0", "0x8086\n", 5);
	sysfs_files_gpu("0000:02:00.0", "0x10de\n", 0);
	sysfs_files_gpu("0000:91:00.0", "0x10de\n", -1);
	ck_assert_int_eq(numa_node_of_gpu(sysfs_files_root(), 0, &count), 0);
	ck_assert_uint_eq(count, 3);
	ck_assert_int_eq(numa_node_of_gpu(sysfs_files_root(), 1, &count), 1);
	ck_assert_int_eq(numa_node_of_gpu(sysfs_files_root(), 2, &count), -ENODEV);
	ck_assert_int_eq(numa_node_of_gpu(sysfs_files_root(), 3, &count), -ENODEV);
	ck_assert_uint_eq(count, 3);
}
END_TEST

START_TEST(a_machine_without_a_bus_has_no_gpus)
{
	unsigned int count;

	ck_assert_int_eq(numa_node_of_gpu(sysfs_files_root(), 0, &count), -ENODEV);
	ck_assert_uint_eq(count, 0);
}
END_TEST

static TCase *lists_case(void)
{
	TCase *tcase = tcase_create("lists");

	tcase_add_test(tcase, lists_are_numbers_and_ranges);
	tcase_add_test(tcase, numbers_beyond_the_most_are_left_out);
	tcase_add_test(tcase, what_is_no_list_is_refused);
	return tcase;
}

static TCase *nodes_case(void)
{
	TCase *tcase = tcase_create("nodes");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, nodes_are_those_with_memory);
	tcase_add_test(tcase, without_a_word_about_memory_nodes_are_those_online);
	tcase_add_test(tcase, a_kernel_without_numa_has_no_nodes);
	tcase_add_test(tcase, a_node_has_its_processors);
	return tcase;
}

static TCase *devices_case(void)
{
	TCase *tcase = tcase_create("devices");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, a_partition_is_where_its_controller_is);
	tcase_add_test(tcase, a_disk_at_no_node_has_none);
	tcase_add_test(tcase, a_mapped_device_is_where_what_it_is_made_of_is);
	tcase_add_test(tcase, a_loop_device_is_where_its_file_is);
	tcase_add_test(tcase, devices_made_of_each_other_end_somewhere);
	tcase_add_test(tcase, a_node_that_cannot_be_is_none);
	tcase_add_test(tcase, gpus_are_numbered_by_their_address);
	tcase_add_test(tcase, a_machine_without_a_bus_has_no_gpus);
	return tcase;
}

UNIT_MAIN("numa_topology", lists_case, nodes_case, devices_case)
