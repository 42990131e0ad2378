#include "layout.h"

#include <errno.h>
#include <string.h>

#include "live.h"

/* ---- Inode numbers ---- */

#define ROOT_INO   1u
#define COPY_SHIFT 48
#define KIND_SHIFT 40
#define VIEW_SHIFT 36
#define INDEX_MASK UINT64_C(0xffffffff)
#define VIEW_MASK  UINT64_C(0xf)
#define KIND_MASK  UINT64_C(0xff)

uint64_t layout_ino(struct node node)
{
	if (node.kind == NODE_ROOT)
		return ROOT_INO;
	return (uint64_t)node.copy << COPY_SHIFT | (uint64_t)node.kind << KIND_SHIFT |
	       (uint64_t)node.view << VIEW_SHIFT | node.index;
}

/* How many nodes of this kind there are: indices are below it. */
static uint64_t kind_count(const struct weightfs *fs, enum node_kind kind)
{
	switch (kind) {
	case NODE_DOCUMENT:
		return DOCUMENT_COUNT;
	case NODE_TREE_DIR:
		return nametree_dir_count(tree_names(fs->served->tree));
	case NODE_TENSOR:
		return model_tensor_count(fs->served->model);
	case NODE_FILES_DIR:
		return nametree_dir_count(fs->served->source->names);
	case NODE_FILE:
		return fs->served->source->file_count;
	case NODE_LIVE:
		return LIVE_COUNT;
	case NODE_SOCKET:
		return fs->socket_path ? 1 : 0;
	case NODE_ROOT:
	case NODE_FLAT_DIR:
	case NODE_FLAT_VIEW:
	case NODE_CONTROL_DIR:
	case NODE_NUMA_DIR:
		return 1;
	case NODE_KIND_COUNT:
		break;
	}
	return 0;
}

static uint64_t view_count(enum node_kind kind)
{
	return kind == NODE_TREE_DIR || kind == NODE_TENSOR || kind == NODE_FLAT_VIEW
		       ? VIEW_COUNT
		       : 1;
}

/* Directories that have their like in the tree of each memory node. */
static bool is_in_each_tree(enum node_kind kind)
{
	return kind == NODE_TREE_DIR || kind == NODE_FLAT_DIR || kind == NODE_FLAT_VIEW ||
	       kind == NODE_FILES_DIR || kind == NODE_NUMA_DIR;
}

static bool copy_exists(const struct weightfs *fs, enum node_kind kind, uint16_t copy)
{
	if (copy == 0)
		return kind != NODE_NUMA_DIR;
	if (!numa_mirror_has(&fs->mirror, copy))
		return false;
	return is_in_each_tree(kind) ||
	       (kind == NODE_TENSOR && numa_mirror_file(&fs->mirror, copy) == copy);
}

bool layout_node(const struct weightfs *fs, uint64_t ino, struct node *node)
{
	uint16_t copy = (uint16_t)(ino >> COPY_SHIFT);
	uint64_t kind = ino >> KIND_SHIFT & KIND_MASK;
	uint64_t view = ino >> VIEW_SHIFT & VIEW_MASK;
	uint64_t index = ino & INDEX_MASK;

	if (ino == ROOT_INO) {
		*node = (struct node){ .kind = NODE_ROOT };
		return true;
	}
	/* The kernel only names what it was given, an NFS client may name anything. */
	if (kind == NODE_ROOT || kind >= NODE_KIND_COUNT ||
	    view >= view_count((enum node_kind)kind) ||
	    index >= kind_count(fs, (enum node_kind)kind) ||
	    !copy_exists(fs, (enum node_kind)kind, copy))
		return false;
	*node = (struct node){
		.kind = (enum node_kind)kind,
		.view = (enum view)view,
		.index = (uint32_t)index,
		.copy = copy,
	};
	return layout_ino(*node) == ino;
}

/* ---- Directories with a fixed list of children ---- */

static const struct fixed_child {
	const char *name;
	struct node node;
} root_children[] = {
	{ "model.json", { .kind = NODE_DOCUMENT, .index = DOCUMENT_MODEL } },
	{ "metadata.json", { .kind = NODE_DOCUMENT, .index = DOCUMENT_METADATA } },
	{ "tensors", { .kind = NODE_TREE_DIR, .view = VIEW_RAW } },
	{ "npy", { .kind = NODE_TREE_DIR, .view = VIEW_NPY } },
	{ "safetensors", { .kind = NODE_TREE_DIR, .view = VIEW_SAFETENSORS } },
	{ "flat", { .kind = NODE_FLAT_DIR } },
	{ "files", { .kind = NODE_FILES_DIR } },
	/* Last, since the trees of memory nodes do without. */
	{ ".weightfs", { .kind = NODE_CONTROL_DIR } },
};

static const struct fixed_child flat_children[] = {
	{ "tensors", { .kind = NODE_FLAT_VIEW, .view = VIEW_RAW } },
	{ "npy", { .kind = NODE_FLAT_VIEW, .view = VIEW_NPY } },
	{ "safetensors", { .kind = NODE_FLAT_VIEW, .view = VIEW_SAFETENSORS } },
};

static const struct fixed_child control_children[] = {
	{ "stats.json", { .kind = NODE_LIVE, .index = LIVE_STATS } },
	{ "metrics", { .kind = NODE_LIVE, .index = LIVE_METRICS } },
	{ "socket", { .kind = NODE_SOCKET } },
};

/* The list of a directory that has one, and its length; NULL for others. */
static const struct fixed_child *fixed_children(const struct weightfs *fs,
						struct node dir, size_t *count)
{
	if (dir.kind == NODE_ROOT) {
		*count = ARRAY_LEN(root_children);
		return root_children;
	}
	if (dir.kind == NODE_NUMA_DIR) {
		*count = ARRAY_LEN(root_children) - 1;
		return root_children;
	}
	if (dir.kind == NODE_FLAT_DIR) {
		*count = ARRAY_LEN(flat_children);
		return flat_children;
	}
	if (dir.kind == NODE_CONTROL_DIR) {
		/* The socket is last: without one the list is shorter. */
		*count = ARRAY_LEN(control_children) - (fs->socket_path ? 0 : 1);
		return control_children;
	}
	return NULL;
}

/* A child of a directory as it is in its tree. */
static struct node fixed_in(struct node dir, struct node child)
{
	if (is_in_each_tree(child.kind))
		child.copy = dir.copy;
	return child;
}

/* A tensor in a directory. */
static struct node tensor_in(const struct weightfs *fs, struct node dir, uint32_t index)
{
	struct node tensor = layout_tensor(dir.view, index);

	tensor.copy = numa_mirror_file(&fs->mirror, dir.copy);
	return tensor;
}

/* ---- Lookup ---- */

static int lookup_numa_dir(const struct weightfs *fs, const char *name,
			   struct node *child)
{
	const struct node found = { .kind = NODE_NUMA_DIR,
				    .copy = numa_mirror_find(&fs->mirror, name) };

	if (found.copy == 0)
		return -ENOENT;
	*child = found;
	return 0;
}

static int lookup_fixed(const struct weightfs *fs, struct node dir, const char *name,
			struct node *child)
{
	size_t count;
	const struct fixed_child *children = fixed_children(fs, dir, &count);

	if (!children)
		return -ENOTDIR;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(children[i].name, name) == 0) {
			*child = fixed_in(dir, children[i].node);
			return 0;
		}
	}
	return dir.kind == NODE_ROOT ? lookup_numa_dir(fs, name, child) : -ENOENT;
}

static int lookup_tree(const struct weightfs *fs, struct node dir, const char *name,
		       struct node *child)
{
	const struct tree *tree = fs->served->tree;
	struct node subdir = dir;
	uint32_t tensor;

	if (tree_find_file(tree, dir.index, name, view_info(dir.view)->suffix, &tensor))
		*child = tensor_in(fs, dir, tensor);
	else if (nametree_find_dir(tree_names(tree), dir.index, name, strlen(name),
				   &subdir.index))
		*child = subdir;
	else
		return -ENOENT;
	return 0;
}

static int lookup_flat(const struct weightfs *fs, struct node dir, const char *name,
		       struct node *child)
{
	uint32_t tensor;

	if (!tree_find_flat(fs->served->tree, name, view_info(dir.view)->suffix, &tensor))
		return -ENOENT;
	*child = tensor_in(fs, dir, tensor);
	return 0;
}

static int lookup_files(const struct weightfs *fs, struct node dir, const char *name,
			struct node *child)
{
	const struct nametree *names = fs->served->source->names;
	struct node subdir = dir;
	uint32_t file;

	if (nametree_find_leaf(names, dir.index, name, strlen(name), &file))
		*child = (struct node){ .kind = NODE_FILE, .index = file };
	else if (nametree_find_dir(names, dir.index, name, strlen(name), &subdir.index))
		*child = subdir;
	else
		return -ENOENT;
	return 0;
}

int layout_lookup(const struct weightfs *fs, struct node dir, const char *name,
		  struct node *child)
{
	struct source_file *file;
	int r;

	if (dir.kind == NODE_TREE_DIR)
		r = lookup_tree(fs, dir, name, child);
	else if (dir.kind == NODE_FLAT_VIEW)
		r = lookup_flat(fs, dir, name, child);
	else if (dir.kind == NODE_FILES_DIR)
		r = lookup_files(fs, dir, name, child);
	else
		r = lookup_fixed(fs, dir, name, child);
	if (r < 0)
		return r;
	file = layout_source_file(fs, *child);
	return file && !source_file_unchanged(file) ? -ESTALE : 0;
}

/* ---- Children in order ---- */

static bool tree_child(const struct weightfs *fs, struct node dir, uint64_t position,
		       struct node *child, char name[static PATH_NAME_MAX + 1])
{
	const struct tree *tree = fs->served->tree;
	const struct nametree *names = tree_names(tree);
	const struct nametree_dir *d = nametree_dir(names, dir.index);

	if (position < d->subdir_count) {
		uint32_t index = nametree_subdir_at(names, d, (uint32_t)position);
		const struct nametree_dir *sub = nametree_dir(names, index);

		*child = dir;
		child->index = index;
		memcpy(name, sub->name, sub->name_len);
		name[sub->name_len] = '\0';
		return true;
	}
	position -= d->subdir_count;
	if (position >= d->leaf_count)
		return false;
	*child = tensor_in(fs, dir, nametree_leaf_at(names, d, (uint32_t)position));
	(void)tree_file_name(tree, child->index, view_info(dir.view)->suffix, name);
	return true;
}

static bool flat_child(const struct weightfs *fs, struct node dir, uint64_t position,
		       struct node *child, char name[static PATH_NAME_MAX + 1])
{
	if (position >= model_tensor_count(fs->served->model))
		return false;
	*child = tensor_in(fs, dir, (uint32_t)position);
	(void)tree_flat_name(fs->served->tree, child->index, view_info(dir.view)->suffix,
			     name);
	return true;
}

static bool files_child(const struct weightfs *fs, struct node dir, uint64_t position,
			struct node *child, char name[static PATH_NAME_MAX + 1])
{
	const struct nametree *names = fs->served->source->names;
	const struct nametree_dir *d = nametree_dir(names, dir.index);
	const char *text;
	size_t len;

	if (position < d->subdir_count) {
		*child = dir;
		child->index = nametree_subdir_at(names, d, (uint32_t)position);
		text = nametree_dir(names, child->index)->name;
		len = nametree_dir(names, child->index)->name_len;
	} else if (position - d->subdir_count < d->leaf_count) {
		*child = (struct node){ .kind = NODE_FILE };
		child->index =
			nametree_leaf_at(names, d, (uint32_t)position - d->subdir_count);
		text = nametree_leaf(names, child->index)->name;
		len = nametree_leaf(names, child->index)->name_len;
	} else {
		return false;
	}
	memcpy(name, text, len);
	name[len] = '\0';
	return true;
}

static bool numa_child(const struct weightfs *fs, uint64_t position, struct node *child,
		       char name[static PATH_NAME_MAX + 1])
{
	if (position >= fs->mirror.count)
		return false;
	*child = (struct node){
		.kind = NODE_NUMA_DIR,
		.copy = (uint16_t)(fs->mirror.nodes[position] + 1),
	};
	numa_mirror_name(child->copy, name);
	return true;
}

bool layout_child(const struct weightfs *fs, struct node dir, uint64_t position,
		  struct node *child, char name[static PATH_NAME_MAX + 1])
{
	const struct fixed_child *children;
	size_t count;

	if (dir.kind == NODE_TREE_DIR)
		return tree_child(fs, dir, position, child, name);
	if (dir.kind == NODE_FLAT_VIEW)
		return flat_child(fs, dir, position, child, name);
	if (dir.kind == NODE_FILES_DIR)
		return files_child(fs, dir, position, child, name);
	children = fixed_children(fs, dir, &count);
	if (dir.kind == NODE_ROOT && position >= count)
		return numa_child(fs, position - count, child, name);
	if (!children || position >= count)
		return false;
	*child = fixed_in(dir, children[position].node);
	memcpy(name, children[position].name, strlen(children[position].name) + 1);
	return true;
}

struct node layout_parent(const struct weightfs *fs, struct node dir)
{
	const struct node root = { .kind = NODE_ROOT };
	const struct node flat = { .kind = NODE_FLAT_DIR, .copy = dir.copy };
	const struct node numa = { .kind = NODE_NUMA_DIR, .copy = dir.copy };

	if (dir.kind == NODE_FLAT_VIEW)
		return flat;
	if (dir.index == NAMETREE_ROOT)
		return dir.copy > 0 && dir.kind != NODE_NUMA_DIR ? numa : root;
	if (dir.kind == NODE_TREE_DIR)
		dir.index = nametree_dir(tree_names(fs->served->tree), dir.index)->parent;
	else if (dir.kind == NODE_FILES_DIR)
		dir.index = nametree_dir(fs->served->source->names, dir.index)->parent;
	return dir;
}

/* ---- Attributes ---- */

bool layout_is_dir(struct node node)
{
	return node.kind == NODE_ROOT || node.kind == NODE_TREE_DIR ||
	       node.kind == NODE_FLAT_DIR || node.kind == NODE_FLAT_VIEW ||
	       node.kind == NODE_FILES_DIR || node.kind == NODE_CONTROL_DIR ||
	       node.kind == NODE_NUMA_DIR;
}

static nlink_t subdir_count(const struct weightfs *fs, struct node dir)
{
	nlink_t dirs = dir.kind == NODE_ROOT ? fs->mirror.count : 0;
	const struct fixed_child *children;
	size_t count;

	if (dir.kind == NODE_TREE_DIR)
		return nametree_dir(tree_names(fs->served->tree), dir.index)
			->subdir_count;
	if (dir.kind == NODE_FILES_DIR)
		return nametree_dir(fs->served->source->names, dir.index)->subdir_count;
	children = fixed_children(fs, dir, &count);
	for (size_t i = 0; children && i < count; i++)
		dirs += layout_is_dir(children[i].node) ? 1 : 0;
	return dirs;
}

struct source_file *layout_source_file(const struct weightfs *fs, struct node node)
{
	if (node.kind == NODE_TENSOR)
		return served_tensor_file(fs->served,
					  model_tensor(fs->served->model, node.index));
	if (node.kind == NODE_FILE)
		return &fs->served->source->files[node.index];
	return NULL;
}

#define BLOCK 512u /* the unit of st_blocks */

static blkcnt_t blocks(uint64_t bytes)
{
	return (blkcnt_t)((bytes + BLOCK - 1) / BLOCK);
}

/* Bytes count once: those of tensors in the raw view of the main tree, the rest of the
 * files under files/, documents as they are. GNU tar --sparse takes a file without blocks
 * for a hole. */
static void stat_tensor(const struct weightfs *fs, struct node node, struct stat *st)
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);

	st->st_size = (off_t)(view_header_len(node.view, t) + t->nbytes);
	st->st_blocks = node.view == VIEW_RAW && node.copy == 0 ? blocks(t->nbytes) : 0;
	/* Its path, and its name in flat/. The first node's tree has both again. */
	st->st_nlink = node.copy == 0 && fs->mirror.count > 0 ? 4 : 2;
	st->st_mtim = served_tensor_file(fs->served, t)->mtime;
}

static void stat_file(const struct weightfs *fs, struct node node, struct stat *st)
{
	const struct source_file *file = &fs->served->source->files[node.index];
	uint64_t tensors = fs->served->file_tensor_bytes[node.index];

	st->st_size = (off_t)file->size;
	st->st_blocks = blocks(file->size > tensors ? file->size - tensors : 0);
	st->st_mtim = file->mtime;
}

static int stat_document(struct weightfs *fs, struct node node, struct stat *st)
{
	const struct document *document;
	int r = served_document(fs->served, (enum document_kind)node.index, &document);

	if (r < 0)
		return r;
	st->st_size = (off_t)document->len;
	st->st_blocks = blocks(document->len);
	return 0;
}

static int stat_live(struct weightfs *fs, struct node node, struct stat *st)
{
	int r = live_stat(fs, (enum live_kind)node.index, st);

	if (r == 0)
		st->st_blocks = blocks((uint64_t)st->st_size);
	return r;
}

static int stat_contents(struct weightfs *fs, struct node node, struct stat *st)
{
	/* The trees of memory nodes have these under the same names. */
	if (node.kind == NODE_FILE || node.kind == NODE_DOCUMENT)
		st->st_nlink += fs->mirror.count;
	if (node.kind == NODE_TENSOR)
		stat_tensor(fs, node, st);
	else if (node.kind == NODE_FILE)
		stat_file(fs, node, st);
	else if (node.kind == NODE_DOCUMENT)
		return stat_document(fs, node, st);
	else if (node.kind == NODE_LIVE)
		return stat_live(fs, node, st);
	else if (node.kind == NODE_SOCKET)
		st->st_size = (off_t)strlen(fs->socket_path);
	return 0;
}

int layout_stat(struct weightfs *fs, struct node node, struct stat *st)
{
	*st = (struct stat){
		.st_ino = layout_ino(node),
		.st_mode = S_IFREG | 0444,
		.st_nlink = 1,
		.st_uid = fs->options.uid,
		.st_gid = fs->options.gid,
		.st_blksize = 4096,
		.st_mtim = fs->served->source->files[fs->served->shard_files[0]].mtime,
	};
	int r = 0;

	if (layout_is_dir(node)) {
		st->st_mode = S_IFDIR | 0555;
		st->st_nlink = 2 + subdir_count(fs, node);
	} else {
		if (node.kind == NODE_SOCKET)
			st->st_mode = S_IFLNK | 0777;
		r = stat_contents(fs, node, st);
	}
	st->st_atim = st->st_mtim;
	st->st_ctim = st->st_mtim;
	return r;
}

bool layout_stat_is_cheap(const struct weightfs *fs, struct node node)
{
	if (node.kind == NODE_DOCUMENT)
		return atomic_load_explicit(&fs->served->documents[node.index],
					    memory_order_relaxed) != NULL;
	return node.kind != NODE_LIVE;
}
