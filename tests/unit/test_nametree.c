#include <errno.h>
#include <stdio.h>

#include "nametree.h"
#include "unit.h"

static struct nametree *new_tree(uint32_t leaf_count)
{
	struct nametree *tree;

	ck_assert_int_eq(nametree_new(leaf_count, &tree), 0);
	return tree;
}

static uint32_t add_dir(struct nametree *tree, uint32_t parent, const char *name)
{
	uint32_t dir;

	ck_assert_int_eq(nametree_add_dir(tree, parent, name, strlen(name), &dir), 0);
	return dir;
}

static void place(struct nametree *tree, uint32_t leaf, uint32_t parent, const char *name)
{
	ck_assert_int_eq(nametree_place_leaf(tree, leaf, parent, name, strlen(name)), 0);
}

static void expect_leaf(const struct nametree *tree, uint32_t parent, const char *name,
			uint32_t leaf)
{
	uint32_t found;

	ck_assert(nametree_find_leaf(tree, parent, name, strlen(name), &found));
	ck_assert_uint_eq(found, leaf);
	ck_assert_uint_eq(nametree_leaf(tree, leaf)->parent, parent);
	ck_assert_uint_eq(nametree_leaf(tree, leaf)->name_len, strlen(name));
	ck_assert_mem_eq(nametree_leaf(tree, leaf)->name, name, strlen(name));
}

static void expect_no_leaf(const struct nametree *tree, uint32_t parent, const char *name)
{
	uint32_t found = 77;

	ck_assert(!nametree_find_leaf(tree, parent, name, strlen(name), &found));
	ck_assert_uint_eq(found, 77);
}

START_TEST(an_empty_tree_has_a_root)
{
	struct nametree *tree = new_tree(0);
	uint32_t found;

	ck_assert_uint_eq(nametree_dir_count(tree), 1);
	ck_assert(!nametree_find_dir(tree, NAMETREE_ROOT, "a", 1, &found));
	/* The root itself is nobody's child. */
	ck_assert(!nametree_find_dir(tree, NAMETREE_ROOT, "", 0, &found));
	expect_no_leaf(tree, NAMETREE_ROOT, "a");
	ck_assert_int_eq(nametree_seal(tree), 0);
	ck_assert_uint_eq(nametree_dir(tree, NAMETREE_ROOT)->subdir_count, 0);
	ck_assert_uint_eq(nametree_dir(tree, NAMETREE_ROOT)->leaf_count, 0);
	nametree_free(tree);
	nametree_free(NULL);
}
END_TEST

START_TEST(a_directory_is_added_once)
{
	struct nametree *tree = new_tree(0);
	uint32_t a = add_dir(tree, NAMETREE_ROOT, "a");
	uint32_t found;

	ck_assert_uint_eq(add_dir(tree, NAMETREE_ROOT, "a"), a);
	ck_assert_uint_eq(nametree_dir_count(tree), 2);
	ck_assert_uint_ne(add_dir(tree, a, "a"), a);
	ck_assert_uint_eq(nametree_dir_count(tree), 3);
	ck_assert(nametree_find_dir(tree, NAMETREE_ROOT, "a", 1, &found));
	ck_assert_uint_eq(found, a);
	ck_assert(!nametree_find_dir(tree, NAMETREE_ROOT, "ab", 2, &found));
	ck_assert(!nametree_find_dir(tree, NAMETREE_ROOT, "", 0, &found));
	nametree_free(tree);
}
END_TEST

START_TEST(a_directory_and_a_leaf_may_share_a_name)
{
	struct nametree *tree = new_tree(2);
	uint32_t dir;
	uint32_t found;

	place(tree, 0, NAMETREE_ROOT, "a");
	ck_assert(!nametree_find_dir(tree, NAMETREE_ROOT, "a", 1, &found));
	dir = add_dir(tree, NAMETREE_ROOT, "a");
	place(tree, 1, dir, "a");
	expect_leaf(tree, NAMETREE_ROOT, "a", 0);
	expect_leaf(tree, dir, "a", 1);
	ck_assert(nametree_find_dir(tree, NAMETREE_ROOT, "a", 1, &found));
	ck_assert_uint_eq(found, dir);
	nametree_free(tree);
}
END_TEST

START_TEST(a_name_may_hold_any_bytes)
{
	struct nametree *tree = new_tree(3);
	uint32_t found;

	ck_assert_int_eq(nametree_place_leaf(tree, 0, NAMETREE_ROOT, "a\0b", 3), 0);
	ck_assert_int_eq(nametree_place_leaf(tree, 1, NAMETREE_ROOT, "a\0c", 3), 0);
	ck_assert_int_eq(nametree_place_leaf(tree, 2, NAMETREE_ROOT, "a", 1), 0);
	ck_assert(nametree_find_leaf(tree, NAMETREE_ROOT, "a\0c", 3, &found));
	ck_assert_uint_eq(found, 1);
	ck_assert(nametree_find_leaf(tree, NAMETREE_ROOT, "a", 1, &found));
	ck_assert_uint_eq(found, 2);
	nametree_free(tree);
}
END_TEST

START_TEST(a_leaf_takes_the_place_of_another)
{
	struct nametree *tree = new_tree(2);
	uint32_t dir = add_dir(tree, NAMETREE_ROOT, "d");

	place(tree, 0, dir, "x");
	nametree_replace_leaf(tree, 0, 1);
	expect_leaf(tree, dir, "x", 1);
	place(tree, 0, NAMETREE_ROOT, "y");
	expect_leaf(tree, NAMETREE_ROOT, "y", 0);
	expect_leaf(tree, dir, "x", 1);
	ck_assert_int_eq(nametree_seal(tree), 0);
	ck_assert_uint_eq(nametree_dir(tree, dir)->leaf_count, 1);
	ck_assert_uint_eq(nametree_leaf_at(tree, nametree_dir(tree, dir), 0), 1);
	nametree_free(tree);
}
END_TEST

START_TEST(children_are_listed_in_the_order_of_their_numbers)
{
	struct nametree *tree = new_tree(5);
	uint32_t a = add_dir(tree, NAMETREE_ROOT, "a");
	uint32_t b = add_dir(tree, NAMETREE_ROOT, "b");
	uint32_t ax = add_dir(tree, a, "x");
	uint32_t c = add_dir(tree, NAMETREE_ROOT, "c");
	const struct nametree_dir *root;
	const struct nametree_dir *dir;

	place(tree, 4, a, "4");
	place(tree, 0, NAMETREE_ROOT, "0");
	place(tree, 2, a, "2");
	place(tree, 3, ax, "3");
	place(tree, 1, a, "1");
	ck_assert_int_eq(nametree_seal(tree), 0);
	root = nametree_dir(tree, NAMETREE_ROOT);
	ck_assert_uint_eq(root->subdir_count, 3);
	ck_assert_uint_eq(nametree_subdir_at(tree, root, 0), a);
	ck_assert_uint_eq(nametree_subdir_at(tree, root, 1), b);
	ck_assert_uint_eq(nametree_subdir_at(tree, root, 2), c);
	ck_assert_uint_eq(root->leaf_count, 1);
	ck_assert_uint_eq(nametree_leaf_at(tree, root, 0), 0);
	dir = nametree_dir(tree, a);
	ck_assert_uint_eq(dir->parent, NAMETREE_ROOT);
	ck_assert_uint_eq(dir->subdir_count, 1);
	ck_assert_uint_eq(nametree_subdir_at(tree, dir, 0), ax);
	ck_assert_uint_eq(dir->leaf_count, 3);
	ck_assert_uint_eq(nametree_leaf_at(tree, dir, 0), 1);
	ck_assert_uint_eq(nametree_leaf_at(tree, dir, 1), 2);
	ck_assert_uint_eq(nametree_leaf_at(tree, dir, 2), 4);
	dir = nametree_dir(tree, b);
	ck_assert_uint_eq(dir->subdir_count + dir->leaf_count, 0);
	nametree_free(tree);
}
END_TEST

#define MANY 20000u

/* Names must outlive the tree. */
static char (*many_names(void))[8]
{
	char(*names)[8] = calloc(MANY, sizeof(*names));

	ck_assert_ptr_nonnull(names);
	for (unsigned int i = 0; i < MANY; i++)
		(void)snprintf(names[i], sizeof(names[i]), "%u", i);
	return names;
}

START_TEST(everything_is_found_after_the_tables_have_grown)
{
	char(*names)[8] = many_names();
	struct nametree *tree = new_tree(MANY);
	uint32_t deep = NAMETREE_ROOT;
	uint32_t found;

	for (unsigned int i = 0; i < MANY; i++) {
		/* A chain of directories, and next to each link a leaf. */
		place(tree, i, deep, names[i]);
		deep = add_dir(tree, deep, names[i]);
		ck_assert_uint_eq(deep, i + 1);
	}
	ck_assert_int_eq(nametree_seal(tree), 0);
	for (unsigned int i = 0; i < MANY; i++) {
		expect_leaf(tree, i, names[i], i);
		ck_assert(nametree_find_dir(tree, i, names[i], strlen(names[i]), &found));
		ck_assert_uint_eq(found, i + 1);
		ck_assert_uint_eq(nametree_dir(tree, i)->leaf_count, 1);
		expect_no_leaf(tree, i, "20000");
	}
	nametree_free(tree);
	free(names);
}
END_TEST

START_TEST(the_number_of_directories_is_limited)
{
	struct nametree *tree = new_tree(0);
	uint32_t dir = NAMETREE_ROOT;
	uint32_t before;
	int r;

	do {
		before = dir;
		r = nametree_add_dir(tree, dir, "a", 1, &dir);
	} while (r == 0);
	ck_assert_int_eq(r, -E2BIG);
	ck_assert_uint_eq(dir, before);
	ck_assert_uint_eq(nametree_dir_count(tree), 4000000);
	/* One that is there is still found. */
	ck_assert_int_eq(nametree_add_dir(tree, NAMETREE_ROOT, "a", 1, &dir), 0);
	ck_assert_uint_eq(dir, 1);
	nametree_free(tree);
}
END_TEST

static TCase *building_case(void)
{
	TCase *tcase = tcase_create("building");

	tcase_add_test(tcase, an_empty_tree_has_a_root);
	tcase_add_test(tcase, a_directory_is_added_once);
	tcase_add_test(tcase, a_directory_and_a_leaf_may_share_a_name);
	tcase_add_test(tcase, a_name_may_hold_any_bytes);
	tcase_add_test(tcase, a_leaf_takes_the_place_of_another);
	tcase_add_test(tcase, children_are_listed_in_the_order_of_their_numbers);
	tcase_add_test(tcase, everything_is_found_after_the_tables_have_grown);
	tcase_add_test(tcase, the_number_of_directories_is_limited);
	return tcase;
}

UNIT_MAIN("nametree", building_case)
