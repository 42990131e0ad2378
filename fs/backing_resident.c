/*
 * A copy in memory, in huge pages: a file of a tmpfs of our own. Clients map it faster
 * than the source, because one page of theirs is 2 MiB.
 */
#include <errno.h>

#include "backing.h"
#include "fill.h"
#include "hugetmpfs.h"
#include "passthrough.h"
#include "placement.h"
#include "pressure.h"
#include "source_cache.h"
#include "util/fd.h"

#define PAGE      4096u
#define HUGE_PAGE ((uint64_t)2 << 20)

static uint64_t file_size(const struct tensor *t, enum view view)
{
	return view_header_len(view, t) + t->nbytes;
}

static bool resident_suits(const struct weightfs *fs, struct node node)
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);

	return fs->tmpfs >= 0 && passthrough_is_enabled(fs->passthrough) &&
	       t->nbytes >= BACKING_LEAST_BYTES;
}

static uint64_t resident_cost(const struct weightfs *fs, struct node node)
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);
	uint64_t page = fs->options.huge_pages == HUGE_ALWAYS ? HUGE_PAGE : PAGE;

	return (file_size(t, node.view) + page - 1) / page * page;
}

static int write_header(int fd, enum view view, const struct tensor *t)
{
	struct strbuf header;
	int r = 0;

	strbuf_init(&header);
	view_write_header(view, t, &header);
	if (header.err)
		r = -ENOMEM;
	else if (header.len > 0)
		r = fd_write_fully(fd, header.data, header.len, 0);
	strbuf_fini(&header);
	return r;
}

static int copy_source(struct weightfs *fs, struct node node, int fd)
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);
	struct source_file *file = served_tensor_file(fs->served, t);
	int r = write_header(fd, node.view, t);

	if (r == 0)
		r = fill_copy(file, t->offset, t->nbytes, fd,
			      view_header_len(node.view, t), &fs->stopping);
	source_cache_note(fs->source_cache, file, t->offset, t->nbytes);
	return r;
}

static int write_contents(struct weightfs *fs, struct node node, int fd, int like)
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);
	struct source_file *file = served_tensor_file(fs->served, t);
	int r;

	if (!source_file_unchanged(file))
		return -EIO;
	r = like < 0 ? copy_source(fs, node, fd)
		     : fill_copy_memory(like, file_size(t, node.view), fd, &fs->stopping);
	/* What changed while it was copied is not what was mounted. */
	if (r == 0 && !source_file_unchanged(file))
		r = -EIO;
	return r;
}

static int make_file(struct weightfs *fs, struct node node, int like)
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);
	uint64_t size = file_size(t, node.view);
	int fd = hugetmpfs_file(fs->tmpfs, size);
	uint64_t claim;
	int r;

	if (fd < 0)
		return fd;
	placement_enter_tensor(fs->placement, node.index);
	claim = placement_bind_file(fs->placement, fd, size, node);
	r = write_contents(fs, node, fd, like);
	placement_settle_file(fs->placement, fd, size, node, claim);
	if (r == 0)
		return hugetmpfs_read_only(fd);
	(void)close(fd);
	return r;
}

/* Where memory runs out after all, as much is given up, and it is tried once more. */
static int resident_make(struct weightfs *fs, struct node node, int like)
{
	uint64_t cost = resident_cost(fs, node);
	int r = pressure_admit(fs->pressure, cost);

	if (r < 0)
		return r;
	r = make_file(fs, node, like);
	if ((r == -ENOMEM || r == -ENOSPC) && pressure_relieve(fs->pressure, cost))
		r = make_file(fs, node, like);
	pressure_settle(fs->pressure, cost);
	return r;
}

const struct backing_ops backing_resident = {
	.name = "resident",
	.suits = resident_suits,
	.make = resident_make,
	.cost = resident_cost,
};
