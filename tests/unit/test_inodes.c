/* The states of inodes: what opens, requests, limits and failures do to them. */
#include "fake_inodes.h"

#include <errno.h>
#include <fcntl.h>

#include "unit.h"

#define NO_LIMIT    (1000 * FAKE_MIB)
#define MANY_CLONES 1000u

static struct node raw(uint32_t tensor)
{
	return fake_node(tensor, VIEW_RAW);
}

static struct node npy(uint32_t tensor)
{
	return fake_node(tensor, VIEW_NPY);
}

static void start_threads(unsigned int count)
{
	ck_assert_int_eq(inodes_start(fake_inodes(), count), 0);
}

static void start_resident(uint64_t limit, unsigned int threads)
{
	fake_start(BACKING_RESIDENT, limit, MANY_CLONES);
	start_threads(threads);
}

static void expect_backing(struct node node, const char *name)
{
	ck_assert_str_eq(inodes_backing_name(fake_inodes(), node), name);
}

static int request(struct node node, enum fill_priority priority)
{
	return inodes_request(fake_inodes(), node, priority);
}

/* Opens and closes. */
static int visit(struct node node)
{
	return fake_close(fake_open(node));
}

static void make_ready(struct node node)
{
	ck_assert_int_eq(request(node, FILL_ASKED), 0);
	fake_wait_quiet();
	expect_backing(node, "resident");
}

static struct backing_sums resident(void)
{
	return fake_summary().by[BACKING_RESIDENT];
}

static struct backing_sums clones(void)
{
	return fake_summary().by[BACKING_CLONE];
}

/* ---- Opening ---- */

START_TEST(a_small_tensor_is_streamed)
{
	start_resident(NO_LIMIT, 1);
	ck_assert_int_eq(visit(raw(0)), 0);
	expect_backing(raw(0), "stream");
	ck_assert_int_eq(request(raw(0), FILL_ASKED), -EOPNOTSUPP);
	ck_assert_uint_eq(fake_summary().by[BACKING_STREAM].opens, 1);
	fake_stop();
}
END_TEST

START_TEST(an_open_waits_for_its_file_and_is_passed_through_to_it)
{
	struct fake_open *open;

	start_resident(NO_LIMIT, 1);
	fake_hold(true);
	open = fake_open(raw(1));
	fake_wait_begun(1);
	ck_assert(!fake_is_answered(open));
	expect_backing(raw(1), "stream");
	ck_assert_uint_eq(fake_summary().used, FAKE_MIB);
	ck_assert_uint_eq(fake_summary().queued, 1);
	fake_hold(false);
	ck_assert_int_gt(fake_close(open), 0);
	expect_backing(raw(1), "resident");
	ck_assert_uint_eq(resident().opens, 1);
	ck_assert_uint_eq(resident().tensors, 1);
	ck_assert_uint_eq(resident().tensor_bytes, FAKE_MIB);
	ck_assert_uint_eq(resident().made_bytes, FAKE_MIB);
	fake_stop();
}
END_TEST

START_TEST(all_who_wait_get_the_same_file_and_views_get_their_own)
{
	struct fake_open *opens[4];
	int id;

	start_resident(NO_LIMIT, 2);
	fake_hold(true);
	for (size_t i = 0; i < 3; i++)
		opens[i] = fake_open(raw(1));
	opens[3] = fake_open(npy(1));
	fake_wait_begun(2);
	fake_hold(false);
	id = fake_close(opens[0]);
	ck_assert_int_gt(id, 0);
	ck_assert_int_eq(fake_close(opens[1]), id);
	ck_assert_int_eq(fake_close(opens[2]), id);
	ck_assert_int_ne(fake_close(opens[3]), id);
	ck_assert_uint_eq(resident().files, 2);
	ck_assert_uint_eq(resident().tensors, 1);
	fake_stop();
}
END_TEST

/* With numa=mirror; what one has says nothing of the other. */
START_TEST(the_file_of_another_memory_node_is_another_file)
{
	struct node copy = raw(1);
	struct fake_open *open;
	int id;

	copy.copy = 1;
	start_resident(NO_LIMIT, 1);
	make_ready(copy);
	expect_backing(raw(1), "stream");
	ck_assert_uint_eq(resident().files, 1);
	/* The tensor counts as what the main tree has. */
	ck_assert_uint_eq(resident().tensors, 0);
	id = visit(copy);
	ck_assert_int_gt(id, 0);
	open = fake_open(raw(1));
	ck_assert_int_eq(inodes_evict(fake_inodes(), copy), 0);
	fake_wait_answer(open);
	ck_assert_int_ne(fake_close(open), 0);
	expect_backing(raw(1), "resident");
	expect_backing(copy, "stream");
	ck_assert_uint_eq(fake_summary().used, FAKE_MIB);
	ck_assert_uint_eq(resident().tensors, 1);
	fake_stop();
}
END_TEST

START_TEST(a_file_that_was_borrowed_outlives_its_inode)
{
	int fd;

	start_resident(NO_LIMIT, 1);
	ck_assert_int_eq(inodes_borrow(fake_inodes(), raw(1), BACKING_RESIDENT), -ENOENT);
	make_ready(raw(1));
	ck_assert_int_eq(inodes_borrow(fake_inodes(), npy(1), BACKING_RESIDENT), -ENOENT);
	fd = inodes_borrow(fake_inodes(), raw(1), BACKING_RESIDENT);
	ck_assert_int_ge(fd, 0);
	/* It does not count as open. */
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(1)), 0);
	ck_assert_int_eq(inodes_borrow(fake_inodes(), raw(1), BACKING_RESIDENT), -ENOENT);
	ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
	(void)close(fd);
	fake_stop();
}
END_TEST

START_TEST(a_ready_file_is_used_again)
{
	int id;

	start_resident(NO_LIMIT, 1);
	id = visit(raw(1));
	ck_assert_int_eq(visit(raw(1)), id);
	ck_assert_uint_eq(resident().made, 1);
	fake_stop();
}
END_TEST

START_TEST(what_is_open_by_stream_stays_so_until_it_is_closed)
{
	struct fake_open *first;
	struct fake_open *second;

	fake_start(BACKING_AUTO, NO_LIMIT, 0);
	start_threads(1);
	first = fake_open(raw(2));
	ck_assert_int_eq(request(raw(2), FILL_ASKED), -EBUSY);
	second = fake_open(raw(2));
	ck_assert_int_eq(fake_close(first), 0);
	ck_assert_int_eq(request(raw(2), FILL_ASKED), -EBUSY);
	ck_assert_int_eq(fake_close(second), 0);
	make_ready(raw(2));
	ck_assert_int_gt(visit(raw(2)), 0);
	fake_stop();
}
END_TEST

START_TEST(with_stream_nothing_is_made_by_an_open)
{
	fake_start(BACKING_STREAM, NO_LIMIT, MANY_CLONES);
	ck_assert_int_eq(visit(npy(8)), 0);
	ck_assert_uint_eq(fake_files(), 0);
	fake_stop();
}
END_TEST

START_TEST(an_open_that_was_called_off_does_not_count)
{
	start_resident(NO_LIMIT, 1);
	make_ready(raw(1));
	fake_drop(fake_open_called_off(raw(1)));
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(1)), 0);
	ck_assert_uint_eq(fake_files(), 0);
	fake_drop(fake_open_called_off(raw(0)));
	fake_stop();
}
END_TEST

START_TEST(a_signal_ends_the_waiting_and_the_file_is_made_all_the_same)
{
	struct fake_open *first;
	struct fake_open *second;

	start_resident(NO_LIMIT, 1);
	fake_hold(true);
	first = fake_open(raw(1));
	second = fake_open(raw(1));
	fake_wait_begun(1);
	fake_interrupt(first);
	ck_assert(fake_is_answered(first));
	ck_assert(!fake_is_answered(second));
	fake_hold(false);
	/* Those who are open beside a stream are streams. */
	ck_assert_int_eq(fake_close(second), 0);
	ck_assert_int_eq(visit(raw(1)), 0);
	fake_interrupt(first);
	ck_assert_int_eq(fake_close(first), 0);
	ck_assert_int_gt(visit(raw(1)), 0);
	ck_assert_uint_eq(resident().made, 1);
	fake_stop();
}
END_TEST

START_TEST(a_signal_before_the_waiting_is_not_lost)
{
	start_resident(NO_LIMIT, 1);
	ck_assert_int_eq(fake_close(fake_open_interrupted(raw(1))), 0);
	ck_assert_uint_eq(fake_begun(1), 0);
	fake_stop();
}
END_TEST

START_TEST(what_is_predicted_and_queued_can_be_withdrawn_but_not_what_is_wanted)
{
	struct fake_open *open;

	fake_start(BACKING_AUTO, NO_LIMIT, 0);
	ck_assert_int_eq(request(raw(1), FILL_PREDICTED), 0);
	ck_assert_int_eq(request(raw(2), FILL_ASKED), 0);
	ck_assert_int_eq(request(raw(3), FILL_PREDICTED), 0);
	open = fake_open(raw(3));
	for (uint32_t i = 0; i < 5; i++)
		inodes_withdraw(fake_inodes(), raw(i));
	ck_assert_int_eq((int)inodes_state(fake_inodes(), raw(1)), INODE_IDLE);
	ck_assert_int_eq((int)inodes_state(fake_inodes(), raw(2)), INODE_QUEUED);
	ck_assert_int_eq((int)inodes_state(fake_inodes(), raw(3)), INODE_QUEUED);
	ck_assert_uint_eq(fake_summary().queued, 2);
	start_threads(2);
	ck_assert_int_gt(fake_close(open), 0);
	fake_wait_quiet();
	inodes_withdraw(fake_inodes(), raw(2));
	ck_assert_int_eq((int)inodes_state(fake_inodes(), raw(2)), INODE_READY);
	fake_stop();
}
END_TEST

/* ---- Failures ---- */

START_TEST(who_waits_for_a_file_that_cannot_be_made_is_streamed)
{
	struct fake_open *opens[2];

	start_resident(NO_LIMIT, 1);
	fake_set_errors((struct fake_errors){ .make = -EIO });
	fake_hold(true);
	opens[0] = fake_open(raw(1));
	opens[1] = fake_open(raw(1));
	fake_hold(false);
	ck_assert_int_eq(fake_close(opens[0]), 0);
	ck_assert_int_eq(fake_close(opens[1]), 0);
	ck_assert_uint_eq(resident().failed, 1);
	ck_assert_uint_eq(fake_summary().used, 0);
	ck_assert_uint_eq(fake_summary().queued, 0);
	fake_set_errors((struct fake_errors){ 0 });
	ck_assert_int_gt(visit(raw(1)), 0);
	fake_stop();
}
END_TEST

START_TEST(a_file_that_the_kernel_has_no_room_for_is_closed_and_tried_again)
{
	start_resident(NO_LIMIT, 1);
	fake_set_errors((struct fake_errors){ .register_file = -ENOMEM });
	ck_assert_int_eq(visit(raw(1)), 0);
	ck_assert_uint_eq(fake_files(), 0);
	ck_assert_uint_eq(fake_summary().used, 0);
	fake_set_errors((struct fake_errors){ 0 });
	ck_assert_int_gt(visit(raw(1)), 0);
	fake_stop();
}
END_TEST

START_TEST(a_kind_of_file_that_the_kernel_refuses_is_not_made_again)
{
	start_resident(NO_LIMIT, 1);
	fake_set_errors((struct fake_errors){ .register_file = -ELOOP });
	ck_assert_int_eq(visit(raw(1)), 0);
	fake_set_errors((struct fake_errors){ 0 });
	ck_assert_int_eq(visit(raw(1)), 0);
	ck_assert_int_eq(visit(raw(2)), 0);
	ck_assert_int_eq(request(raw(2), FILL_ASKED), -EOPNOTSUPP);
	ck_assert_uint_eq(resident().failed, 1);
	ck_assert_uint_eq(fake_begun(2), 0);
	fake_stop();
}
END_TEST

/* ---- Clones ---- */

START_TEST(what_the_kernel_refuses_beforehand_is_never_made)
{
	fake_start(BACKING_CLONE, NO_LIMIT, MANY_CLONES);
	ck_assert(!inodes_refuse(fake_inodes(), BACKING_CLONE, -ENOMEM));
	ck_assert_int_eq(clones().refused, 0);
	ck_assert(inodes_refuse(fake_inodes(), BACKING_CLONE, -ELOOP));
	ck_assert_int_eq(clones().refused, -ELOOP);
	ck_assert_int_eq(visit(npy(1)), 0);
	ck_assert_uint_eq(fake_files(), 0);
	ck_assert_uint_eq(clones().failed, 0);
	fake_stop();
}
END_TEST

START_TEST(a_clone_is_made_by_who_opens)
{
	fake_start(BACKING_CLONE, NO_LIMIT, MANY_CLONES);
	ck_assert_int_gt(visit(npy(1)), 0);
	ck_assert_uint_eq(fake_made_here(), 1);
	expect_backing(npy(1), "clone");
	ck_assert_int_eq(visit(raw(1)), 0);
	ck_assert_uint_eq(clones().files, 1);
	ck_assert_uint_eq(clones().tensors, 0);
	ck_assert_uint_eq(fake_summary().used, 0);
	fake_stop();
}
END_TEST

START_TEST(a_clone_that_fails_is_streamed)
{
	fake_start(BACKING_CLONE, NO_LIMIT, MANY_CLONES);
	fake_set_errors((struct fake_errors){ .make = -EOPNOTSUPP });
	ck_assert_int_eq(visit(npy(1)), 0);
	ck_assert_uint_eq(clones().failed, 1);
	fake_stop();
}
END_TEST

START_TEST(auto_clones_what_is_large_enough)
{
	fake_start(BACKING_AUTO, NO_LIMIT, MANY_CLONES);
	ck_assert_int_gt(visit(npy(1)), 0);
	ck_assert_int_eq(visit(npy(0)), 0);
	ck_assert_int_eq(visit(raw(1)), 0);
	fake_stop();
}
END_TEST

START_TEST(a_request_takes_the_place_of_a_closed_clone)
{
	fake_start(BACKING_AUTO, NO_LIMIT, MANY_CLONES);
	start_threads(1);
	ck_assert_int_gt(visit(npy(1)), 0);
	expect_backing(npy(1), "clone");
	make_ready(npy(1));
	ck_assert_int_gt(visit(npy(1)), 0);
	ck_assert_uint_eq(clones().files, 0);
	ck_assert_uint_eq(fake_files(), 1);
	fake_stop();
}
END_TEST

START_TEST(an_open_clone_stays)
{
	struct fake_open *open;

	fake_start(BACKING_AUTO, NO_LIMIT, MANY_CLONES);
	start_threads(1);
	open = fake_open(npy(1));
	ck_assert_int_eq(request(npy(1), FILL_ASKED), -EBUSY);
	expect_backing(npy(1), "clone");
	ck_assert_int_gt(fake_close(open), 0);
	fake_stop();
}
END_TEST

START_TEST(a_request_that_does_not_fit_leaves_the_clone)
{
	fake_start(BACKING_AUTO, FAKE_MIB, MANY_CLONES);
	(void)visit(npy(2));
	ck_assert_int_eq(request(npy(2), FILL_ASKED), -ENOSPC);
	expect_backing(npy(2), "clone");
	fake_stop();
}
END_TEST

START_TEST(clones_beyond_their_number_take_the_place_of_the_oldest)
{
	struct fake_open *opens[2];

	fake_start(BACKING_CLONE, NO_LIMIT, 2);
	(void)visit(npy(1));
	(void)visit(npy(2));
	(void)visit(npy(1));
	(void)visit(npy(3));
	expect_backing(npy(1), "clone");
	expect_backing(npy(2), "stream");
	expect_backing(npy(3), "clone");
	ck_assert_uint_eq(clones().evicted, 1);
	opens[0] = fake_open(npy(1));
	opens[1] = fake_open(npy(3));
	ck_assert_int_eq(visit(npy(4)), 0);
	(void)fake_close(opens[0]);
	(void)fake_close(opens[1]);
	ck_assert_int_gt(visit(npy(4)), 0);
	fake_stop();
}
END_TEST

START_TEST(memory_is_not_made_by_giving_up_clones)
{
	fake_start(BACKING_AUTO, 4 * FAKE_MIB, MANY_CLONES);
	start_threads(1);
	(void)visit(npy(1));
	make_ready(raw(2));
	ck_assert_uint_eq(inodes_shrink(fake_inodes(), 4 * FAKE_MIB), 2 * FAKE_MIB);
	expect_backing(npy(1), "clone");
	expect_backing(raw(2), "stream");
	fake_stop();
}
END_TEST

/* ---- Room ---- */

START_TEST(the_file_that_was_used_longest_ago_makes_room)
{
	start_resident(5 * FAKE_MIB, 1);
	(void)visit(raw(2));
	(void)visit(raw(3));
	(void)visit(raw(2));
	ck_assert_int_gt(visit(raw(1)), 0);
	expect_backing(raw(2), "resident");
	expect_backing(raw(3), "stream");
	ck_assert_uint_eq(fake_summary().used, 3 * FAKE_MIB);
	ck_assert_uint_eq(resident().evicted, 1);
	fake_stop();
}
END_TEST

START_TEST(what_is_open_or_pinned_is_not_evicted)
{
	struct fake_open *open;

	start_resident(3 * FAKE_MIB, 1);
	make_ready(raw(1));
	make_ready(raw(2));
	ck_assert_int_eq(inodes_pin(fake_inodes(), raw(1), true), 0);
	ck_assert_uint_eq(fake_summary().pinned, 1);
	open = fake_open(raw(2));
	ck_assert_int_eq(visit(raw(3)), 0);
	ck_assert_int_eq(request(raw(3), FILL_ASKED), -ENOSPC);
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(2)), -EBUSY);
	(void)fake_close(open);
	ck_assert_int_eq(visit(raw(3)), 0);
	ck_assert_int_eq(inodes_pin(fake_inodes(), raw(1), false), 0);
	ck_assert_uint_eq(fake_summary().pinned, 0);
	ck_assert_int_gt(visit(raw(3)), 0);
	fake_stop();
}
END_TEST

START_TEST(want_of_room_is_told_from_what_was_asked_for)
{
	start_resident(3 * FAKE_MIB, 1);
	make_ready(raw(1));
	make_ready(raw(2));
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(1)), 0);
	ck_assert_uint_eq(resident().evicted, 1);
	ck_assert_uint_eq(resident().evicted_for_room, 0);
	make_ready(raw(3));
	ck_assert_uint_eq(resident().evicted, 2);
	ck_assert_uint_eq(resident().evicted_for_room, 1);
	ck_assert_int_eq(request(raw(4), FILL_PREDICTED), -ENOSPC);
	ck_assert_uint_eq(resident().no_room, 0);
	ck_assert_int_eq(request(raw(4), FILL_ASKED), -ENOSPC);
	ck_assert_int_eq(visit(raw(4)), 0);
	inodes_count_no_room(fake_inodes());
	ck_assert_uint_eq(resident().no_room, 3);
	/* Less room than before is not what others took. */
	(void)inodes_set_limit(fake_inodes(), 0);
	ck_assert_uint_eq(resident().evicted, 3);
	ck_assert_uint_eq(resident().evicted_for_room, 1);
	fake_stop();
}
END_TEST

START_TEST(nothing_is_evicted_for_what_would_not_fit)
{
	start_resident(4 * FAKE_MIB, 1);
	make_ready(raw(1));
	make_ready(raw(2));
	ck_assert_int_eq(inodes_pin(fake_inodes(), raw(2), true), 0);
	ck_assert_int_eq(request(raw(3), FILL_ASKED), -ENOSPC);
	ck_assert_int_eq(request(raw(5), FILL_ASKED), -ENOSPC);
	expect_backing(raw(1), "resident");
	ck_assert_int_eq(inodes_pin(fake_inodes(), raw(2), false), 0);
	fake_stop();
}
END_TEST

START_TEST(a_pin_outlives_the_file)
{
	start_resident(3 * FAKE_MIB, 1);
	ck_assert_int_eq(inodes_pin(fake_inodes(), raw(2), true), 0);
	ck_assert_int_eq(inodes_pin(fake_inodes(), raw(2), true), 0);
	ck_assert_uint_eq(fake_summary().pinned, 1);
	make_ready(raw(2));
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(2)), 0);
	make_ready(raw(2));
	ck_assert_int_eq(visit(raw(3)), 0);
	expect_backing(raw(2), "resident");
	ck_assert_int_eq(inodes_pin(fake_inodes(), raw(1), false), 0);
	fake_stop();
}
END_TEST

START_TEST(evicting_what_has_no_file_is_fine)
{
	struct fake_open *open;

	fake_start(BACKING_STREAM, NO_LIMIT, 0);
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(1)), 0);
	open = fake_open(raw(1));
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(1)), 0);
	ck_assert_int_eq(fake_close(open), 0);
	fake_stop();
}
END_TEST

START_TEST(a_request_is_called_off_by_evicting)
{
	fake_start(BACKING_RESIDENT, NO_LIMIT, 0);
	ck_assert_int_eq(request(raw(1), FILL_ASKED), 0);
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(1)), 0);
	ck_assert_uint_eq(fake_summary().used, 0);
	ck_assert_uint_eq(fake_summary().queued, 0);
	start_threads(1);
	make_ready(raw(2));
	ck_assert_uint_eq(fake_begun(1), 0);
	fake_stop();
}
END_TEST

START_TEST(what_somebody_waits_for_is_not_called_off)
{
	struct fake_open *opens[2];

	start_resident(NO_LIMIT, 1);
	fake_hold(true);
	opens[0] = fake_open(raw(1));
	fake_wait_begun(1);
	opens[1] = fake_open(raw(2));
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(1)), -EBUSY);
	ck_assert_int_eq(inodes_evict(fake_inodes(), raw(2)), -EBUSY);
	ck_assert_uint_eq(inodes_set_limit(fake_inodes(), 0), 0);
	fake_hold(false);
	ck_assert_int_gt(fake_close(opens[0]), 0);
	ck_assert_int_gt(fake_close(opens[1]), 0);
	fake_stop();
}
END_TEST

START_TEST(shrinking_frees_as_much_as_was_asked_for)
{
	start_resident(10 * FAKE_MIB, 1);
	make_ready(raw(1));
	make_ready(raw(2));
	make_ready(raw(3));
	ck_assert_uint_eq(inodes_shrink(fake_inodes(), 4 * FAKE_MIB), 0);
	ck_assert_uint_eq(inodes_shrink(fake_inodes(), 6 * FAKE_MIB), 3 * FAKE_MIB);
	expect_backing(raw(3), "resident");
	fake_hold(true);
	ck_assert_int_eq(request(raw(4), FILL_ASKED), 0);
	fake_wait_begun(4);
	ck_assert_uint_eq(inodes_shrink(fake_inodes(), 100 * FAKE_MIB), 3 * FAKE_MIB);
	ck_assert_uint_eq(fake_summary().used, 4 * FAKE_MIB);
	fake_hold(false);
	fake_wait_quiet();
	expect_backing(raw(4), "resident");
	fake_stop();
}
END_TEST

START_TEST(a_lower_limit_evicts_and_calls_off)
{
	start_resident(20 * FAKE_MIB, 1);
	make_ready(raw(1));
	make_ready(raw(2));
	fake_hold(true);
	ck_assert_int_eq(request(raw(3), FILL_ASKED), 0);
	fake_wait_begun(3);
	ck_assert_int_eq(request(raw(4), FILL_ASKED), 0);
	ck_assert_int_eq(request(raw(5), FILL_PREDICTED), 0);
	ck_assert_uint_eq(inodes_set_limit(fake_inodes(), 7 * FAKE_MIB), 3 * FAKE_MIB);
	ck_assert_uint_eq(fake_summary().used, 7 * FAKE_MIB);
	ck_assert_uint_eq(fake_summary().limit, 7 * FAKE_MIB);
	fake_hold(false);
	fake_wait_quiet();
	expect_backing(raw(3), "resident");
	expect_backing(raw(4), "resident");
	ck_assert_uint_eq(fake_begun(5), 0);
	ck_assert_int_eq(request(raw(8), FILL_ASKED), -ENOSPC);
	ck_assert_uint_eq(inodes_set_limit(fake_inodes(), 20 * FAKE_MIB), 0);
	make_ready(raw(8));
	fake_stop();
}
END_TEST

START_TEST(nothing_is_added_above_a_lowered_limit)
{
	struct fake_open *open;

	start_resident(4 * FAKE_MIB, 1);
	open = fake_open(raw(3));
	fake_wait_answer(open);
	ck_assert_uint_eq(inodes_set_limit(fake_inodes(), 2 * FAKE_MIB), 0);
	ck_assert_uint_eq(fake_summary().used, 3 * FAKE_MIB);
	ck_assert_int_eq(visit(raw(1)), 0);
	ck_assert_int_gt(fake_close(open), 0);
	ck_assert_int_gt(visit(raw(1)), 0);
	ck_assert_uint_eq(fake_summary().used, FAKE_MIB);
	fake_stop();
}
END_TEST

/* ---- Queues ---- */

START_TEST(the_most_urgent_is_made_first)
{
	struct fake_open *open;

	fake_start(BACKING_RESIDENT, NO_LIMIT, 0);
	ck_assert_int_eq(request(raw(1), FILL_PREDICTED), 0);
	ck_assert_int_eq(request(raw(2), FILL_ASKED), 0);
	ck_assert_int_eq(request(raw(3), FILL_PREDICTED), 0);
	ck_assert_int_eq(request(raw(4), FILL_ASKED), 0);
	open = fake_open(raw(5));
	ck_assert_int_eq(request(raw(3), FILL_ASKED), 0);
	ck_assert_int_eq(request(raw(2), FILL_PREDICTED), 0);
	ck_assert_uint_eq(fake_summary().queued, 5);
	start_threads(1);
	ck_assert_int_gt(fake_close(open), 0);
	fake_wait_quiet();
	ck_assert_uint_eq(fake_begun(5), 1);
	ck_assert_uint_eq(fake_begun(2), 2);
	ck_assert_uint_eq(fake_begun(4), 3);
	ck_assert_uint_eq(fake_begun(3), 4);
	ck_assert_uint_eq(fake_begun(1), 5);
	ck_assert_uint_eq(resident().made, 5);
	fake_stop();
}
END_TEST

START_TEST(an_open_of_what_was_predicted_hurries_it)
{
	struct fake_open *open;

	fake_start(BACKING_AUTO, NO_LIMIT, 0);
	ck_assert_int_eq(request(raw(1), FILL_ASKED), 0);
	ck_assert_int_eq(request(raw(2), FILL_PREDICTED), 0);
	open = fake_open(raw(2));
	ck_assert(!fake_is_answered(open));
	start_threads(1);
	ck_assert_int_gt(fake_close(open), 0);
	ck_assert_uint_eq(fake_begun(2), 1);
	fake_wait_quiet();
	fake_stop();
}
END_TEST

START_TEST(predictions_leave_a_thread_for_opens)
{
	struct fake_open *open;

	fake_hold(true);
	start_resident(NO_LIMIT, 2);
	ck_assert_int_eq(request(raw(1), FILL_PREDICTED), 0);
	ck_assert_int_eq(request(raw(2), FILL_PREDICTED), 0);
	fake_wait_begun(1);
	open = fake_open(raw(3));
	fake_wait_begun(2);
	ck_assert_uint_eq(fake_begun(3), 2);
	ck_assert_uint_eq(fake_begun(2), 0);
	fake_hold(false);
	ck_assert_int_gt(fake_close(open), 0);
	fake_wait_quiet();
	expect_backing(raw(1), "resident");
	expect_backing(raw(2), "resident");
	fake_stop();
}
END_TEST

/* ---- The end ---- */

START_TEST(opens_that_wait_at_the_end_get_an_error)
{
	struct fake_open *begun;
	struct fake_open *queued;

	start_resident(NO_LIMIT, 1);
	fake_hold(true);
	begun = fake_open(raw(1));
	fake_wait_begun(1);
	queued = fake_open(raw(2));
	fake_stop();
	ck_assert_int_gt(begun->id, 0);
	ck_assert_int_eq(queued->err, EIO);
	fake_drop(begun);
	fake_drop(queued);
}
END_TEST

START_TEST(open_files_are_closed_at_the_end_and_closing_them_later_is_fine)
{
	struct fake_open *passed;
	struct fake_open *streamed;

	start_resident(NO_LIMIT, 1);
	passed = fake_open(raw(1));
	streamed = fake_open(raw(0));
	fake_wait_answer(passed);
	fake_end();
	ck_assert_uint_eq(fake_files(), 0);
	ck_assert_int_gt(fake_close(passed), 0);
	ck_assert_int_eq(fake_close(streamed), 0);
	fake_stop();
}
END_TEST

START_TEST(no_inodes_can_be_freed)
{
	inodes_shut(NULL);
	inodes_free(NULL);
}
END_TEST

static TCase *opens_case(void)
{
	TCase *tcase = tcase_create("opens");

	tcase_add_test(tcase, a_small_tensor_is_streamed);
	tcase_add_test(tcase, an_open_waits_for_its_file_and_is_passed_through_to_it);
	tcase_add_test(tcase, all_who_wait_get_the_same_file_and_views_get_their_own);
	tcase_add_test(tcase, the_file_of_another_memory_node_is_another_file);
	tcase_add_test(tcase, a_file_that_was_borrowed_outlives_its_inode);
	tcase_add_test(tcase, a_ready_file_is_used_again);
	tcase_add_test(tcase, what_is_open_by_stream_stays_so_until_it_is_closed);
	tcase_add_test(tcase, with_stream_nothing_is_made_by_an_open);
	tcase_add_test(tcase, an_open_that_was_called_off_does_not_count);
	tcase_add_test(tcase,
		       a_signal_ends_the_waiting_and_the_file_is_made_all_the_same);
	tcase_add_test(tcase, a_signal_before_the_waiting_is_not_lost);
	tcase_add_test(
		tcase,
		what_is_predicted_and_queued_can_be_withdrawn_but_not_what_is_wanted);
	tcase_add_test(tcase, who_waits_for_a_file_that_cannot_be_made_is_streamed);
	tcase_add_test(tcase,
		       a_file_that_the_kernel_has_no_room_for_is_closed_and_tried_again);
	tcase_add_test(tcase, a_kind_of_file_that_the_kernel_refuses_is_not_made_again);
	return tcase;
}

static TCase *clones_case(void)
{
	TCase *tcase = tcase_create("clones");

	tcase_add_test(tcase, what_the_kernel_refuses_beforehand_is_never_made);
	tcase_add_test(tcase, a_clone_is_made_by_who_opens);
	tcase_add_test(tcase, a_clone_that_fails_is_streamed);
	tcase_add_test(tcase, auto_clones_what_is_large_enough);
	tcase_add_test(tcase, a_request_takes_the_place_of_a_closed_clone);
	tcase_add_test(tcase, an_open_clone_stays);
	tcase_add_test(tcase, a_request_that_does_not_fit_leaves_the_clone);
	tcase_add_test(tcase, clones_beyond_their_number_take_the_place_of_the_oldest);
	tcase_add_test(tcase, memory_is_not_made_by_giving_up_clones);
	return tcase;
}

static TCase *room_case(void)
{
	TCase *tcase = tcase_create("room");

	tcase_add_test(tcase, the_file_that_was_used_longest_ago_makes_room);
	tcase_add_test(tcase, what_is_open_or_pinned_is_not_evicted);
	tcase_add_test(tcase, want_of_room_is_told_from_what_was_asked_for);
	tcase_add_test(tcase, nothing_is_evicted_for_what_would_not_fit);
	tcase_add_test(tcase, a_pin_outlives_the_file);
	tcase_add_test(tcase, evicting_what_has_no_file_is_fine);
	tcase_add_test(tcase, a_request_is_called_off_by_evicting);
	tcase_add_test(tcase, what_somebody_waits_for_is_not_called_off);
	tcase_add_test(tcase, shrinking_frees_as_much_as_was_asked_for);
	tcase_add_test(tcase, a_lower_limit_evicts_and_calls_off);
	tcase_add_test(tcase, nothing_is_added_above_a_lowered_limit);
	return tcase;
}

static TCase *order_case(void)
{
	TCase *tcase = tcase_create("order");

	tcase_add_test(tcase, the_most_urgent_is_made_first);
	tcase_add_test(tcase, an_open_of_what_was_predicted_hurries_it);
	tcase_add_test(tcase, predictions_leave_a_thread_for_opens);
	tcase_add_test(tcase, opens_that_wait_at_the_end_get_an_error);
	tcase_add_test(tcase,
		       open_files_are_closed_at_the_end_and_closing_them_later_is_fine);
	tcase_add_test(tcase, no_inodes_can_be_freed);
	return tcase;
}

UNIT_MAIN("inodes", opens_case, clones_case, room_case, order_case)
