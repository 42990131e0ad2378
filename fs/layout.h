/*
 * What stands where in the mounted tree: nodes, their names, children and attributes.
 * Knows nothing of FUSE. Every function may be called from any thread. No lock is taken,
 * but by layout_stat() for documents and live files.
 */
#ifndef FS_LAYOUT_H
#define FS_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "path.h"
#include "view.h"
#include "weightfs.h"

enum node_kind {
	NODE_ROOT,
	NODE_DOCUMENT,  /* index: enum document_kind */
	NODE_TREE_DIR,  /* view; index: directory of the tensor tree, 0 is tensors/ itself
			 */
	NODE_TENSOR,    /* view; index: tensor */
	NODE_FLAT_DIR,  /* flat/ */
	NODE_FLAT_VIEW, /* flat/tensors/ and its like: view */
	NODE_FILES_DIR, /* index: directory of the source, 0 is files/ itself */
	NODE_FILE,      /* index: file of the source */
	NODE_CONTROL_DIR, /* .weightfs/ */
	NODE_SOCKET,
	NODE_LIVE,     /* index: enum live_kind */
	NODE_NUMA_DIR, /* node0/ and its like */
	NODE_KIND_COUNT,
};

struct node {
	enum node_kind kind;
	enum view view;
	uint32_t index;
	uint16_t copy; /* tensors and directories: numa_mirror.h */
};

/* The main tree's file of a tensor. */
static inline struct node layout_tensor(enum view view, uint32_t index)
{
	return (struct node){ .kind = NODE_TENSOR, .view = view, .index = index };
}

/* Inode numbers are computed, not stored: the root is 1, other numbers hold copy, kind,
 * view, index. */
uint64_t layout_ino(struct node node);
bool layout_node(const struct weightfs *fs, uint64_t ino, struct node *node);

bool layout_is_dir(struct node node);

/* The child of a directory. 0, -ENOENT, -ENOTDIR, or -ESTALE for a file whose source
 * changed. */
MUST_CHECK int layout_lookup(const struct weightfs *fs, struct node dir, const char *name,
			     struct node *child);

/* The child at a position from 0 on, with its name; false behind the last one. Positions
 * never change. */
bool layout_child(const struct weightfs *fs, struct node dir, uint64_t position,
		  struct node *child, char name[static PATH_NAME_MAX + 1]);

/* The directory that holds this directory. */
struct node layout_parent(const struct weightfs *fs, struct node dir);

/* Attributes. May make a document to know its size: 0, or what served_document() says. */
MUST_CHECK int layout_stat(struct weightfs *fs, struct node node, struct stat *st);

/* Whether layout_stat() is cheap: false for a document that is not made yet, and for live
 * files. */
bool layout_stat_is_cheap(const struct weightfs *fs, struct node node);

/* The file of the source that a node's bytes come from; NULL for nodes that have none. */
struct source_file *layout_source_file(const struct weightfs *fs, struct node node);

#endif
