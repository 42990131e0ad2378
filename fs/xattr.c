#include "xattr.h"

#include <errno.h>
#include <string.h>

#include "inodes.h"

#define PREFIX "user.weightfs."

static void put_u64(struct strbuf *out, uint64_t value)
{
	strbuf_addf(out, "%llu", (unsigned long long)value);
}

static const struct tensor *tensor_of(const struct weightfs *fs, struct node node)
{
	return model_tensor(fs->served->model, node.index);
}

static void get_name(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	const struct tensor *t = tensor_of(fs, node);

	strbuf_add(out, t->name, t->name_len);
}

static void get_dtype(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	strbuf_add_str(out, dtype_info((enum dtype)tensor_of(fs, node)->dtype)->name);
}

static void get_shape(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	const struct tensor *t = tensor_of(fs, node);

	for (unsigned int i = 0; i < t->rank; i++) {
		if (i > 0)
			strbuf_add_char(out, ',');
		put_u64(out, t->shape[i]);
	}
}

static void get_format(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	(void)node;
	strbuf_add_str(out, model_format(fs->served->model));
}

static void get_file(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	strbuf_add_str(out, served_tensor_file(fs->served, tensor_of(fs, node))->path);
}

static void get_offset(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	put_u64(out, tensor_of(fs, node)->offset);
}

static void get_nbytes(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	put_u64(out, tensor_of(fs, node)->nbytes);
}

static void get_backing(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	const char *name = backing_stream.name;

	if (fs->inodes)
		name = inodes_backing_name(fs->inodes, node);
	strbuf_add_str(out, name);
}

static void get_node(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	put_u64(out, (uint64_t)numa_mirror_node(&fs->mirror, node.copy));
}

static const struct xattr {
	const char *name;
	void (*get)(const struct weightfs *fs, struct node node, struct strbuf *out);
} xattrs[] = {
	{ PREFIX "name", get_name },     { PREFIX "dtype", get_dtype },
	{ PREFIX "shape", get_shape },   { PREFIX "format", get_format },
	{ PREFIX "file", get_file },     { PREFIX "offset", get_offset },
	{ PREFIX "nbytes", get_nbytes }, { PREFIX "backing", get_backing },
	{ PREFIX "node", get_node }, /* the last: only with numa=mirror */
};

static size_t xattr_count(const struct weightfs *fs)
{
	return ARRAY_LEN(xattrs) - (fs->mirror.count > 0 ? 0 : 1);
}

void xattr_list(const struct weightfs *fs, struct node node, struct strbuf *out)
{
	if (node.kind != NODE_TENSOR)
		return;
	for (size_t i = 0; i < xattr_count(fs); i++)
		strbuf_add(out, xattrs[i].name, strlen(xattrs[i].name) + 1);
}

int xattr_get(const struct weightfs *fs, struct node node, const char *name,
	      struct strbuf *out)
{
	if (node.kind != NODE_TENSOR || strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return -ENODATA;
	for (size_t i = 0; i < xattr_count(fs); i++) {
		if (strcmp(xattrs[i].name, name) == 0) {
			xattrs[i].get(fs, node, out);
			return out->err;
		}
	}
	return -ENODATA;
}
