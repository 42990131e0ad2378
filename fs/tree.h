/*
 * The names of a model's tensors as a directory tree, and as a flat list. Immutable once
 * made; any thread may read it without a lock.
 *
 * A name is split into components at '.' and '/'. Where a tensor's path is another one's
 * directory ("a" and "a.b") the file for "a" is "a/%self". Where two names would share a
 * path because one has '/' and the other '.', the one with '/' keeps it as "%2F" and is
 * not split there.
 *
 * Numbers of tensors are those of model_tensor(); directories are those of nametree.h.
 */
#ifndef FS_TREE_H
#define FS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nametree.h"
#include "parsers/model.h"
#include "path.h"

struct tree;

/* `model` must be sealed; the tree keeps a reference. 0, -E2BIG (a name has too many
 * components, or all have too many directories), -EEXIST (two file names are alike) or
 * -ENOMEM, with words. */
MUST_CHECK int tree_new(struct model *model, struct tree **tree, struct diag *diag);
void tree_free(struct tree *tree); /* NULL is fine */

/* Directories, sub-directories and leaves (tensors) of the tree. */
const struct nametree *tree_names(const struct tree *tree);

/* The file name of a tensor in its directory, or in the flat list, with the suffix of a
 * view. Returns its length. */
size_t tree_file_name(const struct tree *tree, uint32_t tensor, const char *suffix,
		      char out[static PATH_NAME_MAX + 1]);
size_t tree_flat_name(const struct tree *tree, uint32_t tensor, const char *suffix,
		      char out[static PATH_NAME_MAX + 1]);

/* The reverse: which tensor has this file name in a directory, or in the flat list. */
bool tree_find_file(const struct tree *tree, uint32_t dir, const char *name,
		    const char *suffix, uint32_t *tensor);
bool tree_find_flat(const struct tree *tree, const char *name, const char *suffix,
		    uint32_t *tensor);

/* Appends the tensor's path below "tensors/". */
void tree_add_path(const struct tree *tree, uint32_t tensor, struct strbuf *out);

#endif
