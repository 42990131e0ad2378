/* profile: the order in which tensors are used, recorded by the daemon. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "mountctl/command.h"
#include "mountctl/profile.h"
#include "mountctl/text.h"
#include "util/jsonw.h"
#include "util/log.h"
#include "util/size.h"
#include "util/utf8.h"

struct request {
	const char *path; /* of the mount, or of a file to show */
	const char *file; /* to write or to show; NULL for none */
	bool json;
};

static int find_peer(const struct mount *mount, struct daemon_peer *peer)
{
	CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };
	int r = daemon_require(mount, &answer);

	if (r < 0)
		return r;
	r = daemon_find(mount, peer);
	return r < 0 ? daemon_complain(mount->mountpoint, r, (struct json){ 0 }) : 0;
}

/* Finds the daemon of a mount. `mounts` and `absolute` are the caller's to free. */
static int find_daemon(const struct request *request, struct mounts *mounts,
		       char **absolute, struct daemon_peer *peer)
{
	const char *below;
	const struct mount *mount =
		mounts_require(mounts, request->path, absolute, &below);

	return mount ? find_peer(mount, peer) : -ENOENT;
}

/* `file` is an absolute path, or NULL. What the daemon says of one is appended to
 * `named`. */
static int ask(const struct daemon_peer *peer, const char *action, const char *file,
	       struct strbuf *named)
{
	CLEANUP(strbuf_fini) struct strbuf message = { 0 };
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct json reply = { 0 };
	struct jsonw w;
	int r;

	jsonw_init(&w, &message);
	jsonw_begin_object(&w);
	jsonw_key(&w, "command");
	jsonw_string(&w, "profile");
	jsonw_key(&w, "action");
	jsonw_string(&w, action);
	if (file) {
		jsonw_key(&w, "file");
		jsonw_string(&w, file);
	}
	jsonw_end_object(&w);
	strbuf_add_str(&message, "\n");
	r = daemon_request(peer, &message, &text, &reply);
	if (r < 0)
		return daemon_complain(peer->mountpoint, r, reply);
	if (named)
		json_add_string(named, json_get(reply, "file"));
	return 0;
}

/* ---- record ---- */

/* What the recording is to be written to is looked at now: later the work is done. Its
 * name from the root on is appended, as who stops it may be in another directory. */
static int prepare_file(const char *file, struct strbuf *absolute)
{
	CLEANUP(free_ptr) char *cwd = NULL;

	if (!file)
		return 0;
	if (*file != '/') {
		cwd = get_current_dir_name();
		if (!cwd)
			return text_error(file, "record", errno);
		strbuf_addf(absolute, "%s/", cwd);
	}
	strbuf_add_str(absolute, file);
	if (absolute->err < 0)
		return text_error(file, "record", ENOMEM);
	/* The daemon reads it as JSON. */
	if (!utf8_is_valid(absolute->data, absolute->len)) {
		(void)text_error(file, "no UTF-8: name the file when the recording stops",
				 0);
		return -EINVAL;
	}
	return profile_check_file(file);
}

static enum command_result record(const struct request *request)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(daemon_peer_fini) struct daemon_peer peer = { 0 };
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	CLEANUP(strbuf_fini) struct strbuf file = { 0 };
	CLEANUP(free_ptr) char *absolute = NULL;
	struct jsonw w;

	if (find_daemon(request, &mounts, &absolute, &peer) < 0 ||
	    prepare_file(request->file, &file) < 0 ||
	    ask(&peer, "record", file.len > 0 ? file.data : NULL, NULL) < 0)
		return COMMAND_FAILED;
	if (request->json) {
		jsonw_init(&w, &line);
		jsonw_begin_object(&w);
		jsonw_key(&w, "mountpoint");
		jsonw_string(&w, peer.mountpoint);
		jsonw_key(&w, "recording");
		jsonw_bool(&w, true);
		jsonw_end_object(&w);
	} else {
		text_escape(&line, peer.mountpoint, strlen(peer.mountpoint));
		strbuf_add_str(&line, ": recording until 'mountctl profile stop'");
	}
	(void)printf("%s\n", line.data ? line.data : "");
	return command_finish();
}

/* ---- stop ---- */

static void print_stopped(const char *file, const char *mountpoint,
			  const struct profile_sums *sums)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	char size[SIZE_TEXT_MAX];

	text_escape(&line, mountpoint, strlen(mountpoint));
	strbuf_add_str(&line, ": ");
	text_add_count(&line, sums->tensors, "tensor");
	strbuf_addf(&line, ", %s of them used in %.1f s", size_format(sums->bytes, size),
		    (double)sums->end_ms / 1000);
	if (file) {
		strbuf_add_str(&line, ": written to ");
		text_escape(&line, file, strlen(file));
	}
	(void)printf("%s\n", line.data ? line.data : "");
}

static void print_stopped_json(const char *file, const char *mountpoint,
			       const struct profile_sums *sums)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	struct jsonw w;

	jsonw_init(&w, &out);
	jsonw_begin_object(&w);
	jsonw_key(&w, "mountpoint");
	jsonw_string(&w, mountpoint);
	jsonw_key(&w, "file");
	if (file)
		jsonw_string(&w, file);
	else
		jsonw_null(&w);
	jsonw_key(&w, "tensors");
	jsonw_u64(&w, sums->tensors);
	jsonw_key(&w, "bytes");
	jsonw_u64(&w, sums->bytes);
	jsonw_key(&w, "seconds");
	jsonw_double(&w, (double)sums->end_ms / 1000, 15);
	jsonw_end_object(&w);
	(void)printf("%s\n", out.data ? out.data : "");
}

/* The file to write: the one that is named now, else the one that was named when it
 * began. Not where that was said by another user's daemon: it must not choose what we
 * write to. NULL for none. */
static const char *choose_file(const struct request *request,
			       const struct daemon_peer *peer, const struct strbuf *named)
{
	if (request->file || named->len == 0)
		return request->file;
	if (peer->owner == geteuid())
		return named->data;
	log_warning("%s: not written: name the file: the mount is another user's",
		    peer->mountpoint);
	return NULL;
}

static enum command_result stop(const struct request *request)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(daemon_peer_fini) struct daemon_peer peer = { 0 };
	CLEANUP(strbuf_fini) struct strbuf named = { 0 };
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	CLEANUP(free_ptr) char *absolute = NULL;
	struct profile_sums sums;
	const char *file;

	if (find_daemon(request, &mounts, &absolute, &peer) < 0 ||
	    ask(&peer, "stop", NULL, &named) < 0 || profile_fetch(&peer, &text) < 0 ||
	    profile_sum(peer.mountpoint, &text, &sums) < 0)
		return COMMAND_FAILED;
	file = choose_file(request, &peer, &named);
	if (file && profile_write(file, &text) < 0)
		return COMMAND_FAILED;
	if (request->json)
		print_stopped_json(file, peer.mountpoint, &sums);
	else
		print_stopped(file, peer.mountpoint, &sums);
	return command_finish();
}

/* ---- show ---- */

/* The text of a mount's recording or of a file: a mount is known by its name alone, so
 * that nothing waits for a daemon that hangs. */
static int read_either(const struct request *request, struct strbuf *text)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(daemon_peer_fini) struct daemon_peer peer = { 0 };
	CLEANUP(free_ptr) char *absolute = NULL;
	const struct mount *mount;
	const char *below = "";
	int r;

	if (request->file)
		return profile_read(request->file, text);
	r = mounts_read(&mounts);
	if (r < 0)
		return r;
	absolute = mounts_absolute_path(&mounts, request->path);
	mount = absolute ? mounts_containing(&mounts, absolute, &below) : NULL;
	if (!mount || *below != '\0')
		return profile_read(request->path, text);
	r = find_peer(mount, &peer);
	return r < 0 ? r : profile_fetch(&peer, text);
}

static enum command_result show(const struct request *request)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct profile_sums sums;
	int r;

	if (read_either(request, &text) < 0 ||
	    profile_sum(request->file ? request->file : request->path, &text, &sums) < 0)
		return COMMAND_FAILED;
	r = request->json ? profile_print_json(&text) : profile_print_table(&text);
	return r < 0 ? COMMAND_FAILED : command_finish();
}

/* ---- The command ---- */

/* An action, a mount point, a file. */
#define MOST_ARGUMENTS 3

static const struct {
	const char *name;
	enum command_result (*run)(const struct request *request);
} actions[] = {
	{ "record", record },
	{ "stop", stop },
	{ "show", show },
};

static enum command_result run_action(int argc, char **argv, bool json)
{
	const struct request request = {
		.path = argv[1],
		.file = argc > 2 ? argv[2] : NULL,
		.json = json,
	};

	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (strcmp(argv[0], actions[i].name) != 0)
			continue;
		if (argc > MOST_ARGUMENTS)
			return command_wrong_usage(&command_profile,
						   "too many arguments");
		return actions[i].run(&request);
	}
	return command_wrong_usage(&command_profile,
				   "the first argument is record, stop or show");
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option options[] = { COMMAND_COMMON_OPTIONS, { 0 } };
	enum command_result status;
	int option;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1)
		if (command_common_option(&command_profile, option, argv, &json, &status))
			return status;
	if (argc - optind < 2)
		return command_wrong_usage(
			&command_profile,
			"needs record, stop or show, and a mount point");
	return run_action(argc - optind, argv + optind, json);
}

const struct command command_profile = {
	.name = "profile",
	.usage = "record|stop|show MOUNTPOINT [FILE] | show FILE",
	.summary = "record the order in which tensors are used",
	.help = "  record   note from now on which tensors are used, and when; for FILE\n"
		"  stop     end that, and write what was noted to FILE\n"
		"  show     print what a mount has noted so far, or a FILE\n\n"
		"A mount with the option profile=FILE has tensors ready in that order.\n",
	.run = run,
};
