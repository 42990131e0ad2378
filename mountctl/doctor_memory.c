/* Checks of what holds tensors in memory and brings them there. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>

#include "mountctl/doctor.h"
#include "mountctl/guard.h"
#include "util/kernel.h"
#include "util/size.h"

#define MIB ((uint64_t)1 << 20)

/* ---- huge pages ---- */

static void find_huge_pages(const struct machine *m, struct finding *f)
{
	char enabled[128] = "";

	if (machine_probed(m, "huge_pages", f)) {
		FOUND(f, "in a tmpfs of the daemon's own");
		(void)!machine_read_line(m,
					 "/sys/kernel/mm/transparent_hugepage/"
					 "shmem_enabled",
					 enabled, sizeof(enabled));
		if (strstr(enabled, "[deny]"))
			FOUND(f, ", although shmem_enabled is deny");
		return;
	}
	finding_set(f, MARK_MISSING,
		    json_is_true(json_get(json_get(m->probe, "tmpfs"), "ok"))
			    ? "resident tensors have pages of 4 KiB: half the speed when "
			      "mapped"
			    : "no tensor can be resident: all are streamed",
		    machine_remedy(f));
}

const struct check check_huge_pages = {
	.id = "huge_pages",
	.title = "huge pages",
	.run = find_huge_pages,
};

/* ---- how much ---- */

static uint64_t memory_total(const struct machine *m)
{
	uint64_t kib = 0;

	return machine_read_field(m, "/proc/meminfo", "MemTotal", &kib) ? kib << 10 : 0;
}

static bool probe_is_ok(const struct machine *m, const char *name)
{
	return json_is_true(json_get(json_get(m->probe, name), "ok"));
}

static void find_memory(const struct machine *m, struct finding *f)
{
	uint64_t limit = json_u64(json_get(m->probe, "resident_limit"));
	char total_text[SIZE_TEXT_MAX];
	char limit_text[SIZE_TEXT_MAX];

	FOUND(f, "%s", size_format(memory_total(m), total_text));
	if (probe_is_ok(m, "huge_pages") && probe_is_ok(m, "passthrough"))
		FOUND(f,
		      ", of which resident tensors take up to %s unless told otherwise",
		      size_format(limit, limit_text));
	else
		FOUND(f, "; no tensor can be resident here");
}

const struct check check_memory = {
	.id = "memory",
	.title = "memory",
	.run = find_memory,
};

/* The group's directory below /sys/fs/cgroup, by a line of /proc/self/cgroup
 * ("ID:CONTROLLERS:PATH"): that of version 2, or of memory in version 1. False if it is
 * neither. */
static bool take_group(char *line, const char **file, char *group, size_t size)
{
	char *controllers = strchr(line, ':');
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path)
		return false;
	*path++ = '\0';
	controllers++;
	path[strcspn(path, "\n")] = '\0';
	if (strcmp(path, "/") == 0)
		*path = '\0';
	if (strcmp(controllers, "memory") != 0 && *controllers != '\0')
		return false;
	*file = *controllers == '\0' ? "memory.max" : "memory.limit_in_bytes";
	return (size_t)snprintf(group, size, "/sys/fs/cgroup%s%s",
				*controllers == '\0' ? "" : "/memory", path) < size;
}

/* Lowers `*limit` to the least of a group and those above it. */
static void take_limits(const struct machine *m, const char *file, char *group,
			uint64_t *limit)
{
	char path[PATH_MAX];
	uint64_t bytes;
	char *slash;

	do {
		if (snprintf(path, sizeof(path), "%s/%s", group, file) < PATH_MAX &&
		    machine_read_number(m, path, &bytes) && bytes < *limit)
			*limit = bytes;
		slash = strrchr(group, '/');
		*slash = '\0';
	} while (strcmp(group, "/sys/fs") != 0);
}

static uint64_t group_limit(const struct machine *m)
{
	uint64_t limit = UINT64_MAX;
	char line[PATH_MAX];
	char group[PATH_MAX];
	const char *file;
	char path[PATH_MAX];
	FILE *groups;

	(void)snprintf(path, sizeof(path), "%s/proc/self/cgroup", m->root);
	groups = fopen(path, "re");
	while (groups && fgets(line, sizeof(line), groups))
		if (take_group(line, &file, group, sizeof(group)))
			take_limits(m, file, group, &limit);
	if (groups)
		(void)fclose(groups);
	return limit;
}

static void find_memory_limit(const struct machine *m, struct finding *f)
{
	uint64_t resident = json_u64(json_get(m->probe, "resident_limit"));
	uint64_t limit = group_limit(m);
	char text[SIZE_TEXT_MAX];

	/* Version 1 writes a number above all memory for none. */
	if (limit >= memory_total(m)) {
		FOUND(f, "none");
		return;
	}
	FOUND(f, "%s", size_format(limit, text));
	if (resident < limit / 10 * 9)
		return;
	finding_set(f, MARK_HINT,
		    "resident tensors count against it, and their own limit leaves no "
		    "room: the daemon or its clients may be killed",
		    NULL);
	strbuf_addf(&f->advice, "mount with -o resident_limit=%" PRIu64 "M or less",
		    limit / 2 / MIB);
}

const struct check check_memory_limit = {
	.id = "memory_limit",
	.title = "cgroup limit",
	.run = find_memory_limit,
};

static void find_pressure(const struct machine *m, struct finding *f)
{
	char line[128];

	if (machine_read_line(m, "/proc/pressure/memory", line, sizeof(line)) == 0) {
		FOUND(f, "/proc/pressure/memory");
		return;
	}
	FOUND(f, "no /proc/pressure/memory");
	finding_set(f, MARK_HINT,
		    "nobody can see that memory is short before it has run out",
		    "boot with psi=1, on a kernel with CONFIG_PSI");
}

const struct check check_pressure = {
	.id = "pressure",
	.title = "memory pressure",
	.run = find_pressure,
};

static void find_numa(const struct machine *m, struct finding *f)
{
	char online[128];

	if (machine_read_line(m, "/sys/devices/system/node/online", online,
			      sizeof(online)) < 0)
		FOUND(f, "one node (the kernel has no NUMA)");
	else if (!strpbrk(online, ",-"))
		FOUND(f, "one node");
	else if (machine_probed(m, "numa", f))
		FOUND(f, "nodes %s", online);
	else
		finding_set(f, MARK_HINT,
			    "models cannot be put on chosen nodes: they come to lie "
			    "where threads happen to run",
			    machine_remedy(f));
}

const struct check check_numa = {
	.id = "numa",
	.title = "NUMA",
	.run = find_numa,
};

/* ---- limits ---- */

static void find_io_uring(const struct machine *m, struct finding *f)
{
	if (machine_probed(m, "io_uring", f))
		FOUND(f, "can be used");
	else
		finding_set(f, MARK_MISSING,
			    "what becomes resident is read through the page cache, which "
			    "then holds it twice for a while",
			    machine_remedy(f));
}

const struct check check_io_uring = {
	.id = "io_uring",
	.title = "io_uring",
	.run = find_io_uring,
};

static void add_limit(struct finding *f, rlim_t limit, bool as_size)
{
	char text[SIZE_TEXT_MAX];

	if (limit == RLIM_INFINITY)
		FOUND(f, "unlimited");
	else if (as_size)
		FOUND(f, "%s", size_format(limit, text));
	else
		FOUND(f, "%llu", (unsigned long long)limit);
}

static void find_open_files(const struct machine *m, struct finding *f)
{
	const rlim_t enough = 16384;
	struct rlimit limit;

	(void)m;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	add_limit(f, limit.rlim_max, false);
	if (limit.rlim_max < enough)
		finding_set(f, MARK_HINT,
			    "each resident tensor takes a descriptor: more are streamed",
			    "raise the hard limit: ulimit -Hn, LimitNOFILE= of a "
			    "service");
}

const struct check check_open_files = {
	.id = "open_files",
	.title = "open files",
	.run = find_open_files,
};

static void find_locked_memory(const struct machine *m, struct finding *f)
{
	const rlim_t enough = 8 * MIB;
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return;
	add_limit(f, limit.rlim_cur, true);
	/* Linux 5.12 no longer counts rings as locked memory. */
	if (machine_kernel(m) < KERNEL(5, 12) && limit.rlim_cur < enough && !m->is_root)
		finding_set(f, MARK_HINT,
			    "on this kernel io_uring takes of it, and gets none",
			    "raise it: ulimit -l, LimitMEMLOCK= of a service");
}

const struct check check_locked_memory = {
	.id = "locked_memory",
	.title = "locked memory",
	.run = find_locked_memory,
};

/* ---- virtual machines ---- */

#define HALT_POLL "/sys/module/haltpoll/parameters/guest_halt_poll_ns"

static void find_idle_cores(const struct machine *m, struct finding *f)
{
	char driver[64] = "none";
	uint64_t ns = 0;

	(void)!machine_read_line(m, "/sys/devices/system/cpu/cpuidle/current_driver",
				 driver, sizeof(driver));
	FOUND(f, "cpuidle driver %s", driver);
	if (strcmp(driver, "haltpoll") != 0 || !machine_read_number(m, HALT_POLL, &ns))
		return;
	FOUND(f, ", polls for %" PRIu64 " ns", ns);
	if (ns == 0)
		finding_set(
			f, MARK_HINT,
			"waking an idle core of this virtual machine is slow: a first "
			"walk over many directories takes twice the time",
			"echo 100000 >" HALT_POLL ", which costs the host some work");
}

const struct check check_idle_cores = {
	.id = "idle_cores",
	.title = "idle cores",
	.run = find_idle_cores,
};

/* ---- GPU ---- */

/* The path of a library as the dynamic linker's cache has it, NUL behind each path.
 * NULL if it is not there. */
static const char *find_in_cache(const struct strbuf *cache, const char *name)
{
	const char *at = cache->len
				 ? memmem(cache->data, cache->len, name, strlen(name) + 1)
				 : NULL;

	/* The name itself stands there as well, without a directory. */
	while (at && at > cache->data && at[-1] != '\0')
		at--;
	return at;
}

static void find_cuda(const struct machine *m, struct finding *f)
{
	CLEANUP(strbuf_fini) struct strbuf cache = { 0 };
	char path[PATH_MAX];
	const char *library;

	(void)snprintf(path, sizeof(path), "%s/etc/ld.so.cache", m->root);
	(void)!guard_read_file(path, &cache);
	library = find_in_cache(&cache, "/libcuda.so.1");
	if (library) {
		FOUND(f, "%s", library);
	} else if (!machine_has(m, "/proc/driver/nvidia")) {
		FOUND(f, "none, and no driver of an NVIDIA card");
	} else {
		FOUND(f, "a card, but no libcuda.so.1");
		finding_set(f, MARK_MISSING, "no tensors in GPU memory",
			    "install the user-space part of the driver (libcuda1), or "
			    "run ldconfig");
	}
}

const struct check check_cuda = {
	.id = "cuda",
	.title = "CUDA driver",
	.run = find_cuda,
};
