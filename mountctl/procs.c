#include "mountctl/procs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "mountctl/guard.h"
#include "mountctl/mounts.h"
#include "mountctl/text.h"

#define HOLDERS_MAX 5

/* ---- who keeps a mount busy ---- */

static void close_dir(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static void close_stream(FILE **stream)
{
	if (*stream)
		(void)fclose(*stream);
}

static bool links_below(const char *link, const char *mountpoint)
{
	char target[PATH_MAX];
	ssize_t len = readlink(link, target, sizeof(target) - 1);

	if (len < 0)
		return false;
	target[len] = '\0';
	return mounts_path_is_below(target, mountpoint);
}

static bool opens_below(const char *pid, const char *mountpoint)
{
	char path[64];
	CLEANUP(close_dir) DIR *dir = NULL;
	const struct dirent *entry;

	(void)snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) { // NOLINT(concurrency-mt-unsafe)
		(void)snprintf(path, sizeof(path), "/proc/%s/fd/%.20s", pid,
			       entry->d_name);
		if (links_below(path, mountpoint))
			return true;
	}
	return false;
}

static bool maps_below(const char *pid, const char *mountpoint)
{
	char path[64];
	CLEANUP(close_stream) FILE *stream = NULL;
	CLEANUP(free_ptr) char *line = NULL;
	size_t capacity = 0;

	(void)snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	stream = fopen(path, "re");
	while (stream && getline(&line, &capacity, stream) > 0) {
		char *file = strchr(line, '/');

		if (!file)
			continue;
		file[strcspn(file, "\n")] = '\0';
		if (mounts_path_is_below(file, mountpoint))
			return true;
	}
	return false;
}

static const char *hold_of(const char *pid, const char *mountpoint)
{
	char cwd[64];
	char root[64];

	(void)snprintf(cwd, sizeof(cwd), "/proc/%s/cwd", pid);
	(void)snprintf(root, sizeof(root), "/proc/%s/root", pid);
	if (links_below(cwd, mountpoint))
		return "working directory";
	if (links_below(root, mountpoint))
		return "root directory";
	if (opens_below(pid, mountpoint))
		return "open file";
	if (maps_below(pid, mountpoint))
		return "mapped file";
	return NULL;
}

static void add_holder(struct strbuf *out, const char *pid, const char *hold)
{
	CLEANUP(strbuf_fini) struct strbuf name = { 0 };
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	(void)guard_read_file(path, &name);
	if (name.len > 0 && name.data[name.len - 1] == '\n')
		name.len--;
	text_escape(out, name.data, name.len);
	strbuf_addf(out, " (pid %s, %s)\n", pid, hold);
}

/* Whether an entry of /proc is a process. */
static bool is_process(const char *name)
{
	return isdigit((unsigned char)*name) && strlen(name) <= 10;
}

/* The guarded child and mountctl itself: that mountctl was started in the mount says
 * nothing that the shell does not. */
static bool is_own(const char *pid)
{
	long number = strtol(pid, NULL, 10);

	return number == getpid() || number == getppid();
}

int procs_list_holders(const void *mountpoint, struct strbuf *out)
{
	CLEANUP(close_dir) DIR *dir = opendir("/proc");
	const struct dirent *entry;
	int found = 0;

	if (!dir)
		return -errno;
	while (found < HOLDERS_MAX &&
	       (entry = readdir(dir))) { // NOLINT(concurrency-mt-unsafe)
		const char *pid = entry->d_name;
		const char *hold = NULL;

		if (is_process(pid) && !is_own(pid))
			hold = hold_of(pid, mountpoint);
		if (hold)
			add_holder(out, pid, hold);
		found += hold ? 1 : 0;
	}
	return out->err;
}

/* ---- the daemon ---- */

/* Whether an open file of a process is /dev/fuse with that connection. */
static bool serves(const char *pid, const char *fd, unsigned int connection)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	char path[64];
	char target[64];
	char line[64];
	ssize_t len;

	(void)snprintf(path, sizeof(path), "/proc/%.10s/fd/%.20s", pid, fd);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return false;
	target[len] = '\0';
	if (!strstr(target, "fuse"))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%.10s/fdinfo/%.20s", pid, fd);
	if (guard_read_file(path, &text) < 0 || !text.data)
		return false;
	(void)snprintf(line, sizeof(line), "\nfuse_connection:\t%u\n", connection);
	return strstr(text.data, line) != NULL;
}

static bool is_server(const char *pid, unsigned int connection)
{
	char path[64];
	CLEANUP(close_dir) DIR *dir = NULL;
	const struct dirent *entry;

	(void)snprintf(path, sizeof(path), "/proc/%.10s/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) // NOLINT(concurrency-mt-unsafe)
		if (serves(pid, entry->d_name, connection))
			return true;
	return false;
}

pid_t procs_find_fuse_server(unsigned int connection)
{
	CLEANUP(close_dir) DIR *dir = opendir("/proc");
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) // NOLINT(concurrency-mt-unsafe)
		if (is_process(entry->d_name) && is_server(entry->d_name, connection))
			return (pid_t)strtol(entry->d_name, NULL, 10);
	return 0;
}
