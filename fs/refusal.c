#include "refusal.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "util/errtext.h"
#include "util/kernel.h"

/* PROC_USER_INIT_INO of Linux: the number of the first user namespace, always. */
#define INITIAL_USERNS 0xEFFFFFFDu

static bool has_admin(void)
{
	struct __user_cap_header_struct header = { .version =
							   _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	return data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

void privilege_read(struct privilege *privilege)
{
	struct utsname name;
	struct stat st;

	*privilege = (struct privilege){ .admin = has_admin() };
	/* Without /proc the usual is taken for granted. */
	privilege->initial_userns =
		stat("/proc/self/ns/user", &st) < 0 || st.st_ino == INITIAL_USERNS;
	privilege->filtered = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER;
	if (uname(&name) == 0)
		privilege->kernel = kernel_parse(name.release);
}

static void put(char text[static REFUSAL_MAX], const char *sentence)
{
	(void)snprintf(text, REFUSAL_MAX, "%s", sentence);
}

void refusal_of_tmpfs(const struct privilege *privilege, int err,
		      char text[static REFUSAL_MAX])
{
	if (err == -EPERM && !privilege->admin)
		put(text, "it takes root (CAP_SYS_ADMIN)");
	else if (err == -EPERM && !privilege->initial_userns)
		put(text, "it takes root outside of a user namespace");
	else if ((err == -EPERM || err == -ENOSYS) && privilege->filtered)
		put(text, "a filter of system calls (seccomp) forbids fsopen(2), "
			  "as that of a container does");
	else if (err == -ENOSYS)
		put(text, "this kernel has no fsopen(2): Linux 5.2 has");
	else
		(void)snprintf(text, REFUSAL_MAX, "a tmpfs cannot be made: %s",
			       errtext(err));
}

void refusal_of_registration(const struct privilege *privilege, int err,
			     char text[static REFUSAL_MAX])
{
	if (err == -EPERM && !privilege->initial_userns)
		put(text, "it takes root outside of a user namespace");
	else if (err == -EPERM && !privilege->admin)
		put(text, "it takes root (CAP_SYS_ADMIN)");
	else if (err == -ELOOP)
		put(text, "the kernel refuses files of a stacked file system (overlay)");
	else if (err == -EOPNOTSUPP)
		put(text, "the kernel refuses files of this file system");
	else
		(void)snprintf(text, REFUSAL_MAX, "the kernel refuses the file: %s",
			       errtext(err));
}

void refusal_of_clone(int err, char text[static REFUSAL_MAX])
{
	switch (-err) {
	case EROFS:
		put(text, "the model's file system is mounted read-only");
		break;
	case EACCES:
	case EPERM:
		put(text, "no file can be made beside the model");
		break;
	case ENOSPC:
	case EDQUOT:
		put(text, "the model's file system is full");
		break;
	case EOPNOTSUPP:
	case ENOTTY:
	case EXDEV:
	case EINVAL:
		put(text, "the model's file system cannot share blocks "
			  "(XFS and btrfs can)");
		break;
	default:
		(void)snprintf(text, REFUSAL_MAX, "a clone cannot be made: %s",
			       errtext(err));
	}
}

void refusal_of_io_uring(const struct privilege *privilege, int err,
			 char text[static REFUSAL_MAX])
{
	if ((err == -EPERM || err == -ENOSYS) && privilege->filtered)
		put(text, "a filter of system calls (seccomp) forbids io_uring_setup(2)");
	else if (err == -EPERM)
		put(text, "the setting kernel.io_uring_disabled forbids it");
	else if (err == -ENOSYS)
		put(text, "this kernel was built without it (CONFIG_IO_URING)");
	else
		(void)snprintf(text, REFUSAL_MAX, "io_uring_setup(2): %s", errtext(err));
}

void refusal_of_offer(const struct privilege *privilege, char text[static REFUSAL_MAX])
{
	if (privilege->kernel >= KERNEL(6, 9))
		put(text, "this kernel was built without it (CONFIG_FUSE_PASSTHROUGH)");
	else
		(void)snprintf(text, REFUSAL_MAX,
			       "this kernel is Linux %u.%u, which has none: 6.9 has",
			       KERNEL_MAJOR(privilege->kernel),
			       KERNEL_MINOR(privilege->kernel));
}
