#include <sys/socket.h>

#include "unit.h"
#include "visitor.h"

/* A tree that can be looked at. It has no read-ahead that root could change. */
#define TREE "/proc"

static int sockets[2];

static void make_sockets(void)
{
	ck_assert_int_eq(visitor_sockets(sockets), 0);
}

static void close_daemon_end(void)
{
	ck_assert_int_eq(close(sockets[0]), 0);
}

START_TEST(a_tree_that_can_be_seen_is_reported)
{
	char byte = 0;

	ck_assert_int_eq(send(sockets[0], "m", 1, 0), 1);
	ck_assert(visitor_run(sockets[1], TREE, 0));
	ck_assert_int_eq(recv(sockets[0], &byte, 1, 0), 1);
	ck_assert_int_eq(byte, 's');
}
END_TEST

START_TEST(a_tree_that_cannot_be_seen_leaves_nobody_waiting)
{
	char byte;

	ck_assert_int_eq(send(sockets[0], "m", 1, 0), 1);
	ck_assert(!visitor_run(sockets[1], "/there/is/no/such/tree", 0));
	ck_assert_int_eq(recv(sockets[0], &byte, 1, 0), 0);
}
END_TEST

START_TEST(a_visitor_without_a_daemon_fails)
{
	ck_assert_int_eq(shutdown(sockets[0], SHUT_RDWR), 0);
	ck_assert(!visitor_run(sockets[1], TREE, 0));
}
END_TEST

START_TEST(the_daemon_learns_what_the_visitor_did)
{
	bool raised = false;

	ck_assert_int_eq(send(sockets[1], "r", 1, 0), 1);
	ck_assert(visitor_wait(sockets[0], &raised));
	ck_assert(raised);
	ck_assert_int_eq(send(sockets[1], "s", 1, 0), 1);
	ck_assert(visitor_wait(sockets[0], &raised));
	ck_assert(!raised);
	ck_assert_int_eq(close(sockets[1]), 0);
}
END_TEST

START_TEST(the_daemon_learns_that_the_visitor_is_gone)
{
	bool raised;

	ck_assert_int_eq(close(sockets[1]), 0);
	ck_assert(!visitor_wait(sockets[0], &raised));
}
END_TEST

static TCase *visitor_case(void)
{
	TCase *t = tcase_create("visitor");

	tcase_add_checked_fixture(t, make_sockets, close_daemon_end);
	tcase_add_test(t, a_tree_that_can_be_seen_is_reported);
	tcase_add_test(t, a_tree_that_cannot_be_seen_leaves_nobody_waiting);
	tcase_add_test(t, a_visitor_without_a_daemon_fails);
	tcase_add_test(t, the_daemon_learns_what_the_visitor_did);
	tcase_add_test(t, the_daemon_learns_that_the_visitor_is_gone);
	return t;
}

UNIT_MAIN("visitor", visitor_case)
