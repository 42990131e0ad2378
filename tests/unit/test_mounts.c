#include <stdio.h>
#include <sys/stat.h>

#include "mountctl/mounts.h"
#include "unit.h"

#define ROOT_LINE "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"

static struct mounts parsed(const char *text)
{
	CLEANUP(free_ptr) char *copy = strdup(text);
	struct mounts mounts = { 0 };

	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(mounts_parse(copy, &mounts), 0);
	return mounts;
}

/* A weightfs mount at /m/a over one at /m, and an ordinary one over /m/b. */
static struct mounts nested(void)
{
	return parsed(
		ROOT_LINE
		"40 22 0:50 / /m ro - fuse.weightfs /models/m ro,user_id=1000,group_id=7\n"
		"41 40 0:51 / /m/a ro - fuse.weightfs /models/a ro,user_id=0\n"
		"42 22 0:52 / /b ro - fuse.weightfs /models/b ro\n"
		"43 42 0:53 / /b rw - tmpfs none rw\n");
}

/* ---- Lines ---- */

START_TEST(fields_are_taken_from_both_sides_of_the_separator)
{
	CLEANUP(mounts_fini) struct mounts mounts = nested();

	ck_assert_uint_eq(mounts.count, 5);
	ck_assert_str_eq(mounts.list[0].mountpoint, "/");
	ck_assert_str_eq(mounts.list[0].fs_type, "ext4");
	ck_assert_str_eq(mounts.list[1].source, "/models/m");
	ck_assert_uint_eq(mounts.list[1].user_id, 1000);
	ck_assert_uint_eq(mounts.list[1].dev_minor, 50);
	ck_assert(!mount_is_weightfs(&mounts.list[0]));
	ck_assert(mount_is_weightfs(&mounts.list[1]));
}
END_TEST

START_TEST(optional_fields_may_be_none_or_many)
{
	CLEANUP(mounts_fini)
	struct mounts mounts =
		parsed("1 0 0:1 / /a rw - t1 s1 rw\n"
		       "2 0 0:1 / /b rw shared:1 master:2 propagate_from:3 - t2 s2 rw\n");

	ck_assert_uint_eq(mounts.count, 2);
	ck_assert_str_eq(mounts.list[0].source, "s1");
	ck_assert_str_eq(mounts.list[1].source, "s2");
}
END_TEST

START_TEST(octal_escapes_are_decoded)
{
	CLEANUP(mounts_fini)
	struct mounts mounts = parsed(
		"1 0 0:1 / /a\\040b\\011c\\012d\\134e ro - fuse.weightfs /x\\040y\\043 ro\n");

	ck_assert_str_eq(mounts.list[0].mountpoint, "/a b\tc\nd\\e");
	ck_assert_str_eq(mounts.list[0].source, "/x y#");
}
END_TEST

START_TEST(a_backslash_without_digits_stays)
{
	CLEANUP(mounts_fini)
	struct mounts mounts = parsed("1 0 0:1 / /a\\04 ro - fuse.weightfs \\ ro\n");

	ck_assert_str_eq(mounts.list[0].mountpoint, "/a\\04");
	ck_assert_str_eq(mounts.list[0].source, "\\");
}
END_TEST

START_TEST(lines_of_another_shape_are_skipped)
{
	CLEANUP(mounts_fini)
	struct mounts mounts =
		parsed("\n - \ngarbage\n1 2 3 - x y z\n1 2 3 / /m rw - type\n" ROOT_LINE);

	ck_assert_uint_eq(mounts.count, 1);
	ck_assert_str_eq(mounts.list[0].mountpoint, "/");
}
END_TEST

/* ---- Looking up ---- */

START_TEST(the_topmost_mount_at_a_path_is_found)
{
	CLEANUP(mounts_fini) struct mounts mounts = nested();

	ck_assert_str_eq(mounts_at(&mounts, "/b")->fs_type, "tmpfs");
	ck_assert_str_eq(mounts_at(&mounts, "/m")->source, "/models/m");
	ck_assert_ptr_null(mounts_at(&mounts, "/m/x"));
}
END_TEST

START_TEST(the_deepest_mount_contains_a_path)
{
	CLEANUP(mounts_fini) struct mounts mounts = nested();
	const char *below = NULL;

	ck_assert_str_eq(mounts_containing(&mounts, "/m/tensors/w", &below)->source,
			 "/models/m");
	ck_assert_str_eq(below, "tensors/w");
	ck_assert_str_eq(mounts_containing(&mounts, "/m/a/tensors", &below)->source,
			 "/models/a");
	ck_assert_str_eq(below, "tensors");
	ck_assert_str_eq(mounts_containing(&mounts, "/m/a", &below)->source, "/models/a");
	ck_assert_str_eq(below, "");
}
END_TEST

START_TEST(a_covered_mount_contains_nothing)
{
	CLEANUP(mounts_fini) struct mounts mounts = nested();
	const char *below = NULL;

	ck_assert_ptr_null(mounts_containing(&mounts, "/b/tensors", &below));
	ck_assert_ptr_null(mounts_containing(&mounts, "/mm", &below));
	ck_assert_ptr_null(mounts_containing(&mounts, "/", &below));
}
END_TEST

START_TEST(a_mount_on_the_same_mount_point_covers_the_one_below)
{
	CLEANUP(mounts_fini) struct mounts mounts = nested();

	ck_assert(mounts_is_covered(&mounts, &mounts.list[3]));
	ck_assert(!mounts_is_covered(&mounts, &mounts.list[4]));
	/* Its child stands deeper. */
	ck_assert(!mounts_is_covered(&mounts, &mounts.list[1]));
}
END_TEST

START_TEST(the_root_of_all_does_not_cover_itself)
{
	CLEANUP(mounts_fini)
	struct mounts mounts = parsed("1 1 0:2 / / rw - rootfs rootfs rw\n");

	ck_assert(!mounts_is_covered(&mounts, &mounts.list[0]));
}
END_TEST

START_TEST(a_bind_mount_has_the_same_device)
{
	CLEANUP(mounts_fini)
	struct mounts mounts =
		parsed("40 22 0:50 / /m ro - fuse.weightfs /models/m ro\n"
		       "41 22 0:50 /tensors /t ro - fuse.weightfs /models/m ro\n"
		       "42 22 0:51 / /o ro - tmpfs none ro\n");

	ck_assert(!mounts.list[0].is_part);
	ck_assert(mounts.list[1].is_part);
	ck_assert(mounts_has_device(&mounts, 50));
	ck_assert(!mounts_has_device(&mounts, 51));
	ck_assert(!mounts_has_device(&mounts, 5));
}
END_TEST

START_TEST(a_path_is_below_a_directory_by_whole_components)
{
	ck_assert(mounts_path_is_below("/a/b", "/a"));
	ck_assert(mounts_path_is_below("/a", "/a"));
	ck_assert(mounts_path_is_below("/a", "/"));
	ck_assert(!mounts_path_is_below("/ab", "/a"));
	ck_assert(!mounts_path_is_below("/", "/a"));
}
END_TEST

/* ---- Paths ---- */

/* A temporary directory with a link "link" in it that leads to `target`. */
static void make_link(char dir[static 64], const char *target)
{
	char link[128];

	(void)snprintf(dir, 64, "/tmp/test_mounts.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(link, sizeof(link), "%s/link", dir);
	ck_assert_int_eq(symlink(target, link), 0);
}

static void remove_link(const char *dir)
{
	char link[128];

	(void)snprintf(link, sizeof(link), "%s/link", dir);
	ck_assert_int_eq(unlink(link), 0);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void assert_absolute(const struct mounts *mounts, const char *path,
			    const char *want)
{
	CLEANUP(free_ptr) char *absolute = mounts_absolute_path(mounts, path);

	ck_assert_ptr_nonnull(absolute);
	ck_assert_str_eq(absolute, want);
}

START_TEST(dots_and_slashes_are_resolved)
{
	struct mounts none = { 0 };

	assert_absolute(&none, "/", "/");
	assert_absolute(&none, "//", "/");
	assert_absolute(&none, "/../..", "/");
	assert_absolute(&none, "/no/./such//path/../dir/", "/no/such/dir");
}
END_TEST

START_TEST(a_relative_path_starts_in_the_working_directory)
{
	CLEANUP(free_ptr) char *cwd = get_current_dir_name();
	CLEANUP(free_ptr) char *want = NULL;
	struct mounts none = { 0 };

	ck_assert_int_gt(asprintf(&want, "%s/no such/name", cwd), 0);
	assert_absolute(&none, "no such/name", want);
	assert_absolute(&none, ".", cwd);
}
END_TEST

START_TEST(links_are_followed)
{
	struct mounts none = { 0 };
	char dir[64];
	char path[128];

	make_link(dir, "../no/where");
	(void)snprintf(path, sizeof(path), "%s/link/x", dir);
	assert_absolute(&none, path, "/tmp/no/where/x");
	remove_link(dir);
	make_link(dir, "/no/where");
	(void)snprintf(path, sizeof(path), "%s/link/../x", dir);
	assert_absolute(&none, path, "/no/x");
	remove_link(dir);
}
END_TEST

START_TEST(a_loop_of_links_ends)
{
	struct mounts none = { 0 };
	char dir[64];
	char path[128];

	make_link(dir, "link");
	(void)snprintf(path, sizeof(path), "%s/link", dir);
	assert_absolute(&none, path, path);
	remove_link(dir);
}
END_TEST

START_TEST(links_inside_a_weightfs_mount_are_not_read)
{
	CLEANUP(free_ptr) char *line = NULL;
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	char dir[64];
	char path[128];

	make_link(dir, "/elsewhere");
	ck_assert_int_gt(asprintf(&line, "1 0 0:1 / %s ro - fuse.weightfs /m ro\n", dir),
			 0);
	ck_assert_int_eq(mounts_parse(line, &mounts), 0);
	(void)snprintf(path, sizeof(path), "%s/link", dir);
	assert_absolute(&mounts, path, path);
	remove_link(dir);
}
END_TEST

START_TEST(links_behind_a_mount_that_was_left_are_followed)
{
	CLEANUP(free_ptr) char *line = NULL;
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	char dir[64];
	char path[128];

	make_link(dir, "/elsewhere");
	ck_assert_int_gt(
		asprintf(&line, "1 0 0:1 / %s/m ro - fuse.weightfs /m ro\n", dir), 0);
	ck_assert_int_eq(mounts_parse(line, &mounts), 0);
	(void)snprintf(path, sizeof(path), "%s/m/tensors/../../link/x", dir);
	assert_absolute(&mounts, path, "/elsewhere/x");
	remove_link(dir);
}
END_TEST

static TCase *lines_case(void)
{
	TCase *tcase = tcase_create("lines");

	tcase_add_test(tcase, fields_are_taken_from_both_sides_of_the_separator);
	tcase_add_test(tcase, optional_fields_may_be_none_or_many);
	tcase_add_test(tcase, octal_escapes_are_decoded);
	tcase_add_test(tcase, a_backslash_without_digits_stays);
	tcase_add_test(tcase, lines_of_another_shape_are_skipped);
	return tcase;
}

START_TEST(trees_of_memory_nodes_are_told_by_their_names)
{
	static const char *const others[] = { "",       "node",          "nodes/a",
					      "node1x", "xnode1",        "node-1",
					      "node/1", "tensors/node1", "node12345" };
	const char *rest = NULL;
	unsigned int node = 9;

	ck_assert(mounts_node_tree("node0", &node, &rest));
	ck_assert_uint_eq(node, 0);
	ck_assert_str_eq(rest, "");
	ck_assert(mounts_node_tree("node1023/tensors/a", &node, &rest));
	ck_assert_uint_eq(node, 1023);
	ck_assert_str_eq(rest, "tensors/a");
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		ck_assert_msg(!mounts_node_tree(others[i], &node, &rest), "%s",
			      others[i]);
}
END_TEST

static TCase *lookup_case(void)
{
	TCase *tcase = tcase_create("lookup");

	tcase_add_test(tcase, the_topmost_mount_at_a_path_is_found);
	tcase_add_test(tcase, the_deepest_mount_contains_a_path);
	tcase_add_test(tcase, a_covered_mount_contains_nothing);
	tcase_add_test(tcase, a_mount_on_the_same_mount_point_covers_the_one_below);
	tcase_add_test(tcase, the_root_of_all_does_not_cover_itself);
	tcase_add_test(tcase, a_bind_mount_has_the_same_device);
	tcase_add_test(tcase, a_path_is_below_a_directory_by_whole_components);
	tcase_add_test(tcase, trees_of_memory_nodes_are_told_by_their_names);
	return tcase;
}

static TCase *paths_case(void)
{
	TCase *tcase = tcase_create("paths");

	tcase_add_test(tcase, dots_and_slashes_are_resolved);
	tcase_add_test(tcase, a_relative_path_starts_in_the_working_directory);
	tcase_add_test(tcase, links_are_followed);
	tcase_add_test(tcase, a_loop_of_links_ends);
	tcase_add_test(tcase, links_inside_a_weightfs_mount_are_not_read);
	tcase_add_test(tcase, links_behind_a_mount_that_was_left_are_followed);
	return tcase;
}

UNIT_MAIN("mounts", lines_case, lookup_case, paths_case)
