/* What is left to the threads that serve, where the machine can take anything away. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cloneplace.h"
#include "model_dir.h"
#include "sandbox.h"
#include "unit.h"

/* Enters the sandbox as a mount with clones does, which may make files in `dir`. */
static bool enter(int dir)
{
	const struct source source = { .file_count = 0 };
	const struct cloneplaces clones = { .places = { { .dir = dir } }, .count = 1 };
	const struct sandbox_needs needs = {
		.source = &source, .tmpfs = -1, .clones = &clones, .passthrough = true
	};
	struct sandbox sandbox;

	sandbox_enter(&sandbox, &needs);
	if (!sandbox.landlock)
		(void)fprintf(stderr, "test_sandbox: not tested: no Landlock here\n");
	return sandbox.landlock;
}

static int make_file(int dir)
{
	return openat(dir, ".", O_TMPFILE | O_WRONLY, 0400);
}

START_TEST(files_can_be_made_where_clones_are_and_nowhere_else)
{
	char path[64];
	int parent;
	int dir;
	int fd;

	model_dir_write_text("model.safetensors", "x");
	ck_assert_int_eq(mkdir(model_dir_path("place"), 0700), 0);
	parent = open(model_dir_path(""), O_RDONLY | O_DIRECTORY);
	dir = open(model_dir_path("place"), O_RDONLY | O_DIRECTORY);
	ck_assert_int_ge(dir, 0);
	fd = make_file(dir);
	if (fd < 0) {
		(void)fprintf(stderr, "test_sandbox: not tested: no O_TMPFILE here\n");
		return;
	}
	(void)close(fd);
	if (!enter(dir))
		return;

	fd = make_file(dir);
	ck_assert_int_ge(fd, 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ck_assert_int_ge(open(path, O_RDONLY), 0);
	ck_assert_int_eq(openat(dir, "named", O_WRONLY | O_CREAT, 0600), -1);

	ck_assert_int_eq(make_file(parent), -1);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_eq(open(model_dir_path("model.safetensors"), O_WRONLY), -1);
	ck_assert_int_eq(errno, EACCES);
	ck_assert_int_eq(open(model_dir_path("model.safetensors"), O_RDONLY), -1);
	ck_assert_int_eq(openat(dir, "../model.safetensors", O_WRONLY), -1);
}
END_TEST

static long move_no_pages(pid_t pid)
{
	return syscall(SYS_move_pages, pid, 0ul, NULL, NULL, NULL, 0);
}

START_TEST(who_may_move_pages_may_do_so_with_its_own_and_nothing_else)
{
	const struct source source = { .file_count = 0 };
	const struct sandbox_needs needs = { .source = &source,
					     .tmpfs = -1,
					     .nodes = true };
	bool has_numa = move_no_pages(0) == 0;
	struct sandbox sandbox;

	sandbox_enter(&sandbox, &needs);
	if (!sandbox.seccomp) {
		(void)fprintf(stderr, "test_sandbox: not tested: no seccomp here\n");
		return;
	}
	ck_assert_int_eq(move_no_pages(0) == 0, has_numa);
	ck_assert_int_eq(move_no_pages(getppid()), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(setpriority(PRIO_PROCESS, 0, 1), -1);
	ck_assert_int_eq(errno, EPERM);
}
END_TEST

static TCase *landlock_case(void)
{
	TCase *tcase = tcase_create("landlock");

	/* Unchecked: outside of the sandbox, which the test itself does not leave. */
	tcase_add_unchecked_fixture(tcase, model_dir_make, model_dir_remove);
	tcase_add_test(tcase, files_can_be_made_where_clones_are_and_nowhere_else);
	return tcase;
}

static TCase *seccomp_case(void)
{
	TCase *tcase = tcase_create("seccomp");

	tcase_add_test(tcase, who_may_move_pages_may_do_so_with_its_own_and_nothing_else);
	return tcase;
}

UNIT_MAIN("sandbox", landlock_case, seccomp_case)
