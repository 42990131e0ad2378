/* Tensors into files of their own, which fill threads make. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "inodes.h"
#include "prefetch.h"

/* So much is queued at a time: enough for the fill threads, and soon over when the job is
 * cancelled. */
#define ASKED_FILES 512u
#define ASKED_BYTES ((uint64_t)512 << 20)

#define LOOK_INTERVAL_MS 5

/* The file of one view of a tensor. */
struct entry {
	struct node node;
	bool held;  /* the job holds on to it */
	bool asked; /* and is being made */
	bool again; /* for the second time */
};

struct making {
	struct hints *hints;
	struct job *job;
	struct entry *list;
	size_t count;
	size_t per_copy; /* files of each memory node: those of the first come first */
	size_t first;    /* all before it are over with */
	size_t next;     /* the first that was not asked for */
	size_t asked;
	uint64_t asked_bytes;
	uint64_t refused_bytes; /* what is as large as this does not fit */
};

static const struct tensor *tensor_of(const struct making *m, const struct entry *e)
{
	return model_tensor(m->hints->fs->served->model, e->node.index);
}

/* ---- Holding on ---- */

static bool hold(struct making *m, struct entry *e)
{
	if (!e->held)
		e->held = pins_hold(m->hints->fs->pins, e->node) == 0;
	return e->held;
}

static void let_go(struct making *m, struct entry *e)
{
	if (e->held)
		pins_release(m->hints->fs->pins, e->node);
	e->held = false;
}

/* A file of another backing is not what was asked for. */
static bool is_resident(const struct making *m, const struct entry *e)
{
	struct inodes *inodes = m->hints->fs->inodes;

	return inodes && inodes_state(inodes, e->node) == INODE_READY &&
	       strcmp(inodes_backing_name(inodes, e->node), backing_resident.name) == 0;
}

/* What is there already must not make room for the rest. */
static void hold_resident(struct making *m)
{
	for (size_t i = 0; i < m->count; i++)
		if (is_resident(m, &m->list[i]))
			(void)hold(m, &m->list[i]);
}

/* ---- One file ---- */

/* A pin stays also where the file could not be made: it holds from when there is one. */
static bool is_pinned_by(enum job_outcome outcome)
{
	return outcome != JOB_SMALL && outcome != JOB_UNSUITED &&
	       outcome != JOB_CANCELLED;
}

static void finish(struct making *m, struct entry *e, enum job_outcome outcome)
{
	const struct tensor *t = tensor_of(m, e);
	bool changed;

	if (job_spec(m->job)->command == JOB_PIN && is_pinned_by(outcome) &&
	    pins_set(m->hints->fs->pins, e->node, true, &changed) < 0)
		outcome = JOB_FAILED;
	if (outcome == JOB_DONE)
		job_count_file(m->job, t->nbytes);
	if (outcome != JOB_DONE && outcome != JOB_ALREADY)
		let_go(m, e);
	job_count(m->job, outcome, t->nbytes, t);
	job_advance(m->job, t->nbytes);
}

static enum job_outcome outcome_of(int error)
{
	switch (-error) {
	case EBUSY:
		return JOB_OPEN;
	case ENOSPC:
		return JOB_NO_ROOM;
	case EOPNOTSUPP:
		return JOB_UNSUITED;
	default:
		return JOB_FAILED;
	}
}

static int request(struct making *m, const struct entry *e, uint64_t bytes)
{
	int r;

	/* To ask again would make room in vain. */
	if (bytes >= m->refused_bytes) {
		inodes_count_no_room(m->hints->fs->inodes);
		return -ENOSPC;
	}
	r = inodes_request(m->hints->fs->inodes, e->node, FILL_ASKED);
	if (r == -ENOSPC)
		m->refused_bytes = bytes;
	return r;
}

static void ask(struct making *m, struct entry *e)
{
	const struct tensor *t = tensor_of(m, e);
	int r;

	if (!source_file_unchanged(served_tensor_file(m->hints->fs->served, t))) {
		finish(m, e, JOB_CHANGED);
		return;
	}
	/* Where all are small, there are no inodes to ask. */
	if (t->nbytes < BACKING_LEAST_BYTES) {
		finish(m, e, JOB_SMALL);
		return;
	}
	if (!hold(m, e)) {
		finish(m, e, JOB_FAILED);
		return;
	}
	if (is_resident(m, e)) {
		finish(m, e, JOB_ALREADY);
		return;
	}
	r = request(m, e, t->nbytes);
	if (r < 0) {
		finish(m, e, outcome_of(r));
		return;
	}
	e->asked = true;
	m->asked++;
	m->asked_bytes += t->nbytes;
}

/* What became of a file that is not being made any more. */
static enum job_outcome judge(struct making *m, struct entry *e)
{
	const struct tensor *t = tensor_of(m, e);

	if (is_resident(m, e))
		return JOB_DONE;
	return source_file_unchanged(served_tensor_file(m->hints->fs->served, t))
		       ? JOB_FAILED
		       : JOB_CHANGED;
}

/* A request may have been called off, for want of room for instance: to ask again tells.
 * 0 if it is being made again. */
static int ask_again(struct making *m, struct entry *e)
{
	if (e->again)
		return -EIO;
	e->again = true;
	return request(m, e, tensor_of(m, e)->nbytes);
}

/* Looks what has become of a file that was asked for. */
static void look(struct making *m, struct entry *e)
{
	const struct tensor *t = tensor_of(m, e);
	enum inode_state state = inodes_state(m->hints->fs->inodes, e->node);
	enum job_outcome outcome;
	int r = -EIO;

	if (state == INODE_QUEUED || state == INODE_FILLING)
		return;
	outcome = judge(m, e);
	if (outcome == JOB_FAILED)
		r = ask_again(m, e);
	if (r == 0)
		return;
	e->asked = false;
	m->asked--;
	m->asked_bytes -= t->nbytes;
	finish(m, e, outcome == JOB_FAILED ? outcome_of(r) : outcome);
}

/* ---- All of them ---- */

/* A file of another memory node is copied from that of the first, once that is there. */
static bool must_wait(const struct making *m, size_t i)
{
	return m->per_copy > 0 && i >= m->per_copy && m->list[i % m->per_copy].asked;
}

static void ask_more(struct making *m)
{
	while (m->next < m->count && m->asked < ASKED_FILES &&
	       m->asked_bytes < ASKED_BYTES && !must_wait(m, m->next))
		ask(m, &m->list[m->next++]);
}

static void look_at_asked(struct making *m)
{
	for (size_t i = m->first; i < m->next; i++)
		if (m->list[i].asked)
			look(m, &m->list[i]);
	while (m->first < m->next && !m->list[m->first].asked)
		m->first++;
}

static void wait_a_moment(void)
{
	const struct timespec interval = { .tv_nsec = LOOK_INTERVAL_MS * 1000000L };

	(void)nanosleep(&interval, NULL);
}

static void make_files(struct making *m)
{
	while (m->first < m->count && !job_must_stop(m->job)) {
		if (!job_should_stop(m->job))
			ask_more(m);
		else if (m->asked == 0)
			break;
		look_at_asked(m);
		if (m->asked > 0)
			wait_a_moment();
	}
	for (size_t i = m->first; i < m->count; i++)
		if (i >= m->next || m->list[i].asked)
			finish(m, &m->list[i], JOB_CANCELLED);
}

static void list_copy(struct making *m, const struct selection *selection, uint16_t copy)
{
	for (size_t i = 0; i < selection->count; i++) {
		for (unsigned int view = 0; view < VIEW_COUNT; view++) {
			struct entry *e = &m->list[m->count];

			if (!job_spec(m->job)->views[view])
				continue;
			e->node = layout_tensor((enum view)view, selection->tensors[i]);
			e->node.copy = copy;
			m->count++;
		}
	}
}

/* Of each tensor: what is pinned has a file on each memory node. */
static unsigned int copy_count(const struct hints *hints, const struct job *job)
{
	return job_spec(job)->command == JOB_PIN
		       ? numa_mirror_file_count(&hints->fs->mirror)
		       : 1;
}

/* All tensors for one node, then all for the next: where there is no room for all of it,
 * each tensor is in memory once before one is there twice. */
static void list_files(struct making *m, const struct selection *selection)
{
	for (unsigned int i = 0; i < copy_count(m->hints, m->job); i++) {
		list_copy(m, selection, numa_mirror_file_at(&m->hints->fs->mirror, i));
		m->per_copy = i == 0 ? m->count : m->per_copy;
	}
}

void prefetch_files(struct hints *hints, struct job *job,
		    const struct selection *selection)
{
	struct making m = {
		.hints = hints,
		.job = job,
		.list = calloc(selection->count * VIEW_COUNT * copy_count(hints, job) + 1,
			       sizeof(struct entry)),
		.refused_bytes = UINT64_MAX,
	};

	if (!m.list) {
		job_fail(job, "out of memory");
		return;
	}
	list_files(&m, selection);
	job_expect(job, m.count, selection->bytes * (m.count / selection->count));
	hold_resident(&m);
	make_files(&m);
	for (size_t i = 0; i < m.count; i++)
		let_go(&m, &m.list[i]);
	free(m.list);
}
