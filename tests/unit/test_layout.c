/* The mounted tree without a mount: nodes, attributes, bytes and extended attributes of a
 * small model in a real directory. */
#include <errno.h>
#include <stdio.h>

#include "content.h"
#include "live.h"
#include "model_dir.h"
#include "unit.h"
#include "xattr.h"

/* Bytes of the name with the header that is too long for the stack: each is six in JSON.
 */
#define LONG_NAME 3000

/* Names with a clash, a directory that is a file, nothing in them, an empty tensor; all
 * types of header; data at odd offsets. */
static const char tensors_json[] =
	"\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[1,25]},"
	"\"a.b\":{\"dtype\":\"BF16\",\"shape\":[5],\"data_offsets\":[25,35]},"
	"\"one\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
	"\"w/x\":{\"dtype\":\"U8\",\"shape\":[100],\"data_offsets\":[35,135]},"
	"\"w.x\":{\"dtype\":\"I8\",\"shape\":[5,10],\"data_offsets\":[135,185]},"
	"\"big.p\":{\"dtype\":\"U8\",\"shape\":[9815],\"data_offsets\":[185,10000]},"
	"\"empty\":{\"dtype\":\"F64\",\"shape\":[0,7],\"data_offsets\":[10000,10000]},"
	"\"..\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[10000,10001]},";

#define DATA_LEN 10002u

/* The model in a directory with other files, mounted nowhere. */
struct fixture {
	struct weightfs fs;
	struct served *served;
};

static char *model_json(void)
{
	struct strbuf json;

	strbuf_init(&json);
	strbuf_add_str(&json, "{");
	strbuf_add_str(&json, tensors_json);
	strbuf_add_str(&json, "\"long");
	for (unsigned int i = 0; i < LONG_NAME; i++)
		strbuf_add_str(&json, "\\u0001");
	strbuf_add_str(&json, "\":{\"dtype\":\"U8\",\"shape\":[1],"
			      "\"data_offsets\":[10001,10002]},"
			      "\"__metadata__\":{\"format\":\"pt\"}}");
	return strbuf_steal(&json);
}

static void load(struct fixture *f, const char *path)
{
	struct diag diag;

	memset(f, 0, sizeof(*f));
	options_init(&f->fs.options);
	f->fs.options.uid = 1234;
	f->fs.options.gid = 5678;
	f->fs.mountpoint = "/mnt";
	ck_assert_msg(served_load(path, NULL, &f->served, &diag) == 0, "%s", diag.text);
	f->fs.served = f->served;
	live_init(&f->fs);
}

static void setup(struct fixture *f)
{
	char *json = model_json();

	model_dir_write_safetensors("m/model.safetensors", json, DATA_LEN);
	free(json);
	model_dir_write_text("m/config.json", "{\"a\": 1}");
	model_dir_write_text("m/nothing", "");
	model_dir_write_text("m/sub/one/deep.txt", "deep");
	model_dir_write_text("m/sub/two.txt", "two");
	model_dir_write_text("m/.gitattributes", "hidden file");
	model_dir_write_text("m/.git/config", "hidden directory");
	load(f, model_dir_path("m"));
}

static void teardown(struct fixture *f)
{
	live_fini(&f->fs);
	free(f->fs.socket_path);
	served_free(f->served);
}

static bool same(struct node a, struct node b)
{
	return a.kind == b.kind && a.view == b.view && a.index == b.index &&
	       a.copy == b.copy;
}

static const struct node root_node = { .kind = NODE_ROOT };

/* The node of a path from the root. */
static struct node node_at(const struct fixture *f, const char *path)
{
	char copy[512];
	char *rest = copy;
	char *name;
	struct node node = root_node;

	(void)snprintf(copy, sizeof(copy), "%s", path);
	while ((name = strsep(&rest, "/")))
		ck_assert_msg(layout_lookup(&f->fs, node, name, &node) == 0, "%s: %s",
			      path, name);
	return node;
}

static struct stat stat_of(struct fixture *f, const char *path)
{
	struct stat st;

	ck_assert_int_eq(layout_stat(&f->fs, node_at(f, path), &st), 0);
	return st;
}

/* ---- Nodes ---- */

static void check_round_trip(const struct fixture *f, struct node node)
{
	struct node back;

	ck_assert(layout_node(&f->fs, layout_ino(node), &back));
	ck_assert(same(node, back));
}

/* Below `dir` every child that is listed is found by its name, and leads back. Returns
 * how many tensor files there are. */
static unsigned int walk(struct fixture *f, struct node dir)
{
	char name[PATH_NAME_MAX + 1];
	unsigned int tensors = 0;
	nlink_t subdirs = 0;
	uint64_t count = 0;
	struct node child;
	struct node found;
	struct stat st;

	check_round_trip(f, dir);
	for (; layout_child(&f->fs, dir, count, &child, name); count++) {
		ck_assert_msg(layout_lookup(&f->fs, dir, name, &found) == 0, "%s", name);
		ck_assert_msg(same(child, found), "%s", name);
		check_round_trip(f, child);
		tensors += child.kind == NODE_TENSOR;
		if (layout_is_dir(child)) {
			subdirs++;
			ck_assert(same(layout_parent(&f->fs, child), dir));
			tensors += walk(f, child);
		}
	}
	for (uint64_t i = 0; i < 40; i++)
		ck_assert(
			!layout_child(&f->fs, dir, count + i, &child, name) &&
			!layout_child(&f->fs, dir, (uint64_t)1 << i << 23, &child, name));
	ck_assert_int_eq(layout_stat(&f->fs, dir, &st), 0);
	ck_assert_uint_eq(st.st_nlink, 2 + subdirs);
	return tensors;
}

START_TEST(what_is_listed_is_found_and_the_other_way_round)
{
	struct fixture f;

	setup(&f);
	ck_assert_uint_eq(model_tensor_count(f.served->model), 9);
	/* Three views, each as a tree and flat. */
	ck_assert_uint_eq(walk(&f, root_node), 54);
	f.fs.socket_path = strdup("/run/socket");
	ck_assert_uint_eq(walk(&f, root_node), 54);
	teardown(&f);
}
END_TEST

static void expect_children(const struct fixture *f, const char *path,
			    const char *const *names, size_t count)
{
	struct node dir = *path ? node_at(f, path) : root_node;
	char name[PATH_NAME_MAX + 1];
	struct node child;

	for (size_t i = 0; i < count; i++) {
		ck_assert(layout_child(&f->fs, dir, i, &child, name));
		ck_assert_str_eq(name, names[i]);
	}
	ck_assert(!layout_child(&f->fs, dir, count, &child, name));
}

#define EXPECT_CHILDREN(f, path, ...)                                    \
	do {                                                             \
		static const char *const children[] = { __VA_ARGS__ };   \
                                                                         \
		expect_children(f, path, children, ARRAY_LEN(children)); \
	} while (0)

START_TEST(directories_hold_what_the_contract_says)
{
	struct fixture f;

	setup(&f);
	EXPECT_CHILDREN(&f, "", "model.json", "metadata.json", "tensors", "npy",
			"safetensors", "flat", "files", ".weightfs");
	EXPECT_CHILDREN(&f, "flat", "tensors", "npy", "safetensors");
	EXPECT_CHILDREN(&f, ".weightfs", "stats.json", "metrics");
	EXPECT_CHILDREN(&f, "tensors/a", "%self", "b");
	EXPECT_CHILDREN(&f, "npy/a", "%self.npy", "b.npy");
	EXPECT_CHILDREN(&f, "safetensors/w", "x.safetensors");
	EXPECT_CHILDREN(&f, "tensors/%", "%");
	EXPECT_CHILDREN(&f, "tensors/%/%", "%");
	/* The hidden directory is left out. */
	EXPECT_CHILDREN(&f, "files", "sub", ".gitattributes", "config.json",
			"model.safetensors", "nothing");
	EXPECT_CHILDREN(&f, "files/sub", "one", "two.txt");
	EXPECT_CHILDREN(&f, "files/sub/one", "deep.txt");
	f.fs.socket_path = strdup("/run/socket");
	EXPECT_CHILDREN(&f, ".weightfs", "stats.json", "metrics", "socket");
	teardown(&f);
}
END_TEST

START_TEST(tensors_have_the_same_inode_in_the_tree_and_flat)
{
	struct fixture f;

	setup(&f);
	ck_assert(same(node_at(&f, "tensors/a/%self"), node_at(&f, "flat/tensors/a")));
	ck_assert(same(node_at(&f, "tensors/w%2Fx"), node_at(&f, "flat/tensors/w%2Fx")));
	ck_assert(same(node_at(&f, "npy/w/x.npy"), node_at(&f, "flat/npy/w.x.npy")));
	ck_assert(same(node_at(&f, "npy/%/%/%.npy"), node_at(&f, "flat/npy/%2E%2E.npy")));
	ck_assert(!same(node_at(&f, "tensors/a/b"), node_at(&f, "npy/a/b.npy")));
	teardown(&f);
}
END_TEST

START_TEST(what_is_not_there_is_not_found)
{
	static const char *const dirs[] = { "tensors",          "npy/a",    "flat",
					    "flat/tensors",     "files",    "files/sub",
					    "flat/safetensors", ".weightfs" };
	static const char *const names[] = { "",  "nothing.npy", "x.npy",      "%2E",
					     "A", "socket",      "model.json", "weight" };
	struct fixture f;
	struct node child;

	setup(&f);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		for (size_t k = 0; k < ARRAY_LEN(names); k++)
			ck_assert_int_eq(layout_lookup(&f.fs, node_at(&f, dirs[i]),
						       names[k], &child),
					 -ENOENT);
	ck_assert_int_eq(layout_lookup(&f.fs, root_node, "flatter", &child), -ENOENT);
	ck_assert_int_eq(layout_lookup(&f.fs, node_at(&f, "model.json"), "a", &child),
			 -ENOTDIR);
	ck_assert_int_eq(layout_lookup(&f.fs, node_at(&f, "tensors/a/b"), "a", &child),
			 -ENOTDIR);
	ck_assert_int_eq(layout_lookup(&f.fs, node_at(&f, "files/config.json"), "a",
				       &child),
			 -ENOTDIR);
	teardown(&f);
}
END_TEST

/* Numbers next to valid ones: what is accepted must be what layout_ino() gives. */
static void check_near(const struct fixture *f, uint64_t ino)
{
	for (unsigned int bit = 0; bit < 64; bit++) {
		uint64_t other = ino ^ (uint64_t)1 << bit;
		struct node node;

		if (layout_node(&f->fs, other, &node))
			ck_assert_uint_eq(layout_ino(node), other);
	}
}

static void expect_no_node(const struct fixture *f, struct node node)
{
	struct node ignored;

	ck_assert(!layout_node(&f->fs, layout_ino(node), &ignored));
}

START_TEST(other_inode_numbers_are_refused)
{
	struct fixture f;
	struct node node;

	setup(&f);
	ck_assert(!layout_node(&f.fs, 0, &node));
	ck_assert(!layout_node(&f.fs, 2, &node));
	ck_assert(!layout_node(&f.fs, UINT64_MAX, &node));
	ck_assert(layout_node(&f.fs, 1, &node) && node.kind == NODE_ROOT);
	expect_no_node(&f, (struct node){ NODE_KIND_COUNT, VIEW_RAW, 0, 0 });
	expect_no_node(&f, (struct node){ NODE_DOCUMENT, VIEW_RAW, DOCUMENT_COUNT, 0 });
	expect_no_node(&f, (struct node){ NODE_DOCUMENT, VIEW_NPY, 0, 0 });
	expect_no_node(&f, (struct node){ NODE_TENSOR, VIEW_RAW, 9, 0 });
	expect_no_node(&f, (struct node){ NODE_TENSOR, VIEW_COUNT, 0, 0 });
	expect_no_node(&f, (struct node){ NODE_TENSOR, VIEW_RAW, UINT32_MAX, 0 });
	expect_no_node(&f, (struct node){ NODE_FILE, VIEW_RAW, 6, 0 });
	expect_no_node(&f, (struct node){ NODE_FILE, VIEW_NPY, 0, 0 });
	expect_no_node(&f, (struct node){ NODE_FILES_DIR, VIEW_RAW, 3, 0 });
	expect_no_node(&f, (struct node){ NODE_FLAT_VIEW, VIEW_RAW, 1, 0 });
	expect_no_node(&f, (struct node){ NODE_LIVE, VIEW_RAW, LIVE_COUNT, 0 });
	expect_no_node(&f, (struct node){ NODE_SOCKET, VIEW_RAW, 0, 0 });
	check_near(&f, 1);
	for (unsigned int kind = 0; kind < NODE_KIND_COUNT; kind++)
		check_near(&f, layout_ino((struct node){ (enum node_kind)kind, VIEW_RAW,
							 0, 0 }));
	teardown(&f);
}
END_TEST

/* ---- Attributes ---- */

static blkcnt_t blocks_of(uint64_t bytes)
{
	return (blkcnt_t)((bytes + 511) / 512);
}

START_TEST(files_have_their_size_and_nobody_may_write)
{
	struct fixture f;
	struct stat st;

	setup(&f);
	st = stat_of(&f, "tensors/a/%self");
	ck_assert_int_eq(st.st_size, 24);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0444);
	ck_assert_uint_eq(st.st_uid, 1234);
	ck_assert_uint_eq(st.st_gid, 5678);
	ck_assert_uint_eq(st.st_ino, layout_ino(node_at(&f, "flat/tensors/a")));
	ck_assert_int_eq(stat_of(&f, "tensors/empty").st_size, 0);
	ck_assert_int_eq(stat_of(&f, "files/config.json").st_size, 8);
	ck_assert_uint_eq(stat_of(&f, "tensors").st_mode, S_IFDIR | 0555);
	ck_assert_uint_eq(stat_of(&f, "tensors").st_uid, 1234);
	f.fs.socket_path = strdup("/run/socket");
	st = stat_of(&f, ".weightfs/socket");
	ck_assert_uint_eq(st.st_mode, S_IFLNK | 0777);
	ck_assert_int_eq(st.st_size, 11);
	teardown(&f);
}
END_TEST

START_TEST(links_are_counted)
{
	struct fixture f;

	setup(&f);
	/* The path of a tensor and its name in flat/. */
	ck_assert_uint_eq(stat_of(&f, "tensors/a/b").st_nlink, 2);
	ck_assert_uint_eq(stat_of(&f, "files/config.json").st_nlink, 1);
	ck_assert_uint_eq(stat_of(&f, "model.json").st_nlink, 1);
	ck_assert_uint_eq(stat_of(&f, "flat").st_nlink, 2 + 3);
	ck_assert_uint_eq(stat_of(&f, "files").st_nlink, 2 + 1);
	ck_assert_uint_eq(stat_of(&f, "flat/tensors").st_nlink, 2);
	teardown(&f);
}
END_TEST

START_TEST(bytes_count_once)
{
	struct fixture f;
	struct stat st;

	setup(&f);
	ck_assert_int_eq(stat_of(&f, "tensors/big/p").st_blocks, blocks_of(9815));
	ck_assert_int_eq(stat_of(&f, "tensors/empty").st_blocks, 0);
	ck_assert_int_eq(stat_of(&f, "npy/big/p.npy").st_blocks, 0);
	ck_assert_int_eq(stat_of(&f, "flat/safetensors/a.safetensors").st_blocks, 0);
	st = stat_of(&f, "model.json");
	ck_assert_int_eq(st.st_blocks, blocks_of((uint64_t)st.st_size));
	st = stat_of(&f, ".weightfs/metrics");
	ck_assert_int_eq(st.st_blocks, blocks_of((uint64_t)st.st_size));
	ck_assert_int_eq(stat_of(&f, "files/config.json").st_blocks, 1);
	ck_assert_int_eq(stat_of(&f, "files/nothing").st_blocks, 0);
	/* Of the model file only what is no tensor. */
	st = stat_of(&f, "files/model.safetensors");
	ck_assert_int_eq(st.st_blocks, blocks_of((uint64_t)st.st_size - DATA_LEN));
	teardown(&f);
}
END_TEST

START_TEST(times_are_those_of_the_source)
{
	struct fixture f;
	struct stat source;
	struct stat st;

	setup(&f);
	ck_assert_int_eq(stat(model_dir_path("m/model.safetensors"), &source), 0);
	st = stat_of(&f, "npy/a/b.npy");
	ck_assert_int_eq(st.st_mtim.tv_sec, source.st_mtim.tv_sec);
	ck_assert_int_eq(st.st_mtim.tv_nsec, source.st_mtim.tv_nsec);
	ck_assert_int_eq(st.st_ctim.tv_nsec, source.st_mtim.tv_nsec);
	ck_assert_int_eq(stat_of(&f, "tensors").st_mtim.tv_nsec, source.st_mtim.tv_nsec);
	ck_assert_int_eq(stat(model_dir_path("m/config.json"), &source), 0);
	st = stat_of(&f, "files/config.json");
	ck_assert_int_eq(st.st_mtim.tv_nsec, source.st_mtim.tv_nsec);
	teardown(&f);
}
END_TEST

START_TEST(a_document_is_cheap_once_it_is_made)
{
	struct fixture f;
	struct node node;

	setup(&f);
	node = node_at(&f, "model.json");
	ck_assert(!layout_stat_is_cheap(&f.fs, node));
	ck_assert_int_gt(stat_of(&f, "model.json").st_size, 0);
	ck_assert(layout_stat_is_cheap(&f.fs, node));
	ck_assert(!layout_stat_is_cheap(&f.fs, node_at(&f, "metadata.json")));
	ck_assert(!layout_stat_is_cheap(&f.fs, node_at(&f, ".weightfs/metrics")));
	ck_assert(layout_stat_is_cheap(&f.fs, node_at(&f, "tensors/a")));
	teardown(&f);
}
END_TEST

/* ---- Bytes ---- */

/* Appends what one read answers. Returns its length, or a negative errno. */
static ssize_t read_at(struct fixture *f, struct node node, uint64_t offset, size_t size,
		       struct strbuf *out)
{
	struct content_scratch scratch;
	struct iovec pieces[2];
	size_t len = 0;
	int count = content_read(&f->fs, node, offset, size, &scratch, pieces);

	for (int i = 0; i < count; i++) {
		strbuf_add(out, pieces[i].iov_base, pieces[i].iov_len);
		len += pieces[i].iov_len;
	}
	content_fini(&scratch);
	return count < 0 ? count : (ssize_t)len;
}

/* Reads `size` bytes from `offset` and compares them with those of `want`. */
static void expect_bytes(struct fixture *f, struct node node, uint64_t offset,
			 size_t size, const struct strbuf *want)
{
	struct strbuf got;
	uint64_t left = offset < want->len ? want->len - offset : 0;
	size_t len = size < left ? size : (size_t)left;

	strbuf_init(&got);
	ck_assert_int_eq(read_at(f, node, offset, size, &got), (ssize_t)len);
	if (len > 0)
		ck_assert_mem_eq(got.data, want->data + offset, len);
	strbuf_fini(&got);
}

static void expect_content(struct fixture *f, struct node node, const struct strbuf *want,
			   uint64_t boundary)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 127, 4096, 4097, 131072 };
	static const uint64_t offsets[] = { 0, 1, 2, 7, 4095, 4096, 4097, UINT64_MAX };
	struct stat st;

	ck_assert_int_eq(layout_stat(&f->fs, node, &st), 0);
	ck_assert_int_eq(st.st_size, (off_t)want->len);
	for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
		for (size_t i = 0; i < ARRAY_LEN(offsets); i++)
			expect_bytes(f, node, offsets[i], sizes[k], want);
		for (uint64_t i = 0; i < 8; i++)
			expect_bytes(f, node, boundary + i > 4 ? boundary + i - 4 : 0,
				     sizes[k], want);
		for (uint64_t i = 0; i < 8; i++)
			expect_bytes(f, node, want->len + i > 4 ? want->len + i - 4 : 0,
				     sizes[k], want);
	}
	for (uint64_t at = 0; at < want->len; at += 997)
		expect_bytes(f, node, at, 997, want);
}

/* What the file of a view must hold, from the bytes of the file on disk. */
static void assemble(const struct tensor *t, enum view view, const struct strbuf *disk,
		     struct strbuf *want)
{
	strbuf_init(want);
	view_write_header(view, t, want);
	strbuf_add(want, disk->data + t->offset, t->nbytes);
	ck_assert_int_eq(want->err, 0);
}

static void check_tensor(struct fixture *f, uint32_t index, const struct strbuf *disk)
{
	const struct tensor *t = model_tensor(f->served->model, index);

	for (unsigned int view = 0; view < VIEW_COUNT; view++) {
		const struct node node = layout_tensor((enum view)view, index);
		struct strbuf want;

		assemble(t, node.view, disk, &want);
		expect_content(f, node, &want, want.len - t->nbytes);
		strbuf_fini(&want);
	}
}

START_TEST(every_view_of_a_tensor_is_its_header_and_its_bytes)
{
	char *json = model_json();
	struct strbuf disk;
	struct fixture f;

	setup(&f);
	strbuf_init(&disk);
	model_dir_add_safetensors(&disk, json, DATA_LEN);
	for (uint32_t i = 0; i < model_tensor_count(f.served->model); i++)
		check_tensor(&f, i, &disk);
	expect_content(&f, node_at(&f, "files/model.safetensors"), &disk, 100);
	strbuf_fini(&disk);
	free(json);
	teardown(&f);
}
END_TEST

START_TEST(a_header_may_be_longer_than_the_stack_has_room_for)
{
	struct fixture f;
	bool found = false;

	setup(&f);
	for (uint32_t i = 0; i < model_tensor_count(f.served->model); i++)
		found |= view_header_len(VIEW_SAFETENSORS,
					 model_tensor(f.served->model, i)) >
			 CONTENT_HEADER_MAX;
	ck_assert(found);
	teardown(&f);
}
END_TEST

START_TEST(files_are_byte_for_byte)
{
	struct strbuf want;
	struct fixture f;

	setup(&f);
	strbuf_init(&want);
	expect_content(&f, node_at(&f, "files/nothing"), &want, 0);
	strbuf_add_str(&want, "{\"a\": 1}");
	expect_content(&f, node_at(&f, "files/config.json"), &want, 0);
	strbuf_fini(&want);
	strbuf_add_str(&want, "deep");
	expect_content(&f, node_at(&f, "files/sub/one/deep.txt"), &want, 0);
	strbuf_fini(&want);
	teardown(&f);
}
END_TEST

static void expect_document(struct fixture *f, const char *path, enum document_kind kind)
{
	struct strbuf want;

	strbuf_init(&want);
	ck_assert_int_eq(served_write_document(f->served, kind, &want), 0);
	expect_content(f, node_at(f, path), &want, 4096);
	strbuf_fini(&want);
}

START_TEST(documents_are_read_in_pieces)
{
	struct fixture f;

	setup(&f);
	expect_document(&f, "model.json", DOCUMENT_MODEL);
	expect_document(&f, "metadata.json", DOCUMENT_METADATA);
	teardown(&f);
}
END_TEST

/* More than any buffer on the stack: an answer with fewer bytes is the end of the file.
 */
START_TEST(a_long_live_file_is_read_whole)
{
	static char mountpoint[CONTENT_HEADER_MAX];
	struct strbuf got;
	struct fixture f;
	struct stat st;

	setup(&f);
	memset(mountpoint, '/', sizeof(mountpoint) - 1);
	f.fs.mountpoint = mountpoint;
	st = stat_of(&f, ".weightfs/stats.json");
	ck_assert_int_gt(st.st_size, CONTENT_HEADER_MAX);
	strbuf_init(&got);
	ck_assert_int_eq(read_at(&f, node_at(&f, ".weightfs/stats.json"), 0, 131072,
				 &got),
			 st.st_size);
	ck_assert_int_eq(got.data[got.len - 1], '\n');
	strbuf_fini(&got);
	teardown(&f);
}
END_TEST

START_TEST(live_files_are_read_from_the_text_that_was_made_last)
{
	struct strbuf got;
	struct fixture f;
	struct node node;
	struct stat st;

	setup(&f);
	strbuf_init(&got);
	node = node_at(&f, ".weightfs/metrics");
	ck_assert_int_eq(read_at(&f, node, 0, 100, &got), 0);
	st = stat_of(&f, ".weightfs/metrics");
	ck_assert_int_eq(read_at(&f, node, 0, 1 << 20, &got), st.st_size);
	ck_assert_ptr_nonnull(strstr(got.data, "\nweightfs_tensors 9\n"));
	ck_assert_int_eq(read_at(&f, node, (uint64_t)st.st_size, 10, &got), 0);
	ck_assert_int_eq(read_at(&f, node, 3, 5, &got), 5);
	strbuf_fini(&got);
	teardown(&f);
}
END_TEST

START_TEST(only_regular_files_have_bytes)
{
	static const char *const paths[] = { "tensors",      "npy/a", "flat",
					     "flat/tensors", "files", "files/sub",
					     ".weightfs" };
	struct strbuf got;
	struct fixture f;

	setup(&f);
	strbuf_init(&got);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		ck_assert_int_eq(read_at(&f, node_at(&f, paths[i]), 0, 10, &got),
				 -EINVAL);
	ck_assert_int_eq(read_at(&f, root_node, 0, 10, &got), -EINVAL);
	ck_assert_uint_eq(got.len, 0);
	teardown(&f);
}
END_TEST

START_TEST(nothing_is_served_of_a_file_that_changed)
{
	struct strbuf got;
	struct fixture f;
	struct node child;
	struct node tensor;

	setup(&f);
	strbuf_init(&got);
	tensor = node_at(&f, "tensors/a/b");
	model_dir_write_text("m/model.safetensors", "short");
	ck_assert_int_eq(read_at(&f, tensor, 0, 10, &got), -EIO);
	ck_assert_int_eq(layout_lookup(&f.fs, node_at(&f, "tensors/a"), "b", &child),
			 -ESTALE);
	ck_assert_int_eq(layout_lookup(&f.fs, node_at(&f, "files"), "model.safetensors",
				       &child),
			 -ESTALE);
	ck_assert_int_eq(read_at(&f, node_at(&f, "metadata.json"), 0, 10, &got), -EIO);
	/* Other files of the model are still what they were. */
	ck_assert_int_eq(read_at(&f, node_at(&f, "files/config.json"), 0, 10, &got), 8);
	ck_assert_int_gt(read_at(&f, node_at(&f, "model.json"), 0, 10, &got), 0);
	strbuf_fini(&got);
	teardown(&f);
}
END_TEST

/* ---- Extended attributes ---- */

static void expect_xattr(const struct fixture *f, const char *path, const char *name,
			 const char *value)
{
	struct strbuf got;

	strbuf_init(&got);
	ck_assert_int_eq(xattr_get(&f->fs, node_at(f, path), name, &got), 0);
	ck_assert_uint_eq(got.len, strlen(value));
	if (got.len > 0)
		ck_assert_str_eq(got.data, value);
	strbuf_fini(&got);
}

START_TEST(tensor_files_tell_what_they_are)
{
	static const char *const paths[] = { "tensors/w/x", "npy/w/x.npy",
					     "flat/safetensors/w.x.safetensors" };
	struct fixture f;
	char offset[32];

	setup(&f);
	(void)snprintf(offset, sizeof(offset), "%llu",
		       (unsigned long long)f.served->source->files[2].size - DATA_LEN +
			       135);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		expect_xattr(&f, paths[i], "user.weightfs.name", "w.x");
		expect_xattr(&f, paths[i], "user.weightfs.dtype", "I8");
		expect_xattr(&f, paths[i], "user.weightfs.shape", "5,10");
		expect_xattr(&f, paths[i], "user.weightfs.format", "safetensors");
		expect_xattr(&f, paths[i], "user.weightfs.file",
			     model_dir_path("m/model.safetensors"));
		expect_xattr(&f, paths[i], "user.weightfs.offset", offset);
		expect_xattr(&f, paths[i], "user.weightfs.nbytes", "50");
		expect_xattr(&f, paths[i], "user.weightfs.backing", "stream");
	}
	expect_xattr(&f, "tensors/w%2Fx", "user.weightfs.name", "w/x");
	expect_xattr(&f, "tensors/one", "user.weightfs.shape", "");
	expect_xattr(&f, "tensors/empty", "user.weightfs.shape", "0,7");
	teardown(&f);
}
END_TEST

START_TEST(attributes_are_listed_for_tensors_only)
{
	static const char names[] = "user.weightfs.name\0user.weightfs.dtype\0"
				    "user.weightfs.shape\0user.weightfs.format\0"
				    "user.weightfs.file\0user.weightfs.offset\0"
				    "user.weightfs.nbytes\0user.weightfs.backing";
	static const char *const others[] = { "tensors", "files/config.json",
					      "model.json", ".weightfs/metrics" };
	struct strbuf got;
	struct fixture f;

	setup(&f);
	strbuf_init(&got);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		xattr_list(&f.fs, node_at(&f, others[i]), &got);
		ck_assert_uint_eq(got.len, 0);
		ck_assert_int_eq(xattr_get(&f.fs, node_at(&f, others[i]),
					   "user.weightfs.name", &got),
				 -ENODATA);
	}
	xattr_list(&f.fs, node_at(&f, "npy/a/b.npy"), &got);
	ck_assert_uint_eq(got.len, sizeof(names));
	ck_assert_mem_eq(got.data, names, sizeof(names));
	strbuf_fini(&got);
	teardown(&f);
}
END_TEST

START_TEST(other_attributes_are_not_there)
{
	static const char *const names[] = { "",
					     "user.weightfs.",
					     "user.weightfs.names",
					     "user.weightfs.nam",
					     "user.weightfs",
					     "security.selinux",
					     "system.posix_acl_access",
					     "name" };
	struct strbuf got;
	struct fixture f;

	setup(&f);
	strbuf_init(&got);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ck_assert_int_eq(xattr_get(&f.fs, node_at(&f, "tensors/a/b"), names[i],
					   &got),
				 -ENODATA);
	teardown(&f);
}
END_TEST

static TCase *nodes_case(void)
{
	TCase *tcase = tcase_create("nodes");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, what_is_listed_is_found_and_the_other_way_round);
	tcase_add_test(tcase, directories_hold_what_the_contract_says);
	tcase_add_test(tcase, tensors_have_the_same_inode_in_the_tree_and_flat);
	tcase_add_test(tcase, what_is_not_there_is_not_found);
	tcase_add_test(tcase, other_inode_numbers_are_refused);
	return tcase;
}

static TCase *attributes_case(void)
{
	TCase *tcase = tcase_create("attributes");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, files_have_their_size_and_nobody_may_write);
	tcase_add_test(tcase, links_are_counted);
	tcase_add_test(tcase, bytes_count_once);
	tcase_add_test(tcase, times_are_those_of_the_source);
	tcase_add_test(tcase, a_document_is_cheap_once_it_is_made);
	tcase_add_test(tcase, tensor_files_tell_what_they_are);
	tcase_add_test(tcase, attributes_are_listed_for_tensors_only);
	tcase_add_test(tcase, other_attributes_are_not_there);
	return tcase;
}

static TCase *bytes_case(void)
{
	TCase *tcase = tcase_create("bytes");

	tcase_add_checked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, every_view_of_a_tensor_is_its_header_and_its_bytes);
	tcase_add_test(tcase, a_header_may_be_longer_than_the_stack_has_room_for);
	tcase_add_test(tcase, files_are_byte_for_byte);
	tcase_add_test(tcase, documents_are_read_in_pieces);
	tcase_add_test(tcase, a_long_live_file_is_read_whole);
	tcase_add_test(tcase, live_files_are_read_from_the_text_that_was_made_last);
	tcase_add_test(tcase, only_regular_files_have_bytes);
	tcase_add_test(tcase, nothing_is_served_of_a_file_that_changed);
	return tcase;
}

UNIT_MAIN("layout", nodes_case, attributes_case, bytes_case)
