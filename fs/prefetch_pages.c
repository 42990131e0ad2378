/* Tensors into the page cache of the source. */
#include <errno.h>

#include "pagecache.h"
#include "prefetch.h"
#include "prefetcher.h"

/* What is asked for and waited for at a time. */
#define PIECE PREFETCHER_PIECE

/* So much is asked for before it is waited for: keeps a disk busy. */
#define AHEAD ((uint64_t)16 << 20)

/* After so many bytes it is looked whether the first ones are still there. */
#define CHECK ((uint64_t)64 << 20)

struct entry {
	uint32_t tensor;
	bool is_read;
	enum job_outcome outcome; /* unless it is read */
	uint64_t missing; /* bytes that were not there; all where it is not known */
};

struct reading {
	struct served *served;
	struct prefetcher *prefetcher;
	const struct placement *placement;
	struct job *job;
	struct entry *list;
	size_t count;
	/* What is asked for next, and how much of that was not waited for yet. */
	size_t ahead;
	uint64_t ahead_at; /* within the tensor */
	uint64_t ahead_bytes;
	/* A piece that was read, to see later whether it is still there. */
	const struct source_file *early_file;
	uint64_t early_offset;
	uint64_t early_bytes; /* 0: none yet */
	uint64_t unchecked;   /* read since it was looked at */
};

static struct source_file *file_of(const struct reading *r, const struct tensor *t)
{
	return served_tensor_file(r->served, t);
}

static const struct tensor *tensor_at(const struct reading *r, size_t i)
{
	return model_tensor(r->served->model, r->list[i].tensor);
}

static uint64_t piece_at(const struct tensor *t, uint64_t at)
{
	return t->nbytes - at < PIECE ? t->nbytes - at : PIECE;
}

/*
 * Notes what is not there. What is there goes through the rest as well: the kernel counts
 * pages that are still being read, and those that could not be.
 */
static void find_missing(struct reading *r, const struct selection *selection)
{
	for (size_t i = 0; i < selection->count; i++) {
		const struct tensor *t =
			model_tensor(r->served->model, selection->tensors[i]);
		uint64_t cached = 0;

		if (!job_should_stop(r->job) &&
		    pagecache_count(file_of(r, t), t->offset, t->nbytes, &cached) < 0)
			job_cache_unknown(r->job);
		r->list[r->count++] = (struct entry){
			.tensor = selection->tensors[i],
			.outcome = JOB_CANCELLED,
			.missing = t->nbytes - cached,
		};
	}
}

static void ask_ahead(struct reading *r)
{
	while (r->ahead < r->count && r->ahead_bytes < AHEAD) {
		const struct tensor *t = tensor_at(r, r->ahead);
		uint64_t n = piece_at(t, r->ahead_at);

		placement_enter_tensor(r->placement, r->list[r->ahead].tensor);
		prefetcher_ask_piece(r->prefetcher, file_of(r, t),
				     t->offset + r->ahead_at, n);
		r->ahead_bytes += n;
		r->ahead_at += n;
		if (r->ahead_at == t->nbytes) {
			r->ahead++;
			r->ahead_at = 0;
		}
	}
}

/* Whether the kernel has begun to give up what was read first: then it would go on with
 * that, and each page more would cost one that was asked for as well. */
static bool memory_is_short(struct reading *r, uint64_t n)
{
	uint64_t cached;

	r->unchecked += n;
	if (r->unchecked < CHECK || r->early_bytes == 0)
		return false;
	r->unchecked = 0;
	return pagecache_count(r->early_file, r->early_offset, r->early_bytes, &cached) ==
		       0 &&
	       cached < r->early_bytes;
}

static int wait_for_piece(struct reading *r, const struct source_file *file,
			  uint64_t from, uint64_t n)
{
	int failed = pagecache_wait(file, from, n);

	if (failed == 0 && r->early_bytes == 0) {
		r->early_file = file;
		r->early_offset = from;
		r->early_bytes = n;
	}
	return failed;
}

/* Reads one tensor, and asks for what comes behind it. What becomes of those that have
 * not been read is `rest`. False if there is no point in going on. */
static bool read_tensor(struct reading *r, size_t i, enum job_outcome *rest)
{
	const struct tensor *t = tensor_at(r, i);
	struct source_file *file = file_of(r, t);
	int failed = source_file_unchanged(file) ? 0 : -ESTALE;

	for (uint64_t at = 0; at < t->nbytes; at += PIECE) {
		uint64_t n = piece_at(t, at);

		if (job_should_stop(r->job))
			return false;
		if (memory_is_short(r, n)) {
			*rest = JOB_NO_ROOM;
			return false;
		}
		ask_ahead(r);
		placement_enter_tensor(r->placement, r->list[i].tensor);
		if (failed == 0)
			failed = wait_for_piece(r, file, t->offset + at, n);
		r->ahead_bytes -= n;
		job_advance(r->job, n);
	}
	r->list[i].is_read = failed == 0;
	if (failed == 0)
		job_count_cache(r->job, r->list[i].missing);
	r->list[i].outcome = failed == -ESTALE ? JOB_CHANGED : JOB_FAILED;
	return true;
}

static void read_all(struct reading *r)
{
	enum job_outcome rest = JOB_CANCELLED;
	size_t i = 0;

	while (i < r->count && read_tensor(r, i, &rest))
		i++;
	for (; i < r->count; i++)
		r->list[i].outcome = rest;
}

/* Whether some of a tensor that was read is not there any more. Where the kernel does not
 * tell, its first page stands for all: that was read first. */
static bool is_gone(const struct reading *r, const struct tensor *t)
{
	const struct source_file *file = file_of(r, t);
	uint64_t cached;

	if (t->nbytes == 0)
		return false;
	if (pagecache_count(file, t->offset, t->nbytes, &cached) == 0)
		return cached < t->nbytes;
	return !pagecache_has(file, t->offset);
}

static void count_all(struct reading *r)
{
	for (size_t i = 0; i < r->count; i++) {
		const struct tensor *t = tensor_at(r, i);
		enum job_outcome outcome = r->list[i].outcome;

		if (r->list[i].is_read)
			outcome = r->list[i].missing > 0 ? JOB_DONE : JOB_ALREADY;
		if (r->list[i].is_read && is_gone(r, t))
			outcome = JOB_DROPPED;
		job_count(r->job, outcome, t->nbytes, t);
	}
}

void prefetch_pages(struct hints *hints, struct job *job,
		    const struct selection *selection)
{
	struct reading reading = {
		.served = hints->fs->served,
		.prefetcher = hints->fs->prefetcher,
		.placement = hints->fs->placement,
		.job = job,
		.list = calloc(selection->count + 1, sizeof(struct entry)),
	};

	if (!reading.list) {
		job_fail(job, "out of memory");
		return;
	}
	job_expect(job, selection->count, selection->bytes);
	find_missing(&reading, selection);
	read_all(&reading);
	count_all(&reading);
	free(reading.list);
}
