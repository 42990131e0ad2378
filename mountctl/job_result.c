#include "mountctl/job_result.h"

#include <inttypes.h>
#include <stdio.h>

#include "mountctl/tensors.h"
#include "mountctl/text.h"
#include "util/size.h"

static uint64_t outcome_u64(struct json job, const char *outcome, const char *member)
{
	return json_u64(json_get(json_get(json_get(job, "outcomes"), outcome), member));
}

static void add_size(struct strbuf *out, uint64_t bytes)
{
	char text[SIZE_TEXT_MAX];

	strbuf_add_str(out, size_format(bytes, text));
}

/* What the job's outcomes count: pages are counted by the tensor. */
static const char *unit_of(struct json job)
{
	bool tensors = json_equals(json_get(job, "command"), "evict") ||
		       json_equals(json_get(job, "command"), "advise") ||
		       json_equals(json_get(job, "command"), "place") ||
		       (json_equals(json_get(job, "command"), "prefetch") &&
			!json_is_true(json_get(job, "resident")));

	return tensors ? "tensor" : "file";
}

/* ", 12.0 GiB of them read in 3.2 s (3.8 GiB/s)" */
static void add_work(struct strbuf *out, uint64_t bytes, const char *what, double seconds)
{
	strbuf_add_str(out, ", ");
	add_size(out, bytes);
	strbuf_addf(out, " of them %s in %.1f s", what, seconds);
	if (seconds < 0.1)
		return;
	strbuf_add_str(out, " (");
	add_size(out, (uint64_t)((double)bytes / seconds));
	strbuf_add_str(out, "/s)");
}

/* " willneed" and so on, in words of what was done. */
static void add_advice(struct strbuf *out, struct json advice)
{
	CLEANUP(free_ptr) char *word = json_dup_printable(advice);

	if (json_equals(advice, "willneed"))
		strbuf_add_str(out, " asked for");
	else
		strbuf_addf(out, " %s", word ? word : "");
}

/* " evicted: 64.0 MiB of files and 1.0 MiB of the page cache given up" */
static void add_memory(struct strbuf *out, struct json job, const char *begin,
		       const char *unknown, const char *end)
{
	strbuf_add_str(out, begin);
	add_size(out, json_u64(json_get(job, "file_bytes")));
	strbuf_add_str(out, " of files and ");
	if (json_type(json_get(job, "cache_bytes")) == JSON_NUMBER)
		add_size(out, json_u64(json_get(job, "cache_bytes")));
	else
		strbuf_add_str(out, unknown);
	strbuf_add_str(out, end);
}

static void add_result(struct strbuf *out, bool no_fill, struct json job)
{
	struct json command = json_get(job, "command");
	struct json advice = json_get(job, "advice");
	bool gives_up = json_equals(command, "evict") || json_equals(advice, "dontneed");
	bool known = json_type(json_get(job, "cache_bytes")) == JSON_NUMBER;
	uint64_t cache_bytes = json_u64(json_get(job, "cache_bytes"));
	uint64_t file_bytes = json_u64(json_get(job, "file_bytes"));
	double seconds = json_double(json_get(job, "elapsed_s"));

	if (gives_up) {
		add_memory(out, job, " evicted: ", "an unknown part",
			   " of the page cache given up");
	} else if (json_equals(command, "advise")) {
		add_advice(out, advice);
	} else if (json_equals(command, "place")) {
		add_memory(out, job, " placed: ", "none", " of the page cache moved");
	} else if (json_equals(command, "unpin")) {
		strbuf_add_str(out, " unpinned");
	} else if (json_equals(command, "pin")) {
		strbuf_add_str(out, no_fill ? " pinned" : " resident and pinned");
		if (file_bytes > 0)
			add_work(out, file_bytes, "made", seconds);
	} else if (json_is_true(json_get(job, "resident"))) {
		strbuf_add_str(out, " resident");
		if (file_bytes > 0)
			add_work(out, file_bytes, "made", seconds);
	} else {
		strbuf_add_str(out, " in the page cache");
		if (known)
			add_work(out, cache_bytes, "read", seconds);
	}
}

/* What was pinned all the same, though there is no file yet that the pin would keep. */
static void add_later_pins(struct strbuf *out, struct json job)
{
	static const struct {
		const char *outcome;
		const char *words;
	} table[] = {
		{ "no_room", "pinned for when there is room" },
		{ "open", "pinned for when closed" },
	};

	if (!json_equals(json_get(job, "command"), "pin"))
		return;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		uint64_t count = outcome_u64(job, table[i].outcome, "count");

		if (count == 0)
			continue;
		strbuf_add_str(out, "; ");
		text_add_count(out, count, unit_of(job));
		strbuf_addf(out, " %s", table[i].words);
	}
}

static void print_summary(struct json job, const char *mountpoint, bool no_fill)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	bool is_unpin = json_equals(json_get(job, "command"), "unpin");
	uint64_t small = outcome_u64(job, "small", "count");
	uint64_t count = outcome_u64(job, "done", "count");
	uint64_t bytes = outcome_u64(job, "done", "bytes");

	/* What was not pinned is not unpinned. */
	count += is_unpin ? 0 : outcome_u64(job, "already", "count");
	bytes += is_unpin ? 0 : outcome_u64(job, "already", "bytes");
	text_escape(&line, mountpoint, strlen(mountpoint));
	strbuf_add_str(&line, ": ");
	text_add_count(&line, count, unit_of(job));
	strbuf_add_str(&line, ", ");
	add_size(&line, bytes);
	add_result(&line, no_fill, job);
	add_later_pins(&line, job);
	if (small > 0) {
		strbuf_add_str(&line, "; ");
		text_add_count(&line, small, unit_of(job));
		strbuf_addf(&line, " too small for memory of %s own, streamed",
			    small == 1 ? "its" : "their");
	}
	(void)printf("%s\n", line.data ? line.data : "");
}

static void add_examples(struct strbuf *out, struct json tally)
{
	struct json examples = json_get(tally, "examples");
	struct json_iter iter = json_iter(examples);
	const char *before = json_count(examples) < json_u64(json_get(tally, "count"))
				     ? ", among them "
				     : ": ";
	struct json name;

	while (json_next(&iter, NULL, &name)) {
		CLEANUP(free_ptr) char *text = json_dup_printable(name);

		strbuf_addf(out, "%s'%s'", before, text ? text : "");
		before = ", ";
	}
}

static const char *words_of(struct json job, struct json outcome)
{
	static const struct {
		const char *outcome;
		const char *words;
	} table[] = {
		{ "dropped", "read, but dropped again for want of memory" },
		{ "open", "open and not resident: close them first" },
		{ "unsuited", "cannot be resident on this mount" },
		{ "in_use", "in use" },
		{ "pinned", "pinned: see 'mountctl unpin'" },
		{ "changed", "the source changed" },
		{ "left", "in part left where it was: in use, or no room on the nodes" },
		{ "failed", "read: failed" },
		{ "cancelled", "cancelled" },
	};

	if (json_equals(outcome, "no_room"))
		return json_is_true(json_get(job, "resident"))
			       ? "no room within resident_limit or the limit of open "
				 "files"
			       : "not enough memory";
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (json_equals(outcome, table[i].outcome))
			return table[i].words;
	return NULL;
}

/* Says what is not as it was asked for. False if there is something. */
static bool complain_of_outcomes(const char *mountpoint, struct json job)
{
	struct json_iter iter = json_iter(json_get(job, "outcomes"));
	struct json outcome;
	struct json tally;
	bool ok = true;

	while (json_next(&iter, &outcome, &tally)) {
		CLEANUP(strbuf_fini) struct strbuf what = { 0 };
		const char *words = words_of(job, outcome);

		if (!words)
			continue;
		ok = false;
		strbuf_addf(&what, "%s: ", words);
		text_add_count(&what, json_u64(json_get(tally, "count")), unit_of(job));
		strbuf_add_str(&what, ", ");
		add_size(&what, json_u64(json_get(tally, "bytes")));
		add_examples(&what, tally);
		(void)text_error(mountpoint, what.data ? what.data : words, 0);
	}
	return ok;
}

/* The same for what kept all of the job from being done. */
static bool complain_of_job(const char *mountpoint, struct json job)
{
	struct json_iter iter = json_iter(json_get(job, "unmatched"));
	CLEANUP(free_ptr) char *error = json_dup_printable(json_get(job, "error"));
	struct json pattern;
	bool ok = true;

	while (json_next(&iter, NULL, &pattern)) {
		CLEANUP(strbuf_fini) struct strbuf raw = { 0 };

		json_add_string(&raw, pattern);
		tensors_complain_of_pattern(raw.data ? raw.data : "");
		ok = false;
	}
	if (error && *error != '\0') {
		(void)text_error(mountpoint, error, 0);
		ok = false;
	}
	return ok;
}

enum command_result job_result_show(struct json job, const char *mountpoint, bool no_fill,
				    bool json)
{
	bool matched = complain_of_job(mountpoint, job);
	bool ok;

	if (json)
		(void)printf("%.*s\n", (int)job.len, job.at);
	else if (matched)
		print_summary(job, mountpoint, no_fill);
	ok = complain_of_outcomes(mountpoint, job) && matched &&
	     json_equals(json_get(job, "state"), "done");
	return command_finish() == COMMAND_DONE && ok ? COMMAND_DONE : COMMAND_FAILED;
}
