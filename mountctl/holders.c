#include "mountctl/holders.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "mountctl/guard.h"
#include "mountctl/text.h"
#include "util/log.h"
#include "util/strbuf.h"

#define HOLDERS_MAX 5

/* /proc answers at once, but for processes that hang in the mount itself. */
#define SCAN_TIMEOUT_MS 3000

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
	/* A process that was chrooted into a mount at "/" is every process: not asked. */
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

/* A guard_fn: one line for each holder. */
static int scan_processes(const void *mountpoint, struct strbuf *out)
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

		if (isdigit((unsigned char)*pid) && strlen(pid) <= 10)
			hold = hold_of(pid, mountpoint);
		if (hold)
			add_holder(out, pid, hold);
		found += hold ? 1 : 0;
	}
	return out->err;
}

static void log_held(const char *mountpoint, const char *holder)
{
	CLEANUP(strbuf_fini) struct strbuf what = { 0 };

	strbuf_addf(&what, "in use by %s", holder);
	if (what.data)
		(void)text_error(mountpoint, what.data, 0);
}

void holders_log(const char *mountpoint, const struct mounts *mounts)
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
	if (guard_run(scan_processes, mountpoint, SCAN_TIMEOUT_MS, &lines) < 0 ||
	    !lines.data)
		return;
	for (const char *line = strtok_r(lines.data, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		log_held(mountpoint, line);
}
