#include <errno.h>
#include <stdio.h>

#include "parsers/limits.h"
#include "tree.h"
#include "unit.h"
#include "util/hash.h"
#include "util/utf8.h"

static const char *const suffixes[] = { "", ".npy", ".safetensors" };

/* ---- Models that are names only ---- */

static struct model *new_model(void)
{
	struct model *model;
	struct diag diag;
	uint16_t shard;

	ck_assert_int_eq(model_new("test", &model), 0);
	ck_assert_int_eq(model_add_shard(model, "model", 1000000, &shard, &diag), 0);
	return model;
}

/* Tensors of one byte each, so that they stay in the order in which they are added. */
static int add_bytes(struct model *model, const char *name, size_t len)
{
	const uint64_t one = 1;
	const struct tensor tensor = {
		.name = name,
		.name_len = (uint32_t)len,
		.shape = &one,
		.rank = 1,
		.offset = model_tensor_count(model),
		.nbytes = 1,
		.dtype = DTYPE_U8,
	};
	struct diag diag;

	return model_add_tensor(model, &tensor, &diag);
}

static void add(struct model *model, const char *name)
{
	ck_assert_int_eq(add_bytes(model, name, strlen(name)), 0);
}

static struct tree *new_tree(struct model *model)
{
	struct tree *tree = NULL;
	struct diag diag;

	ck_assert_int_eq(model_seal(model), 0);
	ck_assert_msg(tree_new(model, &tree, &diag) == 0, "%s", diag.text);
	return tree;
}

static void expect_refused(struct model *model, int err, const char *words)
{
	struct tree *tree;
	struct diag diag;

	ck_assert_int_eq(model_seal(model), 0);
	ck_assert_int_eq(tree_new(model, &tree, &diag), err);
	ck_assert_msg(strstr(diag.text, words) != NULL, "%s", diag.text);
	model_unref(model);
}

/* ---- What must hold for every tensor of every tree ---- */

static void expect_valid_name(const char *name, size_t len)
{
	ck_assert_uint_eq(strlen(name), len);
	ck_assert_uint_ge(len, 1);
	ck_assert_uint_le(len, 255);
	ck_assert(utf8_is_valid(name, len));
	ck_assert_ptr_null(strchr(name, '/'));
	ck_assert_str_ne(name, ".");
	ck_assert_str_ne(name, "..");
}

static void expect_found(const struct tree *tree, uint32_t tensor, const char *suffix)
{
	uint32_t dir = nametree_leaf(tree_names(tree), tensor)->parent;
	char name[PATH_NAME_MAX + 1];
	uint32_t found;

	expect_valid_name(name, tree_file_name(tree, tensor, suffix, name));
	ck_assert_msg(tree_find_file(tree, dir, name, suffix, &found), "%s", name);
	ck_assert_uint_eq(found, tensor);
	ck_assert_msg(!nametree_find_dir(tree_names(tree), dir, name, strlen(name),
					 &found),
		      "%s is also a directory", name);
	expect_valid_name(name, tree_flat_name(tree, tensor, suffix, name));
	ck_assert_msg(tree_find_flat(tree, name, suffix, &found), "%s", name);
	ck_assert_uint_eq(found, tensor);
}

/* Walks the path as the kernel does, component by component. */
static uint32_t resolve(const struct tree *tree, const char *path)
{
	uint32_t dir = NAMETREE_ROOT;
	const char *slash;
	uint32_t tensor;

	while ((slash = strchr(path, '/'))) {
		ck_assert_msg(nametree_find_dir(tree_names(tree), dir, path,
						(size_t)(slash - path), &dir),
			      "%s", path);
		path = slash + 1;
	}
	ck_assert_msg(tree_find_file(tree, dir, path, "", &tensor), "%s", path);
	return tensor;
}

static int compare_strings(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

static void expect_unique(char **texts, size_t count)
{
	qsort(texts, count, sizeof(*texts), compare_strings);
	for (size_t i = 1; i < count; i++)
		ck_assert_str_ne(texts[i - 1], texts[i]);
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
	free(texts);
}

static char **string_list(size_t count)
{
	char **list = calloc(count + 1, sizeof(*list));

	ck_assert_ptr_nonnull(list);
	return list;
}

static char *path_of(const struct tree *tree, uint32_t tensor)
{
	struct strbuf path;

	strbuf_init(&path);
	tree_add_path(tree, tensor, &path);
	ck_assert_int_eq(path.err, 0);
	return strbuf_steal(&path);
}

static void check_tree(const struct tree *tree, uint32_t count)
{
	char **paths = string_list(count);

	for (uint32_t i = 0; i < count; i++) {
		for (size_t k = 0; k < ARRAY_LEN(suffixes); k++)
			expect_found(tree, i, suffixes[k]);
		paths[i] = path_of(tree, i);
		ck_assert_uint_eq(resolve(tree, paths[i]), i);
	}
	expect_unique(paths, count);
	for (size_t k = 0; k < ARRAY_LEN(suffixes); k++) {
		char **flat = string_list(count);

		for (uint32_t i = 0; i < count; i++) {
			char name[PATH_NAME_MAX + 1];

			(void)tree_flat_name(tree, i, suffixes[k], name);
			flat[i] = strdup(name);
		}
		expect_unique(flat, count);
	}
}

static struct tree *checked_tree(struct model *model)
{
	struct tree *tree = new_tree(model);

	check_tree(tree, (uint32_t)model_tensor_count(model));
	return tree;
}

/* ---- Known names and their paths ---- */

struct named_path {
	const char *name;
	const char *path;
};

static void expect_paths_in_order(const struct named_path *list, size_t count,
				  bool backwards)
{
	struct model *model = new_model();
	struct tree *tree;

	for (size_t i = 0; i < count; i++)
		add(model, list[backwards ? count - 1 - i : i].name);
	tree = checked_tree(model);
	for (size_t i = 0; i < count; i++) {
		const struct tensor *t =
			model_find_tensor(model, list[i].name, strlen(list[i].name));
		char *path = path_of(tree, (uint32_t)model_tensor_index(model, t));

		ck_assert_str_eq(path, list[i].path);
		free(path);
	}
	tree_free(tree);
	model_unref(model);
}

/* The order of the tensors in the file does not matter for these. */
static void expect_paths(const struct named_path *list, size_t count)
{
	expect_paths_in_order(list, count, false);
	expect_paths_in_order(list, count, true);
}

#define EXPECT_PATHS(...)                                                \
	do {                                                             \
		static const struct named_path list[] = { __VA_ARGS__ }; \
                                                                         \
		expect_paths(list, ARRAY_LEN(list));                     \
	} while (0)

static void expect_flat(const char *name, const char *flat)
{
	struct model *model = new_model();
	char out[PATH_NAME_MAX + 1];
	struct tree *tree;

	add(model, name);
	tree = checked_tree(model);
	(void)tree_flat_name(tree, 0, ".npy", out);
	ck_assert_mem_eq(out, flat, strlen(flat));
	ck_assert_str_eq(out + strlen(flat), ".npy");
	(void)tree_flat_name(tree, 0, "", out);
	ck_assert_str_eq(out, flat);
	tree_free(tree);
	model_unref(model);
}

START_TEST(a_name_is_split_at_dots_and_slashes)
{
	EXPECT_PATHS({ "model.layers.0.self_attn.q_proj.weight",
		       "model/layers/0/self_attn/q_proj/weight" },
		     { "model.layers.0.self_attn.q_proj.bias",
		       "model/layers/0/self_attn/q_proj/bias" },
		     { "a/b.c/d", "a/b/c/d" }, { "single", "single" });
}
END_TEST

START_TEST(components_are_encoded)
{
	EXPECT_PATHS({ "a%.b\n.\x7f", "a%25/b%0A/%7F" },
		     { "\xff.\xc3\xa4", "%FF/\xc3\xa4" }, { "a b.c~d", "a b/c~d" });
}
END_TEST

START_TEST(an_empty_component_is_a_percent_sign)
{
	EXPECT_PATHS({ "a.", "a/%" }, { ".a", "%/a" }, { "b..c", "b/%/c" },
		     { "d/", "d/%" }, { "e./f", "e/%/f" });
	EXPECT_PATHS({ "", "%" });
	EXPECT_PATHS({ ".", "%/%" });
	EXPECT_PATHS({ "...", "%/%/%/%" });
}
END_TEST

START_TEST(names_of_dots_alone_stay_apart)
{
	EXPECT_PATHS({ "", "%/%self" }, { ".", "%/%/%self" }, { "..", "%/%/%/%self" },
		     { "...", "%/%/%/%" });
}
END_TEST

START_TEST(a_tensor_in_place_of_a_directory_is_self)
{
	EXPECT_PATHS({ "a", "a/%self" }, { "a.b", "a/b" });
	EXPECT_PATHS({ "a", "a/%self" }, { "a/b", "a/b" });
	EXPECT_PATHS({ "a", "a/%self" }, { "a.b", "a/b/%self" }, { "a.b.c", "a/b/c" });
	EXPECT_PATHS({ "a", "a/%self" }, { "a.b.c", "a/b/c" });
}
END_TEST

START_TEST(a_name_cannot_pretend_to_be_self)
{
	EXPECT_PATHS({ "a", "a/%self" }, { "a.b", "a/b" }, { "a.%self", "a/%25self" },
		     { "%self", "%25self" });
}
END_TEST

START_TEST(of_two_names_on_one_path_the_one_with_a_slash_makes_room)
{
	EXPECT_PATHS({ "a/b", "a%2Fb" }, { "a.b", "a/b" });
	EXPECT_PATHS({ "a/b", "a%2Fb" }, { "a.b", "a/b" }, { "a%2Fb", "a%252Fb" });
	EXPECT_PATHS({ "a/b.c", "a%2Fb/c" }, { "a.b.c", "a/b/c" });
	EXPECT_PATHS({ "x.a/b", "x/a%2Fb" }, { "x.a.b", "x/a/b" });
	EXPECT_PATHS({ "/", "%2F" }, { ".", "%/%" });
}
END_TEST

START_TEST(a_slash_makes_room_for_self_as_well)
{
	EXPECT_PATHS({ "a/b", "a%2Fb" }, { "a.b", "a/b/%self" }, { "a.b.c", "a/b/c" });
	EXPECT_PATHS({ "a/b", "a%2Fb" }, { "a.b", "a/b/%self" }, { "a/b.c", "a/b/c" });
	/* Both on one path, and where they make room to, one is the other's directory. */
	EXPECT_PATHS({ "a/b", "a%2Fb/%self" }, { "a.b", "a/b/%self" },
		     { "a.b.c", "a/b/c" }, { "a/b.c", "a%2Fb/c" });
}
END_TEST

START_TEST(several_names_with_slashes_make_room_for_one_without)
{
	EXPECT_PATHS({ "a.b.c", "a/b/c" }, { "a/b.c", "a%2Fb/c" }, { "a.b/c", "a/b%2Fc" },
		     { "a/b/c", "a%2Fb%2Fc" });
}
END_TEST

START_TEST(of_names_with_slashes_the_first_one_stays)
{
	static const struct named_path forwards[] = {
		{ "a/b.c", "a/b/c" },
		{ "a.b/c", "a/b%2Fc" },
		{ "a/b/c", "a%2Fb%2Fc" },
	};
	static const struct named_path backwards[] = {
		{ "a/b.c", "a%2Fb/c" },
		{ "a.b/c", "a/b%2Fc" },
		{ "a/b/c", "a/b/c" },
	};

	expect_paths_in_order(forwards, ARRAY_LEN(forwards), false);
	expect_paths_in_order(backwards, ARRAY_LEN(backwards), true);
}
END_TEST

START_TEST(flat_names_are_the_names)
{
	expect_flat("a.b.weight", "a.b.weight");
	expect_flat("a/b", "a%2Fb");
	expect_flat("100%\n", "100%25%0A");
	expect_flat("", "%");
	expect_flat("a.npy", "a.npy");
}
END_TEST

START_TEST(flat_names_of_one_or_two_dots_are_escaped)
{
	expect_flat(".", "%2E");
	expect_flat("..", "%2E%2E");
	expect_flat("...", "...");
	expect_flat(".a", ".a");
	expect_flat("/..", "%2F..");
}
END_TEST

START_TEST(a_model_without_tensors_has_an_empty_tree)
{
	struct model *model = new_model();
	struct tree *tree = new_tree(model);
	uint32_t found;

	ck_assert_uint_eq(nametree_dir_count(tree_names(tree)), 1);
	ck_assert(!tree_find_file(tree, NAMETREE_ROOT, "a", "", &found));
	ck_assert(!tree_find_flat(tree, "a", "", &found));
	tree_free(tree);
	tree_free(NULL);
	model_unref(model);
}
END_TEST

START_TEST(a_tree_keeps_its_model)
{
	struct model *model = new_model();
	struct tree *tree;

	add(model, "a.b");
	tree = new_tree(model);
	model_unref(model);
	check_tree(tree, 1);
	tree_free(tree);
}
END_TEST

/* ---- What is no file name ---- */

START_TEST(only_the_one_spelling_is_found)
{
	static const char *const bad[] = { "",          ".npy",      "a",
					   "%61.npy",   "a.npy.npy", "b",
					   "%2fb.npy",  "/b.npy",    "a.b",
					   "%self.npy", "%.npy" };
	struct model *model = new_model();
	struct tree *tree;
	uint32_t found;

	add(model, "a");
	add(model, "/b");
	tree = checked_tree(model);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(!tree_find_flat(tree, bad[i], ".npy", &found), "%s",
			      bad[i]);
		ck_assert_msg(!tree_find_file(tree, NAMETREE_ROOT, bad[i], ".npy",
					      &found),
			      "%s", bad[i]);
	}
	ck_assert(tree_find_flat(tree, "%2Fb.npy", ".npy", &found));
	ck_assert(!tree_find_flat(tree, "a.npy", "", &found));
	ck_assert(!tree_find_flat(tree, "a.npy", ".safetensors", &found));
	tree_free(tree);
	model_unref(model);
}
END_TEST

START_TEST(a_directory_is_no_file)
{
	struct model *model = new_model();
	struct tree *tree;
	uint32_t found;

	add(model, "a");
	add(model, "a.b");
	tree = checked_tree(model);
	ck_assert(!tree_find_file(tree, NAMETREE_ROOT, "a", "", &found));
	ck_assert(!tree_find_file(tree, NAMETREE_ROOT, "a.npy", ".npy", &found));
	ck_assert(!tree_find_file(tree, NAMETREE_ROOT, "b", "", &found));
	ck_assert(nametree_find_dir(tree_names(tree), NAMETREE_ROOT, "a", 1, &found));
	tree_free(tree);
	model_unref(model);
}
END_TEST

START_TEST(names_of_any_length_can_be_asked_for)
{
	struct model *model = new_model();
	char name[2000] = { 0 };
	struct tree *tree;
	uint32_t found;

	memset(name, 'x', 1500);
	add(model, name);
	tree = checked_tree(model);
	ck_assert(!tree_find_file(tree, NAMETREE_ROOT, name, "", &found));
	ck_assert(!tree_find_flat(tree, name, "", &found));
	for (size_t len = 1; len < 1500; len++) {
		ck_assert(!tree_find_file(tree, NAMETREE_ROOT, name + len, "", &found));
		ck_assert(!tree_find_flat(tree, name + len, "", &found));
	}
	tree_free(tree);
	model_unref(model);
}
END_TEST

START_TEST(a_name_has_at_most_256_components)
{
	struct model *model = new_model();
	char name[600];
	struct tree *tree;
	char *path;

	memset(name, '.', 256);
	name[255] = '\0';
	add(model, name);
	tree = checked_tree(model);
	path = path_of(tree, 0);
	ck_assert_uint_eq(strlen(path), 511);
	free(path);
	tree_free(tree);
	model_unref(model);

	model = new_model();
	memset(name, '.', 256);
	name[256] = '\0';
	add(model, name);
	expect_refused(model, -E2BIG, "its name has more than 256 components");
}
END_TEST

/* ---- Long names ---- */

/* Overwrites bytes of a name; its end stays where it is. */
static void put(char *at, const char *text)
{
	for (; *text; text++)
		*at++ = *text;
}

/* `len` bytes that differ early. */
static char *long_name(char first, size_t len)
{
	char *name = malloc(len + 1);

	ck_assert_ptr_nonnull(name);
	memset(name, 'x', len);
	name[0] = first;
	name[len] = '\0';
	return name;
}

static void cut_form(const char *name, const char *hash_of, const char *suffix,
		     char out[static PATH_NAME_MAX + 1])
{
	(void)snprintf(out, PATH_NAME_MAX + 1, "%.*s~%016llx%s",
		       (int)(PATH_NAME_MAX - 17 - strlen(suffix)), name,
		       (unsigned long long)hash_stable(hash_of, strlen(hash_of)), suffix);
}

static void expect_rendered(size_t len, const char *suffix)
{
	CLEANUP(free_ptr) char *name = long_name('a', len);
	struct model *model = new_model();
	char want[PATH_NAME_MAX + 16];
	char got[PATH_NAME_MAX + 1];
	struct tree *tree;

	add(model, name);
	tree = checked_tree(model);
	if (len + strlen(suffix) <= PATH_NAME_MAX)
		(void)snprintf(want, sizeof(want), "%.255s%.12s", name, suffix);
	else
		cut_form(name, name, suffix, want);
	(void)tree_file_name(tree, 0, suffix, got);
	ck_assert_str_eq(got, want);
	(void)tree_flat_name(tree, 0, suffix, got);
	ck_assert_str_eq(got, want);
	tree_free(tree);
	model_unref(model);
}

START_TEST(a_name_is_cut_from_256_bytes_on)
{
	for (size_t len = 240; len <= 260; len++)
		for (size_t k = 0; k < ARRAY_LEN(suffixes); k++)
			expect_rendered(len, suffixes[k]);
	expect_rendered(LIMIT_NAME_BYTES, "");
	expect_rendered(LIMIT_NAME_BYTES, ".safetensors");
}
END_TEST

START_TEST(long_names_that_begin_alike_stay_apart)
{
	struct model *model = new_model();
	struct tree *tree;

	for (size_t len = 230; len < 600; len++) {
		CLEANUP(free_ptr) char *name = long_name('a', len);

		add(model, name);
	}
	tree = checked_tree(model);
	tree_free(tree);
	model_unref(model);
}
END_TEST

START_TEST(a_long_component_in_the_middle_is_cut_as_well)
{
	char *component = long_name('a', 400);
	struct model *model = new_model();
	char dir[PATH_NAME_MAX + 1];
	char name[500];
	char want[300];
	struct tree *tree;
	char *path;

	cut_form(component, component, "", dir);
	(void)snprintf(want, sizeof(want), "p/%s/w", dir);
	(void)snprintf(name, sizeof(name), "p.%s.w", component);
	add(model, name);
	(void)snprintf(name, sizeof(name), "p.%s.v", component);
	add(model, name);
	tree = checked_tree(model);
	path = path_of(tree, 0);
	ck_assert_str_eq(path, want);
	free(path);
	free(component);
	/* One directory for both. */
	ck_assert_uint_eq(nametree_dir_count(tree_names(tree)), 3);
	tree_free(tree);
	model_unref(model);
}
END_TEST

START_TEST(a_long_tensor_in_place_of_a_directory_is_self)
{
	CLEANUP(free_ptr) char *name = long_name('a', 402);
	struct model *model = new_model();
	char cut[PATH_NAME_MAX + 1];
	char want[300];
	struct tree *tree;
	char *path;

	name[400] = '\0';
	cut_form(name, name, "", cut);
	(void)snprintf(want, sizeof(want), "%s/%%self", cut);
	add(model, name);
	name[400] = '.';
	add(model, name);
	tree = checked_tree(model);
	path = path_of(tree, 0);
	ck_assert_str_eq(path, want);
	free(path);
	tree_free(tree);
	model_unref(model);
}
END_TEST

/* The bytes of one name are the encoding of another's component: their hashes differ. */
START_TEST(a_name_that_spells_another_ones_escape_is_no_directory)
{
	struct model *model = new_model();
	char name[400];
	struct tree *tree;

	memset(name, 'x', sizeof(name));
	memcpy(name + 300, "%01", 4);
	add(model, name);
	memcpy(name + 300, "\x01", 2);
	add(model, name);
	memcpy(name + 300, "\x01.b", 4);
	add(model, name);
	tree = checked_tree(model);
	ck_assert_uint_eq(nametree_leaf(tree_names(tree), 0)->parent, NAMETREE_ROOT);
	ck_assert_uint_ne(nametree_leaf(tree_names(tree), 1)->parent, NAMETREE_ROOT);
	tree_free(tree);
	model_unref(model);
}
END_TEST

/* ---- Names that pretend to be cut ---- */

START_TEST(a_name_that_is_anothers_cut_form_is_itself)
{
	CLEANUP(free_ptr) char *name = long_name('a', 300);
	struct model *model = new_model();
	char cut[PATH_NAME_MAX + 1];
	char file[PATH_NAME_MAX + 1];
	struct tree *tree;

	add(model, name);
	for (size_t k = 0; k < ARRAY_LEN(suffixes); k++) {
		cut_form(name, name, suffixes[k], cut);
		cut[strlen(cut) - strlen(suffixes[k])] = '\0';
		add(model, cut);
	}
	tree = checked_tree(model);
	cut_form(name, name, "", cut);
	(void)tree_file_name(tree, 0, "", file);
	ck_assert_str_eq(file, cut);
	(void)tree_flat_name(tree, 1, "", file);
	ck_assert_str_ne(file, cut);
	tree_free(tree);
	model_unref(model);
}
END_TEST

START_TEST(a_short_name_with_anothers_mark_stays)
{
	CLEANUP(free_ptr) char *name = long_name('a', 300);
	struct model *model = new_model();
	char cut[PATH_NAME_MAX + 1];
	struct tree *tree;
	char *path;

	add(model, name);
	cut_form(name, name, "", cut);
	add(model, cut + 200);
	add(model, cut + PATH_NAME_MAX - 17);
	tree = checked_tree(model);
	path = path_of(tree, 1);
	ck_assert_str_eq(path, cut + 200);
	free(path);
	tree_free(tree);
	model_unref(model);
}
END_TEST

START_TEST(marks_upon_marks_stay_apart)
{
	CLEANUP(free_ptr) char *name = long_name('a', 300);
	char names[20][PATH_NAME_MAX + 1];
	struct model *model = new_model();
	struct tree *tree;

	/* Each is what the one before would be called. */
	add(model, name);
	cut_form(name, name, "", names[0]);
	for (size_t i = 0; i + 1 < ARRAY_LEN(names); i++)
		cut_form(names[i], names[i], "", names[i + 1]);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		add(model, names[i]);
	tree = checked_tree(model);
	tree_free(tree);
	model_unref(model);
}
END_TEST

/* Short in the file, but each byte is three in the encoding; and its last component is
 * not long enough to be marked in its directory. */
START_TEST(a_flat_name_that_is_long_only_when_encoded_is_found)
{
	struct model *model = new_model();
	char name[128];
	struct tree *tree;

	for (size_t len = 20; len < 60; len++) {
		memset(name, '\x01', len);
		name[len / 2] = '.';
		(void)snprintf(name + len, sizeof(name) - len, "~%016zx", len);
		add(model, name);
	}
	tree = checked_tree(model);
	tree_free(tree);
	model_unref(model);
}
END_TEST

START_TEST(a_cut_directory_can_be_named_by_nobody_else)
{
	CLEANUP(free_ptr) char *name = long_name('a', 302);
	struct model *model = new_model();
	char cut[PATH_NAME_MAX + 1];
	char below[300];
	struct tree *tree;

	name[300] = '\0';
	cut_form(name, name, "", cut);
	add(model, cut);
	(void)snprintf(below, sizeof(below), "%s.w", cut);
	add(model, below);
	name[300] = '.';
	add(model, name);
	tree = checked_tree(model);
	ck_assert_uint_eq(nametree_dir_count(tree_names(tree)), 3);
	tree_free(tree);
	model_unref(model);
}
END_TEST

/* ---- Hashes that were made alike ---- */

/* Two components of 512 bytes that begin alike and have the same XXH3: two lanes of the
 * same accumulator change by amounts that cancel out. */
static void make_twins(char *one, char *other)
{
	memset(one, 'a', 512);
	put(one + 256, "paaa");
	put(one + 320, "9BWR");
	memcpy(other, one, 512);
	one[256 + 4] = 'b';
	one[320 + 4] = 'c';
	other[256 + 4] = 'c';
	other[320 + 4] = 'b';
	ck_assert_uint_eq(hash_stable(one, 512), hash_stable(other, 512));
	ck_assert_mem_ne(one, other, 512);
}

START_TEST(long_names_with_one_hash_are_refused)
{
	struct model *model = new_model();
	char one[512];
	char other[512];

	make_twins(one, other);
	ck_assert_int_eq(add_bytes(model, one, 512), 0);
	ck_assert_int_eq(add_bytes(model, other, 512), 0);
	expect_refused(model, -EEXIST, "its long name has the same hash as another's");
}
END_TEST

/* Four names on one path, and none of them can make room. */
START_TEST(directories_with_one_hash_are_refused_where_their_files_are_alike)
{
	struct model *model = new_model();
	char twins[2][512];
	char name[1100];

	make_twins(twins[0], twins[1]);
	for (unsigned int i = 0; i < 4; i++) {
		memcpy(name, twins[i & 1], 512);
		name[512] = '.';
		memcpy(name + 513, twins[i >> 1], 512);
		put(name + 1025, ".w");
		ck_assert_int_eq(add_bytes(model, name, 1027), 0);
	}
	expect_refused(model, -EEXIST, "same path as another's");
}
END_TEST

START_TEST(slashes_make_room_only_once)
{
	static const char *const ends[] = { ".a.b", ".a/b", ".a/b" };
	struct model *model = new_model();
	char twins[2][512];
	char name[600];

	make_twins(twins[0], twins[1]);
	for (unsigned int i = 0; i < ARRAY_LEN(ends); i++) {
		memcpy(name, twins[i / 2], 512);
		put(name + 512, ends[i]);
		ck_assert_int_eq(add_bytes(model, name, 516), 0);
	}
	expect_refused(model, -EEXIST, "same path as another's");
}
END_TEST

START_TEST(directories_with_one_hash_are_one_where_their_files_differ)
{
	struct model *model = new_model();
	struct tree *tree;
	char twins[2][512];
	char name[600];

	make_twins(twins[0], twins[1]);
	for (unsigned int i = 0; i < 2; i++) {
		memcpy(name, twins[i], 512);
		put(name + 512, i ? ".v" : ".w");
		ck_assert_int_eq(add_bytes(model, name, 514), 0);
		ck_assert_int_eq(add_bytes(model, twins[i], i ? 511 : 512), 0);
	}
	tree = checked_tree(model);
	ck_assert_uint_eq(nametree_dir_count(tree_names(tree)), 2);
	tree_free(tree);
	model_unref(model);
}
END_TEST

/* ---- Names by chance ---- */

#define NAME_MOST 700

struct random {
	uint64_t state;
};

/* xorshift64: the same names in each run. */
static uint32_t next(struct random *r, uint32_t below)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return (uint32_t)(r->state >> 33) % below;
}

static size_t random_from(struct random *r, const char *alphabet, size_t len,
			  char out[static NAME_MOST])
{
	for (size_t i = 0; i < len; i++)
		out[i] = alphabet[next(r, (uint32_t)strlen(alphabet))];
	return len;
}

/* A long name made of few components, with an ending that may be a mark. */
static size_t random_long(struct random *r, char out[static NAME_MOST])
{
	static const char *const alphabets[] = { "x", "\x01", "%", "xy\xc3\xa4\x7f" };
	size_t len = random_from(r, alphabets[next(r, ARRAY_LEN(alphabets))],
				 60 + next(r, 500), out);

	for (uint32_t dots = next(r, 3); dots > 0; dots--)
		out[next(r, (uint32_t)len)] = next(r, 2) ? '.' : '/';
	if (next(r, 2)) {
		(void)snprintf(out + len, NAME_MOST - len, "~%016llx",
			       (unsigned long long)hash_stable(out, len));
		len += 17;
	}
	return len;
}

static size_t random_name(struct random *r, char out[static NAME_MOST])
{
	size_t len;

	switch (next(r, 4)) {
	case 0:
		/* Few and short: many of them meet on one path. */
		return random_from(r, "ab./", next(r, 7), out);
	case 1:
		return random_from(r, "a.%/2F\n~s", next(r, 12), out);
	case 2:
		len = next(r, 60);
		for (size_t i = 0; i < len; i++)
			out[i] = (char)next(r, 256);
		return len;
	default:
		return random_long(r, out);
	}
}

static struct model *random_model(uint64_t seed, unsigned int count)
{
	struct random r = { .state = seed };
	struct model *model = new_model();
	char name[NAME_MOST];

	for (unsigned int i = 0; i < count; i++) {
		int err = add_bytes(model, name, random_name(&r, name));

		ck_assert(err == 0 || err == -EEXIST);
	}
	return model;
}

START_TEST(random_names_are_found_again)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct model *model = random_model(seed * 0x9e3779b97f4a7c15, 1000);
		struct tree *tree = checked_tree(model);

		ck_assert_uint_gt(model_tensor_count(model), 600);
		tree_free(tree);
		model_unref(model);
	}
}
END_TEST

static void add_again(struct model *model, const char *name)
{
	int err = add_bytes(model, name, strlen(name));

	ck_assert(err == 0 || err == -EEXIST);
}

/* Every file name of one tree is a tensor's name in the next. */
static struct model *pretenders(const struct model *model, const struct tree *tree)
{
	struct model *more = new_model();
	char name[PATH_NAME_MAX + 1];

	for (uint32_t i = 0; i < model_tensor_count(model); i++) {
		const struct tensor *t = model_tensor(model, i);
		int err = add_bytes(more, t->name, t->name_len);
		char *path;

		ck_assert(err == 0 || err == -EEXIST);
		for (size_t k = 0; k < ARRAY_LEN(suffixes); k++) {
			(void)tree_file_name(tree, i, suffixes[k], name);
			add_again(more, name);
			name[strlen(name) - strlen(suffixes[k])] = '\0';
			add_again(more, name);
			(void)tree_flat_name(tree, i, suffixes[k], name);
			name[strlen(name) - strlen(suffixes[k])] = '\0';
			add_again(more, name);
		}
		path = path_of(tree, i);
		add_again(more, path);
		free(path);
	}
	return more;
}

START_TEST(names_that_are_file_names_of_others_are_found_again)
{
	struct model *model = random_model(12345, 400);

	for (unsigned int round = 0; round < 3; round++) {
		struct tree *tree = checked_tree(model);
		struct model *more = pretenders(model, tree);

		tree_free(tree);
		ck_assert_uint_gt(model_tensor_count(more), model_tensor_count(model));
		model_unref(model);
		model = more;
	}
	tree_free(checked_tree(model));
	model_unref(model);
}
END_TEST

static TCase *paths_case(void)
{
	TCase *tcase = tcase_create("paths");

	tcase_add_test(tcase, a_name_is_split_at_dots_and_slashes);
	tcase_add_test(tcase, components_are_encoded);
	tcase_add_test(tcase, an_empty_component_is_a_percent_sign);
	tcase_add_test(tcase, names_of_dots_alone_stay_apart);
	tcase_add_test(tcase, a_tensor_in_place_of_a_directory_is_self);
	tcase_add_test(tcase, a_name_cannot_pretend_to_be_self);
	tcase_add_test(tcase, of_two_names_on_one_path_the_one_with_a_slash_makes_room);
	tcase_add_test(tcase, a_slash_makes_room_for_self_as_well);
	tcase_add_test(tcase, several_names_with_slashes_make_room_for_one_without);
	tcase_add_test(tcase, of_names_with_slashes_the_first_one_stays);
	tcase_add_test(tcase, flat_names_are_the_names);
	tcase_add_test(tcase, flat_names_of_one_or_two_dots_are_escaped);
	tcase_add_test(tcase, a_model_without_tensors_has_an_empty_tree);
	tcase_add_test(tcase, a_tree_keeps_its_model);
	tcase_add_test(tcase, only_the_one_spelling_is_found);
	tcase_add_test(tcase, a_directory_is_no_file);
	tcase_add_test(tcase, names_of_any_length_can_be_asked_for);
	tcase_add_test(tcase, a_name_has_at_most_256_components);
	return tcase;
}

static TCase *long_case(void)
{
	TCase *tcase = tcase_create("long names");

	tcase_add_test(tcase, a_name_is_cut_from_256_bytes_on);
	tcase_add_test(tcase, long_names_that_begin_alike_stay_apart);
	tcase_add_test(tcase, a_long_component_in_the_middle_is_cut_as_well);
	tcase_add_test(tcase, a_long_tensor_in_place_of_a_directory_is_self);
	tcase_add_test(tcase, a_name_that_spells_another_ones_escape_is_no_directory);
	tcase_add_test(tcase, a_name_that_is_anothers_cut_form_is_itself);
	tcase_add_test(tcase, a_short_name_with_anothers_mark_stays);
	tcase_add_test(tcase, marks_upon_marks_stay_apart);
	tcase_add_test(tcase, a_flat_name_that_is_long_only_when_encoded_is_found);
	tcase_add_test(tcase, a_cut_directory_can_be_named_by_nobody_else);
	tcase_add_test(tcase, long_names_with_one_hash_are_refused);
	tcase_add_test(tcase,
		       directories_with_one_hash_are_refused_where_their_files_are_alike);
	tcase_add_test(tcase, slashes_make_room_only_once);
	tcase_add_test(tcase, directories_with_one_hash_are_one_where_their_files_differ);
	return tcase;
}

static TCase *random_case(void)
{
	TCase *tcase = tcase_create("random names");

	tcase_add_test(tcase, random_names_are_found_again);
	tcase_add_test(tcase, names_that_are_file_names_of_others_are_found_again);
	return tcase;
}

UNIT_MAIN("tree", paths_case, long_case, random_case)
