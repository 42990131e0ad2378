#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cloneplace.h"
#include "util/errtext.h"
#include "util/log.h"
#include "util/macros.h"

/* The sanitizers' own work at exit needs /proc, ptrace and a symbolizer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* A capability that the caller does not have cannot be asked for: then all would stay. */
static void keep(struct __user_cap_data_struct *kept,
		 const struct __user_cap_data_struct *had, int cap)
{
	uint32_t bit = had[CAP_TO_INDEX(cap)].permitted & CAP_TO_MASK(cap);

	kept[CAP_TO_INDEX(cap)].permitted |= bit;
	kept[CAP_TO_INDEX(cap)].effective |= bit;
}

static bool drop_capabilities(const struct sandbox_needs *needs)
{
	struct __user_cap_header_struct header = { .version =
							   _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct kept[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
	struct __user_cap_data_struct had[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	(void)syscall(SYS_capget, &header, had);
	if (needs->passthrough)
		keep(kept, had, CAP_SYS_ADMIN);
	/* To move pages that clients have mapped. */
	if (needs->nodes)
		keep(kept, had, CAP_SYS_NICE);
	return syscall(SYS_capset, &header, kept) == 0;
}

/* ---- Landlock ---- */

/* The first version of the interface (Linux 5.13) knows these. */
#define READ_ACCESS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define READ_WRITE  (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define ALL_ACCESS                                                                  \
	(READ_ACCESS | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |           \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |               \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |               \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |             \
	 LANDLOCK_ACCESS_FS_MAKE_SYM)

static bool allow_open(int ruleset, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access,
						   .parent_fd = fd };

	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule,
		       0) == 0;
}

/* Without the path there is nothing to allow. */
static bool allow_path(int ruleset, const char *path, uint64_t access)
{
	CLEANUP(close_fd) int fd = open(path, O_PATH | O_CLOEXEC);

	return fd < 0 || allow_open(ruleset, fd, access);
}

/* Files of tensors are made there, from the source, which is read around the page cache
 * through a descriptor of its own. */
static bool allow_resident(int ruleset, const struct sandbox_needs *needs)
{
	if (!allow_open(ruleset, needs->tmpfs, READ_WRITE | LANDLOCK_ACCESS_FS_MAKE_REG))
		return false;
	for (uint32_t i = 0; i < needs->source->file_count; i++)
		if (!allow_open(ruleset, needs->source->files[i].fd,
				LANDLOCK_ACCESS_FS_READ_FILE))
			return false;
	return true;
}

/* Directories in which nothing is but what this process makes. */
static bool allow_clones(int ruleset, const struct cloneplaces *clones)
{
	for (unsigned int i = 0; i < clones->count; i++)
		if (clones->places[i].dir >= 0 &&
		    !allow_open(ruleset, clones->places[i].dir, READ_WRITE))
			return false;
	return true;
}

static bool allow_needs(int ruleset, const struct sandbox_needs *needs)
{
	/* Each thread of the session opens a channel of its own. */
	return allow_path(ruleset, "/dev/fuse", READ_WRITE) &&
	       (needs->tmpfs < 0 || allow_resident(ruleset, needs)) &&
	       (!needs->clones || allow_clones(ruleset, needs->clones));
}

static bool enter_landlock(const struct sandbox_needs *needs)
{
	const struct landlock_ruleset_attr attr = { .handled_access_fs = ALL_ACCESS };
	CLEANUP(close_fd)
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	return ruleset >= 0 && allow_needs(ruleset, needs) &&
	       syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
}

/* ---- seccomp ---- */

static const int forbidden[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(process_madvise),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(mount),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(move_mount),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsmount),
	SCMP_SYS(fspick),
	SCMP_SYS(open_tree),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(open_by_handle_at),
	/* What CAP_SYS_NICE would allow besides moving pages of this process. */
	SCMP_SYS(migrate_pages),
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(sched_setparam),
	SCMP_SYS(sched_setattr),
	SCMP_SYS(setpriority),
	SCMP_SYS(ioprio_set),
	SCMP_SYS(setuid),
	SCMP_SYS(setresuid),
	SCMP_SYS(iopl),
};

static bool forbid(scmp_filter_ctx filter, int call)
{
	int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);

	/* A call that this architecture does not have needs no rule. */
	return r == 0 || r == -EDOM;
}

/* The call is left with this as its first argument. */
static bool forbid_but(scmp_filter_ctx filter, int call, uint64_t first)
{
	const struct scmp_arg_cmp others = { .op = SCMP_CMP_NE, .datum_a = first };
	int r = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), call, 1, &others);

	return r == 0 || r == -EDOM;
}

static bool enter_seccomp(const struct sandbox_needs *needs)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	bool ok = filter != NULL;

	for (size_t i = 0; ok && i < ARRAY_LEN(forbidden); i++)
		ok = forbid(filter, forbidden[i]);
	/* It opens sockets unseen by this filter, but what fills resident tensors reads
	 * with it. */
	if (ok && needs->tmpfs < 0)
		ok = forbid(filter, SCMP_SYS(io_uring_setup));
	/* syslog and the control socket are local. */
	if (ok)
		ok = forbid_but(filter, SCMP_SYS(socket), AF_UNIX);
	/* Those of this process. */
	if (ok)
		ok = forbid_but(filter, SCMP_SYS(move_pages), 0);
	if (ok)
		ok = seccomp_load(filter) == 0;
	if (filter)
		seccomp_release(filter);
	return ok;
}

void sandbox_enter(struct sandbox *sandbox, const struct sandbox_needs *needs)
{
	*sandbox = (struct sandbox){ .seccomp = false };
	if (SANITIZED)
		return;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return;
	sandbox->landlock = enter_landlock(needs);
	if (!sandbox->landlock)
		log_debug("landlock: %s: goes on without it", errtext(errno));
	sandbox->seccomp = enter_seccomp(needs);
	sandbox->capabilities = drop_capabilities(needs);
}
