#include "ops.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "advice.h"
#include "channel.h"
#include "conn.h"
#include "content.h"
#include "inodes.h"
#include "layout.h"
#include "placement.h"
#include "predict.h"
#include "prefetcher.h"
#include "push.h"
#include "recorder.h"
#include "source_cache.h"
#include "stats.h"
#include "xattr.h"

/* Seconds. The tree never changes, so the kernel may keep what it knows without end. */
#define FOREVER 1e9

/* Attributes of live files: kept long enough that one reader sees one text. */
#define LIVE_TIMEOUT 0.02

/* Most bytes of one directory reply; the kernel asks for 32 KiB as a rule. */
#define DIRECTORY_REPLY_MAX 65536

/* Positions of a directory: "." is 0, ".." is 1, children follow. */
#define FIRST_CHILD 2

static struct weightfs *request_fs(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static double attr_timeout(struct node node)
{
	return node.kind == NODE_LIVE ? LIVE_TIMEOUT : FOREVER;
}

static void reply_err(fuse_req_t req, int err)
{
	(void)fuse_reply_err(req, -err);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct weightfs *fs = userdata;

	/* Replies are spliced by channel.c; libfuse's own way to do it measured slower.
	 */
	conn_refuse(conn,
		    FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn_want(conn, FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
				FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
				FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_AUTO_INVAL_DATA |
				FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT);
	if (fs->passthrough)
		passthrough_init(fs->passthrough, conn);
	/* This is also the most that a READ asks for. */
	conn->max_write = CHANNEL_READ_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
	if (conn->max_readahead > fs->options.readahead_bytes)
		conn->max_readahead = (unsigned int)fs->options.readahead_bytes;
	atomic_store(&fs->readahead_bytes, conn->max_readahead);
}

/* ---- Names and attributes ---- */

static int fill_entry(struct weightfs *fs, struct node node,
		      struct fuse_entry_param *entry)
{
	*entry = (struct fuse_entry_param){
		.ino = layout_ino(node),
		.attr_timeout = attr_timeout(node),
		.entry_timeout = FOREVER,
	};
	return layout_stat(fs, node, &entry->attr);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct weightfs *fs = request_fs(req);
	struct fuse_entry_param entry = { .entry_timeout = FOREVER };
	struct node dir;
	struct node child;
	int r = -ENOENT;

	stats_add(STAT_LOOKUP, 1);
	if (strlen(name) > PATH_NAME_MAX)
		r = -ENAMETOOLONG;
	else if (layout_node(fs, parent, &dir))
		r = layout_lookup(fs, dir, name, &child);
	if (r == 0)
		r = fill_entry(fs, child, &entry);
	/* No such name, and that will not change: the kernel may remember it (inode 0).
	 */
	if (r == 0 || r == -ENOENT)
		(void)fuse_reply_entry(req, &entry);
	else
		reply_err(req, r);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	(void)ino;
	(void)count;
	stats_add(STAT_FORGET, 1);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets)
{
	(void)forgets;
	stats_add(STAT_FORGET, count);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct weightfs *fs = request_fs(req);
	struct node node;
	struct stat st;
	int r = -ENOENT;

	(void)fi;
	stats_add(STAT_GETATTR, 1);
	if (layout_node(fs, ino, &node))
		r = layout_stat(fs, node, &st);
	if (r == 0)
		(void)fuse_reply_attr(req, &st, attr_timeout(node));
	else
		reply_err(req, r);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct weightfs *fs = request_fs(req);
	struct node node;

	stats_add(STAT_READLINK, 1);
	if (layout_node(fs, ino, &node) && node.kind == NODE_SOCKET && fs->socket_path)
		(void)fuse_reply_readlink(req, fs->socket_path);
	else
		reply_err(req, -EINVAL);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct weightfs *fs = request_fs(req);
	const struct served *served = fs->served;
	const unsigned int block = 4096;
	uint64_t bytes = 0;

	(void)ino;
	stats_add(STAT_STATFS, 1);
	for (uint32_t i = 0; i < served->source->file_count; i++)
		bytes += served->source->files[i].size;
	(void)fuse_reply_statfs(req,
				&(struct statvfs){
					.f_bsize = block,
					.f_frsize = block,
					.f_blocks = (bytes + block - 1) / block,
					.f_files = model_tensor_count(served->model) +
						   served->source->file_count,
					.f_namemax = PATH_NAME_MAX,
				});
}

/* ---- Opening ---- */

/*
 * Where every tensor is streamed nothing needs to happen at open. ENOSYS tells the kernel
 * so: it keeps page caches across opens and never asks again.
 */
static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct weightfs *fs = request_fs(req);
	struct source_file *file;
	struct node node;

	stats_add(STAT_OPEN, 1);
	if (!fs->inodes || !passthrough_settle(fs->passthrough)) {
		reply_err(req, -ENOSYS);
		return;
	}
	if (!layout_node(fs, ino, &node)) {
		reply_err(req, -ENOENT);
		return;
	}
	file = layout_source_file(fs, node);
	/* What is passed through is not compared with the source again. */
	if (file && !source_file_unchanged(file)) {
		reply_err(req, -ESTALE);
	} else if (node.kind == NODE_TENSOR) {
		if (fs->predict)
			predict_note_open(fs->predict, node);
		prefetcher_note_use(fs->prefetcher, node.index, 0);
		inodes_open(fs->inodes, req, node);
	} else {
		fi->keep_cache = 1;
		(void)fuse_reply_open(req, fi);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct weightfs *fs = request_fs(req);
	struct node node;

	stats_add(STAT_RELEASE, 1);
	if (fs->inodes && layout_node(fs, ino, &node) && node.kind == NODE_TENSOR) {
		if (fs->predict)
			predict_note_release(fs->predict, node);
		inodes_release(fs->inodes, node, fi->fh);
	}
	reply_err(req, 0);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	stats_add(STAT_OPENDIR, 1);
	reply_err(req, -ENOSYS);
}

/* ---- Reading ---- */

/* The descriptor of the source that a reply is read by; -1 where it is not. */
static int source_fd(const struct weightfs *fs, struct node node,
		     const struct content_scratch *scratch)
{
	if (!scratch->file)
		return -1;
	return node.kind == NODE_TENSOR
		       ? advices_fd(fs->advices, node.index, scratch->file)
		       : scratch->file->fd;
}

static void reply_pieces(const struct weightfs *fs, fuse_req_t req, struct node node,
			 const struct iovec *pieces, int count,
			 const struct content_scratch *scratch)
{
	int fd = source_fd(fs, node, scratch);
	size_t bytes = 0;

	for (int i = 0; i < count; i++)
		bytes += pieces[i].iov_len;
	if (channel_reply(req, pieces, count, fd, scratch->file_offset) == 0)
		stats_add(STAT_READ_BYTES, bytes);
	else
		stats_add(STAT_READ_ERRORS, 1);
	if (fs->source_cache && scratch->file)
		source_cache_note(fs->source_cache, scratch->file, scratch->file_offset,
				  pieces[count - 1].iov_len);
}

/* A READ of a tensor was answered: what follows from that for the ones to come. */
static void note_read(const struct weightfs *fs, struct node node, uint64_t offset,
		      size_t size)
{
	advices_note_read(fs->advices, node.index, offset, size);
	prefetcher_note_use(fs->prefetcher, node.index, size);
	if (offset == 0 && advices_of(fs->advices, node.index) == ADVICE_SEQUENTIAL)
		(void)!prefetcher_ask(fs->prefetcher, node.index, PREFETCH_WANTED);
	recorder_note_read(fs->recorder, node, size);
	if (fs->predict)
		predict_note_read(fs->predict, node, size);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	struct weightfs *fs = request_fs(req);
	struct content_scratch scratch;
	struct iovec pieces[2];
	struct node node;
	int count;

	stats_add(STAT_READ, 1);
	if (!layout_node(fs, ino, &node)) {
		reply_err(req, -ENOENT);
		return;
	}
	placement_enter_tensor(fs->placement, node.kind == NODE_TENSOR
						      ? node.index
						      : PLACEMENT_NO_TENSOR);
	count = content_read(fs, node, (uint64_t)offset, size, &scratch, pieces);
	if (count > 0) {
		reply_pieces(fs, req, node, pieces, count, &scratch);
	} else if (count == 0) {
		(void)fuse_reply_buf(req, NULL, 0);
	} else {
		stats_add(STAT_READ_ERRORS, 1);
		reply_err(req, count);
	}
	content_fini(&scratch);
	/* What goes past the page cache is not looked for there. */
	if (count > 0 && fs->push && scratch.file && !(fi->flags & O_DIRECT))
		push_note_read(fs->push, node, (uint64_t)offset, size);
	if (count > 0 && node.kind == NODE_TENSOR)
		note_read(fs, node, (uint64_t)offset, size);
}

/* ---- Directories ---- */

struct listing {
	struct weightfs *fs;
	fuse_req_t req;
	struct node dir;
	bool plus;
	size_t capacity;
	size_t len;
	char bytes[DIRECTORY_REPLY_MAX];
};

/*
 * With the attributes the kernel takes the child into its caches. A child whose
 * attributes are costly, or whose source is gone, is named only: inode number 0 in the
 * entry says so.
 */
static void fill_plus(const struct listing *l, struct node child,
		      struct fuse_entry_param *entry)
{
	const struct source_file *file = layout_source_file(l->fs, child);
	bool gone = file && atomic_load_explicit(&file->changed, memory_order_relaxed);

	if (!gone && layout_stat_is_cheap(l->fs, child) &&
	    fill_entry(l->fs, child, entry) == 0)
		return;
	*entry = (struct fuse_entry_param){ 0 };
	entry->attr.st_ino = layout_ino(child);
	entry->attr.st_mode = layout_is_dir(child) ? S_IFDIR : S_IFREG;
}

/* Adds one entry; `next` is the position behind it. False when it does not fit. */
static bool add_entry(struct listing *l, const char *name, struct node child, off_t next,
		      bool with_attributes)
{
	size_t room = l->capacity - l->len;
	struct fuse_entry_param entry = { 0 };
	size_t need;

	if (l->plus) {
		if (with_attributes)
			fill_plus(l, child, &entry);
		else
			entry.attr.st_ino = layout_ino(child),
			entry.attr.st_mode = S_IFDIR;
		need = fuse_add_direntry_plus(l->req, l->bytes + l->len, room, name,
					      &entry, next);
	} else {
		const struct stat st = {
			.st_ino = layout_ino(child),
			.st_mode = layout_is_dir(child)        ? S_IFDIR
				   : child.kind == NODE_SOCKET ? S_IFLNK
							       : S_IFREG,
		};

		need = fuse_add_direntry(l->req, l->bytes + l->len, room, name, &st,
					 next);
	}
	if (need > room)
		return false;
	l->len += need;
	return true;
}

static void list(struct listing *l, uint64_t position)
{
	char name[PATH_NAME_MAX + 1];
	struct node child;

	if (position == 0) {
		if (!add_entry(l, ".", l->dir, 1, false))
			return;
		position = 1;
	}
	if (position == 1) {
		if (!add_entry(l, "..", layout_parent(l->fs, l->dir), 2, false))
			return;
		position = FIRST_CHILD;
	}
	while (layout_child(l->fs, l->dir, position - FIRST_CHILD, &child, name)) {
		position++;
		if (!add_entry(l, name, child, (off_t)position, true))
			return;
	}
}

static void reply_listing(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			  bool plus)
{
	struct listing l;

	l.fs = request_fs(req);
	l.req = req;
	l.plus = plus;
	l.len = 0;
	l.capacity = size < sizeof(l.bytes) ? size : sizeof(l.bytes);
	if (!layout_node(l.fs, ino, &l.dir) || !layout_is_dir(l.dir)) {
		reply_err(req, -ENOTDIR);
		return;
	}
	if (offset >= 0)
		list(&l, (uint64_t)offset);
	(void)fuse_reply_buf(req, l.bytes, l.len);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	(void)fi;
	stats_add(STAT_READDIR, 1);
	reply_listing(req, ino, size, offset, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			   struct fuse_file_info *fi)
{
	(void)fi;
	stats_add(STAT_READDIRPLUS, 1);
	reply_listing(req, ino, size, offset, true);
}

/* ---- Extended attributes ---- */

/* A caller that brings no buffer asks for the size. */
static void reply_value(fuse_req_t req, const struct strbuf *value, size_t size)
{
	if (value->err)
		reply_err(req, -ENOMEM);
	else if (size == 0)
		(void)fuse_reply_xattr(req, value->len);
	else if (value->len > size)
		reply_err(req, -ERANGE);
	else
		(void)fuse_reply_buf(req, value->data, value->len);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct weightfs *fs = request_fs(req);
	struct strbuf value;
	struct node node;
	int r = -ENOENT;

	stats_add(STAT_GETXATTR, 1);
	strbuf_init(&value);
	if (layout_node(fs, ino, &node))
		r = xattr_get(fs, node, name, &value);
	if (r == 0)
		reply_value(req, &value, size);
	else
		reply_err(req, r);
	strbuf_fini(&value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct weightfs *fs = request_fs(req);
	struct strbuf names;
	struct node node;

	stats_add(STAT_LISTXATTR, 1);
	strbuf_init(&names);
	if (layout_node(fs, ino, &node))
		xattr_list(fs, node, &names);
	reply_value(req, &names, size);
	strbuf_fini(&names);
}

const struct fuse_lowlevel_ops weightfs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.statfs = op_statfs,
	.open = op_open,
	.release = op_release,
	.opendir = op_opendir,
	.read = op_read,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
};
