#include "metrics.h"

#include <stddef.h>
#include <string.h>

#include "jobs.h"
#include "pins.h"
#include "predict.h"
#include "prefetcher.h"
#include "pressure.h"
#include "push.h"
#include "stats.h"

struct metric {
	const char *name; /* behind "weightfs_" */
	const char *type;
	const char *help;
};

static void begin(struct strbuf *out, struct metric metric)
{
	strbuf_addf(out, "# HELP weightfs_%s %s\n# TYPE weightfs_%s %s\n", metric.name,
		    metric.help, metric.name, metric.type);
}

static void add_u64(struct strbuf *out, struct metric metric, uint64_t value)
{
	begin(out, metric);
	strbuf_addf(out, "weightfs_%s %llu\n", metric.name, (unsigned long long)value);
}

static void add_labelled(struct strbuf *out, struct metric metric, const char *label,
			 const char *value, uint64_t count)
{
	strbuf_addf(out, "weightfs_%s{%s=\"%s\"} %llu\n", metric.name, label, value,
		    (unsigned long long)count);
}

static void write_requests(struct strbuf *out)
{
	static const struct metric requests = { "requests_total", "counter",
						"Requests of the kernel by kind." };

	begin(out, requests);
	for (unsigned int i = 0; i < STATS_REQUEST_COUNT; i++)
		add_labelled(out, requests, "kind",
			     stats_request_name((enum stat_counter)i),
			     stats_sum((enum stat_counter)i));
	add_u64(out,
		(struct metric){ "read_bytes_total", "counter",
				 "Bytes that reads were answered with." },
		stats_sum(STAT_READ_BYTES));
	add_u64(out,
		(struct metric){ "read_errors_total", "counter", "Reads that failed." },
		stats_sum(STAT_READ_ERRORS));
}

static void write_model(const struct weightfs *fs, double uptime_s, struct strbuf *out)
{
	static const struct metric uptime = { "uptime_seconds", "gauge",
					      "Seconds since the mount." };

	add_u64(out,
		(struct metric){ "tensors", "gauge", "Tensors of the mounted model." },
		model_tensor_count(fs->served->model));
	add_u64(out, (struct metric){ "tensor_bytes", "gauge", "Bytes of all tensors." },
		model_total_bytes(fs->served->model));
	begin(out, uptime);
	strbuf_addf(out, "weightfs_%s %.3f\n", uptime.name, uptime_s);
}

/* Of each backing: where the number stands in its sums. */
static const struct {
	struct metric metric;
	size_t at;
	bool of_stream; /* which has no files */
} of_backings[] = {
	{ { "backing_tensors", "gauge", "Tensors whose raw file has the backing." },
	  offsetof(struct backing_sums, tensors),
	  true },
	{ { "backing_bytes", "gauge", "Bytes of these tensors." },
	  offsetof(struct backing_sums, tensor_bytes),
	  true },
	{ { "backing_opens_total", "counter", "Opens that reached the daemon." },
	  offsetof(struct backing_sums, opens),
	  true },
	{ { "files", "gauge", "Files of all views that the kernel reads itself." },
	  offsetof(struct backing_sums, files),
	  false },
	{ { "most_files", "gauge", "How many there may be." },
	  offsetof(struct backing_sums, most_files),
	  false },
	{ { "files_made_total", "counter", "Files that were made." },
	  offsetof(struct backing_sums, made),
	  false },
	{ { "files_evicted_total", "counter", "Files that were given up." },
	  offsetof(struct backing_sums, evicted),
	  false },
	{ { "files_evicted_for_room_total", "counter",
	    "Files that were given up because others took their room." },
	  offsetof(struct backing_sums, evicted_for_room),
	  false },
	{ { "files_no_room_total", "counter", "Opens and requests that found no room." },
	  offsetof(struct backing_sums, no_room),
	  false },
	{ { "files_failed_total", "counter", "Files that could not be made." },
	  offsetof(struct backing_sums, failed),
	  false },
};

static void write_backings(const struct inodes_summary *all, struct strbuf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(of_backings); i++) {
		unsigned int choice =
			of_backings[i].of_stream ? BACKING_STREAM : BACKING_STREAM + 1;

		begin(out, of_backings[i].metric);
		for (; choice < BACKING_CHOICE_COUNT; choice++) {
			const char *sums = (const char *)&all->by[choice];
			uint64_t value;

			memcpy(&value, sums + of_backings[i].at, sizeof(value));
			add_labelled(out, of_backings[i].metric, "backing",
				     options_backing_name((enum backing_choice)choice),
				     value);
		}
	}
}

static void write_memory(const struct weightfs *fs, const struct inodes_summary *all,
			 struct strbuf *out)
{
	struct pressure_summary sums = { .limit = 0 };

	if (fs->pressure)
		pressure_summarise(fs->pressure, &sums);
	add_u64(out,
		(struct metric){ "resident_limit_bytes", "gauge",
				 "What resident files may take." },
		fs->pressure ? fs->options.resident_limit : 0);
	add_u64(out,
		(struct metric){ "resident_effective_limit_bytes", "gauge",
				 "The same, or less while memory is short." },
		sums.limit);
	add_u64(out,
		(struct metric){ "resident_used_bytes", "gauge",
				 "Bytes of resident files, those being made included." },
		all->used);
	add_u64(out,
		(struct metric){ "pressure_events_total", "counter",
				 "Times that memory began to be short." },
		sums.events);
}

static void write_work(const struct weightfs *fs, const struct inodes_summary *all,
		       struct strbuf *out)
{
	struct predict_summary sums = { 0 };

	if (fs->predict)
		predict_summarise(fs->predict, &sums);
	add_u64(out,
		(struct metric){ "queued_files", "gauge",
				 "Files that are queued or being made." },
		all->queued);
	add_u64(out, (struct metric){ "pinned_files", "gauge", "Files that are pinned." },
		fs->pins ? pins_count(fs->pins) : 0);
	add_u64(out,
		(struct metric){ "predicted_total", "counter",
				 "Tensors brought in ahead of their use." },
		sums.predicted);
	add_u64(out,
		(struct metric){ "predicted_hits_total", "counter",
				 "Of those, opened or read afterwards." },
		sums.hits);
	add_u64(out,
		(struct metric){ "prediction_backing_off", "gauge",
				 "Whether too many predictions were wrong." },
		sums.backing_off);
	add_u64(out, (struct metric){ "jobs_running", "gauge", "Jobs that are running." },
		fs->jobs ? jobs_running(fs->jobs) : 0);
}

static void write_push(const struct weightfs *fs, struct strbuf *out)
{
	struct push_summary sums = { 0 };

	if (fs->push)
		push_summarise(fs->push, &sums);
	add_u64(out,
		(struct metric){ "push_bytes_total", "counter",
				 "Bytes put into the kernel's cache ahead of clients." },
		sums.pushed_bytes);
	add_u64(out,
		(struct metric){ "push_used_bytes_total", "counter",
				 "Of those, come by a client." },
		sums.used_bytes);
	add_u64(out,
		(struct metric){ "push_unused_bytes_total", "counter",
				 "Of those, left by a client." },
		sums.unused_bytes);
}

static void write_read_ahead(const struct weightfs *fs, struct strbuf *out)
{
	struct prefetcher_summary sums;

	prefetcher_summarise(fs->prefetcher, &sums);
	add_u64(out,
		(struct metric){
			"read_ahead_asked_bytes_total", "counter",
			"Bytes of the source that the kernel was asked to read." },
		sums.asked_bytes);
	add_u64(out,
		(struct metric){
			"read_ahead_bytes", "gauge",
			"Bytes that were read ahead and that nobody came to yet." },
		sums.ahead);
	add_u64(out,
		(struct metric){ "read_ahead_called_off_total", "counter",
				 "Tensors that were queued and then not read ahead." },
		sums.called_off);
}

void metrics_write(const struct weightfs *fs, const struct inodes_summary *all,
		   double uptime_s, struct strbuf *out)
{
	write_requests(out);
	write_model(fs, uptime_s, out);
	write_backings(all, out);
	write_memory(fs, all, out);
	write_work(fs, all, out);
	write_push(fs, out);
	write_read_ahead(fs, out);
}
