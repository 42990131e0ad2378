/*
 * The checks of `mountctl doctor`: each is one function and one const struct, and looks
 * at one thing that mounts need or are faster with. A check changes nothing and waits for
 * nothing.
 */
#ifndef MOUNTCTL_DOCTOR_H
#define MOUNTCTL_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "mountctl/json.h"
#include "util/macros.h"
#include "util/strbuf.h"

/* What the checks look at. */
struct machine {
	const char *root;   /* in front of all paths of the system; "" but in tests */
	bool is_root;       /* the caller is user 0 */
	const char *path;   /* where programs are: $PATH */
	struct json probe;  /* answer of `weightfs --probe`; no value without one */
	const char *source; /* model file or directory; NULL for none */
	struct json status; /* of the mount that is asked about; no value for none */
};

enum mark {
	MARK_OK,
	MARK_MISSING,
	MARK_HINT, /* it works, and could be better */
};

struct finding {
	enum mark mark;
	struct strbuf value;  /* what was found */
	struct strbuf cost;   /* what follows from it; empty if all is well */
	struct strbuf advice; /* what to do about it; may be empty */
};

/* What a check needs to be made at all. */
enum check_needs {
	NEEDS_NOTHING,
	NEEDS_SOURCE,
	NEEDS_MOUNT,
};

struct check {
	const char *id;    /* in JSON; never changes */
	const char *title; /* for people */
	enum check_needs needs;
	bool vital; /* without it nothing can be mounted */
	void (*run)(const struct machine *machine, struct finding *finding);
};

/* doctor_fuse.c: mounting itself, and what the kernel's side of FUSE can. */
extern const struct check check_daemon;
extern const struct check check_fuse_device;
extern const struct check check_mounting;
extern const struct check check_allow_other;
extern const struct check check_kernel;
extern const struct check check_libfuse;
extern const struct check check_passthrough;
extern const struct check check_readahead;
extern const struct check check_sandbox;

/* doctor_memory.c: what holds tensors in memory and brings them there. */
extern const struct check check_huge_pages;
extern const struct check check_memory;
extern const struct check check_memory_limit;
extern const struct check check_pressure;
extern const struct check check_numa;
extern const struct check check_io_uring;
extern const struct check check_open_files;
extern const struct check check_locked_memory;
extern const struct check check_idle_cores;
extern const struct check check_cuda;

/* doctor_source.c: the file system of a model. */
extern const struct check check_direct_io;
extern const struct check check_reflink;

/* doctor_mount.c: one mount, by its status. */
extern const struct check check_mount_files;
extern const struct check check_mount_backing;
extern const struct check check_mount_passthrough;
extern const struct check check_mount_clones;
extern const struct check check_mount_readahead;
extern const struct check check_mount_memory;
extern const struct check check_mount_sandbox;

/* ---- What checks are written with ---- */

/* The value, as printf() has it. */
#define FOUND(finding, ...) strbuf_addf(&(finding)->value, __VA_ARGS__)

/* Sets the mark and what stands below the value; `advice` may be NULL. */
void finding_set(struct finding *finding, enum mark mark, const char *cost,
		 const char *advice);

void finding_fini(struct finding *finding);

/* The first line of a file below the machine's root; `text` has room for `size` bytes.
 * 0 or a negative errno. */
MUST_CHECK int machine_read_line(const struct machine *machine, const char *path,
				 char *text, size_t size);

/* The same as a number; false where there is none. */
bool machine_read_number(const struct machine *machine, const char *path,
			 uint64_t *number);

bool machine_has(const struct machine *machine, const char *path);

/* The number behind `key` at the start of a line, as /proc/meminfo and /proc/PID/status
 * have it; false where there is none. */
bool machine_read_field(const struct machine *machine, const char *path, const char *key,
			uint64_t *number);

/* The member of that name of the probe: true if it is "ok", else its reason is the value
 * of the finding. */
bool machine_probed(const struct machine *machine, const char *name,
		    struct finding *finding);

/* What can be done where the kernel refuses something for this reason; NULL for nothing
 * that is known. */
const char *machine_remedy(const struct finding *finding);

/* The version of Linux as KERNEL() of util/kernel.h has it; 0 if unknown. */
unsigned int machine_kernel(const struct machine *machine);

#endif
