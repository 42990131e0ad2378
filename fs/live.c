#include "live.h"

#include <errno.h>
#include <string.h>

#include "advice.h"
#include "cloneplace.h"
#include "gpu/gpu.h"
#include "inodes.h"
#include "jobs.h"
#include "metrics.h"
#include "pins.h"
#include "placement_status.h"
#include "predict.h"
#include "prefetcher.h"
#include "pressure.h"
#include "push.h"
#include "recorder.h"
#include "residency.h"
#include "stats.h"

void live_init(struct weightfs *fs)
{
	for (unsigned int i = 0; i < LIVE_COUNT; i++)
		(void)pthread_mutex_init(&fs->live[i].lock, NULL);
}

void live_fini(struct weightfs *fs)
{
	for (unsigned int i = 0; i < LIVE_COUNT; i++) {
		free(fs->live[i].text);
		(void)pthread_mutex_destroy(&fs->live[i].lock);
	}
}

static double uptime(const struct weightfs *fs)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - fs->started.tv_sec) +
	       (double)(now.tv_nsec - fs->started.tv_nsec) / 1e9;
}

static void member_u64(struct jsonw *w, const char *key, uint64_t value)
{
	jsonw_key(w, key);
	jsonw_u64(w, value);
}

static void member_string(struct jsonw *w, const char *key, const char *value)
{
	jsonw_key(w, key);
	jsonw_string(w, value);
}

static void write_model(const struct weightfs *fs, struct jsonw *w)
{
	const struct served *served = fs->served;

	member_string(w, "name", served->source->name);
	member_string(w, "format", model_format(served->model));
	member_u64(w, "tensor_count", model_tensor_count(served->model));
	member_u64(w, "total_bytes", model_total_bytes(served->model));
	jsonw_key(w, "shards");
	jsonw_begin_array(w);
	for (size_t i = 0; i < model_shard_count(served->model); i++) {
		const struct source_file *file =
			&served->source->files[served->shard_files[i]];

		jsonw_begin_object(w);
		member_string(w, "name", file->name);
		member_u64(w, "size", file->size);
		member_string(w, "state", atomic_load(&file->changed) ? "changed" : "ok");
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
	member_u64(w, "skipped_count", model_skipped_count(served->model));
	jsonw_key(w, "warnings");
	jsonw_begin_array(w);
	for (size_t i = 0; i < model_warning_count(served->model); i++)
		jsonw_string(w, model_warning(served->model, i));
	jsonw_end_array(w);
}

static void write_options(const struct weightfs *fs, struct jsonw *w)
{
	const struct options *o = &fs->options;

	jsonw_key(w, "options");
	jsonw_begin_object(w);
	member_string(w, "backing", options_backing_name(o->backing));
	member_u64(w, "threads", o->threads);
	member_string(w, "prediction", o->prediction ? "on" : "off");
	if (*o->profile != '\0')
		member_string(w, "profile", o->profile);
	member_string(w, "source_cache", o->drop_source_cache ? "drop" : "keep");
	member_u64(w, "readahead_bytes", o->readahead_bytes);
	jsonw_key(w, "allow_other");
	jsonw_bool(w, o->allow_other);
	member_u64(w, "uid", o->uid);
	member_u64(w, "gid", o->gid);
	jsonw_end_object(w);
}

static void write_backing(struct jsonw *w, enum backing_choice choice,
			  const struct backing_sums *sums)
{
	jsonw_key(w, options_backing_name(choice));
	jsonw_begin_object(w);
	member_u64(w, "tensors", sums->tensors);
	member_u64(w, "bytes", sums->tensor_bytes);
	member_u64(w, "opens", sums->opens);
	jsonw_end_object(w);
}

/* Of all files together: what was asked for, and what is in force. */
static void write_limits(const struct weightfs *fs, struct jsonw *w)
{
	struct pressure_summary sums = { .limit = 0 };

	if (fs->pressure)
		pressure_summarise(fs->pressure, &sums);
	member_u64(w, "limit", fs->pressure ? fs->options.resident_limit : 0);
	member_u64(w, "effective_limit", sums.limit);
	member_u64(w, "pressure_events", sums.events);
}

static void write_files(struct jsonw *w, const struct backing_sums *sums)
{
	member_u64(w, "most_files", sums->most_files);
	member_u64(w, "files", sums->files);
	member_u64(w, "made", sums->made);
	member_u64(w, "evicted", sums->evicted);
	member_u64(w, "evicted_for_room", sums->evicted_for_room);
	member_u64(w, "no_room", sums->no_room);
	member_u64(w, "failed", sums->failed);
}

static void write_resident(const struct weightfs *fs, struct jsonw *w,
			   const struct inodes_summary *all)
{
	const struct backing_sums *sums = &all->by[BACKING_RESIDENT];

	jsonw_key(w, "resident");
	jsonw_begin_object(w);
	write_limits(fs, w);
	member_u64(w, "used", all->used);
	member_u64(w, "queued", all->queued);
	member_u64(w, "pinned", fs->pins ? pins_count(fs->pins) : 0);
	member_u64(w, "made_bytes", sums->made_bytes);
	write_files(w, sums);
	jsonw_end_object(w);
}

static void write_prediction(const struct weightfs *fs, struct jsonw *w)
{
	struct predict_summary sums = { 0 };

	if (fs->predict)
		predict_summarise(fs->predict, &sums);
	jsonw_key(w, "prediction");
	jsonw_begin_object(w);
	jsonw_key(w, "available");
	jsonw_bool(w, fs->predict);
	if (fs->predict)
		member_string(w, "order", sums.order);
	member_u64(w, "predicted", sums.predicted);
	member_u64(w, "hits", sums.hits);
	if (sums.recent > 0) {
		jsonw_key(w, "hit_rate");
		jsonw_double(w, (double)sums.recent_hits / sums.recent, 2);
	}
	jsonw_key(w, "backing_off");
	jsonw_bool(w, sums.backing_off);
	jsonw_key(w, "recording");
	jsonw_bool(w, fs->recorder && recorder_is_recording(fs->recorder));
	jsonw_end_object(w);
}

/* A look at the page cache takes long where it has much; then what the last one found has
 * to do. */
static void count_cached(const struct weightfs *fs, enum live_haste haste)
{
	unsigned int most_ms = haste == LIVE_AT_ONCE ? 5 : 100;

	if (fs->residency)
		(void)residency_wait(fs->residency, RESIDENCY_FILES,
				     residency_ask(fs->residency, RESIDENCY_FILES),
				     most_ms);
}

static void write_cached(const struct weightfs *fs, struct jsonw *w)
{
	struct residency_sums sums = { .known = false };

	if (fs->residency)
		residency_summarise(fs->residency, &sums);
	member_u64(w, "source_bytes", sums.bytes);
	jsonw_key(w, "cached_bytes");
	if (sums.known)
		jsonw_u64(w, sums.cached);
	else
		jsonw_null(w);
}

static void write_page_cache(const struct weightfs *fs, struct jsonw *w)
{
	struct prefetcher_summary sums;

	prefetcher_summarise(fs->prefetcher, &sums);
	jsonw_key(w, "page_cache");
	jsonw_begin_object(w);
	write_cached(fs, w);
	member_u64(w, "wanted", sums.queued[PREFETCH_WANTED]);
	member_u64(w, "predicted", sums.queued[PREFETCH_PREDICTED]);
	member_u64(w, "asked", sums.queued[PREFETCH_ASKED]);
	member_u64(w, "ahead_bytes", sums.ahead);
	member_u64(w, "asked_bytes", sums.asked_bytes);
	member_u64(w, "already_bytes", sums.cached_bytes);
	member_u64(w, "called_off", sums.called_off);
	jsonw_key(w, "rules");
	advices_write(fs->advices, w);
	jsonw_end_object(w);
}

static void write_push(const struct weightfs *fs, struct jsonw *w)
{
	struct push_summary sums = { 0 };

	if (fs->push)
		push_summarise(fs->push, &sums);
	jsonw_key(w, "push");
	jsonw_begin_object(w);
	jsonw_key(w, "enabled");
	jsonw_bool(w, fs->push && atomic_load(&fs->readahead_bytes) > 0);
	member_u64(w, "readers", sums.readers);
	member_u64(w, "pushed_bytes", sums.pushed_bytes);
	member_u64(w, "used_bytes", sums.used_bytes);
	member_u64(w, "unused_bytes", sums.unused_bytes);
	jsonw_end_object(w);
}

/* Why there are no clones; NULL where there are. `text` is what it may be written to. */
static const char *no_clones(const struct weightfs *fs, bool passthrough,
			     const struct backing_sums *sums,
			     char text[static REFUSAL_MAX])
{
	int error;

	if (fs->no_clones[0])
		return fs->no_clones;
	if (!passthrough || !fs->clones)
		return "there is no passthrough";
	if (sums->refused < 0) {
		refusal_of_registration(&fs->passthrough->privilege, sums->refused, text);
		return text;
	}
	error = cloneplace_error(fs->clones);
	if (error < 0)
		refusal_of_clone(error, text);
	return error < 0 ? text : NULL;
}

static void write_clones(const struct weightfs *fs, struct jsonw *w, bool passthrough,
			 const struct backing_sums *sums)
{
	char text[REFUSAL_MAX];
	const char *reason = no_clones(fs, passthrough, sums, text);

	jsonw_key(w, "clone");
	jsonw_begin_object(w);
	jsonw_key(w, "available");
	jsonw_bool(w, !reason);
	if (reason)
		member_string(w, "reason", reason);
	write_files(w, sums);
	jsonw_end_object(w);
}

/* What no other backing has is streamed. */
static void summarise(const struct weightfs *fs, struct inodes_summary *all)
{
	const struct model *model = fs->served->model;
	struct backing_sums *stream = &all->by[BACKING_STREAM];

	*all = (struct inodes_summary){ 0 };
	if (fs->inodes)
		inodes_summarise(fs->inodes, all);
	stream->tensors = model_tensor_count(model);
	stream->tensor_bytes = model_total_bytes(model);
	for (unsigned int i = BACKING_STREAM + 1; i < BACKING_CHOICE_COUNT; i++) {
		stream->tensors -= all->by[i].tensors;
		stream->tensor_bytes -= all->by[i].tensor_bytes;
	}
}

static void write_backings(const struct weightfs *fs, struct jsonw *w, bool passthrough)
{
	struct inodes_summary all;

	summarise(fs, &all);
	jsonw_key(w, "backings");
	jsonw_begin_object(w);
	for (unsigned int i = BACKING_STREAM; i < BACKING_CHOICE_COUNT; i++)
		write_backing(w, (enum backing_choice)i, &all.by[i]);
	jsonw_end_object(w);
	write_resident(fs, w, &all);
	write_clones(fs, w, passthrough, &all.by[BACKING_CLONE]);
}

const char *live_no_passthrough(const struct weightfs *fs)
{
	if (fs->passthrough && passthrough_is_enabled(fs->passthrough))
		return NULL;
	if (fs->no_passthrough)
		return fs->no_passthrough;
	return fs->passthrough ? passthrough_refusal(fs->passthrough)
			       : "it was not asked for";
}

static void write_machine(const struct weightfs *fs, struct jsonw *w)
{
	const struct gpu_ops *gpu = gpu_probe();
	const char *no_passthrough = live_no_passthrough(fs);

	jsonw_key(w, "readahead");
	jsonw_begin_object(w);
	member_u64(w, "bytes", atomic_load(&fs->readahead_bytes));
	member_string(w, "source",
		      atomic_load(&fs->readahead_raised) ? "bdi" : "default");
	jsonw_end_object(w);
	jsonw_key(w, "sandbox");
	jsonw_begin_object(w);
	jsonw_key(w, "capabilities");
	jsonw_bool(w, fs->sandbox.capabilities);
	jsonw_key(w, "landlock");
	jsonw_bool(w, fs->sandbox.landlock);
	jsonw_key(w, "seccomp");
	jsonw_bool(w, fs->sandbox.seccomp);
	jsonw_end_object(w);
	jsonw_key(w, "passthrough");
	jsonw_begin_object(w);
	jsonw_key(w, "available");
	jsonw_bool(w, !no_passthrough);
	if (no_passthrough)
		member_string(w, "reason", no_passthrough);
	jsonw_end_object(w);
	jsonw_key(w, "gpu");
	jsonw_begin_object(w);
	member_string(w, "driver", gpu->name);
	member_u64(w, "devices", gpu->device_count());
	jsonw_end_object(w);
	write_backings(fs, w, !no_passthrough);
	write_prediction(fs, w);
	write_page_cache(fs, w);
	write_push(fs, w);
}

static void write_jobs(const struct weightfs *fs, struct jsonw *w)
{
	jsonw_key(w, "jobs");
	if (fs->jobs) {
		jobs_write_running(fs->jobs, w);
		return;
	}
	jsonw_begin_array(w);
	jsonw_end_array(w);
}

static void write_counters(struct jsonw *w)
{
	jsonw_key(w, "requests");
	jsonw_begin_object(w);
	for (unsigned int i = 0; i < STATS_REQUEST_COUNT; i++)
		member_u64(w, stats_request_name((enum stat_counter)i),
			   stats_sum((enum stat_counter)i));
	jsonw_end_object(w);
	jsonw_key(w, "reads");
	jsonw_begin_object(w);
	member_u64(w, "count", stats_sum(STAT_READ));
	member_u64(w, "bytes", stats_sum(STAT_READ_BYTES));
	member_u64(w, "errors", stats_sum(STAT_READ_ERRORS));
	jsonw_end_object(w);
}

void live_write_status(const struct weightfs *fs, enum live_haste haste, struct jsonw *w)
{
	count_cached(fs, haste);
	jsonw_begin_object(w);
	member_u64(w, "weightfs", 1);
	member_string(w, "version", WEIGHTFS_VERSION);
	member_u64(w, "pid", (uint64_t)getpid());
	jsonw_key(w, "uptime_s");
	jsonw_double(w, uptime(fs), 6);
	member_string(w, "source", fs->served->source->path);
	member_string(w, "mountpoint", fs->mountpoint);
	write_model(fs, w);
	write_options(fs, w);
	write_machine(fs, w);
	placement_write_status(fs, haste == LIVE_PLACED, w);
	write_jobs(fs, w);
	write_counters(w);
	jsonw_end_object(w);
}

static void write_metrics(const struct weightfs *fs, struct strbuf *out)
{
	struct inodes_summary all;

	summarise(fs, &all);
	metrics_write(fs, &all, uptime(fs), out);
}

static void write_stats(const struct weightfs *fs, struct strbuf *out)
{
	struct jsonw w;

	jsonw_init(&w, out);
	live_write_status(fs, LIVE_AT_ONCE, &w);
	strbuf_add_char(out, '\n');
}

int live_stat(struct weightfs *fs, enum live_kind kind, struct stat *st)
{
	struct live_file *file = &fs->live[kind];
	struct strbuf out;

	strbuf_init(&out);
	if (kind == LIVE_STATS)
		write_stats(fs, &out);
	else
		write_metrics(fs, &out);
	if (out.err) {
		strbuf_fini(&out);
		return -ENOMEM;
	}
	(void)pthread_mutex_lock(&file->lock);
	free(file->text);
	file->len = out.len;
	file->text = strbuf_steal(&out);
	(void)clock_gettime(CLOCK_REALTIME, &file->made);
	st->st_size = (off_t)file->len;
	st->st_mtim = file->made;
	(void)pthread_mutex_unlock(&file->lock);
	return 0;
}

size_t live_read(struct weightfs *fs, enum live_kind kind, uint64_t offset, char *buffer,
		 size_t size)
{
	struct live_file *file = &fs->live[kind];
	size_t len = 0;

	(void)pthread_mutex_lock(&file->lock);
	if (file->text && offset < file->len) {
		len = file->len - (size_t)offset;
		if (len > size)
			len = size;
		memcpy(buffer, file->text + offset, len);
	}
	(void)pthread_mutex_unlock(&file->lock);
	return len;
}
