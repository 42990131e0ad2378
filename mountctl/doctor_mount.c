/* Checks of one mount, by the status that its daemon gives; docs/status.md describes it.
 */
#include <inttypes.h>

#include "mountctl/doctor.h"
#include "mountctl/text.h"
#include "util/size.h"

static void find_files(const struct machine *m, struct finding *f)
{
	struct json_iter iter = json_iter(json_get(m->status, "shards"));
	uint64_t changed = 0;
	uint64_t count = 0;
	struct json shard;

	while (json_next(&iter, NULL, &shard)) {
		count++;
		changed += json_equals(json_get(shard, "state"), "changed");
	}
	if (changed == 0) {
		FOUND(f, "as they were when they were mounted");
		return;
	}
	FOUND(f, "%" PRIu64 " of %" PRIu64 " changed", changed, count);
	finding_set(f, MARK_MISSING, "their tensors cannot be read any more",
		    "unmount, and mount the model anew");
}

const struct check check_mount_files = {
	.id = "mount_files",
	.title = "model files",
	.needs = NEEDS_MOUNT,
	.run = find_files,
};

static void find_backing(const struct machine *m, struct finding *f)
{
	struct json_iter iter = json_iter(json_get(m->status, "backings"));
	const char *between = ": ";
	struct json name;
	struct json sums;

	json_add_string(&f->value, json_get(json_get(m->status, "options"), "backing"));
	while (json_next(&iter, &name, &sums)) {
		strbuf_add_str(&f->value, between);
		between = ", ";
		json_add_string(&f->value, name);
		strbuf_add_char(&f->value, ' ');
		text_add_count(&f->value, json_u64(json_get(sums, "tensors")), "tensor");
	}
}

const struct check check_mount_backing = {
	.id = "mount_backing",
	.title = "backing",
	.needs = NEEDS_MOUNT,
	.run = find_backing,
};

/* Whether the mount was asked for this backing alone. What it does without for that
 * reason is no lack. */
static bool chosen(const struct machine *m, const char *backing)
{
	return json_equals(json_get(json_get(m->status, "options"), "backing"), backing);
}

/* What this machine could do, and this mount does not, has to do with the model. */
static void find_passthrough(const struct machine *m, struct finding *f)
{
	struct json passthrough = json_get(m->status, "passthrough");

	if (json_is_true(json_get(passthrough, "available"))) {
		FOUND(f, "in use");
		return;
	}
	json_add_string(&f->value, json_get(passthrough, "reason"));
	if (chosen(m, "stream"))
		return;
	if (json_is_true(json_get(json_get(m->probe, "passthrough"), "ok")) &&
	    !machine_remedy(f))
		finding_set(f, MARK_HINT, "all tensors of this mount are streamed", NULL);
	else
		finding_set(
			f, MARK_MISSING,
			"all tensors of this mount are streamed: a second copy in the "
			"page cache, and a seventh to a third of the speed when mapped",
			machine_remedy(f));
}

const struct check check_mount_passthrough = {
	.id = "mount_passthrough",
	.title = "passthrough",
	.needs = NEEDS_MOUNT,
	.run = find_passthrough,
};

static void find_clones(const struct machine *m, struct finding *f)
{
	struct json clone = json_get(m->status, "clone");

	if (json_type(clone) != JSON_OBJECT) {
		FOUND(f, "this daemon makes none");
	} else if (json_is_true(json_get(clone, "available"))) {
		FOUND(f, "tensors can share the blocks of the model file");
	} else {
		json_add_string(&f->value, json_get(clone, "reason"));
		if (!chosen(m, "stream") && !chosen(m, "resident"))
			finding_set(
				f, MARK_HINT,
				"no tensor of this mount is mapped from the disk's own "
				"pages",
				NULL);
	}
}

const struct check check_mount_clones = {
	.id = "mount_clones",
	.title = "clones",
	.needs = NEEDS_MOUNT,
	.run = find_clones,
};

static void find_readahead(const struct machine *m, struct finding *f)
{
	struct json readahead = json_get(m->status, "readahead");
	char text[SIZE_TEXT_MAX];

	FOUND(f, "%s", size_format(json_u64(json_get(readahead, "bytes")), text));
	if (!json_equals(json_get(readahead, "source"), "bdi"))
		finding_set(f, MARK_MISSING,
			    "streamed tensors are read at about half the speed",
			    "mount as root, with /sys mounted for writing");
}

const struct check check_mount_readahead = {
	.id = "mount_readahead",
	.title = "read-ahead",
	.needs = NEEDS_MOUNT,
	.run = find_readahead,
};

/* What keeps more from being resident; evictions that somebody asked for do not. Each
 * reason has advice of its own, so the one that is in force now comes first. */
static void judge_memory(struct json resident, struct finding *f)
{
	uint64_t files = json_u64(json_get(resident, "files"));
	uint64_t most_files = json_u64(json_get(resident, "most_files"));

	if (json_u64(json_get(resident, "effective_limit")) <
	    json_u64(json_get(resident, "limit")))
		finding_set(f, MARK_HINT,
			    "memory is short: resident tensors give way to others",
			    "end what takes the memory, or give the machine or the "
			    "control group more");
	else if (most_files > 0 && files >= most_files)
		finding_set(f, MARK_HINT,
			    "no more files can be resident, however small they are",
			    "mount with a higher hard limit of open files: ulimit -Hn, "
			    "or LimitNOFILE= of a service");
	else if (json_u64(json_get(resident, "evicted_for_room")) > 0 ||
		 json_u64(json_get(resident, "no_room")) > 0)
		finding_set(f, MARK_HINT,
			    "what was evicted is made anew when it is opened, and what "
			    "found no room is streamed",
			    "mount with a larger -o resident_limit= if there is memory");
	else if (json_u64(json_get(resident, "pressure_events")) > 0)
		finding_set(f, MARK_HINT,
			    "memory was short for a while, and closed tensors gave way",
			    NULL);
}

/* A daemon that does not count something leaves it out, which reads as 0. */
static void find_memory(const struct machine *m, struct finding *f)
{
	struct json resident = json_get(m->status, "resident");
	uint64_t limit = json_u64(json_get(resident, "limit"));
	uint64_t events = json_u64(json_get(resident, "pressure_events"));
	char used_text[SIZE_TEXT_MAX];
	char limit_text[SIZE_TEXT_MAX];

	if (limit == 0) {
		FOUND(f, "nothing is resident");
		return;
	}
	FOUND(f, "%s of %s in use, ",
	      size_format(json_u64(json_get(resident, "used")), used_text),
	      size_format(limit, limit_text));
	text_add_count(&f->value, json_u64(json_get(resident, "files")), "file");
	FOUND(f,
	      "; since the mount %" PRIu64 " evicted for want of room, %" PRIu64
	      " refused for it",
	      json_u64(json_get(resident, "evicted_for_room")),
	      json_u64(json_get(resident, "no_room")));
	if (events > 0) {
		FOUND(f, ", memory short ");
		text_add_count(&f->value, events, "time");
	}
	judge_memory(resident, f);
}

const struct check check_mount_memory = {
	.id = "mount_memory",
	.title = "resident",
	.needs = NEEDS_MOUNT,
	.run = find_memory,
};

static void find_sandbox(const struct machine *m, struct finding *f)
{
	struct json_iter iter = json_iter(json_get(m->status, "sandbox"));
	struct json name;
	struct json applied;
	bool whole = true;

	while (json_next(&iter, &name, &applied)) {
		bool given_up = json_is_true(applied);

		if (f->value.len > 0)
			strbuf_add_str(&f->value, ", ");
		if (!given_up)
			strbuf_add_str(&f->value, "no ");
		json_add_string(&f->value, name);
		whole = whole && given_up;
	}
	if (!whole)
		finding_set(f, MARK_HINT,
			    "a mistake in the daemon would be worth more to whoever made "
			    "the model file",
			    NULL);
}

const struct check check_mount_sandbox = {
	.id = "mount_sandbox",
	.title = "sandbox",
	.needs = NEEDS_MOUNT,
	.run = find_sandbox,
};
