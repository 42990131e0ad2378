#include "nametree.h"

#include <errno.h>
#include <string.h>

#include "util/hash.h"

/* Bounds the memory that hostile names full of dots can take; the largest published model
 * has about 60,000 directories. */
#define MOST_DIRS 4000000u

#define FIRST_SLOTS 64u

/* A slot holds 0 (free), or the number of a directory or leaf plus one, leaves with this
 * bit. */
#define LEAF_BIT 0x80000000u

struct nametree {
	struct nametree_dir *dirs;
	uint32_t dir_count;
	uint32_t dir_capacity;

	struct nametree_leaf *leaves;
	uint32_t leaf_count;

	uint32_t *subdir_list;
	uint32_t *leaf_list;

	uint32_t *slots; /* open addressing by kind, parent and name */
	uint32_t slot_mask;
	uint32_t slot_used;
	uint64_t seed;
};

static const char *slot_name(const struct nametree *tree, uint32_t value,
			     uint32_t *parent, uint32_t *len)
{
	if (value & LEAF_BIT) {
		const struct nametree_leaf *leaf = &tree->leaves[(value & ~LEAF_BIT) - 1];

		*parent = leaf->parent;
		*len = leaf->name_len;
		return leaf->name;
	}
	*parent = tree->dirs[value - 1].parent;
	*len = tree->dirs[value - 1].name_len;
	return tree->dirs[value - 1].name;
}

/* The slot of that child, or the free one where it belongs. `kind` is 0 or LEAF_BIT. */
static uint32_t *find_slot(const struct nametree *tree, uint32_t kind, uint32_t parent,
			   const char *name, size_t len)
{
	uint64_t seed = tree->seed ^ ((uint64_t)parent << 1 | (kind ? 1 : 0));
	uint32_t at = (uint32_t)hash_seeded(name, len, seed) & tree->slot_mask;

	for (;; at = (at + 1) & tree->slot_mask) {
		uint32_t *slot = &tree->slots[at];
		const char *other;
		uint32_t other_parent;
		uint32_t other_len;

		if (*slot == 0)
			return slot;
		if ((*slot & LEAF_BIT) != kind)
			continue;
		other = slot_name(tree, *slot, &other_parent, &other_len);
		if (other_parent == parent && other_len == len &&
		    memcmp(other, name, len) == 0)
			return slot;
	}
}

static int grow_slots(struct nametree *tree)
{
	uint32_t old_count = tree->slots ? tree->slot_mask + 1 : 0;
	uint32_t count = old_count ? old_count * 2 : FIRST_SLOTS;
	uint32_t *old = tree->slots;
	uint32_t *slots = calloc(count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	tree->slots = slots;
	tree->slot_mask = count - 1;
	for (uint32_t i = 0; i < old_count; i++) {
		uint32_t parent;
		uint32_t len;
		const char *name;

		if (old[i] == 0)
			continue;
		name = slot_name(tree, old[i], &parent, &len);
		*find_slot(tree, old[i] & LEAF_BIT, parent, name, len) = old[i];
	}
	free(old);
	return 0;
}

/* Makes sure that one more entry leaves a quarter of the slots free. */
static int reserve_slot(struct nametree *tree)
{
	if (tree->slots && tree->slot_used < tree->slot_mask / 4 * 3)
		return 0;
	return grow_slots(tree);
}

static int grow_dirs(struct nametree *tree)
{
	uint32_t capacity = tree->dir_capacity ? tree->dir_capacity * 2 : 16;
	struct nametree_dir *dirs = reallocarray(tree->dirs, capacity, sizeof(*dirs));

	if (!dirs)
		return -ENOMEM;
	tree->dirs = dirs;
	tree->dir_capacity = capacity;
	return 0;
}

static int append_dir(struct nametree *tree, uint32_t parent, const char *name,
		      size_t len)
{
	if (tree->dir_count >= MOST_DIRS)
		return -E2BIG;
	if (tree->dir_count == tree->dir_capacity && grow_dirs(tree) < 0)
		return -ENOMEM;
	tree->dirs[tree->dir_count++] = (struct nametree_dir){
		.name = name,
		.name_len = (uint32_t)len,
		.parent = parent,
	};
	return 0;
}

int nametree_new(uint32_t leaf_count, struct nametree **tree)
{
	struct nametree *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->seed = hash_random_seed();
	t->leaf_count = leaf_count;
	t->leaves = calloc(leaf_count ? leaf_count : 1, sizeof(*t->leaves));
	if (!t->leaves || append_dir(t, NAMETREE_ROOT, "", 0) < 0 || grow_slots(t) < 0) {
		nametree_free(t);
		return -ENOMEM;
	}
	*tree = t;
	return 0;
}

void nametree_free(struct nametree *tree)
{
	if (!tree)
		return;
	free(tree->dirs);
	free(tree->leaves);
	free(tree->subdir_list);
	free(tree->leaf_list);
	free(tree->slots);
	free(tree);
}

int nametree_add_dir(struct nametree *tree, uint32_t parent, const char *name, size_t len,
		     uint32_t *dir)
{
	uint32_t *slot;
	int r;

	if (reserve_slot(tree) < 0)
		return -ENOMEM;
	slot = find_slot(tree, 0, parent, name, len);
	if (*slot == 0) {
		r = append_dir(tree, parent, name, len);
		if (r < 0)
			return r;
		*slot = tree->dir_count;
		tree->slot_used++;
	}
	*dir = *slot - 1;
	return 0;
}

int nametree_place_leaf(struct nametree *tree, uint32_t leaf, uint32_t parent,
			const char *name, size_t len)
{
	uint32_t *slot;

	if (reserve_slot(tree) < 0)
		return -ENOMEM;
	slot = find_slot(tree, LEAF_BIT, parent, name, len);
	tree->leaves[leaf] = (struct nametree_leaf){
		.name = name,
		.name_len = (uint32_t)len,
		.parent = parent,
	};
	*slot = (leaf + 1) | LEAF_BIT;
	tree->slot_used++;
	return 0;
}

void nametree_replace_leaf(struct nametree *tree, uint32_t from, uint32_t to)
{
	const struct nametree_leaf *place = &tree->leaves[from];
	uint32_t *slot =
		find_slot(tree, LEAF_BIT, place->parent, place->name, place->name_len);

	tree->leaves[to] = *place;
	*slot = (to + 1) | LEAF_BIT;
}

bool nametree_find_dir(const struct nametree *tree, uint32_t parent, const char *name,
		       size_t len, uint32_t *dir)
{
	uint32_t slot = *find_slot(tree, 0, parent, name, len);

	if (slot == 0)
		return false;
	*dir = slot - 1;
	return true;
}

bool nametree_find_leaf(const struct nametree *tree, uint32_t parent, const char *name,
			size_t len, uint32_t *leaf)
{
	uint32_t slot = *find_slot(tree, LEAF_BIT, parent, name, len);

	if (slot == 0)
		return false;
	*leaf = (slot & ~LEAF_BIT) - 1;
	return true;
}

static void count_children(struct nametree *tree)
{
	for (uint32_t i = 1; i < tree->dir_count; i++)
		tree->dirs[tree->dirs[i].parent].subdir_count++;
	for (uint32_t i = 0; i < tree->leaf_count; i++)
		tree->dirs[tree->leaves[i].parent].leaf_count++;
}

static void shrink_dirs(struct nametree *tree)
{
	struct nametree_dir *dirs =
		reallocarray(tree->dirs, tree->dir_count, sizeof(*dirs));

	if (dirs) {
		tree->dirs = dirs;
		tree->dir_capacity = tree->dir_count;
	}
}

/* Counting sort by parent: each directory's children become one run of the lists. */
int nametree_seal(struct nametree *tree)
{
	uint32_t subdirs = 0;
	uint32_t leaves = 0;

	tree->subdir_list = calloc(tree->dir_count, sizeof(*tree->subdir_list));
	tree->leaf_list =
		calloc(tree->leaf_count ? tree->leaf_count : 1, sizeof(*tree->leaf_list));
	if (!tree->subdir_list || !tree->leaf_list)
		return -ENOMEM;
	shrink_dirs(tree);
	count_children(tree);
	for (uint32_t i = 0; i < tree->dir_count; i++) {
		struct nametree_dir *dir = &tree->dirs[i];

		dir->first_subdir = subdirs;
		dir->first_leaf = leaves;
		subdirs += dir->subdir_count;
		leaves += dir->leaf_count;
		dir->subdir_count = 0;
		dir->leaf_count = 0;
	}
	for (uint32_t i = 1; i < tree->dir_count; i++) {
		struct nametree_dir *dir = &tree->dirs[tree->dirs[i].parent];

		tree->subdir_list[dir->first_subdir + dir->subdir_count++] = i;
	}
	for (uint32_t i = 0; i < tree->leaf_count; i++) {
		struct nametree_dir *dir = &tree->dirs[tree->leaves[i].parent];

		tree->leaf_list[dir->first_leaf + dir->leaf_count++] = i;
	}
	return 0;
}

uint32_t nametree_dir_count(const struct nametree *tree)
{
	return tree->dir_count;
}

const struct nametree_dir *nametree_dir(const struct nametree *tree, uint32_t dir)
{
	return &tree->dirs[dir];
}

const struct nametree_leaf *nametree_leaf(const struct nametree *tree, uint32_t leaf)
{
	return &tree->leaves[leaf];
}

uint32_t nametree_subdir_at(const struct nametree *tree, const struct nametree_dir *dir,
			    uint32_t i)
{
	return tree->subdir_list[dir->first_subdir + i];
}

uint32_t nametree_leaf_at(const struct nametree *tree, const struct nametree_dir *dir,
			  uint32_t i)
{
	return tree->leaf_list[dir->first_leaf + i];
}
