/*
 * A compact tree of directories and numbered leaves. Built by one thread, sealed, then
 * immutable and read by any thread without a lock. Knows neither tensors nor FUSE.
 *
 * Directory 0 is the root. Names are not copied: they must outlive the tree.
 */
#ifndef FS_NAMETREE_H
#define FS_NAMETREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/macros.h"

#define NAMETREE_ROOT 0u

struct nametree;

struct nametree_dir {
	const char *name;
	uint32_t name_len;
	uint32_t parent;
	uint32_t first_subdir; /* into the tree's list of sub-directories */
	uint32_t subdir_count;
	uint32_t first_leaf; /* into the tree's list of leaves */
	uint32_t leaf_count;
};

struct nametree_leaf {
	const char *name;
	uint32_t name_len;
	uint32_t parent;
};

/* Leaves are numbered from 0 to leaf_count - 1; each is placed once. 0 or -ENOMEM. */
MUST_CHECK int nametree_new(uint32_t leaf_count, struct nametree **tree);
void nametree_free(struct nametree *tree); /* NULL is fine */

/* Finds or adds a sub-directory. 0, -E2BIG (too many directories) or -ENOMEM. */
MUST_CHECK int nametree_add_dir(struct nametree *tree, uint32_t parent, const char *name,
				size_t len, uint32_t *dir);

/* Puts a leaf into a directory, where no other leaf may have its name. 0 or -ENOMEM. */
MUST_CHECK int nametree_place_leaf(struct nametree *tree, uint32_t leaf, uint32_t parent,
				   const char *name, size_t len);

/* Puts leaf `to` where `from` stands; `from` must be placed again. */
void nametree_replace_leaf(struct nametree *tree, uint32_t from, uint32_t to);

/* Lists the children of each directory, in the order of their numbers. 0 or -ENOMEM. */
MUST_CHECK int nametree_seal(struct nametree *tree);

bool nametree_find_dir(const struct nametree *tree, uint32_t parent, const char *name,
		       size_t len, uint32_t *dir);
bool nametree_find_leaf(const struct nametree *tree, uint32_t parent, const char *name,
			size_t len, uint32_t *leaf);

uint32_t nametree_dir_count(const struct nametree *tree);
const struct nametree_dir *nametree_dir(const struct nametree *tree, uint32_t dir);
const struct nametree_leaf *nametree_leaf(const struct nametree *tree, uint32_t leaf);

/* The i-th child of a sealed tree's directory. */
uint32_t nametree_subdir_at(const struct nametree *tree, const struct nametree_dir *dir,
			    uint32_t i);
uint32_t nametree_leaf_at(const struct nametree *tree, const struct nametree_dir *dir,
			  uint32_t i);

#endif
