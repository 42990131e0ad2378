#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "mountctl/command.h"
#include "mountctl/daemon.h"
#include "mountctl/mounts.h"
#include "mountctl/numa.h"
#include "mountctl/text.h"
#include "util/size.h"

/* Files of a model that are listed one by one. */
#define LISTED_FILES_MAX 8u

#define OPTION_NUMA 'N'

static void title(const char *text)
{
	(void)printf("%s%s%s\n", text_style(TEXT_BOLD), text, text_style(TEXT_PLAIN));
}

static void line_text(const char *label, const char *text)
{
	(void)printf("  %-12s %s\n", label, text);
}

static void line_string(const char *label, struct json string)
{
	CLEANUP(free_ptr) char *text = json_dup_printable(string);

	if (json_type(string) == JSON_STRING)
		line_text(label, text ? text : "");
}

static void line_buffer(const char *label, const struct strbuf *text)
{
	line_text(label, text->data ? text->data : "");
}

static void print_refusal(const char *label, struct json reason)
{
	CLEANUP(free_ptr) char *text = json_dup_printable(reason);

	(void)printf("  %-12s none: %s\n", label, text ? text : "?");
}

static void line_count(const char *label, uint64_t count)
{
	(void)printf("  %-12s %" PRIu64 "\n", label, count);
}

static void line_size(const char *label, uint64_t bytes)
{
	char text[TEXT_BYTES_MAX];

	line_text(label, text_bytes(bytes, text));
}

static void print_shard(struct json shard, bool ok)
{
	CLEANUP(free_ptr) char *name = json_dup_printable(json_get(shard, "name"));
	char size[SIZE_TEXT_MAX];

	(void)size_format(json_u64(json_get(shard, "size")), size);
	(void)printf("  %-12s %s, %s%s%s%s\n", "file", name ? name : "", size,
		     ok ? "" : text_style(TEXT_RED),
		     ok ? "" : ", changed: its tensors cannot be read any more",
		     ok ? "" : text_style(TEXT_PLAIN));
}

/* Large models are in hundreds of files: then only those are listed that need a look. */
static void print_shards(struct json shards)
{
	struct json_iter iter = json_iter(shards);
	uint64_t count = json_count(shards);
	struct json shard;

	if (count > LISTED_FILES_MAX)
		line_count("files", count);
	while (json_next(&iter, NULL, &shard)) {
		bool ok = json_equals(json_get(shard, "state"), "ok");

		if (!ok || count <= LISTED_FILES_MAX)
			print_shard(shard, ok);
	}
}

static void print_model(struct json status)
{
	struct json_iter iter = json_iter(json_get(status, "warnings"));
	uint64_t skipped = json_u64(json_get(status, "skipped_count"));
	struct json warning;

	title("model");
	line_string("name", json_get(status, "name"));
	line_string("source", json_get(status, "source"));
	line_string("mounted at", json_get(status, "mountpoint"));
	line_string("format", json_get(status, "format"));
	line_count("tensors", json_u64(json_get(status, "tensor_count")));
	line_size("size", json_u64(json_get(status, "total_bytes")));
	print_shards(json_get(status, "shards"));
	if (skipped > 0)
		line_count("skipped", skipped);
	while (json_next(&iter, NULL, &warning))
		line_string("warning", warning);
}

static void print_backings(struct json backings)
{
	struct json_iter iter = json_iter(backings);
	struct json name;
	struct json backing;

	title("backing of tensors/");
	while (json_next(&iter, &name, &backing)) {
		CLEANUP(free_ptr) char *label = json_dup_printable(name);
		CLEANUP(strbuf_fini) struct strbuf line = { 0 };
		char size[SIZE_TEXT_MAX];

		text_add_count(&line, json_u64(json_get(backing, "tensors")), "tensor");
		strbuf_addf(&line, ", %s",
			    size_format(json_u64(json_get(backing, "bytes")), size));
		line_buffer(label ? label : "", &line);
	}
}

/* Files of all views, unlike the table above. */
static void print_resident(struct json resident)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	uint64_t limit = json_u64(json_get(resident, "limit"));
	uint64_t effective = json_u64(json_get(resident, "effective_limit"));
	char used[SIZE_TEXT_MAX];
	char text[SIZE_TEXT_MAX];

	strbuf_addf(&line, "%s of %s",
		    size_format(json_u64(json_get(resident, "used")), used),
		    size_format(effective, text));
	if (effective < limit)
		strbuf_addf(&line, " (limit %s: memory is short)",
			    size_format(limit, text));
	strbuf_add_str(&line, ", ");
	text_add_count(&line, json_u64(json_get(resident, "files")), "file");
	strbuf_addf(&line, ", %" PRIu64 " pinned",
		    json_u64(json_get(resident, "pinned")));
	line_buffer("memory", &line);
}

static void print_pressure(uint64_t events)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };

	if (events == 0)
		return;
	strbuf_add_str(&line, "short ");
	text_add_count(&line, events, "time");
	strbuf_add_str(&line, " since mounted");
	line_buffer("", &line);
}

static void print_clones(struct json clone)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };

	if (json_type(clone) != JSON_OBJECT)
		return;
	if (json_is_true(json_get(clone, "available"))) {
		text_add_count(&line, json_u64(json_get(clone, "files")), "file");
		line_buffer("clones", &line);
	} else {
		print_refusal("clones", json_get(clone, "reason"));
	}
}

static void print_prediction(struct json prediction)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	CLEANUP(free_ptr) char *order = json_dup_printable(json_get(prediction, "order"));
	struct json rate = json_get(prediction, "hit_rate");

	if (!json_is_true(json_get(prediction, "available")))
		return;
	text_add_count(&line, json_u64(json_get(prediction, "predicted")), "tensor");
	strbuf_addf(&line, " by %s, %" PRIu64 " of them used", order ? order : "?",
		    json_u64(json_get(prediction, "hits")));
	if (json_type(rate) == JSON_NUMBER)
		strbuf_addf(&line, ", lately %.0f %%", json_double(rate) * 100);
	if (json_is_true(json_get(prediction, "backing_off")))
		strbuf_add_str(&line, ": backing off");
	line_buffer("prediction", &line);
}

/* Where the kernel reads files of ours. Without them there is one reason for all, which
 * stands with the options. */
static void print_files(struct json status)
{
	struct json resident = json_get(status, "resident");

	if (!json_is_true(json_get(json_get(status, "passthrough"), "available")))
		return;
	print_resident(resident);
	print_pressure(json_u64(json_get(resident, "pressure_events")));
	print_clones(json_get(status, "clone"));
}

static void print_rules(struct json rules)
{
	struct json_iter iter = json_iter(rules);
	const char *label = "advice";
	struct json rule;

	while (json_next(&iter, NULL, &rule)) {
		CLEANUP(free_ptr)
		char *pattern = json_dup_printable(json_get(rule, "pattern"));
		CLEANUP(free_ptr)
		char *advice = json_dup_printable(json_get(rule, "advice"));

		(void)printf("  %-12s %s: '%s'\n", label, advice ? advice : "?",
			     pattern ? pattern : "?");
		label = "";
	}
}

static void print_ahead(struct json cache)
{
	uint64_t queued = json_u64(json_get(cache, "wanted")) +
			  json_u64(json_get(cache, "predicted")) +
			  json_u64(json_get(cache, "asked"));
	uint64_t ahead = json_u64(json_get(cache, "ahead_bytes"));
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	char text[SIZE_TEXT_MAX];

	if (ahead == 0 && queued == 0)
		return;
	strbuf_addf(&line, "%s not read yet, ", size_format(ahead, text));
	text_add_count(&line, queued, "tensor");
	strbuf_add_str(&line, " queued");
	line_buffer("read ahead", &line);
}

static void print_page_cache(struct json cache)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	uint64_t all = json_u64(json_get(cache, "source_bytes"));
	struct json cached = json_get(cache, "cached_bytes");
	char text[SIZE_TEXT_MAX];

	if (json_type(cache) != JSON_OBJECT)
		return;
	title("page cache of the source");
	if (json_type(cached) == JSON_NUMBER)
		strbuf_addf(&line, "%s of ", size_format(json_u64(cached), text));
	else
		strbuf_add_str(&line, "an unknown part of ");
	strbuf_add_str(&line, size_format(all, text));
	line_buffer("cached", &line);
	print_ahead(cache);
	print_rules(json_get(cache, "rules"));
}

/* What people asked for that is not done yet. */
static void print_jobs(struct json jobs)
{
	struct json_iter iter = json_iter(jobs);
	struct json job;

	if (json_count(jobs) > 0)
		title("jobs");
	while (json_next(&iter, NULL, &job)) {
		CLEANUP(free_ptr)
		char *command = json_dup_printable(json_get(job, "command"));
		char done[SIZE_TEXT_MAX];
		char total[SIZE_TEXT_MAX];

		(void)printf("  %-12s number %" PRIu64 ", %s of %s, %.1f s\n",
			     command ? command : "", json_u64(json_get(job, "id")),
			     size_format(json_u64(json_get(job, "done_bytes")), done),
			     size_format(json_u64(json_get(job, "total_bytes")), total),
			     json_double(json_get(job, "elapsed_s")));
	}
}

/* `value` of something a second, since the mount. */
static double rate(uint64_t value, double seconds)
{
	return seconds > 0.001 ? (double)value / seconds : 0;
}

static void print_requests(struct json requests)
{
	struct json_iter iter = json_iter(requests);
	struct json name;
	struct json count;
	bool first = true;

	(void)printf("  %-12s ", "requests");
	while (json_next(&iter, &name, &count)) {
		CLEANUP(free_ptr) char *label = json_dup_printable(name);

		if (json_u64(count) == 0)
			continue;
		(void)printf("%s%s %" PRIu64, first ? "" : ", ", label ? label : "",
			     json_u64(count));
		first = false;
	}
	(void)printf("%s\n", first ? "none" : "");
}

static void print_reads(struct json status)
{
	struct json reads = json_get(status, "reads");
	double uptime = json_double(json_get(status, "uptime_s"));
	uint64_t count = json_u64(json_get(reads, "count"));
	uint64_t bytes = json_u64(json_get(reads, "bytes"));
	uint64_t errors = json_u64(json_get(reads, "errors"));
	char size[SIZE_TEXT_MAX];
	char per_second[SIZE_TEXT_MAX];

	title("reads");
	(void)printf("  %-12s %" PRIu64 ", %.1f/s since mounted\n", "reads", count,
		     rate(count, uptime));
	(void)printf("  %-12s %s, %s/s since mounted\n", "bytes",
		     size_format(bytes, size),
		     size_format((uint64_t)rate(bytes, uptime), per_second));
	(void)printf("  %-12s %s%" PRIu64 "%s\n", "errors",
		     errors ? text_style(TEXT_RED) : "", errors,
		     errors ? text_style(TEXT_PLAIN) : "");
	print_requests(json_get(status, "requests"));
}

/* The things the daemon gave up, by name. */
static void print_sandbox(struct json sandbox)
{
	struct json_iter iter = json_iter(sandbox);
	struct json name;
	struct json applied;
	bool first = true;

	(void)printf("  %-12s ", "sandbox");
	while (json_next(&iter, &name, &applied)) {
		CLEANUP(free_ptr) char *label = json_dup_printable(name);

		if (!json_is_true(applied))
			continue;
		(void)printf("%s%s", first ? "" : ", ", label ? label : "");
		first = false;
	}
	(void)printf("%s\n", first ? "none" : "");
}

/* Nothing where nobody has read in order. */
static void print_push(struct json push)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	char pushed[SIZE_TEXT_MAX];
	char used[SIZE_TEXT_MAX];

	if (json_u64(json_get(push, "pushed_bytes")) == 0)
		return;
	(void)size_format(json_u64(json_get(push, "pushed_bytes")), pushed);
	(void)size_format(json_u64(json_get(push, "used_bytes")), used);
	strbuf_addf(&line, "%s, used %s", pushed, used);
	line_buffer("pushed", &line);
}

static void print_options(struct json status)
{
	struct json options = json_get(status, "options");
	struct json readahead = json_get(status, "readahead");
	struct json passthrough = json_get(status, "passthrough");
	struct json gpu = json_get(status, "gpu");

	title("options");
	line_string("backing", json_get(options, "backing"));
	line_count("threads", json_u64(json_get(options, "threads")));
	line_size("read-ahead", json_u64(json_get(readahead, "bytes")));
	line_string("source cache", json_get(options, "source_cache"));
	if (!json_is_true(json_get(json_get(status, "prediction"), "available")))
		line_string("prediction", json_get(options, "prediction"));
	if (json_type(json_get(options, "profile")) == JSON_STRING)
		line_string("profile", json_get(options, "profile"));
	numa_print_choice(json_get(status, "numa"));
	line_text("allow_other",
		  json_is_true(json_get(options, "allow_other")) ? "yes" : "no");
	(void)printf("  %-12s %" PRIu64 ":%" PRIu64 "\n", "owner",
		     json_u64(json_get(options, "uid")),
		     json_u64(json_get(options, "gid")));
	if (json_is_true(json_get(passthrough, "available")))
		line_text("passthrough", "available");
	else
		print_refusal("passthrough", json_get(passthrough, "reason"));
	line_string("gpu driver", json_get(gpu, "driver"));
}

static void print_daemon(struct json status)
{
	uint64_t uptime = (uint64_t)fmax(json_double(json_get(status, "uptime_s")), 0);

	title("daemon");
	line_count("pid", json_u64(json_get(status, "pid")));
	line_string("version", json_get(status, "version"));
	print_sandbox(json_get(status, "sandbox"));
	(void)printf("  %-12s %" PRIu64 "d %02u:%02u:%02u\n", "uptime", uptime / 86400,
		     (unsigned int)(uptime / 3600 % 24), (unsigned int)(uptime / 60 % 60),
		     (unsigned int)(uptime % 60));
}

static enum command_result show(struct json status, bool json)
{
	if (json) {
		(void)printf("%.*s\n", (int)status.len, status.at);
		return command_finish();
	}
	print_model(status);
	print_backings(json_get(status, "backings"));
	print_files(status);
	print_page_cache(json_get(status, "page_cache"));
	print_prediction(json_get(status, "prediction"));
	print_jobs(json_get(status, "jobs"));
	print_reads(status);
	print_push(json_get(status, "push"));
	print_options(status);
	print_daemon(status);
	return command_finish();
}

/* On which nodes memory lies: counted by the daemon, which takes a moment. */
static enum command_result show_numa(const struct mount *mount, bool json)
{
	CLEANUP(daemon_peer_fini) struct daemon_peer peer = { 0 };
	CLEANUP(strbuf_fini) struct strbuf request = { 0 };
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct json reply = { 0 };
	struct json status;
	int r = daemon_find(mount, &peer);

	strbuf_add_str(&request, "{\"command\":\"status\",\"numa\":true}\n");
	if (r == 0)
		r = daemon_request(&peer, &request, &text, &reply);
	if (r < 0) {
		(void)daemon_complain(mount->mountpoint, r, reply);
		return COMMAND_FAILED;
	}
	status = json_get(reply, "status");
	if (json)
		return show(status, true);
	title("memory on NUMA nodes");
	numa_print_choice(json_get(status, "numa"));
	numa_print_nodes(json_get(status, "numa"));
	return command_finish();
}

static enum command_result show_status_of(const char *path, bool numa, bool json)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };
	CLEANUP(free_ptr) char *absolute = NULL;
	const struct mount *mount;
	const char *below;

	mount = mounts_require(&mounts, path, &absolute, &below);
	if (!mount)
		return COMMAND_FAILED;
	if (daemon_require(mount, &answer) < 0)
		return COMMAND_FAILED;
	return numa ? show_numa(mount, json) : show(answer.status, json);
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option long_options[] = {
		{ "numa", no_argument, NULL, OPTION_NUMA },
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};
	enum command_result status;
	bool numa = false;
	int option;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1)
		if (option == OPTION_NUMA)
			numa = true;
		else if (command_common_option(&command_status, option, argv, &json,
					       &status))
			return status;
	if (argc - optind != 1)
		return command_wrong_usage(&command_status, "needs one mount point");
	return show_status_of(argv[optind], numa, json);
}

const struct command command_status = {
	.name = "status",
	.usage = "MOUNTPOINT [--numa]",
	.summary = "show what a mount holds and how it is read",
	.help = "With --json the document of MOUNTPOINT/.weightfs/stats.json.\n\n"
		"  --numa        show on which NUMA nodes its memory lies, as the kernel counts it\n",
	.run = run,
};
