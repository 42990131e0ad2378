#include "push.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "push_state.h"
#include "thread.h"
#include "util/errtext.h"
#include "util/log.h"

/* How often the thread looks at a reader: what may be ahead of it takes longer. Without
 * news it waits to be woken, or for a reader to have been away for too long. */
#define MOMENT_MS  1
#define DORMANT_MS 50

static uint64_t readahead_of(const struct push *p)
{
	return atomic_load_explicit(&p->fs->readahead_bytes, memory_order_relaxed);
}

uint64_t push_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void push_pause(struct push *p)
{
	p->paused_ns = push_now_ns() + PUSH_PAUSE_NS;
}

/* ---- What others note ---- */

static void wake(struct push *p)
{
	const uint64_t one = 1;

	if (atomic_exchange(&p->asleep, false) &&
	    write(p->wake_event, &one, sizeof(one)) < 0)
		log_debug("%s: wake: %s", p->fs->mountpoint, errtext(errno));
}

void push_note_read(struct push *push, struct node node, uint64_t offset, uint64_t size)
{
	if (readahead_of(push) > 0 &&
	    readers_note(&push->readers, layout_ino(node), offset, size) &&
	    atomic_load(&push->asleep))
		wake(push);
}

static bool is_asked(const struct push *p, struct node node)
{
	uint64_t ino = layout_ino(node);

	for (unsigned int i = 0; i < p->asked_count; i++)
		if (layout_ino(p->asked[(p->first_asked + i) % PUSH_ASKED_MAX]) == ino)
			return true;
	return false;
}

int push_ask(struct push *push, struct node node)
{
	int r = 0;

	if (readahead_of(push) == 0)
		return -ENOTSUP;
	(void)pthread_mutex_lock(&push->lock);
	if (is_asked(push, node))
		r = -EALREADY;
	else if (push->asked_count == PUSH_ASKED_MAX)
		r = -ENOSPC;
	else
		push->asked[(push->first_asked + push->asked_count++) % PUSH_ASKED_MAX] =
			node;
	(void)pthread_mutex_unlock(&push->lock);
	if (r == 0)
		wake(push);
	return r;
}

/* ---- The thread ---- */

/* The one that was asked for first; false where there is none. */
static bool next_asked(struct push *p, struct node *node)
{
	bool found;

	(void)pthread_mutex_lock(&p->lock);
	found = p->asked_count > 0;
	if (found) {
		*node = p->asked[p->first_asked];
		p->first_asked = (p->first_asked + 1) % PUSH_ASKED_MAX;
		p->asked_count--;
	}
	(void)pthread_mutex_unlock(&p->lock);
	return found;
}

/* The rest waits until some of these were read, or have not been for too long. */
static void take_asked(struct push *p)
{
	struct node node;

	while (push_can_expect(p) && next_asked(p, &node))
		push_expect(p, node);
}

static enum push_turn take_turns(struct push *p, bool awaited)
{
	enum push_turn most = TURN_NOTHING;

	for (unsigned int i = 0; i < READERS_MAX; i++) {
		enum push_turn turn = push_take_turn(p, i, awaited);

		if (turn > most)
			most = turn;
	}
	return most;
}

static enum push_turn work(struct push *p)
{
	enum push_turn turn;
	enum push_turn other;

	readers_tune(&p->readers, push_margin(p), push_evidence(p));
	take_asked(p);
	turn = take_turns(p, false);
	if (turn == TURN_STORED)
		return turn;
	other = take_turns(p, true);
	return other > turn ? other : turn;
}

static void *run(void *argument)
{
	static const int timeouts_ms[] = {
		[TURN_NOTHING] = -1,
		[TURN_DORMANT] = DORMANT_MS,
		[TURN_WAITS] = MOMENT_MS,
		[TURN_STORED] = 0,
	};
	struct push *p = argument;
	struct pollfd fds[2 + MEMORY_EVENTS] = {
		{ .fd = p->stop_event, .events = POLLIN },
		{ .fd = p->wake_event, .events = POLLIN },
	};

	memory_poll_events(p->memory_events, fds + 2);
	for (;;) {
		enum push_turn turn = work(p);
		uint64_t count;

		/* It says that it sleeps and then looks again; who notes something does
		 * it the other way round, so one of the two sees the other. */
		if (turn <= TURN_DORMANT) {
			atomic_store(&p->asleep, true);
			turn = work(p);
		}
		if (poll(fds, turn == TURN_NOTHING ? 2 : ARRAY_LEN(fds),
			 timeouts_ms[turn]) < 0 &&
		    errno != EINTR)
			return NULL;
		atomic_store(&p->asleep, false);
		if (fds[0].revents)
			return NULL;
		if (fds[1].revents && read(p->wake_event, &count, sizeof(count)) < 0)
			return NULL;
		if (turn != TURN_NOTHING && memory_take_events(fds + 2))
			push_heed_memory(p);
	}
}

/* ---- Life ---- */

int push_new(struct weightfs *fs, struct push **push)
{
	struct push *p = NULL;
	int r = -ENOMEM;

	if (posix_memalign((void **)&p, _Alignof(struct push), sizeof(*p)) != 0)
		return r;
	memset(p, 0, sizeof(*p));
	p->fs = fs;
	p->unmeasured = UINT64_MAX / 2; /* It was not looked at yet. */
	readers_tune(&p->readers, push_margin(p), push_evidence(p));
	(void)pthread_mutex_init(&p->lock, NULL);
	p->stop_event = eventfd(0, EFD_CLOEXEC);
	p->wake_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	memory_open_events(&memory_system_roots, p->memory_events);
	r = memory_open(&memory_system_roots, &p->memory);
	if (r == 0 && (p->stop_event < 0 || p->wake_event < 0))
		r = -EMFILE;
	if (r < 0) {
		push_free(p);
		return r;
	}
	*push = p;
	return 0;
}

int push_start(struct push *push, struct fuse_session *session, struct watch *watch)
{
	int r;

	push->session = session;
	push->watch = watch;
	r = thread_start(&push->thread, run, push);
	push->started = r == 0;
	return r;
}

void push_halt(struct push *push)
{
	if (push)
		atomic_store(&push->halted, true);
}

void push_stop(struct push *push)
{
	if (!push || !push->started)
		return;
	push_halt(push);
	thread_stop(push->thread, push->stop_event);
	push->started = false;
}

void push_free(struct push *push)
{
	if (!push)
		return;
	push_stop(push);
	close_fd(&push->stop_event);
	close_fd(&push->wake_event);
	for (unsigned int i = 0; i < MEMORY_EVENTS; i++)
		close_fd(&push->memory_events[i]);
	memory_close(push->memory);
	(void)pthread_mutex_destroy(&push->lock);
	free(push);
}

void push_summarise(const struct push *push, struct push_summary *summary)
{
	*summary = (struct push_summary){
		.readers = atomic_load(&push->reader_count),
		.pushed_bytes = atomic_load(&push->pushed_bytes),
		.used_bytes = atomic_load(&push->used_bytes),
		.unused_bytes = atomic_load(&push->unused_bytes),
	};
}
