#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ctl_proto.h"
#include "mountctl/command.h"
#include "mountctl/daemon.h"
#include "mountctl/guard.h"
#include "mountctl/mounts.h"
#include "mountctl/procs.h"
#include "mountctl/spawn.h"
#include "mountctl/text.h"
#include "util/jsonw.h"
#include "util/log.h"

#define DEFAULT_TIMEOUT_S 30
#define MOST_TIMEOUT_S    86400

/* With --force a daemon has so long to answer, and to leave by itself afterwards. */
#define FORCE_PATIENCE_MS 2000

/* /proc answers at once, but for processes that hang in the mount itself. */
#define SCAN_TIMEOUT_MS 3000

struct request {
	bool all;
	bool force;
	int timeout_ms;
	bool json;
};

/* The process behind a mount; `fd` is a pidfd, negative if it is unknown or gone. */
struct process {
	pid_t pid;
	int fd;
	bool certain; /* the kernel says so, not the daemon */
};

static bool open_process(pid_t pid, bool certain, struct process *process)
{
	int fd = pid > 0 ? pidfd_open(pid, 0) : -1;

	if (fd >= 0)
		*process = (struct process){ .pid = pid, .fd = fd, .certain = certain };
	return fd >= 0;
}

/* The kernel's word first: it needs no answer from a daemon that may hang. */
static struct process find_daemon(const struct mount *mount,
				  const struct request *request)
{
	CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };
	struct process process = { .fd = -1 };
	uint64_t told;

	if (open_process(procs_find_fuse_server(mount->dev_minor), true, &process))
		return process;
	daemon_ask(mount, request->force ? FORCE_PATIENCE_MS : CTL_TIMEOUT_MS, &answer);
	if (open_process(answer.pid, true, &process))
		return process;
	told = json_u64(json_get(answer.status, "pid"));
	(void)open_process(told <= INT32_MAX ? (pid_t)told : 0, false, &process);
	return process;
}

/* Whoever is not root asks the setuid helper of FUSE. 0 or a negative errno; -EIO with
 * the helper's words logged. */
static int unmount_by_helper(const struct mount *mount, bool force)
{
	const char *path = mount->mountpoint;
	CLEANUP(spawn_result_fini) struct spawn_result result = { 0 };
	const char *const argv[] = { "fusermount3", force ? "-uz" : "-u", "--", path,
				     NULL };
	char what[64];
	int r;

	/* The helper would only say that it finds no entry. */
	if (mount->user_id != getuid()) {
		(void)snprintf(what, sizeof(what), "unmount: it is the mount of user %u",
			       mount->user_id);
		(void)text_error(path, what, 0);
		return -EIO;
	}
	r = spawn_run(argv, &result);
	if (r < 0)
		return text_error("fusermount3", "run", -r);
	if (result.status == 0)
		return 0;
	if (result.err.data && strstr(result.err.data, "busy"))
		return -EBUSY;
	if (spawn_relay_errors(&result, "fusermount3") == 0)
		(void)text_error(path, "unmount: fusermount3 failed", 0);
	return -EIO;
}

static void log_held(const char *mountpoint, const char *holder)
{
	CLEANUP(strbuf_fini) struct strbuf what = { 0 };

	strbuf_addf(&what, "in use by %s", holder);
	if (what.data)
		(void)text_error(mountpoint, what.data, 0);
}

/* Logs who has something below the mount point open, and the mounts below it. */
static void log_holders(const char *mountpoint, const struct mounts *mounts)
{
	CLEANUP(strbuf_fini) struct strbuf lines = { 0 };
	char *save = NULL;

	for (size_t i = 0; i < mounts->count; i++) {
		const struct mount *mount = &mounts->list[i];
		CLEANUP(strbuf_fini) struct strbuf text = { 0 };

		if (strcmp(mount->mountpoint, mountpoint) == 0 ||
		    !mounts_path_is_below(mount->mountpoint, mountpoint))
			continue;
		strbuf_add_str(&text, "the mount ");
		text_escape(&text, mount->mountpoint, strlen(mount->mountpoint));
		log_held(mountpoint, text.data ? text.data : "");
	}
	if (guard_run(procs_list_holders, mountpoint, SCAN_TIMEOUT_MS, &lines) < 0 ||
	    !lines.data)
		return;
	for (const char *line = strtok_r(lines.data, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		log_held(mountpoint, line);
}

/* 0 or a negative errno with a message logged. */
static int unmount(const struct mount *mount, const struct mounts *mounts, bool force)
{
	const char *path = mount->mountpoint;
	int flags = UMOUNT_NOFOLLOW | (force ? MNT_FORCE | MNT_DETACH : 0);
	int r;

	if (geteuid() == 0)
		r = umount2(path, flags) < 0 ? -errno : 0;
	else
		r = unmount_by_helper(mount, force);
	if (r == -EIO && geteuid() != 0)
		return r;
	if (r < 0)
		(void)text_error(path, "unmount", -r);
	if (r == -EBUSY)
		log_holders(path, mounts);
	return r;
}

/* True once the process is gone. */
static bool wait_for(int pidfd, int timeout_ms)
{
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	int n;

	do {
		n = poll(&ended, 1, timeout_ms);
	} while (n < 0 && errno == EINTR);
	return n > 0;
}

static int wait_for_daemon(const char *path, const struct process *process,
			   const struct request *request)
{
	char what[128];

	if (process->fd < 0)
		return 0;
	if (request->force) {
		if (wait_for(process->fd, FORCE_PATIENCE_MS))
			return 0;
		/* Only a process that the kernel named: a daemon may say any number. */
		if (process->certain)
			(void)pidfd_send_signal(process->fd, SIGKILL, NULL, 0);
	}
	if (wait_for(process->fd, request->timeout_ms))
		return 0;
	(void)snprintf(what, sizeof(what),
		       "unmounted, but the daemon (pid %d) is still there after %d s",
		       process->pid, request->timeout_ms / 1000);
	(void)text_error(path, what, 0);
	return -ETIMEDOUT;
}

/* A bind mount is one more mount of the same daemon, which then has no reason to end. */
static bool is_still_mounted(const struct mount *mount)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };

	return mounts_read(&mounts) == 0 && mounts_has_device(&mounts, mount->dev_minor);
}

static int umount_one(const struct mount *mount, const struct mounts *mounts,
		      const struct request *request)
{
	struct process process = find_daemon(mount, request);
	int r = unmount(mount, mounts, request->force);

	if (r == 0 && !is_still_mounted(mount))
		r = wait_for_daemon(mount->mountpoint, &process, request);
	close_fd(&process.fd);
	return r;
}

static int umount_path(const char *path, const struct mounts *mounts,
		       const struct request *request)
{
	CLEANUP(free_ptr) char *absolute = mounts_absolute_path(mounts, path);
	const struct mount *mount = absolute ? mounts_at(mounts, absolute) : NULL;

	if (!absolute)
		return text_error(path, "unmount", ENOMEM);
	if (!mount || !mount_is_weightfs(mount)) {
		(void)text_error(path, "not a weightfs mount", 0);
		return -EINVAL;
	}
	return umount_one(mount, mounts, request);
}

static void note(struct jsonw *out, const char *path, int r)
{
	jsonw_begin_object(out);
	jsonw_key(out, "mountpoint");
	jsonw_string(out, path);
	jsonw_key(out, "unmounted");
	jsonw_bool(out, r == 0);
	jsonw_end_object(out);
}

/* The last mounted first, so that what covers another goes before it. */
static bool umount_all(const struct request *request, struct jsonw *out)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	bool ok = mounts_read(&mounts) == 0;

	for (size_t i = mounts.count; i > 0; i--) {
		const struct mount *mount = &mounts.list[i - 1];
		int r;

		if (!mount_is_weightfs(mount) ||
		    (geteuid() != 0 && mount->user_id != getuid()))
			continue;
		r = umount_one(mount, &mounts, request);
		note(out, mount->mountpoint, r);
		ok = ok && r == 0;
	}
	return ok;
}

static bool umount_paths(char **paths, const struct request *request, struct jsonw *out)
{
	bool ok = true;

	for (; *paths; paths++) {
		/* Read anew: the one before may have been the same path. */
		CLEANUP(mounts_fini) struct mounts mounts = { 0 };
		int r = mounts_read(&mounts);

		if (r == 0)
			r = umount_path(*paths, &mounts, request);
		note(out, *paths, r);
		ok = ok && r == 0;
	}
	return ok;
}

static enum command_result umount_these(char **paths, const struct request *request)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	enum command_result status;
	struct jsonw out;
	bool ok;

	jsonw_init(&out, &text);
	jsonw_begin_array(&out);
	ok = request->all ? umount_all(request, &out)
			  : umount_paths(paths, request, &out);
	jsonw_end_array(&out);
	if (request->json)
		(void)printf("%s\n", text.data ? text.data : "[]");
	status = command_finish();
	return ok ? status : COMMAND_FAILED;
}

/* Whole seconds. */
static bool parse_timeout(const char *text, int *timeout_ms)
{
	char *end;
	long seconds = strtol(text, &end, 10);

	if (end == text || *end != '\0' || seconds < 0 || seconds > MOST_TIMEOUT_S)
		return false;
	*timeout_ms = (int)seconds * 1000;
	return true;
}

/* True if the command is over with `*status`. */
static bool take_option(int option, char **argv, struct request *request,
			enum command_result *status)
{
	switch (option) {
	case 'a':
		request->all = true;
		return false;
	case 'f':
		request->force = true;
		return false;
	case 't':
		if (parse_timeout(optarg, &request->timeout_ms))
			return false;
		*status = command_wrong_usage(&command_umount,
					      "--timeout takes seconds, 0 to 86400");
		return true;
	default:
		return command_common_option(&command_umount, option, argv,
					     &request->json, status);
	}
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option long_options[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "force", no_argument, NULL, 'f' },
		{ "timeout", required_argument, NULL, 't' },
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};
	struct request request = { .json = json, .timeout_ms = DEFAULT_TIMEOUT_S * 1000 };
	enum command_result status;
	int option;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":haft:", long_options, NULL)) != -1)
		if (take_option(option, argv, &request, &status))
			return status;
	if (request.all == (optind < argc))
		return command_wrong_usage(&command_umount,
					   "needs mount points or --all");
	return umount_these(argv + optind, &request);
}

const struct command command_umount = {
	.name = "umount",
	.usage = "MOUNTPOINT... | --all [--force] [--timeout SECONDS]",
	.summary = "unmount and wait until the daemon is gone",
	.help = "  --all              all mounts of this user; for root, all\n"
		"  --force            also when in use, or when the daemon is dead or hangs\n"
		"  --timeout SECONDS  wait so long for the daemon to end (30)\n",
	.run = run,
};
