#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "busy_poll.h"
#include "unit.h"

/* A device with the manners of /dev/fuse: each read takes one request. The test writes at
 * the other end. */
#define WORKERS 4
#define END     0xffffffffu /* as an opcode: the worker that reads it ends */

static struct busy_poll poller;
static int device[2];
static int served; /* eventfd: how many requests were answered */
static atomic_uint answered[WORKERS];
static pthread_t workers[WORKERS];

static void handle_nothing(int number)
{
	(void)number;
}

static void *work(void *argument)
{
	atomic_uint *mine = argument;
	struct fuse_in_header request = { .opcode = 0 };

	while (request.opcode != END) {
		const uint64_t one = 1;
		ssize_t n = busy_poll_read(&poller, device[0], &request, sizeof(request));

		if (n < 0 && errno == EINTR)
			continue;
		ck_assert_int_eq(n, sizeof(request));
		(void)atomic_fetch_add(mine, 1);
		ck_assert_int_eq(write(served, &one, sizeof(one)), sizeof(one));
	}
	return NULL;
}

static void start(void)
{
	const struct sigaction action = { .sa_handler = handle_nothing };

	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	ck_assert_int_eq(busy_poll_init(&poller, SIGUSR1), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, device),
			 0);
	served = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	ck_assert_int_ge(served, 0);
	for (int i = 0; i < WORKERS; i++) {
		atomic_store(&answered[i], 0);
		ck_assert_int_eq(pthread_create(&workers[i], NULL, work, &answered[i]),
				 0);
	}
}

static void send_request(uint32_t opcode, uint64_t nodeid)
{
	const struct fuse_in_header request = { .len = sizeof(request),
						.opcode = opcode,
						.nodeid = nodeid };

	ck_assert_int_eq(write(device[1], &request, sizeof(request)), sizeof(request));
}

static void wait_for_answer(void)
{
	uint64_t one;

	ck_assert_int_eq(read(served, &one, sizeof(one)), sizeof(one));
}

/* Like a client that walks: the next request when the last one is answered. */
static void walk(unsigned int count, uint32_t opcode)
{
	for (unsigned int i = 0; i < count; i++) {
		send_request(opcode, 2);
		wait_for_answer();
	}
}

static void stop(void)
{
	/* Each worker takes one, also those that are parked: none may be left behind. */
	for (int i = 0; i < WORKERS; i++)
		send_request(END, 2);
	for (int i = 0; i < WORKERS; i++)
		ck_assert_int_eq(pthread_join(workers[i], NULL), 0);
	busy_poll_fini(&poller);
	ck_assert_int_eq(close(device[0]), 0);
	ck_assert_int_eq(close(device[1]), 0);
	ck_assert_int_eq(close(served), 0);
}

static bool comes_true(bool (*condition)(void))
{
	for (int i = 0; i < 5000 && !condition(); i++)
		(void)usleep(1000);
	return condition();
}

static bool is_polling(void)
{
	return atomic_load(&poller.poller) != 0;
}

static bool is_over(void)
{
	return atomic_load(&poller.poller) == 0 && atomic_load(&poller.parked) == 0;
}

START_TEST(some_small_requests_change_nothing)
{
	walk(32, FUSE_READDIRPLUS);
	ck_assert(!is_polling());
}
END_TEST

START_TEST(a_walk_is_polled_and_ends_by_itself)
{
	bool polled = false;

	for (int i = 0; i < 1000 && !polled; i++) {
		walk(16, FUSE_READDIRPLUS);
		polled = is_polling();
	}
	ck_assert(polled);
	ck_assert(comes_true(is_over));
}
END_TEST

START_TEST(a_read_ends_the_polling_at_once)
{
	bool polled = false;

	for (int i = 0; i < 1000 && !polled; i++) {
		walk(16, FUSE_LOOKUP);
		polled = is_polling();
	}
	ck_assert(polled);
	walk(1, FUSE_READ);
	ck_assert(!is_polling());
}
END_TEST

START_TEST(reads_between_small_requests_are_no_walk)
{
	for (int i = 0; i < 100; i++) {
		walk(20, FUSE_READDIR);
		walk(1, FUSE_READ);
		ck_assert(!is_polling());
	}
}
END_TEST

START_TEST(a_name_in_the_root_is_not_small)
{
	for (int i = 0; i < 200; i++) {
		send_request(FUSE_LOOKUP, FUSE_ROOT_ID);
		wait_for_answer();
	}
	ck_assert(!is_polling());
}
END_TEST

START_TEST(every_request_is_answered_once_whatever_comes)
{
	static const uint32_t opcodes[] = { FUSE_READDIRPLUS, FUSE_LOOKUP, FUSE_FORGET };
	unsigned int sent = 0;
	unsigned int sum = 0;

	for (unsigned int round = 0; round < 150; round++) {
		unsigned int count = round * 7 % 130;
		unsigned int burst = round * 5 % 13;

		walk(count, opcodes[round % ARRAY_LEN(opcodes)]);
		for (unsigned int i = 0; i < burst; i++)
			send_request(i % 3 == 0 ? FUSE_READ : FUSE_READDIR, 2);
		for (unsigned int i = 0; i < burst; i++)
			wait_for_answer();
		sent += count + burst;
		if (round % 16 == 0)
			(void)usleep(2000);
	}
	for (int i = 0; i < WORKERS; i++)
		sum += atomic_load(&answered[i]);
	ck_assert_uint_eq(sum, sent);
}
END_TEST

static TCase *busy_poll_case(void)
{
	TCase *t = tcase_create("busy_poll");

	tcase_add_checked_fixture(t, start, stop);
	tcase_add_test(t, some_small_requests_change_nothing);
	tcase_add_test(t, a_walk_is_polled_and_ends_by_itself);
	tcase_add_test(t, a_read_ends_the_polling_at_once);
	tcase_add_test(t, reads_between_small_requests_are_no_walk);
	tcase_add_test(t, a_name_in_the_root_is_not_small);
	tcase_add_test(t, every_request_is_answered_once_whatever_comes);
	return t;
}

UNIT_MAIN("busy_poll", busy_poll_case)
