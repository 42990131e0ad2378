/* The trees of memory nodes, without a mount: names, inode numbers, attributes, pins. */
#include <errno.h>
#include <stdio.h>

#include "content.h"
#include "inodes.h"
#include "live.h"
#include "model_dir.h"
#include "pins.h"
#include "unit.h"
#include "xattr.h"

/* A directory that is a file as well, and an empty tensor. */
static const char model_json[] =
	"{\"a\":{\"dtype\":\"U8\",\"shape\":[100],\"data_offsets\":[0,100]},"
	"\"a.b\":{\"dtype\":\"U8\",\"shape\":[8000],\"data_offsets\":[100,8100]},"
	"\"c.d.e\":{\"dtype\":\"F64\",\"shape\":[0],\"data_offsets\":[8100,8100]}}";

#define TENSORS  3u
#define DATA_LEN 8100u

static struct weightfs fs;

static const struct node root_node = { .kind = NODE_ROOT };

/* Numbers with a gap, since not every node has memory; two digits. */
static const struct numa_mirror sparse = { .count = 3, .nodes = { 1, 2, 10 } };

static void load_model(void)
{
	struct diag diag;

	model_dir_make();
	model_dir_write_safetensors("m/model.safetensors", model_json, DATA_LEN);
	model_dir_write_text("m/config.json", "{}");
	model_dir_write_text("m/sub/deep.txt", "deep");
	fs = (struct weightfs){ .mountpoint = "/mnt", .tmpfs = -1 };
	options_init(&fs.options);
	ck_assert_msg(served_load(model_dir_path("m"), NULL, &fs.served, &diag) == 0,
		      "%s", diag.text);
	live_init(&fs);
}

static void free_model(void)
{
	live_fini(&fs);
	served_free(fs.served);
	model_dir_remove();
}

static bool same(struct node a, struct node b)
{
	return a.kind == b.kind && a.view == b.view && a.index == b.index &&
	       a.copy == b.copy;
}

static int find(const char *path, struct node *node)
{
	char copy[512];
	char *rest = copy;
	char *name;
	int r = 0;

	(void)snprintf(copy, sizeof(copy), "%s", path);
	*node = root_node;
	while (r == 0 && (name = strsep(&rest, "/")))
		r = layout_lookup(&fs, *node, name, node);
	return r;
}

static struct node node_at(const char *path)
{
	struct node node;

	ck_assert_msg(find(path, &node) == 0, "%s", path);
	return node;
}

static struct stat stat_at(const char *path)
{
	struct stat st;

	ck_assert_int_eq(layout_stat(&fs, node_at(path), &st), 0);
	return st;
}

/* ---- Names and numbers ---- */

/* Below `dir` each child that is listed is found by its name and has a number that leads
 * back. Returns how many tensor files there are. */
static unsigned int walk(struct node dir)
{
	char name[PATH_NAME_MAX + 1];
	unsigned int tensors = 0;
	struct node child;
	struct node found;

	for (uint64_t i = 0; layout_child(&fs, dir, i, &child, name); i++) {
		ck_assert_msg(layout_lookup(&fs, dir, name, &found) == 0, "%s", name);
		ck_assert_msg(same(child, found), "%s", name);
		ck_assert(layout_node(&fs, layout_ino(child), &found));
		ck_assert_msg(same(child, found), "%s", name);
		tensors += child.kind == NODE_TENSOR;
		if (!layout_is_dir(child))
			continue;
		ck_assert_msg(same(layout_parent(&fs, child), dir), "%s", name);
		tensors += walk(child);
	}
	return tensors;
}

START_TEST(nodes_are_taken_from_bits)
{
	struct numa_mirror mirror;

	numa_mirror_init(&mirror, 0x406);
	ck_assert_uint_eq(mirror.count, sparse.count);
	for (unsigned int i = 0; i < sparse.count; i++)
		ck_assert_uint_eq(mirror.nodes[i], sparse.nodes[i]);
	numa_mirror_init(&mirror, UINT64_MAX);
	ck_assert_uint_eq(mirror.count, NUMA_MIRROR_MOST);
	ck_assert_uint_eq(mirror.nodes[NUMA_MIRROR_MOST - 1], 63);
}
END_TEST

START_TEST(each_memory_node_has_all_that_the_root_has)
{
	/* Three views, each as a tree and flat. */
	ck_assert_uint_eq(walk(root_node), TENSORS * 6);
	fs.mirror = sparse;
	ck_assert_uint_eq(walk(root_node), TENSORS * 6 * 4);
	ck_assert_uint_eq(stat_at("node2").st_mode, S_IFDIR | 0555);
	ck_assert_int_eq(stat_at("node2/npy/a/b.npy").st_size,
			 stat_at("npy/a/b.npy").st_size);
	ck_assert_int_eq(stat_at("node10/model.json").st_size,
			 stat_at("model.json").st_size);
	ck_assert_int_eq(stat_at("node10/files/sub/deep.txt").st_size, 4);
}
END_TEST

START_TEST(trees_are_listed_behind_the_rest_under_the_numbers_of_their_nodes)
{
	static const char *const names[] = { "files", ".weightfs", "node1", "node2",
					     "node10" };
	char name[PATH_NAME_MAX + 1];
	struct node child;

	fs.mirror = sparse;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		ck_assert(layout_child(&fs, root_node, 6 + i, &child, name));
		ck_assert_str_eq(name, names[i]);
	}
	ck_assert(!layout_child(&fs, root_node, 11, &child, name));
	/* The control socket is that of the whole mount. */
	ck_assert(layout_child(&fs, node_at("node2"), 6, &child, name));
	ck_assert_str_eq(name, "files");
	ck_assert(!layout_child(&fs, node_at("node2"), 7, &child, name));
}
END_TEST

START_TEST(other_nodes_are_not_there)
{
	static const char *const names[] = {
		"node0",     "node3",          "node01",        "node+1",
		"node 1",    "node",           "node1x",        "Node1",
		"node65537", "node1/node1",    "tensors/node1", "node1/.weightfs",
		"node-1",    "node4294967297",
	};
	struct node node;

	ck_assert_int_eq(find("node1", &node), -ENOENT);
	fs.mirror = sparse;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ck_assert_msg(find(names[i], &node) == -ENOENT, "%s", names[i]);
	ck_assert_int_eq(find("node1/model.json/x", &node), -ENOTDIR);
}
END_TEST

START_TEST(the_first_nodes_files_are_those_of_the_main_tree)
{
	static const char *const paths[] = { "tensors/a/%self", "npy/a/b.npy",
					     "flat/safetensors/a.b.safetensors",
					     "model.json", "files/config.json" };
	char path[256];

	fs.mirror = sparse;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		(void)snprintf(path, sizeof(path), "node1/%s", paths[i]);
		ck_assert_msg(same(node_at(path), node_at(paths[i])), "%s", path);
	}
	/* A directory is in one place only. */
	ck_assert(!same(node_at("node1/tensors"), node_at("tensors")));
	ck_assert(!same(node_at("node1/files/sub"), node_at("files/sub")));
}
END_TEST

START_TEST(tensors_of_other_nodes_are_files_of_their_own)
{
	fs.mirror = sparse;
	ck_assert(!same(node_at("node2/tensors/a/b"), node_at("tensors/a/b")));
	ck_assert(!same(node_at("node2/tensors/a/b"), node_at("node10/tensors/a/b")));
	ck_assert(same(node_at("node2/tensors/a/b"), node_at("node2/flat/tensors/a.b")));
	/* What has no copies. */
	ck_assert(same(node_at("node2/metadata.json"), node_at("metadata.json")));
	ck_assert(
		same(node_at("node2/files/sub/deep.txt"), node_at("files/sub/deep.txt")));
}
END_TEST

static void expect_no_node(struct node node)
{
	struct node ignored;

	ck_assert(!layout_node(&fs, layout_ino(node), &ignored));
}

START_TEST(inode_numbers_of_trees_that_are_not_there_are_refused)
{
	struct node tensor = layout_tensor(VIEW_RAW, 0);
	struct node node;

	tensor.copy = 3;
	expect_no_node(tensor);
	fs.mirror = sparse;
	ck_assert(layout_node(&fs, layout_ino(tensor), &node));
	tensor.copy = 1;
	expect_no_node(tensor);
	/* Those of the first node are in the main tree. */
	tensor.copy = 2;
	expect_no_node(tensor);
	expect_no_node((struct node){ .kind = NODE_NUMA_DIR });
	expect_no_node((struct node){ .kind = NODE_NUMA_DIR, .copy = 4 });
	expect_no_node((struct node){ .kind = NODE_NUMA_DIR, .index = 1, .copy = 3 });
	expect_no_node((struct node){ .kind = NODE_DOCUMENT, .copy = 3 });
	expect_no_node((struct node){ .kind = NODE_FILE, .copy = 3 });
	expect_no_node((struct node){ .kind = NODE_LIVE, .copy = 3 });
	expect_no_node((struct node){ .kind = NODE_CONTROL_DIR, .copy = 3 });
	expect_no_node((struct node){ .kind = NODE_TREE_DIR, .copy = UINT16_MAX });
	ck_assert(!layout_node(&fs, UINT64_C(3) << 48 | 1, &node));
}
END_TEST

/* Numbers next to valid ones: what is accepted must be what layout_ino() gives. */
START_TEST(an_inode_number_has_one_spelling)
{
	static const char *const paths[] = { "node2",           "node2/tensors/a",
					     "node10/flat",     "node2/flat/npy/a.b.npy",
					     "node1/files/sub", "tensors/a/b" };
	struct node node;

	fs.mirror = sparse;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		uint64_t ino = layout_ino(node_at(paths[i]));

		for (unsigned int bit = 0; bit < 64; bit++)
			if (layout_node(&fs, ino ^ (uint64_t)1 << bit, &node))
				ck_assert_uint_eq(layout_ino(node),
						  ino ^ (uint64_t)1 << bit);
	}
}
END_TEST

START_TEST(as_many_nodes_as_there_may_be_have_their_trees)
{
	struct node child;
	char name[PATH_NAME_MAX + 1];

	fs.mirror.count = NUMA_MIRROR_MOST;
	for (unsigned int i = 0; i < NUMA_MIRROR_MOST; i++)
		fs.mirror.nodes[i] = (uint16_t)(1023 - NUMA_MIRROR_MOST + i);
	ck_assert_uint_eq(walk(root_node), TENSORS * 6 * (NUMA_MIRROR_MOST + 1));
	ck_assert_int_eq(find("node1022/tensors/a/b", &child), 0);
	ck_assert(!layout_child(&fs, root_node, 8 + NUMA_MIRROR_MOST, &child, name));
}
END_TEST

/* ---- Attributes and bytes ---- */

START_TEST(bytes_of_all_trees_count_once)
{
	fs.mirror = sparse;
	ck_assert_int_eq(stat_at("tensors/a/b").st_blocks, (8000 + 511) / 512);
	ck_assert_int_eq(stat_at("node2/tensors/a/b").st_blocks, 0);
	ck_assert_int_eq(stat_at("node2/tensors/a/b").st_size, 8000);
	ck_assert_int_eq(stat_at("node10/npy/a/b.npy").st_blocks, 0);
	/* What is there twice under one number is counted once by its number of names. */
	ck_assert_uint_eq(stat_at("node1/tensors/a/b").st_ino,
			  stat_at("tensors/a/b").st_ino);
	ck_assert_uint_eq(stat_at("node1/tensors/a/b").st_nlink, 4);
	ck_assert_uint_eq(stat_at("node2/tensors/a/b").st_nlink, 2);
	ck_assert_uint_eq(stat_at("files/config.json").st_nlink, 4);
	ck_assert_uint_eq(stat_at("node2/model.json").st_nlink, 4);
	ck_assert_uint_eq(stat_at("node2").st_nlink, 2 + 5);
	ck_assert_uint_eq(stat_at("node2/flat").st_nlink, 2 + 3);
}
END_TEST

START_TEST(without_the_option_nothing_is_different)
{
	struct stat st;

	ck_assert_uint_eq(stat_at("tensors/a/b").st_nlink, 2);
	ck_assert_uint_eq(stat_at("files/config.json").st_nlink, 1);
	ck_assert_int_eq(layout_stat(&fs, root_node, &st), 0);
	ck_assert_uint_eq(st.st_nlink, 2 + 6);
	fs.mirror = sparse;
	ck_assert_int_eq(layout_stat(&fs, root_node, &st), 0);
	ck_assert_uint_eq(st.st_nlink, 2 + 6 + 3);
}
END_TEST

static void expect_bytes(const char *path, const char *like)
{
	struct content_scratch scratch[2];
	struct iovec pieces[2][2];
	const char *paths[2] = { path, like };
	int counts[2];

	for (unsigned int i = 0; i < 2; i++) {
		counts[i] = content_read(&fs, node_at(paths[i]), 0, 1 << 20, &scratch[i],
					 pieces[i]);
		ck_assert_int_gt(counts[i], 0);
	}
	ck_assert_int_eq(counts[0], counts[1]);
	for (int i = 0; i < counts[0]; i++) {
		ck_assert_uint_eq(pieces[0][i].iov_len, pieces[1][i].iov_len);
		ck_assert_mem_eq(pieces[0][i].iov_base, pieces[1][i].iov_base,
				 pieces[0][i].iov_len);
	}
	for (unsigned int i = 0; i < 2; i++)
		content_fini(&scratch[i]);
}

START_TEST(every_tree_has_the_same_bytes)
{
	fs.mirror = sparse;
	expect_bytes("node2/tensors/a/b", "tensors/a/b");
	expect_bytes("node10/npy/a/b.npy", "npy/a/b.npy");
	expect_bytes("node10/flat/safetensors/a.safetensors",
		     "flat/safetensors/a.safetensors");
	expect_bytes("node2/files/config.json", "files/config.json");
	expect_bytes("node2/model.json", "model.json");
}
END_TEST

static void expect_memory_node(const char *path, const char *node)
{
	struct strbuf value;

	strbuf_init(&value);
	ck_assert_int_eq(xattr_get(&fs, node_at(path), "user.weightfs.node", &value), 0);
	ck_assert_str_eq(value.data, node);
	strbuf_fini(&value);
}

START_TEST(an_attribute_says_which_memory_node_a_file_is_of)
{
	static const char last[] = "user.weightfs.backing\0user.weightfs.node";
	struct strbuf text;

	strbuf_init(&text);
	ck_assert_int_eq(xattr_get(&fs, node_at("tensors/a/b"), "user.weightfs.node",
				   &text),
			 -ENODATA);
	fs.mirror = sparse;
	expect_memory_node("tensors/a/b", "1");
	expect_memory_node("node1/npy/a/b.npy", "1");
	expect_memory_node("node2/tensors/a/b", "2");
	expect_memory_node("node10/flat/tensors/a", "10");
	xattr_list(&fs, node_at("node2/tensors/a/b"), &text);
	ck_assert_uint_gt(text.len, sizeof(last));
	ck_assert_mem_eq(text.data + text.len - sizeof(last), last, sizeof(last));
	ck_assert_int_eq(xattr_get(&fs, node_at("node2"), "user.weightfs.node", &text),
			 -ENODATA);
	strbuf_fini(&text);
}
END_TEST

/* ---- Pins ---- */

START_TEST(the_files_of_each_node_are_pinned_apart)
{
	const struct inodes_setup setup = { .fs = &fs, .backings = backing_table };
	struct inodes_summary sums;
	struct pins *pins;
	bool changed;

	fs.mirror = sparse;
	ck_assert_int_eq(inodes_new(&setup, &fs.inodes), 0);
	ck_assert_int_eq(pins_new(&fs, &pins), 0);
	ck_assert_int_eq(pins_set(pins, node_at("node10/tensors/a/b"), true, &changed),
			 0);
	ck_assert(!pins_is_set(pins, node_at("node2/tensors/a/b")));
	ck_assert(!pins_is_set(pins, node_at("tensors/a/b")));
	ck_assert(!pins_is_set(pins, node_at("tensors/c/d/e")));
	ck_assert(pins_is_set(pins, node_at("node10/flat/tensors/a.b")));
	ck_assert_int_eq(pins_set(pins, node_at("node1/tensors/a/b"), true, &changed), 0);
	ck_assert(pins_is_set(pins, node_at("tensors/a/b")));
	ck_assert_uint_eq(pins_count(pins), 2);
	inodes_summarise(fs.inodes, &sums);
	ck_assert_uint_eq(sums.pinned, 2);
	pins_free(pins);
	inodes_free(fs.inodes);
	fs.inodes = NULL;
}
END_TEST

static TCase *trees_case(void)
{
	TCase *t = tcase_create("trees");

	tcase_add_checked_fixture(t, load_model, free_model);
	tcase_add_test(t, nodes_are_taken_from_bits);
	tcase_add_test(t, each_memory_node_has_all_that_the_root_has);
	tcase_add_test(t,
		       trees_are_listed_behind_the_rest_under_the_numbers_of_their_nodes);
	tcase_add_test(t, other_nodes_are_not_there);
	tcase_add_test(t, the_first_nodes_files_are_those_of_the_main_tree);
	tcase_add_test(t, tensors_of_other_nodes_are_files_of_their_own);
	tcase_add_test(t, inode_numbers_of_trees_that_are_not_there_are_refused);
	tcase_add_test(t, an_inode_number_has_one_spelling);
	tcase_add_test(t, as_many_nodes_as_there_may_be_have_their_trees);
	return t;
}

static TCase *files_case(void)
{
	TCase *t = tcase_create("files");

	tcase_add_checked_fixture(t, load_model, free_model);
	tcase_add_test(t, bytes_of_all_trees_count_once);
	tcase_add_test(t, without_the_option_nothing_is_different);
	tcase_add_test(t, every_tree_has_the_same_bytes);
	tcase_add_test(t, an_attribute_says_which_memory_node_a_file_is_of);
	tcase_add_test(t, the_files_of_each_node_are_pinned_apart);
	return t;
}

UNIT_MAIN("numa_mirror", trees_case, files_case)
