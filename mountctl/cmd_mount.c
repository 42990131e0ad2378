#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "mountctl/command.h"
#include "mountctl/mounts.h"
#include "mountctl/spawn.h"
#include "mountctl/text.h"
#include "util/jsonw.h"
#include "util/log.h"

struct request {
	const char *source;
	const char *mountpoint;
	struct strbuf options; /* all -o, joined by ',' */
	bool mkdir;
	bool verbose;
	bool json;
};

static void request_fini(struct request *request)
{
	strbuf_fini(&request->options);
}

/* A path that no program takes for an option. Heap; NULL when out of memory. */
static char *dup_argument(const char *path)
{
	char *argument;

	return asprintf(&argument, "%s%s", *path == '-' ? "./" : "", path) < 0 ? NULL
									       : argument;
}

static enum command_result run_weightfs(const struct request *request)
{
	CLEANUP(free_ptr) char *program = spawn_find_weightfs();
	CLEANUP(free_ptr) char *source = dup_argument(request->source);
	CLEANUP(free_ptr) char *mountpoint = dup_argument(request->mountpoint);
	CLEANUP(spawn_result_fini) struct spawn_result result = { 0 };
	const char *argv[] = { program, source, mountpoint, NULL, NULL, NULL };
	int r;

	if (!program || !source || !mountpoint) {
		log_error("mount: out of memory");
		return COMMAND_FAILED;
	}
	if (request->options.len > 0) {
		argv[3] = "-o";
		argv[4] = request->options.data;
	}
	r = spawn_run(argv, &result);
	if (r < 0) {
		(void)text_error(program, "run", -r);
		return COMMAND_FAILED;
	}
	if (spawn_relay_errors(&result, "weightfs") == 0 && result.status != 0)
		log_error("%s: mount: weightfs ended with status %d and no word",
			  request->source, result.status);
	if (result.status == 0)
		return COMMAND_DONE;
	return result.status == COMMAND_USAGE ? COMMAND_USAGE : COMMAND_FAILED;
}

static enum command_result tell(const struct request *request)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(free_ptr) char *source = NULL;
	CLEANUP(free_ptr) char *mountpoint = NULL;
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct jsonw out;

	if (mounts_read(&mounts) < 0)
		return COMMAND_FAILED;
	source = mounts_absolute_path(&mounts, request->source);
	mountpoint = mounts_absolute_path(&mounts, request->mountpoint);
	if (!source || !mountpoint) {
		log_error("mount: out of memory");
		return COMMAND_FAILED;
	}
	if (request->json) {
		jsonw_init(&out, &text);
		jsonw_begin_object(&out);
		jsonw_key(&out, "mounted");
		jsonw_bool(&out, true);
		jsonw_key(&out, "source");
		jsonw_string(&out, source);
		jsonw_key(&out, "mountpoint");
		jsonw_string(&out, mountpoint);
		jsonw_end_object(&out);
	} else {
		text_escape(&text, source, strlen(source));
		strbuf_add_str(&text, " is mounted at ");
		text_escape(&text, mountpoint, strlen(mountpoint));
	}
	(void)printf("%s\n", text.data ? text.data : "");
	return command_finish();
}

static enum command_result mount_model(const struct request *request)
{
	enum command_result status;
	bool made = false;

	if (request->mkdir) {
		made = mkdir(request->mountpoint, 0755) == 0;
		if (!made && errno != EEXIST) {
			(void)text_error(request->mountpoint, "create", errno);
			return COMMAND_FAILED;
		}
	}
	status = run_weightfs(request);
	if (status != COMMAND_DONE) {
		if (made)
			(void)rmdir(request->mountpoint);
		return status;
	}
	return request->json || request->verbose ? tell(request) : COMMAND_DONE;
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option long_options[] = {
		{ "options", required_argument, NULL, 'o' },
		{ "mkdir", no_argument, NULL, 'm' },
		{ "verbose", no_argument, NULL, 'v' },
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};
	CLEANUP(request_fini) struct request request = { .json = json };
	enum command_result status;
	int option;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":ho:v", long_options, NULL)) != -1) {
		if (option == 'o') {
			if (request.options.len > 0)
				strbuf_add_char(&request.options, ',');
			strbuf_add_str(&request.options, optarg);
		} else if (option == 'm') {
			request.mkdir = true;
		} else if (option == 'v') {
			request.verbose = true;
		} else if (command_common_option(&command_mount, option, argv,
						 &request.json, &status)) {
			return status;
		}
	}
	if (argc - optind != 2)
		return command_wrong_usage(&command_mount,
					   "needs a source and a mount point");
	request.source = argv[optind];
	request.mountpoint = argv[optind + 1];
	if (*request.source == '\0' || *request.mountpoint == '\0')
		return command_wrong_usage(&command_mount, "an argument is empty");
	return mount_model(&request);
}

const struct command command_mount = {
	.name = "mount",
	.usage = "SOURCE MOUNTPOINT [-o OPTION,...] [--mkdir] [-v]",
	.summary = "mount a model file or directory",
	.help = "  -o OPTION,...  options of weightfs(8), as in -o backing=stream,threads=8\n"
		"  --mkdir        create the mount point if it is not there\n"
		"  -v             say what was mounted\n",
	.run = run,
};
