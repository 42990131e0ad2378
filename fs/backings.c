#include "backings.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "advice.h"
#include "backing.h"
#include "cloneplace.h"
#include "hugetmpfs.h"
#include "inodes.h"
#include "predict.h"
#include "prefetcher.h"
#include "pressure.h"
#include "profile.h"
#include "push.h"
#include "recorder.h"
#include "residency.h"
#include "source_cache.h"
#include "util/cachestat.h"
#include "util/log.h"

/* Bytes of tensors that are made resident ahead of their use. */
#define MOST_PREDICTED ((uint64_t)1 << 30)

/* Each file keeps a descriptor. More clones than this would cost the kernel much memory.
 */
#define MOST_CLONES 16384u

/* Whether a tensor is worth a file of its own. If none is, nothing needs to happen at
 * open, which is then cheaper. */
static bool has_large_tensor(const struct model *model, uint64_t bytes)
{
	for (size_t i = 0; i < model_tensor_count(model); i++)
		if (model_tensor(model, i)->nbytes >= bytes)
			return true;
	return false;
}

/* Whoever asked for a backing by name wants to know; `auto` takes what there is. */
static void say_missing(const struct weightfs *fs, enum backing_choice choice,
			const char *reason)
{
	if (fs->options.backing == choice)
		log_warning("%s: no %s tensors: %s", fs->mountpoint,
			    options_backing_name(choice), reason);
}

static void put_no_clones(struct weightfs *fs, const char *reason)
{
	(void)snprintf(fs->no_clones, sizeof(fs->no_clones), "%s", reason);
}

/* Finds where clones can be made; the status says why nowhere. */
static void prepare_clones(struct weightfs *fs)
{
	enum backing_choice choice = fs->options.backing;
	uint64_t least =
		choice == BACKING_CLONE ? BACKING_LEAST_BYTES : BACKING_AUTO_CLONE_BYTES;
	int r;

	if (choice == BACKING_RESIDENT) {
		put_no_clones(fs, "the option backing=resident is set");
		return;
	}
	if (!has_large_tensor(fs->served->model, least)) {
		put_no_clones(fs, "no tensor is as large as 1 MiB");
		return;
	}
	r = cloneplace_open(fs->served, &fs->clones);
	if (r == 0)
		return;
	refusal_of_clone(r, fs->no_clones);
	say_missing(fs, BACKING_CLONE, fs->no_clones);
}

/* Prepares what makes files in memory; this also shows whether files can be passed
 * through at all. */
static bool prepare_resident(struct weightfs *fs, struct passthrough *p)
{
	fs->tmpfs = hugetmpfs_new(fs->options.huge_pages);
	if (fs->tmpfs >= 0)
		return true;
	refusal_of_tmpfs(&p->privilege, fs->tmpfs, p->refusal);
	fs->no_passthrough = p->refusal;
	say_missing(fs, BACKING_RESIDENT, fs->no_passthrough);
	say_missing(fs, BACKING_CLONE, fs->no_passthrough);
	return false;
}

static int make_inodes(struct weightfs *fs, struct passthrough *p)
{
	struct rlimit files = { .rlim_cur = 0 };
	struct inodes_setup setup = {
		.fs = fs,
		.passthrough = p,
		.kernel = &inodes_fuse,
		.backings = backing_table,
		.limit = fs->options.resident_limit,
	};

	(void)getrlimit(RLIMIT_NOFILE, &files);
	setup.most_files[BACKING_RESIDENT] = files.rlim_cur / 2;
	setup.most_files[BACKING_CLONE] =
		files.rlim_cur / 4 < MOST_CLONES ? files.rlim_cur / 4 : MOST_CLONES;
	return inodes_new(&setup, &fs->inodes);
}

/* Prepares what makes files for passthrough. Without it every tensor is streamed, and the
 * status says why. */
static int prepare_passthrough(struct weightfs *fs, struct fuse_session *session,
			       struct passthrough *p)
{
	if (fs->options.backing == BACKING_STREAM) {
		fs->no_passthrough = "the option backing=stream is set";
		return 0;
	}
	if (!has_large_tensor(fs->served->model, BACKING_LEAST_BYTES)) {
		fs->all_small = true;
		fs->no_passthrough = "no tensor is as large as 80 KiB";
		return 0;
	}
	passthrough_prepare(p, session);
	if (!prepare_resident(fs, p))
		return 0;
	prepare_clones(fs);
	fs->passthrough = p;
	return make_inodes(fs, p);
}

/* Whether what is predicted can be made resident. */
static bool makes_resident(const struct weightfs *fs)
{
	return fs->inodes && fs->options.backing != BACKING_CLONE &&
	       passthrough_is_enabled(fs->passthrough);
}

/* Whether an OPEN makes a clone of it. */
static bool is_cloned(const struct weightfs *fs, struct node node)
{
	return fs->options.backing == BACKING_CLONE && fs->inodes &&
	       passthrough_is_enabled(fs->passthrough) && backing_clone.suits(fs, node);
}

/* Makes it resident, or else brings it into the page cache of the source. */
static int request_predicted(void *context, struct node node)
{
	struct weightfs *fs = context;
	int r;

	if (advices_is_random(fs->advices, node.index))
		return -EOPNOTSUPP;
	/* Only a pin takes memory on each node. */
	if (makes_resident(fs) && node.copy == 0 &&
	    predict_counts(fs->served->model, node.index)) {
		if (inodes_state(fs->inodes, node) != INODE_IDLE)
			return -EALREADY;
		r = inodes_request(fs->inodes, node, FILL_PREDICTED);
		if (r != -EBUSY && r != -EOPNOTSUPP)
			return r;
	}
	/* A clone has pages of its own. */
	if (is_cloned(fs, node))
		return -EOPNOTSUPP;
	/* One push fewer is no loss. */
	if (fs->push)
		(void)!push_ask(fs->push, node);
	return prefetcher_ask(fs->prefetcher, node.index, PREFETCH_PREDICTED);
}

static void withdraw_predicted(void *context, struct node node)
{
	const struct weightfs *fs = context;

	if (fs->inodes)
		inodes_withdraw(fs->inodes, node);
	prefetcher_withdraw(fs->prefetcher, node.index);
}

/* What the kernel has read of a clone stays in its own page cache, at first. */
static enum predict_sight look_at_clone(int fd)
{
	struct cachestat stat;
	struct stat st;
	uint64_t bytes;

	if (fstat(fd, &st) < 0 || cachestat_range(fd, 0, (uint64_t)st.st_size, &stat) < 0)
		return PREDICT_UNREAD;
	bytes = stat.cached * (uint64_t)sysconf(_SC_PAGESIZE);
	return bytes >= (uint64_t)st.st_size / 4 * 3 ? PREDICT_READ : PREDICT_UNREAD;
}

static enum predict_sight look(void *context, struct node node)
{
	const struct weightfs *fs = context;
	CLEANUP(close_fd) int fd = inodes_borrow(fs->inodes, node, BACKING_CLONE);

	if (fd >= 0)
		return look_at_clone(fd);
	return inodes_state(fs->inodes, node) == INODE_READY ? PREDICT_UNSEEN
							     : PREDICT_SEEN;
}

static bool is_mapped(void *context, struct node node)
{
	const struct weightfs *fs = context;

	return fs->inodes && inodes_is_mapped(fs->inodes, node);
}

/* What is predicted must leave room for what is in use, and must not evict what was
 * predicted before. */
static uint64_t most_predicted(const struct weightfs *fs)
{
	uint64_t share = fs->options.resident_limit / 4;

	return share < MOST_PREDICTED ? share : MOST_PREDICTED;
}

static int prepare_prediction(struct weightfs *fs)
{
	const struct predict_setup setup = {
		.model = fs->served->model,
		.readahead_bytes = fs->options.readahead_bytes,
		.window_max = most_predicted(fs),
		.opens_are_uses = fs->options.backing == BACKING_RESIDENT,
		.request = request_predicted,
		.withdraw = withdraw_predicted,
		.look = fs->clones ? look : NULL,
		.is_mapped = is_mapped,
		.context = fs,
		.profile = fs->profile ? &fs->profile->order : NULL,
		.profile_view = fs->profile ? fs->profile->view : VIEW_RAW,
	};

	return fs->options.prediction ? predict_new(&setup, &fs->predict) : 0;
}

static int prepare_prefetcher(struct weightfs *fs)
{
	const struct prefetcher_setup setup = {
		.served = fs->served,
		.roots = &memory_system_roots,
		.cache = &prefetcher_pagecache,
		.placement = fs->placement,
		.ahead_max = most_predicted(fs),
		.drop_unread = fs->options.drop_source_cache,
	};

	return prefetcher_new(&setup, &fs->prefetcher);
}

/* Watches the memory that files are made in. */
static int prepare_pressure(struct weightfs *fs)
{
	const struct pressure_setup setup = {
		.subject = fs->mountpoint,
		.roots = &memory_system_roots,
		.files = &pressure_inodes,
		.inodes = fs->inodes,
		.limit = fs->options.resident_limit,
	};

	return fs->inodes ? pressure_new(&setup, &fs->pressure) : 0;
}

int backings_prepare(struct weightfs *fs, struct fuse_session *session,
		     struct passthrough *p)
{
	int r;

	r = prepare_passthrough(fs, session, p);
	if (r == 0)
		r = prepare_pressure(fs);
	if (r == 0 && fs->options.drop_source_cache)
		r = source_cache_new(fs->served, &fs->source_cache);
	if (r == 0)
		r = advices_new(fs->served, fs->options.readahead_bytes, &fs->advices);
	if (r == 0)
		r = residency_new(fs->served, &fs->residency);
	if (r == 0)
		r = prepare_prefetcher(fs);
	if (r == 0)
		r = recorder_new(fs->served, &fs->recorder);
	if (r == 0)
		r = prepare_prediction(fs);
	return r;
}

/* Two fills at a time reach the speed of most disks; more threads copy more from the page
 * cache. And one that only opens wait for. */
static unsigned int fill_threads(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return 1 + (cores < 4 ? 2 : (unsigned int)cores / 2);
}

/* Two keep most disks busy. */
static unsigned int prefetch_threads(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) < 4 ? 2 : 4;
}

int backings_start(struct weightfs *fs)
{
	int r = 0;

	if (fs->source_cache)
		r = source_cache_start(fs->source_cache);
	if (r == 0 && fs->inodes)
		r = inodes_start(fs->inodes, fill_threads());
	if (r == 0)
		r = residency_start(fs->residency);
	if (r == 0)
		r = prefetcher_start(fs->prefetcher, prefetch_threads());
	if (r == 0 && fs->predict)
		r = predict_start(fs->predict);
	if (r == 0 && fs->pressure)
		r = pressure_start(fs->pressure);
	return r;
}

/* That depends on the file system that they are on. 0 if it is so for any place, else
 * what the kernel says to the last. */
static int try_clones(const struct weightfs *fs)
{
	int r = 0;

	for (unsigned int i = 0; i < fs->clones->count; i++) {
		CLEANUP(close_fd) int fd = cloneplace_file(&fs->clones->places[i]);

		if (fd < 0)
			continue;
		r = passthrough_try(fs->passthrough, fd);
		if (r == 0)
			return 0;
	}
	return r;
}

/* Better now than at the first open, when nobody reads what is said. */
static void settle_clones(struct weightfs *fs)
{
	char reason[REFUSAL_MAX];
	int r = try_clones(fs);

	if (r == 0 || !inodes_refuse(fs->inodes, BACKING_CLONE, r))
		return;
	refusal_of_registration(&fs->passthrough->privilege, r, reason);
	say_missing(fs, BACKING_CLONE, reason);
}

/* Whether the kernel passes files through. */
static void settle_passthrough(struct weightfs *fs)
{
	if (passthrough_settle(fs->passthrough)) {
		if (fs->clones)
			settle_clones(fs);
		return;
	}
	say_missing(fs, BACKING_RESIDENT, passthrough_refusal(fs->passthrough));
	say_missing(fs, BACKING_CLONE, passthrough_refusal(fs->passthrough));
}

void backings_settle(struct weightfs *fs)
{
	if (fs->passthrough)
		settle_passthrough(fs);
	/* Only now it is known what becomes of what is predicted. */
	if (fs->predict)
		predict_replay(fs->predict);
}

void backings_stop(struct weightfs *fs)
{
	atomic_store(&fs->stopping, true);
	/* Not freed yet: the thread that settles may come this far only now. */
	predict_stop(fs->predict);
	prefetcher_free(fs->prefetcher);
	fs->prefetcher = NULL;
	pressure_stop(fs->pressure);
	inodes_shut(fs->inodes);
}

void backings_free(struct weightfs *fs)
{
	predict_free(fs->predict);
	prefetcher_free(fs->prefetcher);
	inodes_free(fs->inodes);
	recorder_free(fs->recorder);
	advices_free(fs->advices);
	residency_free(fs->residency);
	source_cache_free(fs->source_cache);
	pressure_free(fs->pressure);
	close_fd(&fs->tmpfs);
	cloneplace_close(fs->clones);
}
