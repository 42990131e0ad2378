#include "mountctl/job.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "ctl_proto.h"
#include "mountctl/daemon.h"
#include "mountctl/job_result.h"
#include "mountctl/progress.h"
#include "mountctl/tensors.h"
#include "mountctl/text.h"
#include "util/log.h"
#include "util/size.h"

/* The daemon is asked how far it is: often at first, so that short work seems so. */
#define FIRST_POLL_MS 5
#define POLL_MS       100

#define ADVICE_WORDS \
	"the last argument is normal, sequential, random, willneed or dontneed"

static const char *const views[] = { "tensors", "npy", "safetensors" };

struct request {
	const struct command *command;
	bool json;
	bool resident;
	bool no_fill;
	bool views[ARRAY_LEN(views)];
	bool has_view;
	const char *to; /* place: where to; NULL: not said */
	const char *mountpoint;
	char **patterns;    /* NULL-terminated */
	const char *advice; /* NULL but for advise */
};

/* ---- Arguments ---- */

static bool take_view(const char *name, size_t len, struct request *request)
{
	for (size_t i = 0; i < ARRAY_LEN(views); i++) {
		if (strlen(views[i]) != len || strncmp(views[i], name, len) != 0)
			continue;
		request->views[i] = true;
		request->has_view = true;
		return true;
	}
	return false;
}

static bool take_views(const char *list, struct request *request)
{
	for (;;) {
		size_t len = strcspn(list, ",");

		if (!take_view(list, len, request))
			return false;
		if (list[len] == '\0')
			return true;
		list += len + 1;
	}
}

/* False if it was said before. */
static bool take_target(struct request *request, int option, const char *nodes)
{
	bool first = !request->to;

	if (option == JOB_OPTION_NODE)
		request->to = nodes;
	else if (option == JOB_OPTION_INTERLEAVE)
		request->to = "interleave";
	else
		request->to = option == JOB_OPTION_LOCAL ? "local" : "reset";
	return first;
}

/* "0,1": which of them are there the daemon knows. */
static bool is_node_list(const char *list)
{
	for (;;) {
		size_t digits = strspn(list, "0123456789");

		if (digits == 0 || (list[digits] != ',' && list[digits] != '\0'))
			return false;
		if (list[digits] == '\0')
			return true;
		list += digits + 1;
	}
}

static bool is_target(int option)
{
	return option == JOB_OPTION_NODE || option == JOB_OPTION_INTERLEAVE ||
	       option == JOB_OPTION_LOCAL || option == JOB_OPTION_RESET;
}

/* COMMAND_DONE, or why the command is over. `*over` is set in that case. */
static enum command_result take_options(struct request *request,
					const struct option *options, int argc,
					char **argv, bool *over)
{
	enum command_result status = COMMAND_DONE;
	int option;

	*over = true;
	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (option == JOB_OPTION_RESIDENT)
			request->resident = true;
		else if (option == JOB_OPTION_NO_FILL)
			request->no_fill = true;
		else if (option == JOB_OPTION_VIEW && !take_views(optarg, request))
			return command_wrong_usage(
				request->command,
				"--view takes tensors, npy and safetensors");
		else if (option == JOB_OPTION_NODE && !is_node_list(optarg))
			return command_wrong_usage(
				request->command,
				"--node takes numbers of nodes, as in 0 or 0,1");
		else if (is_target(option) && !take_target(request, option, optarg))
			return command_wrong_usage(request->command,
						   "says twice where to");
		else if (option != JOB_OPTION_VIEW && !is_target(option) &&
			 command_common_option(request->command, option, argv,
					       &request->json, &status))
			return status;
	}
	*over = false;
	return status;
}

/* ---- The request ---- */

/* As the daemon takes patterns: bytes that are no UTF-8 stand for themselves. */
static void add_pattern(struct strbuf *out, const char *pattern)
{
	strbuf_add_char(out, '"');
	for (; *pattern != '\0'; pattern++) {
		if (*pattern == '"' || *pattern == '\\')
			strbuf_add_char(out, '\\');
		if ((unsigned char)*pattern < 0x20)
			strbuf_addf(out, "\\u%04x", (unsigned int)*pattern);
		else
			strbuf_add_char(out, *pattern);
	}
	strbuf_add_char(out, '"');
}

static void write_request(const struct request *request, struct strbuf *out)
{
	const char *comma = "";

	strbuf_addf(out, "{\"command\":\"%s\",\"resident\":%s,\"fill\":%s,\"views\":[",
		    request->command->name, request->resident ? "true" : "false",
		    request->no_fill ? "false" : "true");
	for (size_t i = 0; i < ARRAY_LEN(views); i++) {
		if (!request->views[i])
			continue;
		strbuf_addf(out, "%s\"%s\"", comma, views[i]);
		comma = ",";
	}
	strbuf_add_str(out, "],");
	if (request->to) {
		strbuf_add_str(out, "\"to\":");
		add_pattern(out, request->to);
		strbuf_add_char(out, ',');
	}
	strbuf_add_str(out, "\"patterns\":[");
	for (char **pattern = request->patterns; *pattern; pattern++) {
		if (pattern != request->patterns)
			strbuf_add_char(out, ',');
		add_pattern(out, *pattern);
	}
	strbuf_add_char(out, ']');
	if (request->advice)
		strbuf_addf(out, ",\"advice\":\"%s\"", request->advice);
	strbuf_add_str(out, "}\n");
}

/* ---- Waiting ---- */

/* Signals that end the command, but those that whoever started us wants ignored. */
static void block_signals(sigset_t *ends, sigset_t *before)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action;

	(void)sigemptyset(ends);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (sigaction(signals[i], NULL, &action) == 0 &&
		    action.sa_handler != SIG_IGN)
			(void)sigaddset(ends, signals[i]);
	(void)pthread_sigmask(SIG_BLOCK, ends, before);
}

/* The signal that came within the time, or 0. */
static int wait_for_signal(const sigset_t *ends, int timeout_ms)
{
	const struct timespec timeout = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * 1000000L,
	};
	int signal = sigtimedwait(ends, NULL, &timeout);

	return signal > 0 ? signal : 0;
}

struct waiting {
	const struct daemon_peer *peer;
	uint64_t job;
	int signal; /* the one that ends the command; 0 for none */
};

static int ask_about(const struct waiting *waiting, const char *command,
		     struct strbuf *text, struct json *reply)
{
	CLEANUP(strbuf_fini) struct strbuf request = { 0 };

	strbuf_addf(&request, "{\"command\":\"%s\",\"job\":%" PRIu64 "}\n", command,
		    waiting->job);
	/* The reply before this one goes away with its text. */
	strbuf_fini(text);
	*reply = (struct json){ 0 };
	return daemon_request(waiting->peer, &request, text, reply);
}

/* Asks until the job is over; its document then lies in `text`. The second signal is not
 * waited out. 0, -EINTR or what daemon_request() says. */
static int wait_for_job(struct waiting *waiting, struct progress *progress,
			struct strbuf *text, struct json *reply)
{
	int interval_ms = FIRST_POLL_MS;
	sigset_t before;
	sigset_t ends;
	int r;

	block_signals(&ends, &before);
	for (;;) {
		struct json job;
		int signal;

		r = ask_about(waiting, "job", text, reply);
		job = json_get(*reply, "job");
		if (r < 0 || !json_equals(json_get(job, "state"), "running"))
			break;
		progress_update(progress, json_u64(json_get(job, "done_bytes")),
				json_u64(json_get(job, "total_bytes")));
		signal = wait_for_signal(&ends, interval_ms);
		if (signal && waiting->signal) {
			r = -EINTR;
			break;
		}
		if (signal) {
			waiting->signal = signal;
			r = ask_about(waiting, "cancel", text, reply);
			if (r < 0)
				break;
		}
		interval_ms = interval_ms * 2 < POLL_MS ? interval_ms * 2 : POLL_MS;
	}
	progress_clear(progress);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

/* So that whoever started us, a shell in a loop for instance, learns of it. */
static void end_by(int signal)
{
	(void)fflush(stdout);
	(void)raise(signal);
}

/* What is given up or moved says nothing of a speed. */
static bool has_rate(const struct request *request)
{
	return request->command != &command_evict && request->command != &command_place &&
	       !(request->advice && strcmp(request->advice, "dontneed") == 0);
}

static enum command_result run_job(const struct request *request,
				   const struct daemon_peer *peer, uint64_t id)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct waiting waiting = { .peer = peer, .job = id };
	enum command_result status = COMMAND_FAILED;
	struct progress progress;
	struct json reply = { 0 };
	int r;

	progress_init(&progress, !request->json, has_rate(request));
	r = wait_for_job(&waiting, &progress, &text, &reply);
	if (r == 0)
		status = job_result_show(json_get(reply, "job"), peer->mountpoint,
					 request->no_fill, request->json);
	else if (r != -EINTR)
		(void)daemon_complain(peer->mountpoint, r, reply);
	if (waiting.signal)
		end_by(waiting.signal);
	return status;
}

static enum command_result start_job(const struct request *request,
				     const struct mount *mount)
{
	CLEANUP(daemon_peer_fini) struct daemon_peer peer = { 0 };
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct json reply = { 0 };
	int r = daemon_find(mount, &peer);

	if (r < 0) {
		(void)text_error(mount->mountpoint, "find the control socket", -r);
		return COMMAND_FAILED;
	}
	write_request(request, &line);
	if (line.len > CTL_REQUEST_MAX) {
		log_error(
			"patterns: %zu bytes with their request: at most %d can be sent",
			line.len, CTL_REQUEST_MAX);
		return COMMAND_FAILED;
	}
	r = daemon_request(&peer, &line, &text, &reply);
	if (r < 0) {
		(void)daemon_complain(mount->mountpoint, r, reply);
		return COMMAND_FAILED;
	}
	return run_job(request, &peer, json_u64(json_get(reply, "job")));
}

/* A rule is kept where it has no effect, which should be known. */
static void warn_of_no_effect(const char *mountpoint, struct json numa)
{
	CLEANUP(free_ptr) char *reason = json_dup_printable(json_get(numa, "reason"));

	if (reason && *reason != '\0')
		log_warning("%s: rules have no effect: %s", mountpoint, reason);
}

static enum command_result run_on_mount(const struct request *request)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };
	CLEANUP(free_ptr) char *absolute = NULL;
	const struct mount *mount;
	enum command_result status;
	const char *below;
	const char *rest;
	unsigned int node;

	mount = mounts_require(&mounts, request->mountpoint, &absolute, &below);
	if (!mount)
		return COMMAND_FAILED;
	/* Patterns match names of the whole model: a directory would not limit them. */
	if (*below != '\0') {
		(void)text_error(request->mountpoint,
				 mounts_node_tree(below, &node, &rest)
					 ? "is of one memory node: name the mount point"
					 : TENSORS_NO_MODEL,
				 0);
		return COMMAND_FAILED;
	}
	if (daemon_require(mount, &answer) < 0)
		return COMMAND_FAILED;
	status = start_job(request, mount);
	if (status == COMMAND_DONE && request->command == &command_place)
		warn_of_no_effect(mount->mountpoint, json_get(answer.status, "numa"));
	return status;
}

/* Takes the last argument, which says how. False if it is no such word. */
static bool take_advice(const char *word, struct request *request)
{
	static const char *const words[] = { "normal", "sequential", "random", "willneed",
					     "dontneed" };

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcmp(words[i], word) == 0)
			request->advice = words[i];
	return request->advice != NULL;
}

enum command_result job_command(const struct command *command,
				const struct option *options, int argc, char **argv,
				bool json)
{
	struct request request = { .command = command, .json = json };
	enum command_result status;
	bool over;

	status = take_options(&request, options, argc, argv, &over);
	if (over)
		return status;
	if (argc - optind < 2)
		return command_wrong_usage(command, "needs a mount point and a pattern");
	if (command == &command_advise) {
		if (argc - optind < 3)
			return command_wrong_usage(
				command, "needs a mount point, a pattern and an advice");
		if (!take_advice(argv[argc - 1], &request))
			return command_wrong_usage(command, ADVICE_WORDS);
		argv[argc - 1] = NULL;
	}
	if (request.has_view && command == &command_prefetch && !request.resident)
		return command_wrong_usage(command, "--view needs --resident");
	if (command == &command_place && !request.to)
		return command_wrong_usage(command, "needs --node, --interleave, --local "
						    "or --reset");
	request.mountpoint = argv[optind];
	request.patterns = argv + optind + 1;
	return run_on_mount(&request);
}
