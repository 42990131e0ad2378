#include "hints.h"

#include <errno.h>

#include "inodes.h"
#include "pagecache.h"
#include "place_tensors.h"
#include "prefetch.h"
#include "prefetcher.h"
#include "util/pattern.h"

/* Names are many, and each look at the job takes its lock. */
#define STOP_INTERVAL 1024u

/* ---- Which tensors ---- */

/* `used` has a member for each pattern. Those known to be used are not tried again once
 * the tensor is wanted anyway. */
static bool is_wanted(const struct job_spec *spec, const char *subject, bool *used)
{
	bool wanted = false;

	for (size_t i = 0; i < spec->pattern_count; i++) {
		if ((wanted && used[i]) || !pattern_matches(spec->patterns[i], subject))
			continue;
		wanted = true;
		used[i] = true;
	}
	return wanted;
}

static int match_names(const struct model *model, struct job *job, bool *used,
		       struct selection *selection)
{
	CLEANUP(strbuf_fini) struct strbuf scratch = { 0 };

	for (size_t i = 0; i < model_tensor_count(model); i++) {
		const struct tensor *t = model_tensor(model, i);
		const char *subject = pattern_subject(&scratch, t->name, t->name_len);

		if (!subject)
			return -ENOMEM;
		if (i % STOP_INTERVAL == 0 && job_should_stop(job))
			return -ECANCELED;
		if (!is_wanted(job_spec(job), subject, used))
			continue;
		selection->tensors[selection->count++] = (uint32_t)i;
		selection->bytes += t->nbytes;
	}
	return 0;
}

/* 0 or -ENOENT, with a note in the job for each pattern that matched nothing. */
static int note_unmatched(struct job *job, const bool *used)
{
	const struct job_spec *spec = job_spec(job);
	int r = 0;

	for (size_t i = 0; i < spec->pattern_count; i++) {
		if (used[i])
			continue;
		job_unmatched(job, spec->patterns[i]);
		r = -ENOENT;
	}
	return r;
}

/* All or nothing: where a pattern matches no name the job has failed. */
static int select_tensors(const struct model *model, struct job *job,
			  struct selection *selection)
{
	size_t count = model_tensor_count(model);
	bool *used = calloc(job_spec(job)->pattern_count, sizeof(*used));
	int r = -ENOMEM;

	selection->tensors = calloc(count + 1, sizeof(*selection->tensors));
	if (used && selection->tensors)
		r = match_names(model, job, used, selection);
	if (r == -ENOMEM)
		job_fail(job, "out of memory");
	if (r == 0)
		r = note_unmatched(job, used);
	free(used);
	return r;
}

/* ---- Pinning ---- */

/* Sets or takes away the marks alone. */
static void mark(struct hints *hints, struct job *job, struct node node)
{
	const struct tensor *t = model_tensor(hints->fs->served->model, node.index);
	bool pinned = job_spec(job)->command == JOB_PIN;
	enum job_outcome outcome = JOB_DONE;
	bool changed = false;

	if (pinned && t->nbytes < BACKING_LEAST_BYTES)
		outcome = JOB_SMALL;
	else if (pins_set(hints->fs->pins, node, pinned, &changed) < 0)
		outcome = JOB_FAILED;
	else if (!changed)
		outcome = JOB_ALREADY;
	job_count(job, outcome, t->nbytes, t);
	job_advance(job, t->nbytes);
}

static unsigned int view_count(const struct job_spec *spec)
{
	unsigned int count = 0;

	for (unsigned int view = 0; view < VIEW_COUNT; view++)
		count += spec->views[view] ? 1 : 0;
	return count;
}

/* The file of a view in each tree. */
static void mark_copies(struct hints *hints, struct job *job, struct node node)
{
	const struct numa_mirror *mirror = &hints->fs->mirror;

	for (unsigned int i = 0; i < numa_mirror_file_count(mirror); i++) {
		node.copy = numa_mirror_file_at(mirror, i);
		mark(hints, job, node);
	}
}

static void mark_all(struct hints *hints, struct job *job,
		     const struct selection *selection)
{
	const struct job_spec *spec = job_spec(job);
	unsigned int files =
		view_count(spec) * numa_mirror_file_count(&hints->fs->mirror);

	job_expect(job, selection->count * files, selection->bytes * files);
	for (size_t i = 0; i < selection->count; i++)
		for (unsigned int view = 0; view < VIEW_COUNT; view++)
			if (spec->views[view])
				mark_copies(hints, job,
					    layout_tensor((enum view)view,
							  selection->tensors[i]));
}

/* ---- Giving up ---- */

/* A range of a file that is dropped from the page cache at once, so that pages which two
 * of its tensors share go as well. */
struct stretch {
	const struct source_file *file; /* NULL: none yet */
	uint64_t from;
	uint64_t end;
	uint32_t last; /* the last tensor in it */
};

static void drop_stretch(struct job *job, struct stretch *stretch)
{
	const struct source_file *file = stretch->file;
	uint64_t len = stretch->end - stretch->from;
	uint64_t before;
	uint64_t after = 0;
	int r;

	if (!file)
		return;
	stretch->file = NULL;
	r = pagecache_count(file, stretch->from, len, &before);
	pagecache_drop(file, stretch->from, len);
	if (r == 0)
		r = pagecache_count(file, stretch->from, len, &after);
	if (r < 0)
		job_cache_unknown(job);
	else if (before > after)
		job_count_cache(job, before - after);
}

/* Between neighbours there is nothing but padding. */
static void add_to_stretch(const struct hints *hints, struct job *job, uint32_t tensor,
			   struct stretch *stretch)
{
	const struct tensor *t = model_tensor(hints->fs->served->model, tensor);
	const struct source_file *file = served_tensor_file(hints->fs->served, t);

	if (stretch->file != file || tensor != stretch->last + 1)
		drop_stretch(job, stretch);
	if (!stretch->file)
		*stretch = (struct stretch){ .file = file, .from = t->offset };
	stretch->last = tensor;
	if (t->offset + t->nbytes > stretch->end)
		stretch->end = t->offset + t->nbytes;
}

/* In any tree: a pin that is being made or undone may have come to some of them only. */
static bool is_view_pinned(struct hints *hints, struct node node)
{
	const struct numa_mirror *mirror = &hints->fs->mirror;

	for (unsigned int i = 0; i < numa_mirror_file_count(mirror); i++) {
		node.copy = numa_mirror_file_at(mirror, i);
		if (pins_is_set(hints->fs->pins, node))
			return true;
	}
	return false;
}

static bool is_pinned(struct hints *hints, const struct job_spec *spec, uint32_t tensor)
{
	for (unsigned int view = 0; view < VIEW_COUNT; view++)
		if (spec->views[view] &&
		    is_view_pinned(hints, layout_tensor((enum view)view, tensor)))
			return true;
	return false;
}

/* Gives up one file of a tensor, and what the kernel has read of it through the daemon.
 * False if it is in use. */
static bool evict_file(struct hints *hints, struct job *job, struct node node)
{
	struct inodes *inodes = hints->fs->inodes;
	const struct tensor *t = model_tensor(hints->fs->served->model, node.index);
	bool ready;

	if (inodes && pins_is_held(hints->fs->pins, node))
		return false;
	ready = inodes && inodes_state(inodes, node) == INODE_READY;
	if (inodes && inodes_evict(inodes, node) < 0)
		return false;
	if (ready)
		job_count_file(job, t->nbytes);
	watch_forget_pages(hints->watch, node);
	return true;
}

/* The file of a view in each tree. False if one is in use. */
static bool evict_view(struct hints *hints, struct job *job, struct node node)
{
	const struct numa_mirror *mirror = &hints->fs->mirror;
	bool all = true;

	for (unsigned int i = 0; i < numa_mirror_file_count(mirror); i++) {
		node.copy = numa_mirror_file_at(mirror, i);
		if (!evict_file(hints, job, node))
			all = false;
	}
	return all;
}

static void evict_tensor(struct hints *hints, struct job *job, uint32_t tensor,
			 struct stretch *stretch)
{
	const struct job_spec *spec = job_spec(job);
	const struct tensor *t = model_tensor(hints->fs->served->model, tensor);
	enum job_outcome outcome = JOB_DONE;

	if (is_pinned(hints, spec, tensor)) {
		job_count(job, JOB_PINNED, t->nbytes, t);
		return;
	}
	prefetcher_forget(hints->fs->prefetcher, tensor);
	for (unsigned int view = 0; view < VIEW_COUNT; view++)
		if (spec->views[view] &&
		    !evict_view(hints, job, layout_tensor((enum view)view, tensor)))
			outcome = JOB_IN_USE;
	add_to_stretch(hints, job, tensor, stretch);
	job_count(job, outcome, t->nbytes, t);
}

static void evict_all(struct hints *hints, struct job *job,
		      const struct selection *selection)
{
	struct stretch stretch = { 0 };
	bool stop = false;

	job_expect(job, selection->count, selection->bytes);
	for (size_t i = 0; i < selection->count; i++) {
		const struct tensor *t =
			model_tensor(hints->fs->served->model, selection->tensors[i]);

		if (i % STOP_INTERVAL == 0)
			stop = job_should_stop(job);
		if (stop)
			job_count(job, JOB_CANCELLED, t->nbytes, t);
		else
			evict_tensor(hints, job, selection->tensors[i], &stretch);
		job_advance(job, t->nbytes);
	}
	drop_stretch(job, &stretch);
}

/* ---- Advice ---- */

static bool is_resident(const struct hints *hints, uint32_t tensor)
{
	const struct node node = { .kind = NODE_TENSOR, .index = tensor };
	struct inodes *inodes = hints->fs->inodes;

	return inodes && inodes_state(inodes, node) == INODE_READY &&
	       strcmp(inodes_backing_name(inodes, node), backing_resident.name) == 0;
}

/* Queues it, and does not wait. */
static enum job_outcome bring_in(const struct hints *hints, uint32_t tensor)
{
	const struct tensor *t = model_tensor(hints->fs->served->model, tensor);
	int r;

	if (!source_file_unchanged(served_tensor_file(hints->fs->served, t)))
		return JOB_CHANGED;
	if (is_resident(hints, tensor))
		return JOB_ALREADY;
	r = prefetcher_ask(hints->fs->prefetcher, tensor, PREFETCH_ASKED);
	if (r == -EALREADY)
		return JOB_ALREADY;
	return r < 0 ? JOB_NO_ROOM : JOB_DONE;
}

static enum job_outcome advise_tensor(const struct hints *hints, enum advice advice,
				      uint32_t tensor)
{
	if (advice == ADVICE_WILLNEED)
		return bring_in(hints, tensor);
	return advices_set(hints->fs->advices, tensor, advice) ? JOB_DONE : JOB_ALREADY;
}

static int keep_rules(const struct hints *hints, struct job *job)
{
	const struct job_spec *spec = job_spec(job);
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->pattern_count; i++)
		r = advices_add_rule(hints->fs->advices, spec->patterns[i], spec->advice);
	if (r == -ENOSPC)
		job_fail(job, "advise: 256 rules are kept already: 'normal' for '*' "
			      "takes them away");
	else if (r == -E2BIG)
		job_fail(job, "advise: a pattern is longer than the 1024 bytes that "
			      "rules may have");
	else if (r < 0)
		job_fail(job, "out of memory");
	return r;
}

static void advise_all(struct hints *hints, struct job *job,
		       const struct selection *selection)
{
	enum advice advice = job_spec(job)->advice;
	bool stop = false;

	if (advice != ADVICE_WILLNEED && keep_rules(hints, job) < 0)
		return;
	job_expect(job, selection->count, selection->bytes);
	for (size_t i = 0; i < selection->count; i++) {
		uint32_t tensor = selection->tensors[i];
		const struct tensor *t = model_tensor(hints->fs->served->model, tensor);

		if (i % STOP_INTERVAL == 0)
			stop = job_should_stop(job);
		job_count(job,
			  stop ? JOB_CANCELLED : advise_tensor(hints, advice, tensor),
			  t->nbytes, t);
		job_advance(job, t->nbytes);
	}
}

/* ---- Jobs ---- */

static bool gives_up(const struct job_spec *spec)
{
	return spec->command == JOB_EVICT ||
	       (spec->command == JOB_ADVISE && spec->advice == ADVICE_DONTNEED);
}

static void run(struct job *job, void *context)
{
	struct hints *hints = context;
	const struct job_spec *spec = job_spec(job);
	struct selection selection = { 0 };

	if (select_tensors(hints->fs->served->model, job, &selection) < 0) {
		free(selection.tensors);
		return;
	}
	if (gives_up(spec))
		evict_all(hints, job, &selection);
	else if (spec->command == JOB_ADVISE)
		advise_all(hints, job, &selection);
	else if (spec->command == JOB_PLACE)
		place_tensors(hints, job, &selection);
	else if (spec->command == JOB_PREFETCH && !spec->resident)
		prefetch_pages(hints, job, &selection);
	else if (spec->command == JOB_PREFETCH || spec->fill)
		prefetch_files(hints, job, &selection);
	else
		mark_all(hints, job, &selection);
	free(selection.tensors);
}

int hints_start(struct hints *hints, struct job_spec *spec, uint64_t *id)
{
	return jobs_start(hints->fs->jobs, spec, run, id);
}

int hints_new(struct weightfs *fs, struct watch *watch, struct hints **hints)
{
	struct hints *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->fs = fs;
	h->watch = watch;
	r = jobs_new(h, &fs->jobs);
	if (r == 0)
		r = pins_new(fs, &fs->pins);
	if (r < 0) {
		hints_free(h);
		return r;
	}
	*hints = h;
	return 0;
}

void hints_free(struct hints *hints)
{
	if (!hints)
		return;
	jobs_free(hints->fs->jobs);
	pins_free(hints->fs->pins);
	hints->fs->jobs = NULL;
	hints->fs->pins = NULL;
	free(hints);
}
