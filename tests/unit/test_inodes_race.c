/*
 * Many threads open, close, ask for, pin and evict the same few inodes, while the limit
 * goes up and down and files fail to be made. The rules are checked at each step by
 * fake_inodes.c; in the end everything is answered, closed and accounted for.
 */
#include "fake_inodes.h"

#include <errno.h>

#include "unit.h"

#define THREADS    6
#define HELD       4u /* opens of one thread at a time */
#define MOST_LIMIT (20 * FAKE_MIB)

struct client {
	pthread_t thread;
	unsigned int seed;
	const atomic_bool *stop;
	unsigned int passed;
	unsigned int streamed;
	struct fake_open *held[HELD];
};

/* A generator of its own for each thread: a race is not to be ordered by a lock of
 * rand(). */
static unsigned int draw(unsigned int *seed, unsigned int below)
{
	*seed = *seed * 1103515245u + 12345u;
	return (*seed >> 16) % below;
}

static struct node some_node(unsigned int *seed)
{
	return fake_node(draw(seed, FAKE_TENSORS), (enum view)draw(seed, VIEW_COUNT));
}

static void close_held(struct client *c, unsigned int i)
{
	int id = fake_close(c->held[i]);

	c->held[i] = NULL;
	if (id < 0)
		fake_blame("an open failed");
	else if (id > 0)
		c->passed++;
	else
		c->streamed++;
}

static void open_or_close(struct client *c)
{
	unsigned int i = draw(&c->seed, HELD);

	if (c->held[i]) {
		if (draw(&c->seed, 4) == 0)
			fake_interrupt(c->held[i]);
		close_held(c, i);
	} else {
		c->held[i] = fake_open(some_node(&c->seed));
	}
}

static void check_request(int r)
{
	if (r != 0 && r != -EBUSY && r != -ENOSPC && r != -EOPNOTSUPP)
		fake_blame("a request gave another error");
}

static void check_evict(int r)
{
	if (r != 0 && r != -EBUSY)
		fake_blame("evicting gave another error");
}

static void do_something(struct client *c)
{
	struct inodes *inodes = fake_inodes();
	struct node node = some_node(&c->seed);

	switch (draw(&c->seed, 10)) {
	case 0:
		check_request(inodes_request(inodes, node, FILL_PREDICTED));
		break;
	case 1:
		check_request(inodes_request(inodes, node, FILL_ASKED));
		break;
	case 2:
		if (inodes_pin(inodes, node, draw(&c->seed, 4) == 0) != 0)
			fake_blame("pinning failed");
		break;
	case 3:
		check_evict(inodes_evict(inodes, node));
		break;
	case 4:
		(void)inodes_backing_name(inodes, node);
		break;
	case 5:
		fake_drop(fake_open_called_off(node));
		break;
	default:
		open_or_close(c);
		break;
	}
}

static void *run_client(void *argument)
{
	struct client *c = argument;

	while (!atomic_load(c->stop))
		do_something(c);
	for (unsigned int i = 0; i < HELD; i++)
		if (c->held[i])
			close_held(c, i);
	return NULL;
}

/* Only this thread changes the limit: while it stays, what is above it only shrinks. */
static void change_limit(unsigned int *seed)
{
	uint64_t limit = draw(seed, 2) ? MOST_LIMIT : draw(seed, 20) * FAKE_MIB;
	uint64_t before;

	(void)inodes_set_limit(fake_inodes(), limit);
	before = fake_summary().used;
	for (int i = 0; i < 50; i++) {
		struct inodes_summary now = fake_summary();

		if (now.used > now.limit && now.used > before)
			fake_blame("something was added above the limit");
		if (now.used > MOST_LIMIT)
			fake_blame("more is used than there ever was");
		before = now.used > limit ? now.used : limit;
	}
	if (draw(seed, 3) == 0)
		(void)inodes_shrink(fake_inodes(), draw(seed, 20) * FAKE_MIB);
}

static void race(enum backing_choice backing, unsigned int fill_threads, double seconds)
{
	atomic_bool stop = false;
	struct client clients[THREADS] = { 0 };
	struct timespec end;
	struct timespec now;
	unsigned int seed = 7;
	unsigned int passed = 0;
	unsigned int streamed = 0;

	ck_assert_int_eq(inodes_start(fake_inodes(), fill_threads), 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		clients[i].seed = i + 1 + (unsigned int)backing * 100;
		clients[i].stop = &stop;
		ck_assert_int_eq(pthread_create(&clients[i].thread, NULL, run_client,
						&clients[i]),
				 0);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)seconds;
	do {
		change_limit(&seed);
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec ||
		 (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(clients[i].thread, NULL), 0);
		passed += clients[i].passed;
		streamed += clients[i].streamed;
	}
	ck_assert_uint_gt(passed, 100);
	ck_assert_uint_gt(streamed, 100);
}

/* An open that was called off counts until after its answer, in a thread of the inodes.
 * One that counts for ever is ended by the timeout. */
static void evict_soon(struct node node)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	int r;

	while ((r = inodes_evict(fake_inodes(), node)) == -EBUSY)
		(void)nanosleep(&pause, NULL);
	ck_assert_int_eq(r, 0);
}

/* Everything is closed: what is left is what the files take that are ready. */
static void expect_accounted(enum backing_choice backing)
{
	struct inodes_summary sums;

	fake_wait_quiet();
	sums = fake_summary();
	ck_assert_uint_eq(sums.by[BACKING_RESIDENT].files + sums.by[BACKING_CLONE].files,
			  fake_files());
	ck_assert_uint_gt(sums.by[backing].made, 100);
	ck_assert_uint_gt(sums.by[backing].failed, 0);
	for (uint32_t i = 0; i < FAKE_TENSORS; i++) {
		for (unsigned int view = 0; view < VIEW_COUNT; view++) {
			const struct node node = fake_node(i, (enum view)view);

			ck_assert_int_eq(inodes_pin(fake_inodes(), node, false), 0);
			evict_soon(node);
		}
	}
	sums = fake_summary();
	ck_assert_uint_eq(sums.used, 0);
	ck_assert_uint_eq(sums.pinned, 0);
	ck_assert_uint_eq(fake_files(), 0);
}

static const struct fake_errors some_errors = { .make = -EIO,
						.register_file = -ENOMEM,
						.every = 13 };

START_TEST(racing_clients_of_resident_files_find_every_rule_kept)
{
	fake_start(BACKING_RESIDENT, MOST_LIMIT, 0);
	fake_set_errors(some_errors);
	race(BACKING_RESIDENT, 3, 3);
	expect_accounted(BACKING_RESIDENT);
	fake_stop();
}
END_TEST

START_TEST(racing_clients_of_clones_and_resident_files_find_every_rule_kept)
{
	fake_start(BACKING_AUTO, MOST_LIMIT, 6);
	fake_set_errors(some_errors);
	race(BACKING_AUTO, 2, 3);
	expect_accounted(BACKING_CLONE);
	fake_stop();
}
END_TEST

START_TEST(the_end_may_come_in_the_middle)
{
	for (int i = 0; i < 20; i++) {
		struct fake_open *opens[FAKE_TENSORS];

		fake_start(BACKING_RESIDENT, MOST_LIMIT, 0);
		ck_assert_int_eq(inodes_start(fake_inodes(), 2), 0);
		for (uint32_t t = 0; t < FAKE_TENSORS; t++)
			opens[t] = fake_open(fake_node(t, VIEW_RAW));
		fake_stop();
		for (uint32_t t = 0; t < FAKE_TENSORS; t++)
			fake_drop(opens[t]);
	}
}
END_TEST

static TCase *race_case(void)
{
	TCase *tcase = tcase_create("race");

	tcase_add_test(tcase, racing_clients_of_resident_files_find_every_rule_kept);
	tcase_add_test(tcase,
		       racing_clients_of_clones_and_resident_files_find_every_rule_kept);
	tcase_add_test(tcase, the_end_may_come_in_the_middle);
	return tcase;
}

UNIT_MAIN("inodes_race", race_case)
