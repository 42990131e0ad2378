#include <inttypes.h>
#include <stdio.h>

#include "mountctl/command.h"
#include "mountctl/daemon.h"
#include "mountctl/mounts.h"
#include "mountctl/table.h"
#include "mountctl/text.h"
#include "util/jsonw.h"
#include "util/log.h"

/* A list is looked at: one mount that hangs must not hide the others for long. */
#define LIST_TIMEOUT_MS 1000

static void add_row(struct table *table, const struct mount *mount,
		    const struct daemon_answer *answer)
{
	CLEANUP(strbuf_fini) struct strbuf mountpoint = { 0 };
	CLEANUP(strbuf_fini) struct strbuf source = { 0 };
	CLEANUP(free_ptr)
	char *format = json_dup_printable(json_get(answer->status, "format"));
	bool ok = answer->state == DAEMON_OK;
	char tensors[24];

	text_escape(&mountpoint, mount->mountpoint, strlen(mount->mountpoint));
	text_escape(&source, mount->source, strlen(mount->source));
	(void)snprintf(tensors, sizeof(tensors), "%" PRIu64,
		       json_u64(json_get(answer->status, "tensor_count")));
	table_add(table, mountpoint.data ? mountpoint.data : "");
	table_add(table, source.data ? source.data : "");
	table_add(table, ok && format ? format : "-");
	table_add(table, ok ? tensors : "-");
	if (ok)
		table_add_size(table, json_u64(json_get(answer->status, "total_bytes")));
	else
		table_add(table, "-");
	table_add(table, daemon_state_name(answer->state));
}

static void add_document(struct jsonw *out, const struct mount *mount,
			 const struct daemon_answer *answer)
{
	jsonw_begin_object(out);
	jsonw_key(out, "mountpoint");
	jsonw_string(out, mount->mountpoint);
	jsonw_key(out, "source");
	jsonw_string(out, mount->source);
	jsonw_key(out, "state");
	jsonw_string(out, daemon_state_name(answer->state));
	jsonw_key(out, "status");
	if (answer->status.at)
		jsonw_raw(out, answer->status.at, answer->status.len);
	else
		jsonw_null(out);
	jsonw_end_object(out);
}

static enum command_result list_mounts(const struct mounts *mounts, bool json)
{
	static const struct table_column columns[] = {
		{ "MOUNTPOINT", false }, { "SOURCE", false }, { "FORMAT", false },
		{ "TENSORS", true },     { "SIZE", true },    { "STATE", false },
	};
	CLEANUP(table_fini) struct table table;
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct jsonw out;

	table_init(&table, columns, ARRAY_LEN(columns));
	jsonw_init(&out, &text);
	jsonw_begin_array(&out);
	for (size_t i = 0; i < mounts->count; i++) {
		CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };

		if (!mount_is_weightfs(&mounts->list[i]))
			continue;
		/* Its path leads to the mount that hides it, and to that one's daemon. */
		if (mounts_is_covered(mounts, &mounts->list[i]))
			answer.state = DAEMON_COVERED;
		else
			daemon_ask(&mounts->list[i], LIST_TIMEOUT_MS, &answer);
		if (json)
			add_document(&out, &mounts->list[i], &answer);
		else
			add_row(&table, &mounts->list[i], &answer);
	}
	jsonw_end_array(&out);
	if (text.err) {
		log_error("list: out of memory");
		return COMMAND_FAILED;
	}
	if (json)
		(void)printf("%s\n", text.data);
	else if (table.cells == 0)
		log_info("no weightfs mounts");
	else if (table_print(&table, 0) < 0)
		return COMMAND_FAILED;
	return command_finish();
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option long_options[] = { COMMAND_COMMON_OPTIONS, { 0 } };
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	enum command_result status;
	int option;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1)
		if (command_common_option(&command_list, option, argv, &json, &status))
			return status;
	if (optind < argc)
		return command_wrong_usage(&command_list, "takes no arguments");
	if (mounts_read(&mounts) < 0)
		return COMMAND_FAILED;
	return list_mounts(&mounts, json);
}

const struct command command_list = {
	.name = "list",
	.usage = "",
	.summary = "show this machine's weightfs mounts",
	.help = "STATE is ok, dead (the daemon is gone), no answer, no access (another user's\n"
		"mount), part (a bind mount of a part), or covered (by a mount on top of it).\n",
	.run = run,
};
