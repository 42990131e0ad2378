#include "place_tensors.h"

#include <errno.h>
#include <sys/stat.h>
#include <time.h>

#include "inodes.h"
#include "placement_pages.h"
#include "placement_rules.h"

/* How often it is looked whether a file that is being made is there. */
#define LOOK_INTERVAL_MS 5

struct placing {
	struct weightfs *fs;
	struct job *job;
	uint32_t tensor;
	uint64_t shown; /* bytes of the tensor that count as over with already */

	/* What became of the tensor. */
	uint64_t moved;
	uint64_t left;
	bool failed;
};

/* ---- Rules ---- */

static int change_rule(struct placement_rules *rules, const struct job_spec *spec,
		       const char *pattern)
{
	return spec->reset ? placement_rules_remove(rules, pattern)
			   : placement_rules_add(rules, pattern, spec->policy);
}

static const char *words_of(int error)
{
	switch (-error) {
	case ENOENT:
		return "there is no rule with just this pattern";
	case E2BIG:
		return "a pattern is longer than the 1024 bytes that rules may have";
	case ENOSPC:
		return "there are 64 rules, and no more: take some back with --reset";
	default:
		return "out of memory";
	}
}

/* Each takes a look at all names, and of patterns there may be thousands. */
static int change_rules(const struct weightfs *fs, struct job *job)
{
	struct placement_rules *rules = placement_rules_of(fs->placement);
	const struct job_spec *spec = job_spec(job);
	int r = 0;

	for (size_t i = 0; i < spec->pattern_count && r == 0; i++)
		r = job_should_stop(job) ? -ECANCELED
					 : change_rule(rules, spec, spec->patterns[i]);
	if (r < 0 && r != -ECANCELED)
		job_fail(job, words_of(r));
	return r;
}

/* ---- Moving ---- */

/* Shows how far it is within a large tensor, of which several files may be moved. */
static void show_progress(struct placing *p, uint64_t done)
{
	const struct tensor *t = model_tensor(p->fs->served->model, p->tensor);

	if (done > t->nbytes)
		done = t->nbytes;
	if (done <= p->shown)
		return;
	job_advance(p->job, done - p->shown);
	p->shown = done;
}

/* Moves a range of a file, a huge page at a time. Returns the bytes that were moved, with
 * `error` 0 or what kept it from looking. */
static uint64_t move_range(struct placing *p, int fd, uint64_t from, uint64_t len,
			   const struct placement_target *target, int *error)
{
	struct placement_tally tally = { .moved = 0 };
	uint64_t end = from + len;
	uint64_t at = from;

	*error = 0;
	while (at < end && *error == 0 && !job_should_stop(p->job)) {
		uint64_t next = (at / PLACEMENT_CHUNK + 1) * PLACEMENT_CHUNK;

		if (next > end)
			next = end;
		*error = placement_move_range(fd, at, next - at, target, &tally);
		at = next;
		show_progress(p, at - from);
	}
	p->moved += tally.moved;
	p->left += tally.left;
	return tally.moved;
}

/* ---- Resident files ---- */

/* A file that is being made was bound before there was the rule. */
static int borrow_file(const struct placing *p, struct node node)
{
	const struct timespec interval = { .tv_nsec = LOOK_INTERVAL_MS * 1000000L };
	struct inodes *inodes = p->fs->inodes;

	while (inodes_state(inodes, node) == INODE_FILLING && !job_should_stop(p->job))
		(void)nanosleep(&interval, NULL);
	return inodes_borrow(inodes, node, BACKING_RESIDENT);
}

/* What fills no huge page has small ones, unless all pages are huge. */
static uint64_t step_of(const struct weightfs *fs, uint64_t size)
{
	return size < PLACEMENT_CHUNK && fs->options.huge_pages != HUGE_ALWAYS
		       ? (uint64_t)sysconf(_SC_PAGESIZE)
		       : PLACEMENT_CHUNK;
}

static void place_file(struct placing *p, struct node node)
{
	CLEANUP(close_fd) int fd = borrow_file(p, node);
	struct placement_target target;
	struct stat st;
	uint64_t moved;
	uint64_t size;
	int error;

	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	size = (uint64_t)st.st_size;
	target.policy = placement_policy_of(p->fs->placement, node);
	target.step = step_of(p->fs, size);
	placement_prefer(fd, size, target.policy);
	moved = move_range(p, fd, 0, size, &target, &error);
	job_count_file(p->job, moved);
	if (error < 0)
		p->failed = true;
}

static void place_files(struct placing *p)
{
	if (!p->fs->inodes)
		return;
	for (unsigned int view = 0; view < VIEW_COUNT; view++)
		place_file(p, layout_tensor((enum view)view, p->tensor));
}

/* ---- The source ---- */

/* Pages of the source that lie on the edge of a tensor follow the one that was placed
 * last. Where the kernel does not tell what is cached, nothing is moved. */
static void place_source(struct placing *p)
{
	const struct tensor *t = model_tensor(p->fs->served->model, p->tensor);
	const struct source_file *file = served_tensor_file(p->fs->served, t);
	const struct placement_target target = {
		.policy = placement_policy_of(p->fs->placement,
					      layout_tensor(VIEW_RAW, p->tensor)),
		.step = PLACEMENT_CHUNK,
	};
	uint64_t moved;
	int error;

	moved = move_range(p, file->fd, t->offset, t->nbytes, &target, &error);
	job_count_cache(p->job, moved);
	if (error == -EPERM || error == -ENOSYS)
		job_cache_unknown(p->job);
	else if (error < 0)
		p->failed = true;
}

/* ---- All of them ---- */

static enum job_outcome outcome_of(const struct placing *p)
{
	if (job_should_stop(p->job))
		return JOB_CANCELLED;
	if (p->failed)
		return JOB_FAILED;
	if (p->left > 0)
		return JOB_LEFT;
	return p->moved > 0 ? JOB_DONE : JOB_ALREADY;
}

static void place_tensor(struct weightfs *fs, struct job *job, uint32_t tensor)
{
	struct placing p = { .fs = fs, .job = job, .tensor = tensor };
	const struct tensor *t = model_tensor(fs->served->model, tensor);

	if (placement_has_nodes(fs->placement) && !job_should_stop(job)) {
		place_files(&p);
		place_source(&p);
	}
	show_progress(&p, t->nbytes);
	job_count(job, outcome_of(&p), t->nbytes, t);
}

void place_tensors(struct hints *hints, struct job *job,
		   const struct selection *selection)
{
	job_expect(job, selection->count, selection->bytes);
	if (change_rules(hints->fs, job) < 0)
		return;
	for (size_t i = 0; i < selection->count; i++)
		place_tensor(hints->fs, job, selection->tensors[i]);
}
