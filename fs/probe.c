#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "channel.h"
#include "hugetmpfs.h"
#include "passthrough.h"
#include "placement.h"
#include "util/errtext.h"
#include "util/jsonw.h"
#include "weightfs.h"

/* After so long a mount that does not begin is given up. */
#define SESSION_TIMEOUT_S 2

/* Larger pages than this are not tried: there may be no memory for them. */
#define HUGE_PAGE_MAX ((uint64_t)32 << 20)

/* What was found of one thing. */
struct outcome {
	bool ok;
	char reason[REFUSAL_MAX]; /* why not */
};

static void fail(struct outcome *outcome, const char *what, int err)
{
	outcome->ok = false;
	(void)snprintf(outcome->reason, sizeof(outcome->reason), "%s: %s", what,
		       errtext(err));
}

/* ---- A mount that nobody sees ---- */

/* What the child tells: plain data through a pipe. */
struct session_report {
	struct outcome session;
	struct outcome passthrough;
};

/* As libfuse does it, but in a mount namespace of our own. Returns the channel, or -1
 * with the reason. */
static int mount_unseen(struct outcome *outcome)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[96];

	if (fd < 0) {
		fail(outcome, "open /dev/fuse", errno);
		return -1;
	}
	(void)snprintf(options, sizeof(options),
		       "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fd, getuid(),
		       getgid());
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail(outcome, "a mount namespace", errno);
	else if (mount("weightfs", "/", "fuse", MS_NOSUID | MS_NODEV | MS_RDONLY,
		       options) < 0)
		fail(outcome, "mount", errno);
	else
		return fd;
	(void)close(fd);
	return -1;
}

/* Answers INIT, which is there as soon as the mount is, and registers a file, by the same
 * code that serves a mount. */
static void begin_session(int fd, struct session_report *report)
{
	char device[32];
	char *argv[] = { device, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct passthrough passthrough = { .wanted = false };
	struct weightfs fs = { .passthrough = &passthrough };
	struct fuse_buf request = { .mem = NULL };
	struct fuse_session *session;

	(void)snprintf(device, sizeof(device), "/dev/fd/%d", fd);
	options_init(&fs.options);
	session = fuse_session_new(&args, &weightfs_ops, sizeof(weightfs_ops), &fs);
	if (!session) {
		fail(&report->session, "begin a session", ENOMEM);
		return;
	}
	passthrough_prepare(&passthrough, session);
	if (channel_attach(session) < 0 || fuse_session_mount(session, device) < 0 ||
	    fuse_session_receive_buf(session, &request) <= 0) {
		fail(&report->session, "begin a session", EIO);
		return;
	}
	fuse_session_process_buf(session, &request);
	report->session.ok = true;
	report->passthrough.ok = passthrough_settle(&passthrough);
	if (!report->passthrough.ok)
		(void)snprintf(report->passthrough.reason, REFUSAL_MAX, "%s",
			       passthrough_refusal(&passthrough));
}

static void stay_silent(enum fuse_log_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
}

/* With its end the namespace, the mount and the connection are gone. */
static _Noreturn void run_child(int report_fd)
{
	struct session_report report = { .session = { .ok = false } };
	int fd;

	(void)alarm(SESSION_TIMEOUT_S);
	fuse_set_log_func(stay_silent);
	fd = mount_unseen(&report.session);
	if (fd >= 0)
		begin_session(fd, &report);
	if (!report.session.ok)
		report.passthrough = report.session;
	_exit(write(report_fd, &report, sizeof(report)) == sizeof(report) ? 0 : 1);
}

static int start_child(pid_t *child)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	*child = fork();
	if (*child == 0)
		run_child(pair[1]);
	(void)close(pair[1]);
	if (*child > 0)
		return pair[0];
	(void)close(pair[0]);
	return -EAGAIN;
}

static void try_session(const struct privilege *privilege, struct session_report *report)
{
	CLEANUP(close_fd) int fd = -1;
	pid_t child = -1;

	*report = (struct session_report){ .session = { .ok = false } };
	if (!privilege->admin) {
		refusal_of_tmpfs(privilege, -EPERM, report->session.reason);
		report->passthrough = report->session;
		return;
	}
	fd = start_child(&child);
	if (fd < 0 || read(fd, report, sizeof(*report)) != sizeof(*report)) {
		fail(&report->session, "a mount does not begin", fd < 0 ? fd : ETIMEDOUT);
		report->passthrough = report->session;
	}
	if (child > 0)
		(void)waitpid(child, NULL, 0);
}

/* ---- Huge pages ---- */

static uint64_t huge_page_size(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "re");
	uint64_t size = 0;
	char text[32];

	if (!file)
		return 0;
	if (fgets(text, sizeof(text), file))
		size = strtoull(text, NULL, 10);
	(void)fclose(file);
	return size;
}

/* One byte of a file takes as much memory as its page has. */
static void try_huge_page(int root, struct outcome *outcome)
{
	uint64_t size = huge_page_size();
	CLEANUP(close_fd) int fd = -1;
	struct stat st;

	*outcome = (struct outcome){ .ok = false };
	if (size == 0 || size > HUGE_PAGE_MAX) {
		(void)snprintf(
			outcome->reason, REFUSAL_MAX,
			"this kernel has no transparent huge pages of up to 32 MiB");
		return;
	}
	fd = hugetmpfs_file(root, size);
	if (fd < 0 || pwrite(fd, "", 1, 0) != 1 || fstat(fd, &st) < 0) {
		fail(outcome, "a page of tmpfs", fd < 0 ? fd : errno);
		return;
	}
	outcome->ok = (uint64_t)st.st_blocks * 512 >= size;
	if (!outcome->ok)
		(void)snprintf(outcome->reason, REFUSAL_MAX,
			       "the kernel gave a small page for a huge one");
}

static void try_tmpfs(const struct privilege *privilege, struct outcome *tmpfs,
		      struct outcome *huge)
{
	CLEANUP(close_fd) int root = hugetmpfs_new(HUGE_ALWAYS);

	*tmpfs = (struct outcome){ .ok = root >= 0 };
	if (root < 0) {
		refusal_of_tmpfs(privilege, root, tmpfs->reason);
		*huge = *tmpfs;
		return;
	}
	try_huge_page(root, huge);
}

/* ---- The rest ---- */

static void try_io_uring(const struct privilege *privilege, struct outcome *outcome)
{
	struct io_uring ring;
	int r = io_uring_queue_init(1, &ring, 0);

	*outcome = (struct outcome){ .ok = r == 0 };
	if (r == 0)
		io_uring_queue_exit(&ring);
	else
		refusal_of_io_uring(privilege, r, outcome->reason);
}

/* Returns the version of its interface. */
static long try_landlock(struct outcome *outcome)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
			   LANDLOCK_CREATE_RULESET_VERSION);

	*outcome = (struct outcome){ .ok = abi > 0 };
	if (abi <= 0)
		(void)snprintf(outcome->reason, REFUSAL_MAX, "%s",
			       errno == EOPNOTSUPP
				       ? "it is not in the kernel's lsm= list"
				       : "this kernel has none: Linux 5.13 "
					 "has, with CONFIG_SECURITY_LANDLOCK");
	return abi;
}

static void try_seccomp(struct outcome *outcome)
{
	const uint32_t action = SECCOMP_RET_ERRNO;

	*outcome = (struct outcome){ .ok = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL,
						   0, &action) == 0 };
	if (!outcome->ok)
		fail(outcome, "seccomp(2)", errno);
}

/* Whether memory can be placed; not whether there is more than one node. */
static void try_numa(struct outcome *outcome)
{
	int error;

	(void)placement_allowed(&error);
	*outcome = (struct outcome){ .ok = error == 0 };
	if (error == -EPERM)
		(void)snprintf(outcome->reason, REFUSAL_MAX,
			       "a seccomp filter, as containers have it, forbids to "
			       "place memory");
	else if (error < 0)
		fail(outcome, "get_mempolicy(2)", -error);
}

/* ---- As JSON ---- */

static void write_outcome(struct jsonw *w, const char *name,
			  const struct outcome *outcome)
{
	jsonw_key(w, name);
	jsonw_begin_object(w);
	jsonw_key(w, "ok");
	jsonw_bool(w, outcome->ok);
	if (!outcome->ok) {
		jsonw_key(w, "reason");
		jsonw_string(w, outcome->reason);
	}
	jsonw_end_object(w);
}

static void write_libfuse(struct jsonw *w)
{
	char built[16];

	(void)snprintf(built, sizeof(built), "%d.%d", FUSE_MAJOR_VERSION,
		       FUSE_MINOR_VERSION);
	jsonw_key(w, "libfuse");
	jsonw_begin_object(w);
	jsonw_key(w, "loaded");
	jsonw_string(w, fuse_pkgversion());
	jsonw_key(w, "built");
	jsonw_string(w, built);
	jsonw_end_object(w);
}

static void write_defaults(struct jsonw *w)
{
	struct options options;

	options_init(&options);
	jsonw_key(w, "resident_limit");
	jsonw_u64(w, options.resident_limit);
	jsonw_key(w, "readahead_bytes");
	jsonw_u64(w, options.readahead_bytes);
}

int probe_write(struct strbuf *out)
{
	struct session_report session;
	struct privilege privilege;
	struct outcome tmpfs;
	struct outcome other;
	struct jsonw w;
	long abi;

	privilege_read(&privilege);
	jsonw_init(&w, out);
	jsonw_begin_object(&w);
	jsonw_key(&w, "version");
	jsonw_string(&w, WEIGHTFS_VERSION);
	write_libfuse(&w);
	write_defaults(&w);
	try_session(&privilege, &session);
	write_outcome(&w, "session", &session.session);
	write_outcome(&w, "passthrough", &session.passthrough);
	try_tmpfs(&privilege, &tmpfs, &other);
	write_outcome(&w, "tmpfs", &tmpfs);
	write_outcome(&w, "huge_pages", &other);
	try_io_uring(&privilege, &other);
	write_outcome(&w, "io_uring", &other);
	abi = try_landlock(&other);
	write_outcome(&w, "landlock", &other);
	jsonw_key(&w, "landlock_abi");
	jsonw_u64(&w, abi > 0 ? (uint64_t)abi : 0);
	try_seccomp(&other);
	write_outcome(&w, "seccomp", &other);
	try_numa(&other);
	write_outcome(&w, "numa", &other);
	jsonw_end_object(&w);
	strbuf_add_char(out, '\n');
	return out->err;
}
