/* place: rules for NUMA nodes. Without a pattern it shows them. */
#include <inttypes.h>
#include <stdio.h>

#include "mountctl/daemon.h"
#include "mountctl/job.h"
#include "mountctl/numa.h"

static enum command_result show_rules(struct json numa, bool json)
{
	struct json rules = json_get(numa, "rules");
	struct json_iter iter = json_iter(rules);
	struct json rule;

	if (json) {
		(void)printf("%.*s\n", (int)rules.len, rules.at);
		return command_finish();
	}
	if (json_count(rules) == 0)
		(void)printf("no rules\n");
	while (json_next(&iter, NULL, &rule)) {
		CLEANUP(strbuf_fini) struct strbuf line = { 0 };

		numa_add_rule(&line, rule);
		(void)printf("%s\n", line.data ? line.data : "");
	}
	return command_finish();
}

static enum command_result show_rules_of(const char *path, bool json)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };
	CLEANUP(free_ptr) char *absolute = NULL;
	const struct mount *mount;
	const char *below;

	mount = mounts_require(&mounts, path, &absolute, &below);
	if (!mount || daemon_require(mount, &answer) < 0)
		return COMMAND_FAILED;
	return show_rules(json_get(answer.status, "numa"), json);
}

/* Whether the arguments are a mount point and nothing else but --json, which is then set.
 */
static bool is_question(int argc, char **argv, const char **path, bool *json)
{
	*path = NULL;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			*json = true;
		else if (argv[i][0] == '-' || *path)
			return false;
		else
			*path = argv[i];
	}
	return *path != NULL;
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option options[] = {
		{ "node", required_argument, NULL, JOB_OPTION_NODE },
		{ "interleave", no_argument, NULL, JOB_OPTION_INTERLEAVE },
		{ "local", no_argument, NULL, JOB_OPTION_LOCAL },
		{ "reset", no_argument, NULL, JOB_OPTION_RESET },
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};
	const char *path;
	bool asked_json = json;

	if (is_question(argc, argv, &path, &asked_json))
		return show_rules_of(path, asked_json);
	return job_command(&command_place, options, argc, argv, json);
}

const struct command command_place = {
	.name = "place",
	.usage = "MOUNTPOINT [PATTERN... --node N[,N...]|--interleave|--local|--reset]",
	.summary = "say on which NUMA nodes tensors lie",
	.help = "Makes a rule for each PATTERN, which is kept until the model is unmounted, and\n"
		"moves what the tensors have in memory. The last rule that matches a name\n"
		"counts. Without a pattern the rules are shown.\n\n"
		"  --node N[,N...]  on any of these nodes\n"
		"  --interleave     on all nodes in turn\n"
		"  --local          where the thread runs that brings a tensor in\n"
		"  --reset          take back the rules with just these patterns\n",
	.run = run,
};
