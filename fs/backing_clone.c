/*
 * A clone on file systems with reflink: a file beside the model's that shares the blocks
 * of the tensor. It takes no memory and no room on the disk, is made in a fraction of a
 * millisecond, and clients map it as they would map the model file itself.
 *
 *              |<- header ->|<- tensor ------------------------------------------->|
 *      view    +------------+------+-----------+-----------+-----------+-----------+
 *              |      written      |  shared   |  shared   |  shared   |  written  |
 *              +-------------------+-----------+-----------+-----------+-----------+
 *      source  . . . . . . . +-----+-----------+-----------+-----------+-----------+ . .
 *              block         |     block       block       block       block       |
 *
 * Only whole blocks that hold nothing but the tensor are shared. The two ends are written
 * into blocks of their own: so no byte of a neighbour is ever in the file, behind its end
 * neither.
 */
#include <errno.h>
#include <fcntl.h>

#include "backing.h"
#include "cloneplace.h"
#include "passthrough.h"
#include "util/fd.h"

/* Blocks of file systems with reflink: 4 KiB as a rule, at most this. */
#define MOST_BLOCK ((uint64_t)64 << 10)

/* Where the parts of a clone lie. */
struct parts {
	uint64_t header;       /* bytes in front of the tensor */
	uint64_t size;         /* of the whole file */
	uint64_t shared;       /* the first byte of the view that is shared */
	uint64_t shared_len;   /* whole blocks */
	uint64_t source;       /* that byte in the source */
	uint64_t tensor_start; /* in the source */
};

/* False where there is nothing to share. `block` is a power of two. */
static bool find_parts(const struct tensor *t, enum view view, uint64_t block,
		       struct parts *parts)
{
	uint64_t header = view_header_len(view, t);
	uint64_t first = (t->offset + block - 1) / block * block;
	uint64_t end = (t->offset + t->nbytes) / block * block;

	if (first >= end || (header + (first - t->offset)) % block != 0)
		return false;
	*parts = (struct parts){
		.header = header,
		.size = header + t->nbytes,
		.shared = header + (first - t->offset),
		.shared_len = end - first,
		.source = first,
		.tensor_start = t->offset,
	};
	return true;
}

static bool clone_suits(const struct weightfs *fs, struct node node)
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);
	const struct cloneplace *place;
	struct parts parts;

	if (!fs->clones || !passthrough_is_enabled(fs->passthrough) ||
	    t->nbytes < BACKING_LEAST_BYTES)
		return false;
	place = cloneplace_of(fs->clones, t->shard);
	return place && place->block <= MOST_BLOCK &&
	       find_parts(t, node.view, place->block, &parts);
}

static uint64_t clone_cost(const struct weightfs *fs, struct node node)
{
	(void)fs;
	(void)node;
	return 0;
}

/* ---- Writing the ends ---- */

/* Appends less than a block of the source. */
static int append_source(const struct source_file *file, uint64_t from, uint64_t len,
			 struct strbuf *out)
{
	char bytes[4096];

	while (len > 0) {
		size_t piece = len < sizeof(bytes) ? (size_t)len : sizeof(bytes);
		ssize_t n = pread(file->fd, bytes, piece, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EIO;
		strbuf_add(out, bytes, (size_t)n);
		from += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return out->err ? -ENOMEM : 0;
}

/* The header and what the tensor has in front of the shared blocks: whole blocks, so that
 * none has to be read first. */
static int write_front(int fd, const struct tensor *t, enum view view,
		       const struct source_file *file, const struct parts *parts)
{
	CLEANUP(strbuf_fini) struct strbuf front = { 0 };
	int r;

	if (parts->shared == 0)
		return 0;
	view_write_header(view, t, &front);
	r = append_source(file, parts->tensor_start, parts->shared - parts->header,
			  &front);
	return r < 0 ? r : fd_write_fully(fd, front.data, front.len, 0);
}

static int write_tail(int fd, const struct source_file *file, const struct parts *parts)
{
	CLEANUP(strbuf_fini) struct strbuf tail = { 0 };
	uint64_t at = parts->shared + parts->shared_len;
	int r;

	if (at == parts->size)
		return 0;
	r = append_source(file, parts->source + parts->shared_len, parts->size - at,
			  &tail);
	return r < 0 ? r : fd_write_fully(fd, tail.data, tail.len, at);
}

/* ---- Making it ---- */

/* The size comes first: a file that does not grow is given no blocks in advance. */
static int write_clone(int fd, const struct tensor *t, enum view view,
		       const struct source_file *file, const struct parts *parts)
{
	int r = 0;

	if (ftruncate(fd, (off_t)parts->size) < 0)
		r = -errno;
	if (r == 0)
		r = cloneplace_share(fd, parts->shared, file, parts->source,
				     parts->shared_len);
	if (r == 0)
		r = write_front(fd, t, view, file, parts);
	if (r == 0)
		r = write_tail(fd, file, parts);
	return r;
}

static int make_in(const struct cloneplace *place, const struct tensor *t, enum view view,
		   struct source_file *file)
{
	CLEANUP(close_fd) int fd = cloneplace_file(place);
	struct parts parts;
	int r;

	if (fd < 0)
		return fd;
	if (!find_parts(t, view, place->block, &parts))
		return -EOPNOTSUPP;
	if (!source_file_unchanged(file))
		return -EIO;
	r = write_clone(fd, t, view, file, &parts);
	/* What changed while it was cloned is not what was mounted. */
	if (r == 0 && !source_file_unchanged(file))
		r = -EIO;
	/* For reading only: from here on nobody can write to it. */
	return r < 0 ? r : fd_reopen(fd, O_RDONLY);
}

/* Whether another try would end alike. A disk that is full may have room again. */
static bool is_for_good(int err)
{
	switch (err) {
	case -EOPNOTSUPP:
	case -EXDEV:
	case -EINVAL:
	case -EROFS:
	case -EACCES:
	case -EPERM:
	case -ENOENT:
	case -ETXTBSY:
		return true;
	default:
		return false;
	}
}

static int clone_make(struct weightfs *fs, struct node node, int like)
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);
	struct source_file *file = served_tensor_file(fs->served, t);
	const struct cloneplace *place = cloneplace_of(fs->clones, t->shard);
	int r = place ? make_in(place, t, node.view, file) : -EOPNOTSUPP;

	(void)like; /* which shares no blocks */
	if (place && is_for_good(r))
		cloneplace_refuse(fs->clones, file, t->shard, r);
	return r;
}

const struct backing_ops backing_clone = {
	.name = "clone",
	.quick = true,
	.suits = clone_suits,
	.make = clone_make,
	.cost = clone_cost,
};
