/* weightfs SOURCE MOUNTPOINT: the daemon, called like a mount helper. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "live.h"
#include "ops.h"
#include "placement.h"
#include "probe.h"
#include "profile.h"
#include "session.h"
#include "util/log.h"
#include "visitor.h"

#define EXIT_USAGE 2

/* Columns of --help, and where its second column begins. */
#define HELP_WIDTH  80
#define HELP_INDENT 17

struct arguments {
	const char *source;
	const char *mountpoint;
	struct options options;
	bool foreground;
	bool debug;
	bool describe;
	bool probe;
};

/* The options of -o, one behind the other, in lines that fit a terminal. */
static void print_options(void)
{
	char names[512];
	char *rest = names;
	char *name;
	size_t column = 0;

	options_list(names, sizeof(names));
	while ((name = strsep(&rest, " "))) {
		size_t len = strlen(name);

		if (column > 0 && column + 1 + len > HELP_WIDTH - HELP_INDENT) {
			(void)printf("\n%*s", HELP_INDENT, "");
			column = 0;
		}
		(void)printf("%s%s", column > 0 ? " " : "", name);
		column += len + (column > 0 ? 1 : 0);
	}
	(void)printf("\n");
}

static void print_help(void)
{
	(void)printf(
		"usage: weightfs SOURCE MOUNTPOINT [-o OPTION,...] [-f] [-d]\n"
		"       weightfs --describe SOURCE\n"
		"       weightfs --probe\n"
		"\n"
		"Mounts a model (safetensors, GGUF) as a directory tree in which every tensor\n"
		"is a file. Returns when the tree can be used.\n"
		"\n"
		"  -o OPTION,...  ");
	print_options();
	(void)printf("  -f             stay in the foreground\n"
		     "  -d             log every request; implies -f\n"
		     "  --describe     print model and metadata as JSON, mount nothing\n"
		     "  --probe        print what this machine gives to mounts as JSON\n"
		     "  --help         print this text\n"
		     "  --version      print the versions of weightfs and libfuse\n");
}

/* Which libfuse it is decides how passthrough is done: the loaded one may be newer. */
static void print_version(void)
{
	(void)printf("weightfs %s\nlibfuse %s, built with %d.%d\n", WEIGHTFS_VERSION,
		     fuse_pkgversion(), FUSE_MAJOR_VERSION, FUSE_MINOR_VERSION);
}

static int fail_usage(const char *what)
{
	log_error("%s: try 'weightfs --help'", what);
	return -EINVAL;
}

/* What getopt_long() complains about; `last` is where it stopped. */
static int fail_option(const char *last)
{
	char letter[] = { '-', (char)optopt, '\0' };
	bool is_letter = optopt > ' ' && optopt < 0x7f && strncmp(last, "--", 2) != 0;

	log_error("usage: %s '%s': try 'weightfs --help'",
		  optopt == 'o' ? "no value behind option" : "unknown option",
		  is_letter ? letter : last);
	return -EINVAL;
}

static int parse_option_text(struct options *options, const char *text)
{
	struct diag diag;
	int r = options_parse(options, text, &diag);

	if (r < 0)
		log_error("%s", diag.text);
	return r;
}

static int take_operands(struct arguments *a, int argc, char **argv)
{
	int expected = a->probe ? 0 : a->describe ? 1 : 2;

	if (argc < expected)
		return fail_usage(argc == 0 ? "usage: SOURCE is missing"
					    : "usage: MOUNTPOINT is missing");
	if (argc > expected)
		return fail_usage("usage: too many arguments");
	a->source = argv[0];
	a->mountpoint = argv[1];
	return 0;
}

/* Returns 0, a negative errno for wrong usage (said), or 1 when all is done. */
static int parse_arguments(struct arguments *a, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "describe", no_argument, NULL, 'D' },
		{ "probe", no_argument, NULL, 'P' },
		{ 0 },
	};
	int c;

	options_init(&a->options);
	opterr = 0;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread exists yet. */
	while ((c = getopt_long(argc, argv, "o:fdhVnsv", long_options, NULL)) != -1) {
		if (c == 'o') {
			if (parse_option_text(&a->options, optarg) < 0)
				return -EINVAL;
		} else if (c == 'f') {
			a->foreground = true;
		} else if (c == 'd') {
			a->foreground = true;
			a->debug = true;
		} else if (c == 'D') {
			a->describe = true;
		} else if (c == 'P') {
			a->probe = true;
		} else if (c == 'h') {
			print_help();
			return 1;
		} else if (c == 'V') {
			print_version();
			return 1;
		} else if (c != 'n' && c != 's' && c != 'v') { /* those are mount(8)'s */
			return fail_option(argv[optind - 1]);
		}
	}
	return take_operands(a, argc - optind, argv + optind);
}

/* ---- --describe, --probe ---- */

static int print_document(const struct strbuf *out)
{
	if (fwrite(out->data, 1, out->len, stdout) != out->len || fflush(stdout) != 0)
		return log_errno(-errno, "write");
	return 0;
}

static int probe(void)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	int r = probe_write(&out);

	return r < 0 ? log_errno(r, "probe") : print_document(&out);
}

static int describe(struct served *served)
{
	struct strbuf out;
	struct jsonw w;
	int r;

	strbuf_init(&out);
	strbuf_add_str(&out, "{\"model\":");
	r = served_write_document(served, DOCUMENT_MODEL, &out);
	strbuf_add_str(&out, ",\"metadata\":");
	if (r == 0)
		r = served_write_document(served, DOCUMENT_METADATA, &out);
	strbuf_add_str(&out, ",\"warnings\":");
	jsonw_init(&w, &out);
	jsonw_begin_array(&w);
	for (size_t i = 0; i < model_warning_count(served->model); i++)
		jsonw_string(&w, model_warning(served->model, i));
	jsonw_end_array(&w);
	strbuf_add_str(&out, "}\n");
	if (r == 0)
		r = out.err;
	if (r == 0)
		r = print_document(&out);
	strbuf_fini(&out);
	return r;
}

/* ---- Becoming a daemon ---- */

static int run_session(struct weightfs *fs, const struct arguments *a, int visitor)
{
	return session_run(fs, visitor, !a->foreground, a->debug) < 0 ? EXIT_FAILURE
								      : EXIT_SUCCESS;
}

static int fail_fork(void)
{
	(void)log_errno(-errno, "fork");
	return EXIT_FAILURE;
}

static void run_visitor(const struct weightfs *fs, const int sockets[static 2])
{
	(void)close(sockets[0]);
	_exit(visitor_run(sockets[1], fs->mountpoint, fs->options.readahead_bytes)
		      ? EXIT_SUCCESS
		      : EXIT_FAILURE);
}

/*
 * The daemon is this process; the visitor is the child of a child, so that nobody has to
 * wait for it. Ignoring SIGCHLD would do that too, but libfuse 3.17 waits for a program
 * when it mounts, and takes it for a failure that there is nobody to wait for.
 */
static int run_foreground(struct weightfs *fs, const struct arguments *a,
			  const int sockets[static 2])
{
	int status = EXIT_FAILURE;
	pid_t child = fork();

	if (child == 0) {
		pid_t visitor = fork();

		if (visitor == 0)
			run_visitor(fs, sockets);
		_exit(visitor < 0 ? errno : 0);
	}
	if (child < 0)
		return fail_fork();
	(void)close(sockets[1]);
	if (waitpid(child, &status, 0) != child || status != 0) {
		errno = WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
		return fail_fork();
	}
	return run_session(fs, a, sockets[0]);
}

/* A daemon that failed has said why, unless it died of a signal. */
static int wait_for_failure(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
		log_error("the daemon died of signal %d", WTERMSIG(status));
	return EXIT_FAILURE;
}

/* The daemon is a child; the visitor is this process, which returns once it has seen the
 * tree. */
static int run_background(struct weightfs *fs, const struct arguments *a,
			  const int sockets[static 2])
{
	pid_t child = fork();

	if (child < 0)
		return fail_fork();
	if (child > 0) {
		(void)close(sockets[0]);
		if (visitor_run(sockets[1], fs->mountpoint, fs->options.readahead_bytes))
			return EXIT_SUCCESS;
		return wait_for_failure(child);
	}
	(void)close(sockets[1]);
	(void)setsid();
	if (chdir("/") < 0)
		(void)log_errno(-errno, "change to /");
	return run_session(fs, a, sockets[0]);
}

static int run_daemon(struct weightfs *fs, const struct arguments *a)
{
	int sockets[2];

	if (visitor_sockets(sockets) < 0)
		return EXIT_FAILURE;
	return a->foreground ? run_foreground(fs, a, sockets)
			     : run_background(fs, a, sockets);
}

/* ---- Main ---- */

/* A model with many shards needs a descriptor for each file. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Large blocks always go back to the system when they are freed: by default malloc would
 * keep as much as the largest one freed so far, and a header can be 100 MB. */
static void keep_memory_small(void)
{
	/* No other thread exists yet. NOLINTBEGIN(concurrency-mt-unsafe) */
	(void)mallopt(M_MMAP_THRESHOLD, 256 << 10);
	(void)mallopt(M_TRIM_THRESHOLD, 256 << 10);
	/* NOLINTEND(concurrency-mt-unsafe) */
}

/* The absolute path of a directory to mount on; `path` has room for PATH_MAX bytes. */
static int check_mountpoint(const char *name, char *path)
{
	struct stat st;

	if (stat(name, &st) < 0)
		return log_errno(-errno, "%s: mount point", name);
	if (!S_ISDIR(st.st_mode))
		return log_errno(-ENOTDIR, "%s: mount point", name);
	if (!realpath(name, path))
		return log_errno(-errno, "%s: mount point", name);
	return 0;
}

static void log_warnings(const struct served *served)
{
	for (size_t i = 0; i < model_warning_count(served->model); i++)
		log_warning("%s: %s", served->source->path,
			    model_warning(served->model, i));
}

/* The file that most of the model's bytes are in, for all that is known here. */
static dev_t source_device(const struct served *served)
{
	return model_shard_count(served->model) > 0
		       ? served->source->files[served->shard_files[0]].dev
		       : 0;
}

/* Finds the NUMA nodes that the options ask for, before anything is mounted. */
static int place(struct weightfs *fs)
{
	struct placement_setup setup = {
		.subject = fs->mountpoint,
		.sysfs = SYSFS,
		.choice = fs->options.numa,
		.source = source_device(fs->served),
		.model = fs->served->model,
	};
	struct diag diag;
	int r;

	setup.allowed = placement_allowed(&setup.unavailable);
	r = placement_new(&setup, &fs->placement, &diag);
	if (r < 0) {
		log_error("%s", diag.text);
		return r;
	}
	placement_say(fs->placement);
	if (fs->options.numa.mode == PLACEMENT_MIRROR)
		numa_mirror_init(&fs->mirror, placement_nodes(fs->placement));
	return 0;
}

/* Reads the profile that was named: later no file can be opened any more. */
static int load_profile(struct weightfs *fs, struct profile *profile)
{
	const char *path = fs->options.profile;
	char absolute[PATH_MAX];
	struct diag diag;

	if (*path == '\0')
		return 0;
	if (profile_load(path, fs->served->model, profile, &diag) < 0) {
		log_error("%s", diag.text);
		return -EINVAL;
	}
	if (realpath(path, absolute))
		(void)snprintf(fs->options.profile, sizeof(fs->options.profile), "%s",
			       absolute);
	if (profile->unknown > 0)
		log_warning("%s: profile: tensors that are not in this model are "
			    "ignored: %u",
			    path, profile->unknown);
	if (!fs->options.prediction)
		log_warning("%s: profile: has no effect with prediction=off", path);
	fs->profile = profile;
	return 0;
}

static int mount_model(struct served *served, const struct arguments *a)
{
	CLEANUP(profile_fini) struct profile profile = { .unknown = 0 };
	struct weightfs fs = { .options = a->options, .served = served, .tmpfs = -1 };
	char mountpoint[PATH_MAX];
	int status;
	int r;

	if (check_mountpoint(a->mountpoint, mountpoint) < 0)
		return EXIT_FAILURE;
	fs.mountpoint = mountpoint;
	r = place(&fs);
	if (r < 0)
		return r == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
	if (load_profile(&fs, &profile) < 0) {
		placement_free(fs.placement);
		return EXIT_FAILURE;
	}
	log_warnings(served);
	(void)clock_gettime(CLOCK_MONOTONIC, &fs.started);
	live_init(&fs);
	status = run_daemon(&fs, a);
	live_fini(&fs);
	placement_free(fs.placement);
	free(fs.socket_path);
	return status;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	struct served *served;
	struct diag diag;
	int status;
	int r;

	log_init("weightfs", LOG_LEVEL_INFO);
	r = parse_arguments(&a, argc, argv);
	if (r != 0)
		return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	if (a.debug)
		log_init("weightfs", LOG_LEVEL_DEBUG);
	if (a.probe)
		return probe() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	raise_file_limit();
	keep_memory_small();
	r = served_load(a.source, a.options.format, &served, &diag);
	if (r < 0) {
		log_error("%s", diag.text);
		return EXIT_FAILURE;
	}
	if (a.describe)
		status = describe(served) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	else
		status = mount_model(served, &a);
	served_free(served);
	return status;
}
