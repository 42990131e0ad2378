#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>

#include "backings.h"
#include "busy_poll.h"
#include "channel.h"
#include "control.h"
#include "hints.h"
#include "ops.h"
#include "passthrough.h"
#include "placement.h"
#include "push.h"
#include "thread.h"
#include "util/errtext.h"
#include "util/log.h"
#include "visitor.h"
#include "watch.h"

/* Wakes libfuse's loop, and its workers from their sleep; its handler does nothing. */
#define KICK_SIGNAL      SIGUSR1
#define KICK_INTERVAL_MS 100

struct session {
	struct weightfs *fs;
	struct fuse_session *fuse;
	struct watch *watch;
	struct control *control;
	pthread_t starter;
	bool starting; /* that thread exists */
	pthread_t loop;
	int signals; /* signalfd of those that end the session */
	int over;    /* eventfd: readable once the loop has ended */
	int unseen;  /* eventfd: readable once the first visitor has failed */
	struct passthrough passthrough;
	int result;
	int visitor; /* the daemon's end of visitor_sockets() */
	bool background;
	int null; /* /dev/null: later nothing may be opened any more */
};

/* ---- Arguments for libfuse ---- */

static int add_option(struct fuse_args *args, const char *option)
{
	if (fuse_opt_add_arg(args, "-o") < 0 || fuse_opt_add_arg(args, option) < 0)
		return -ENOMEM;
	return 0;
}

static int add_mount_flags(struct fuse_args *args, unsigned long flags)
{
	static const struct {
		unsigned long flag;
		const char *set;
		const char *clear;
	} names[] = {
		{ MS_NOSUID, "nosuid", "suid" },
		{ MS_NODEV, "nodev", "dev" },
		{ MS_NOEXEC, "noexec", "exec" },
		{ MS_NOATIME, "noatime", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *name = flags & names[i].flag ? names[i].set : names[i].clear;

		if (name && add_option(args, name) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int add_fsname(struct fuse_args *args, const char *source)
{
	CLEANUP(free_ptr) char *options = NULL;
	CLEANUP(free_ptr) char *name = NULL;

	/* A comma in the path must not start another option. */
	if (asprintf(&name, "fsname=%s", source) < 0) {
		name = NULL;
		return -ENOMEM;
	}
	if (fuse_opt_add_opt_escaped(&options, name) < 0)
		return -ENOMEM;
	return add_option(args, options);
}

static int fill_args(const struct weightfs *fs, bool debug, struct fuse_args *args)
{
	int r = fuse_opt_add_arg(args, "weightfs") < 0 ? -ENOMEM : 0;

	if (r == 0)
		r = add_fsname(args, fs->served->source->path);
	if (r == 0)
		r = add_option(args, "subtype=weightfs,ro,default_permissions");
	if (r == 0)
		r = add_mount_flags(args, fs->options.ms_flags);
	if (r == 0 && fs->options.allow_other)
		r = add_option(args, "allow_other");
	if (r == 0 && debug)
		r = add_option(args, "debug");
	return r;
}

/* ---- The first moments ---- */

/* What is said from here on goes to syslog. */
static void leave_terminal(int null)
{
	log_to_syslog();
	if (null < 0)
		return;
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(null, STDOUT_FILENO);
	(void)dup2(null, STDERR_FILENO);
}

static void raise_event(const struct session *s, int event)
{
	const uint64_t one = 1;

	if (write(event, &one, sizeof(one)) < 0)
		log_debug("%s: signal the end: %s", s->fs->mountpoint, errtext(errno));
}

/* Waits for the first visitor: a thread of its own, because others serve it. A tree that
 * nobody can look at does not stay mounted. */
static void *finish_start(void *argument)
{
	struct session *s = argument;
	struct weightfs *fs = s->fs;
	bool raised;

	if (!visitor_wait(s->visitor, &raised)) {
		raise_event(s, s->unseen);
		return NULL;
	}
	if (raised) {
		atomic_store(&fs->readahead_bytes, fs->options.readahead_bytes);
		atomic_store(&fs->readahead_raised, true);
	}
	/* INIT was answered, so it can be known: before the first open. */
	backings_settle(fs);
	if (s->background)
		leave_terminal(s->null);
	return NULL;
}

static int serve(struct session *s)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config)
		return -ENOMEM;
	/* Each thread has its own channel to the kernel where that is allowed. Threads
	 * that are done stay: they are wanted again at once. */
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, s->fs->options.threads);
	fuse_loop_cfg_set_idle_threads(config, s->fs->options.threads);
	r = fuse_session_loop_mt(s->fuse, config);
	fuse_loop_cfg_destroy(config);
	return r < 0 ? log_errno(r, "%s: serve", s->fs->mountpoint) : 0;
}

static int start_threads(struct session *s)
{
	int r;

	r = watch_start(s->fs, s->fuse, &s->watch);
	if (r == 0)
		r = hints_new(s->fs, s->watch, &s->fs->hints);
	if (r == 0 && s->fs->push)
		r = push_start(s->fs->push, s->fuse, s->watch);
	if (r == 0)
		r = backings_start(s->fs);
	if (r == 0 && s->control)
		r = control_start(s->control);
	if (r == 0)
		r = thread_start(&s->starter, finish_start, s);
	s->starting = r == 0;
	return r < 0 ? log_errno(r, "%s: start a thread", s->fs->mountpoint) : 0;
}

/* Everything that handles requests and files runs in this thread and the ones it starts.
 */
static void *run_loop(void *argument)
{
	struct session *s = argument;
	const struct sandbox_needs needs = {
		.source = s->fs->served->source,
		.tmpfs = s->fs->tmpfs,
		.clones = s->fs->clones,
		.passthrough = s->fs->passthrough != NULL,
		.nodes = placement_has_nodes(s->fs->placement),
	};
	sigset_t kick;

	sandbox_enter(&s->fs->sandbox, &needs);
	placement_enter_thread(s->fs->placement);
	(void)sigemptyset(&kick);
	(void)sigaddset(&kick, KICK_SIGNAL);
	s->result = start_threads(s);
	(void)pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	if (s->result == 0)
		s->result = serve(s);
	raise_event(s, s->over);
	return NULL;
}

/* Until the session is unmounted, a signal asks for its end, or the first visitor failed.
 */
static void wait_for_end(const struct session *s)
{
	struct pollfd fds[] = {
		{ .fd = s->over, .events = POLLIN },
		{ .fd = s->signals, .events = POLLIN },
		{ .fd = s->unseen, .events = POLLIN },
	};

	while (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno == EINTR)
		;
	if (fds[0].revents)
		return;
	push_halt(s->fs->push);
	fuse_session_exit(s->fuse);
	/* libfuse's loop looks at that before it sleeps and when a signal wakes it. One
	 * that comes in between is lost, so there must be another. */
	do
		(void)pthread_kill(s->loop, KICK_SIGNAL);
	while (poll(fds, 1, KICK_INTERVAL_MS) == 0);
}

/*
 * The main thread stays out of the sandbox, because nobody inside of one may unmount. It
 * waits for signals, which all others block.
 */
static int run_mounted(struct session *s)
{
	int r;

	if (control_open(s->fs, &s->control) < 0)
		log_warning("%s: goes on without a control socket", s->fs->mountpoint);
	r = thread_start(&s->loop, run_loop, s);
	if (r < 0)
		return log_errno(r, "%s: start a thread", s->fs->mountpoint);
	wait_for_end(s);
	(void)pthread_join(s->loop, NULL);
	return s->result;
}

static void ignore_kick(int signal)
{
	(void)signal;
}

/* From here on the signals that end the session are read from s->signals. */
static int catch_signals(struct session *s)
{
	struct sigaction kick = { .sa_handler = ignore_kick };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct sigaction hangup;
	sigset_t ends;

	(void)sigemptyset(&ends);
	(void)sigaddset(&ends, SIGTERM);
	(void)sigaddset(&ends, SIGINT);
	/* nohup(1) has it ignored, and means it. */
	if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
		(void)sigaddset(&ends, SIGHUP);
	(void)sigaction(KICK_SIGNAL, &kick, NULL);
	(void)sigaction(SIGPIPE, &ignore, NULL);
	/* Says that somebody opens a file that has a lease, for a moment (fs/inodes.c).
	 */
	(void)sigaction(SIGIO, &ignore, NULL);
	(void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
	s->signals = signalfd(-1, &ends, SFD_CLOEXEC);
	s->over = eventfd(0, EFD_CLOEXEC);
	s->unseen = eventfd(0, EFD_CLOEXEC);
	if (s->signals < 0 || s->over < 0 || s->unseen < 0)
		return log_errno(-errno, "catch signals");
	return 0;
}

static int run_session(struct session *s)
{
	int r;

	r = catch_signals(s);
	if (r < 0)
		return r;
	if (fuse_session_mount(s->fuse, s->fs->mountpoint) < 0)
		return -EIO; /* libfuse has said why */
	r = run_mounted(s);
	/* Who tells the kernel to forget pages waits for READs that nobody answers any
	 * more: only the end of the connection ends that. */
	if (!watch_silence(s->watch))
		(void)umount2(s->fs->mountpoint,
			      MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
	push_stop(s->fs->push);
	/* No requests, then no jobs that came from them, then what those worked on. */
	control_close(s->control);
	hints_free(s->fs->hints);
	s->fs->hints = NULL;
	backings_stop(s->fs);
	fuse_session_unmount(s->fuse);
	/* Only now: a mount that ends before it began keeps its first visitor waiting. */
	if (s->starting)
		(void)pthread_join(s->starter, NULL);
	watch_stop(s->watch);
	return r;
}

/* libfuse's own words, brought into our grammar. */
PRINTF_LIKE(2, 0)
static void log_fuse(enum fuse_log_level level, const char *format, va_list args)
{
	char text[1024];
	const char *words = text;

	(void)vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(words, "fuse: ", 6) == 0)
		words += 6;
	if (*words == '\0')
		return;
	if (level <= FUSE_LOG_ERR)
		log_error("fuse: %s", words);
	else if (level <= FUSE_LOG_WARNING)
		log_warning("fuse: %s", words);
	else
		log_debug("fuse: %s", words);
}

/* What is made before anything is mounted. Few of those who fail here have words: they
 * lack memory or, where the model has very many files, descriptors. */
static int prepare(struct session *s)
{
	struct weightfs *fs = s->fs;
	int r = backings_prepare(fs, s->fuse, &s->passthrough);

	/* Pages of a mirror are to lie on the memory node of whoever reads them. */
	if (r == 0 && fs->options.push && fs->mirror.count == 0)
		r = push_new(fs, &fs->push);
	if (r == 0)
		r = channel_attach(s->fuse);
	return r < 0 ? log_errno(r, "%s: prepare", fs->mountpoint) : 0;
}

int session_run(struct weightfs *fs, int visitor, bool background, bool debug)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct session s = { .fs = fs,
			     .visitor = visitor,
			     .background = background,
			     .signals = -1,
			     .over = -1,
			     .unseen = -1 };
	int r;

	fuse_set_log_func(log_fuse);
	s.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	r = busy_poll_init(&fs->busy_poll, KICK_SIGNAL);
	if (r == 0)
		r = fill_args(fs, debug, &args);
	if (r < 0)
		(void)log_errno(r, "%s: prepare", fs->mountpoint);
	if (r == 0) {
		s.fuse = fuse_session_new(&args, &weightfs_ops, sizeof(weightfs_ops), fs);
		r = s.fuse ? prepare(&s) : -EINVAL;
	}
	if (r == 0)
		r = run_session(&s);
	backings_free(fs);
	if (s.fuse)
		fuse_session_destroy(s.fuse);
	push_free(fs->push);
	busy_poll_fini(&fs->busy_poll);
	close_fd(&s.signals);
	close_fd(&s.over);
	close_fd(&s.unseen);
	close_fd(&s.null);
	fuse_opt_free_args(&args);
	return r;
}
