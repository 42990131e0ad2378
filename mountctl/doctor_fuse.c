/* Checks of mounting itself, and of what the kernel's side of FUSE can. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "mountctl/doctor.h"
#include "util/errtext.h"
#include "util/kernel.h"

#define NOTHING_MOUNTS "nothing can be mounted"

/* ---- the daemon's program ---- */

static void find_daemon(const struct machine *m, struct finding *f)
{
	if (json_type(m->probe) == JSON_OBJECT) {
		strbuf_add_str(&f->value, "weightfs ");
		json_add_string(&f->value, json_get(m->probe, "version"));
		return;
	}
	FOUND(f, "weightfs cannot be run");
	finding_set(f, MARK_MISSING, NOTHING_MOUNTS,
		    "put weightfs beside mountctl or into a directory of PATH");
}

const struct check check_daemon = {
	.id = "daemon",
	.title = "daemon",
	.vital = true,
	.run = find_daemon,
};

/* ---- /dev/fuse ---- */

static const char *fuse_device_advice(int err)
{
	if (err == EACCES)
		return "chmod 666 /dev/fuse, as most machines have it, or mount as root";
	if (err == EPERM)
		return "start the container with --device /dev/fuse";
	return "load the module (modprobe fuse); start a container with --device "
	       "/dev/fuse";
}

/* Opened it does nothing yet. */
static void find_fuse_device(const struct machine *m, struct finding *f)
{
	CLEANUP(close_fd) int fd = -1;
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/dev/fuse", m->root);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		FOUND(f, "/dev/fuse");
		return;
	}
	FOUND(f, "/dev/fuse: %s", errtext(errno));
	finding_set(f, MARK_MISSING, NOTHING_MOUNTS, fuse_device_advice(errno));
}

const struct check check_fuse_device = {
	.id = "fuse_device",
	.title = "FUSE device",
	.vital = true,
	.run = find_fuse_device,
};

/* ---- who may mount ---- */

/* Whether exec of the program gives it rights that the caller lacks. */
static bool raises_rights(const char *program, const struct stat *st)
{
	struct statvfs vfs;

	if (statvfs(program, &vfs) < 0 || (vfs.f_flag & ST_NOSUID))
		return false;
	return (st->st_uid == 0 && (st->st_mode & S_ISUID)) ||
	       getxattr(program, "security.capability", NULL, 0) > 0;
}

/* Looks a program up; `found` has room for PATH_MAX bytes. */
static bool look_up(const char *path, const char *name, char *found)
{
	while (path && *path != '\0') {
		size_t len = strcspn(path, ":");

		if (snprintf(found, PATH_MAX, "%.*s/%s", (int)len, path, name) <
			    PATH_MAX &&
		    access(found, X_OK) == 0)
			return true;
		path += len;
		path += *path == ':';
	}
	return false;
}

static void find_fusermount(const struct machine *m, struct finding *f)
{
	char program[PATH_MAX];
	uint64_t no_new_privileges = 0;
	struct stat st;

	if (!look_up(m->path, "fusermount3", program)) {
		FOUND(f, "no fusermount3");
		finding_set(f, MARK_MISSING, NOTHING_MOUNTS " by users other than root",
			    "install the package fuse3");
		return;
	}
	FOUND(f, "%s", program);
	if (stat(program, &st) < 0 || !raises_rights(program, &st)) {
		FOUND(f, " is not set-user-ID root");
		finding_set(f, MARK_MISSING, NOTHING_MOUNTS " by users other than root",
			    "chmod u+s the program, on a file system without nosuid");
	} else if (machine_read_field(m, "/proc/self/status", "NoNewPrivs",
				      &no_new_privileges) &&
		   no_new_privileges) {
		FOUND(f, " cannot raise its rights here (no_new_privs)");
		finding_set(f, MARK_MISSING, NOTHING_MOUNTS " from this process",
			    "mount from outside of this sandbox or service");
	}
}

static void find_mounting(const struct machine *m, struct finding *f)
{
	if (machine_probed(m, "session", f)) {
		FOUND(f, "by mount(2)");
	} else if (!m->is_root) {
		f->value.len = 0;
		find_fusermount(m, f);
	} else {
		finding_set(f, MARK_MISSING, NOTHING_MOUNTS, machine_remedy(f));
	}
}

const struct check check_mounting = {
	.id = "mounting",
	.title = "mounting",
	.vital = true,
	.run = find_mounting,
};

static bool allows_other(const struct machine *m)
{
	char path[PATH_MAX];
	bool allowed = false;
	char line[256];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/etc/fuse.conf", m->root);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!allowed && fgets(line, sizeof(line), file))
		allowed = strncmp(line, "user_allow_other", 16) == 0 &&
			  strspn(line + 16, " \t\n") == strlen(line + 16);
	(void)fclose(file);
	return allowed;
}

static void find_allow_other(const struct machine *m, struct finding *f)
{
	if (m->is_root) {
		FOUND(f, "root may");
	} else if (allows_other(m)) {
		FOUND(f, "user_allow_other is set");
	} else {
		FOUND(f, "user_allow_other is not set in /etc/fuse.conf");
		finding_set(f, MARK_HINT, "only you can read what you mount",
			    "let root add the line user_allow_other, or mount as root");
	}
}

const struct check check_allow_other = {
	.id = "allow_other",
	.title = "-o allow_other",
	.run = find_allow_other,
};

/* ---- versions ---- */

static void find_kernel(const struct machine *m, struct finding *f)
{
	char release[128] = "unknown";

	(void)!machine_read_line(m, "/proc/sys/kernel/osrelease", release,
				 sizeof(release));
	FOUND(f, "Linux %s", release);
	if (machine_kernel(m) < KERNEL(6, 9))
		finding_set(f, MARK_HINT, "FUSE has no passthrough before Linux 6.9",
			    "run Linux 6.9 or later");
}

const struct check check_kernel = {
	.id = "kernel",
	.title = "kernel",
	.run = find_kernel,
};

static void find_libfuse(const struct machine *m, struct finding *f)
{
	struct json libfuse = json_get(m->probe, "libfuse");

	json_add_string(&f->value, json_get(libfuse, "loaded"));
	strbuf_add_str(&f->value, f->value.len > 0 ? ", built with " : "not known");
	json_add_string(&f->value, json_get(libfuse, "built"));
}

const struct check check_libfuse = {
	.id = "libfuse",
	.title = "libfuse",
	.run = find_libfuse,
};

/* ---- speed ---- */

static void find_passthrough(const struct machine *m, struct finding *f)
{
	if (machine_probed(m, "passthrough", f))
		FOUND(f, "the kernel reads files of the daemon without asking it");
	else
		finding_set(f, MARK_MISSING,
			    "tensors are streamed: a second copy in the page cache, and "
			    "a seventh to a third of the speed when mapped",
			    machine_remedy(f));
}

const struct check check_passthrough = {
	.id = "passthrough",
	.title = "passthrough",
	.run = find_passthrough,
};

/* Opens the setting of any device for writing, and writes nothing. 0 or a negative errno.
 */
static int try_readahead(const struct machine *m)
{
	char path[PATH_MAX];
	struct dirent *entry;
	int r = -ENOENT;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/sys/class/bdi", m->root);
	dir = opendir(path);
	if (!dir)
		return -errno;
	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while (r < 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "%s/sys/class/bdi/%s/read_ahead_kb",
			       m->root, entry->d_name);
		r = access(path, W_OK) < 0 ? -errno : 0;
		if (r == -EACCES || r == -EROFS)
			break;
	}
	(void)closedir(dir);
	return r;
}

static void find_readahead(const struct machine *m, struct finding *f)
{
	uint64_t bytes = json_u64(json_get(m->probe, "readahead_bytes"));
	int r = try_readahead(m);

	if (r == 0 && m->is_root) {
		FOUND(f, "can be raised, to %" PRIu64 " KiB unless told otherwise",
		      bytes >> 10);
		return;
	}
	FOUND(f, "stays at 128 KiB: /sys/class/bdi: %s", errtext(r ? r : -EACCES));
	finding_set(f, MARK_MISSING, "streamed tensors are read at about half the speed",
		    m->is_root ? "mount /sys for writing" : "mount as root");
}

const struct check check_readahead = {
	.id = "readahead",
	.title = "read-ahead",
	.run = find_readahead,
};

/* ---- safety ---- */

static void find_sandbox(const struct machine *m, struct finding *f)
{
	struct finding other = { 0 };
	bool landlock = machine_probed(m, "landlock", f);
	bool seccomp = machine_probed(m, "seccomp", landlock ? f : &other);

	if (landlock && seccomp)
		FOUND(f, "Landlock (version %" PRIu64 "), seccomp",
		      json_u64(json_get(m->probe, "landlock_abi")));
	else
		finding_set(f, MARK_HINT,
			    "a mistake in the daemon would be worth more to whoever made "
			    "the model file",
			    machine_remedy(f));
	finding_fini(&other);
}

const struct check check_sandbox = {
	.id = "sandbox",
	.title = "sandbox",
	.run = find_sandbox,
};
