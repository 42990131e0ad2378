#include "hugetmpfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include "util/fd.h"

/* The C library has no wrappers for these before glibc 2.36, and its <sys/mount.h>
 * clashes with the kernel's header. */
static int fs_open(const char *type)
{
	return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

static int set_string(int fs, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0);
}

int hugetmpfs_new(enum huge_pages huge)
{
	static const char *const values[] = {
		[HUGE_AUTO] = "within_size",
		[HUGE_ALWAYS] = "always",
		[HUGE_NEVER] = "never",
	};
	CLEANUP(close_fd) int fs = fs_open("tmpfs");
	int root;

	if (fs < 0)
		return -errno;
	/* Our own budget decides how much is kept, not the default of half of all memory.
	 * A kernel without huge pages in tmpfs serves small ones. */
	if (set_string(fs, "size", "0") < 0 || set_string(fs, "mode", "0700") < 0)
		return -errno;
	(void)set_string(fs, "huge", values[huge]);
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	root = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
			    MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return root < 0 ? -errno : root;
}

int hugetmpfs_file(int root, uint64_t size)
{
	int fd = openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) == 0)
		return fd;
	err = -errno;
	(void)close(fd);
	return err;
}

/* A file of a tmpfs cannot be sealed; only a memfd can, which has no huge pages unless
 * the whole system gives them to all. */
int hugetmpfs_read_only(int fd)
{
	int reader = fd_reopen(fd, O_RDONLY);

	(void)close(fd);
	return reader;
}
