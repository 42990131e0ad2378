#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "mountctl/command.h"
#include "mountctl/daemon.h"
#include "mountctl/doctor.h"
#include "mountctl/mounts.h"
#include "mountctl/spawn.h"
#include "mountctl/text.h"
#include "util/jsonw.h"

static const struct check *const checks[] = {
	&check_daemon,        &check_fuse_device,
	&check_mounting,      &check_allow_other,
	&check_kernel,        &check_libfuse,
	&check_passthrough,   &check_huge_pages,
	&check_io_uring,      &check_readahead,
	&check_memory,        &check_memory_limit,
	&check_pressure,      &check_numa,
	&check_open_files,    &check_locked_memory,
	&check_idle_cores,    &check_cuda,
	&check_sandbox,       &check_direct_io,
	&check_reflink,       &check_mount_files,
	&check_mount_backing, &check_mount_passthrough,
	&check_mount_clones,  &check_mount_readahead,
	&check_mount_memory,  &check_mount_sandbox,
};

static const char *const mark_names[] = {
	[MARK_OK] = "ok",
	[MARK_MISSING] = "missing",
	[MARK_HINT] = "hint",
};

/* ---- printing ---- */

/* What was found may come from the machine: a name in a path, a value in /proc. */
static void print_below(const struct strbuf *text)
{
	CLEANUP(strbuf_fini) struct strbuf safe = { 0 };

	if (text->len == 0)
		return;
	text_escape(&safe, text->data, text->len);
	(void)printf("%-26s%s\n", "", safe.data ? safe.data : "");
}

static void print_finding(const struct check *check, const struct finding *f)
{
	static const enum text_style styles[] = {
		[MARK_OK] = TEXT_GREEN,
		[MARK_MISSING] = TEXT_RED,
		[MARK_HINT] = TEXT_YELLOW,
	};
	CLEANUP(strbuf_fini) struct strbuf value = { 0 };

	text_escape(&value, f->value.data ? f->value.data : "", f->value.len);
	(void)printf("%s%-7s%s  %-15s  %s\n", text_style(styles[f->mark]),
		     mark_names[f->mark], text_style(TEXT_PLAIN), check->title,
		     value.data ? value.data : "");
	print_below(&f->cost);
	print_below(&f->advice);
}

static void write_text(struct jsonw *w, const char *key, const struct strbuf *text)
{
	jsonw_key(w, key);
	if (text->len > 0)
		jsonw_string_bytes(w, text->data, text->len);
	else
		jsonw_null(w);
}

static void write_finding(struct jsonw *w, const struct check *check,
			  const struct finding *f)
{
	jsonw_begin_object(w);
	jsonw_key(w, "id");
	jsonw_string(w, check->id);
	jsonw_key(w, "mark");
	jsonw_string(w, mark_names[f->mark]);
	write_text(w, "found", &f->value);
	write_text(w, "cost", &f->cost);
	write_text(w, "advice", &f->advice);
	jsonw_end_object(w);
}

/* ---- the checks ---- */

static bool applies(const struct check *check, const struct machine *m)
{
	switch (check->needs) {
	case NEEDS_SOURCE:
		return m->source != NULL;
	case NEEDS_MOUNT:
		return json_type(m->status) != JSON_NONE;
	case NEEDS_NOTHING:
	default:
		return true;
	}
}

/* What the rows that follow are about. */
static void print_heading(enum check_needs needs)
{
	static const char *const headings[] = {
		[NEEDS_NOTHING] = "this machine",
		[NEEDS_SOURCE] = "the file system of the model",
		[NEEDS_MOUNT] = "this mount",
	};

	(void)printf("%s%s%s%s\n", needs == NEEDS_NOTHING ? "" : "\n",
		     text_style(TEXT_BOLD), headings[needs], text_style(TEXT_PLAIN));
}

/* Makes all checks and prints each as it is made, or appends it to `w` if that is not
 * NULL. Whether mounting works. */
static bool examine(const struct machine *m, struct jsonw *w)
{
	enum check_needs needs = NEEDS_NOTHING;
	bool works = true;

	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		CLEANUP(finding_fini) struct finding f = { .mark = MARK_OK };

		if (!applies(checks[i], m))
			continue;
		if (!w && (i == 0 || checks[i]->needs != needs))
			print_heading(checks[i]->needs);
		needs = checks[i]->needs;
		checks[i]->run(m, &f);
		if (checks[i]->vital && f.mark == MARK_MISSING)
			works = false;
		if (w)
			write_finding(w, checks[i], &f);
		else
			print_finding(checks[i], &f);
	}
	return works;
}

static enum command_result examine_as_json(const struct machine *m)
{
	CLEANUP(strbuf_fini) struct strbuf rows = { 0 };
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	struct jsonw w;
	bool works;

	jsonw_init(&w, &rows);
	jsonw_begin_array(&w);
	works = examine(m, &w);
	jsonw_end_array(&w);
	jsonw_init(&w, &out);
	jsonw_begin_object(&w);
	jsonw_key(&w, "works");
	jsonw_bool(&w, works);
	jsonw_key(&w, "checks");
	jsonw_raw(&w, rows.data ? rows.data : "[]", rows.data ? rows.len : 2);
	jsonw_end_object(&w);
	if (rows.err || out.err) {
		(void)text_error("doctor", "checks", ENOMEM);
		return COMMAND_FAILED;
	}
	(void)printf("%s\n", out.data);
	return works ? command_finish() : COMMAND_FAILED;
}

static enum command_result show(const struct machine *m, bool json)
{
	bool works;

	if (json)
		return examine_as_json(m);
	works = examine(m, NULL);
	if (!works)
		(void)printf("\n%smodels cannot be mounted here%s\n",
			     text_style(TEXT_BOLD), text_style(TEXT_PLAIN));
	return works ? command_finish() : COMMAND_FAILED;
}

/* Runs weightfs --probe; its absence is a finding of its own. */
static void probe(struct spawn_result *result, struct json *answer)
{
	CLEANUP(free_ptr) char *program = spawn_find_weightfs();
	const char *argv[] = { program, "--probe", NULL };

	*answer = (struct json){ 0 };
	if (!program || spawn_run(argv, result) < 0 || result->status != 0)
		return;
	(void)!json_parse(result->out.data, result->out.len, answer);
}

static enum command_result examine_machine(struct machine *m, bool json)
{
	CLEANUP(spawn_result_fini) struct spawn_result result = { 0 };

	probe(&result, &m->probe);
	return show(m, json);
}

/* ---- what is asked about ---- */

static enum command_result examine_mount(struct machine *m, const struct mount *mount,
					 bool json)
{
	CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };
	CLEANUP(strbuf_fini) struct strbuf source = { 0 };

	if (daemon_require(mount, &answer) < 0)
		return COMMAND_FAILED;
	m->status = answer.status;
	json_add_string(&source, json_get(answer.status, "source"));
	m->source = source.data;
	return examine_machine(m, json);
}

static enum command_result examine_path(struct machine *m, const char *path, bool json)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(free_ptr) char *absolute = NULL;
	const struct mount *mount;
	const char *below;
	struct stat st;

	if (mounts_read(&mounts) < 0)
		return COMMAND_FAILED;
	absolute = mounts_absolute_path(&mounts, path);
	mount = absolute ? mounts_containing(&mounts, absolute, &below) : NULL;
	if (mount)
		return examine_mount(m, mount, json);
	if (stat(path, &st) < 0) {
		(void)text_error(path, "look up", errno);
		return COMMAND_FAILED;
	}
	m->source = path;
	return examine_machine(m, json);
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option long_options[] = { COMMAND_COMMON_OPTIONS, { 0 } };
	struct machine machine = {
		.root = "",
		.is_root = geteuid() == 0,
		.path = getenv("PATH"), // NOLINT(concurrency-mt-unsafe)
	};
	enum command_result status;
	int option;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1)
		if (command_common_option(&command_doctor, option, argv, &json, &status))
			return status;
	if (argc - optind > 1)
		return command_wrong_usage(&command_doctor, "takes one path at most");
	if (argc - optind == 1)
		return examine_path(&machine, argv[optind], json);
	return examine_machine(&machine, json);
}

const struct command command_doctor = {
	.name = "doctor",
	.usage = "[MOUNTPOINT|SOURCE]",
	.summary = "show what this machine can do for mounts, and what it lacks",
	.help = "Changes nothing. With SOURCE also its file system is looked at, with a\n"
		"MOUNTPOINT what that mount uses, and why not more. Fails where nothing can\n"
		"be mounted.\n",
	.run = run,
};
