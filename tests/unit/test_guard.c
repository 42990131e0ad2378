#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "mountctl/guard.h"
#include "unit.h"

static int say(const void *text, struct strbuf *out)
{
	strbuf_add_str(out, text);
	return 0;
}

static int say_and_fail(const void *text, struct strbuf *out)
{
	strbuf_add_str(out, text);
	return -ENOTCONN;
}

static int say_much(const void *count, struct strbuf *out)
{
	for (size_t i = 0; i < *(const size_t *)count; i++)
		strbuf_add_char(out, 'x');
	return 0;
}

static int hang(const void *arg, struct strbuf *out)
{
	(void)arg;
	(void)out;
	(void)pause();
	return 0;
}

static int die(const void *arg, struct strbuf *out)
{
	(void)arg;
	(void)out;
	(void)raise(SIGKILL);
	return 0;
}

START_TEST(what_was_said_comes_back)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };

	strbuf_add_str(&out, "before ");
	ck_assert_int_eq(guard_run(say, "hello", 5000, &out), 0);
	ck_assert_str_eq(out.data, "before hello");
}
END_TEST

START_TEST(nothing_said_is_no_error)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };

	ck_assert_int_eq(guard_run(say, "", 5000, &out), 0);
	ck_assert_uint_eq(out.len, 0);
}
END_TEST

START_TEST(an_error_comes_back)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };

	ck_assert_int_eq(guard_run(say_and_fail, "hello", 5000, &out), -ENOTCONN);
}
END_TEST

START_TEST(more_than_a_pipe_holds_comes_back)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	size_t count = (size_t)3 << 20;

	ck_assert_int_eq(guard_run(say_much, &count, 30000, &out), 0);
	ck_assert_uint_eq(out.len, count);
}
END_TEST

START_TEST(one_that_hangs_is_given_up)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };

	ck_assert_int_eq(guard_run(hang, NULL, 50, &out), -ETIMEDOUT);
}
END_TEST

START_TEST(one_that_dies_is_an_error)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };

	ck_assert_int_eq(guard_run(die, NULL, 5000, &out), -EIO);
}
END_TEST

START_TEST(files_and_links_are_read)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	char dir[] = "/tmp/test_guard.XXXXXX";
	char path[64];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/link", dir);
	ck_assert_int_eq(symlink("the target", path), 0);
	ck_assert_int_eq(guard_run(guard_read_link, path, 5000, &out), 0);
	ck_assert_str_eq(out.data, "the target");
	ck_assert_int_eq(guard_run(guard_read_file, path, 5000, &out), -ENOENT);
	ck_assert_int_eq(guard_run(guard_read_link, dir, 5000, &out), -EINVAL);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

static TCase *guard_case(void)
{
	TCase *tcase = tcase_create("guard");

	tcase_add_test(tcase, what_was_said_comes_back);
	tcase_add_test(tcase, nothing_said_is_no_error);
	tcase_add_test(tcase, an_error_comes_back);
	tcase_add_test(tcase, more_than_a_pipe_holds_comes_back);
	tcase_add_test(tcase, one_that_hangs_is_given_up);
	tcase_add_test(tcase, one_that_dies_is_an_error);
	tcase_add_test(tcase, files_and_links_are_read);
	return tcase;
}

UNIT_MAIN("guard", guard_case)
