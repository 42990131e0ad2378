#include "pressure.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "thread.h"
#include "util/errtext.h"
#include "util/log.h"
#include "util/size.h"

#define LOOK_MS 1000

/* The limit is raised once this many looks in a row have found enough, by a quarter of
 * what there is above twice the reserve, but at least this. */
#define QUIET_LOOKS 5u
#define LEAST_RAISE ((uint64_t)64 << 20)

/* Of the spare memory that a look has found, files may take one part of so many before
 * somebody looks again. */
#define CREDIT_PART 4

/* The kernel's counters lag behind by some pages for each processor. So a bit more is
 * given up than is missing. */
#define SLACK ((uint64_t)16 << 20)

/* More than any file has; sums with it do not overflow. */
#define MOST_BYTES ((uint64_t)INT64_MAX / 4)

struct pressure {
	struct pressure_setup setup;
	struct memory *memory;
	pthread_t thread;
	bool started;
	int stop_event;
	int wake_event;
	int memory_events[MEMORY_EVENTS];
	atomic_bool asleep; /* the thread has nothing to look after, and waits for it */

	atomic_int_fast64_t credit;    /* bytes that may be set aside without a look */
	atomic_uint_fast64_t promised; /* set aside and not settled: partly taken */

	/* One thread at a time makes room: two must not give up files for the same bytes.
	 * Taken before the lock of the inodes. */
	pthread_mutex_t lock; /* protects the rest */
	uint64_t limit;       /* in force; below setup.limit while memory is short */
	unsigned int quiet;   /* looks in a row that found enough */
	uint64_t events;
};

/* ---- Giving way ---- */

static void say_short(const struct pressure *p, uint64_t given)
{
	char given_text[SIZE_TEXT_MAX];
	char limit_text[SIZE_TEXT_MAX];

	(void)size_format(given, given_text);
	(void)size_format(p->limit, limit_text);
	if (given > 0)
		log_warning("%s: memory is short: gave up %s of resident tensors, keeps "
			    "at most %s until there is more",
			    p->setup.subject, given_text, limit_text);
	else
		log_warning("%s: memory is short: at most %s of resident tensors until "
			    "there is more",
			    p->setup.subject, limit_text);
}

/* Lowers the limit, so that `bytes` are given up if they can be. Returns what was. */
static uint64_t give_way(struct pressure *p, uint64_t bytes)
{
	uint64_t used = p->setup.files->used(p->setup.inodes);
	uint64_t limit = used > bytes ? used - bytes : 0;
	bool begins = p->limit == p->setup.limit;
	uint64_t given;

	p->quiet = 0;
	if (limit > p->limit)
		limit = p->limit;
	given = p->setup.files->set_limit(p->setup.inodes, limit);
	p->limit = limit;
	if (begins && limit < p->setup.limit) {
		p->events++;
		say_short(p, given);
	}
	return given;
}

static void raise_limit(struct pressure *p, const struct memory_room *room)
{
	uint64_t step = (uint64_t)(room->spare - (int64_t)room->reserve) / 4;
	uint64_t missing = p->setup.limit - p->limit;

	if (step < LEAST_RAISE)
		step = LEAST_RAISE;
	p->limit += step < missing ? step : missing;
	(void)p->setup.files->set_limit(p->setup.inodes, p->limit);
}

static void set_credit(struct pressure *p, int64_t spare)
{
	atomic_store(&p->credit, spare > 0 ? spare / CREDIT_PART : 0);
}

/* What is spare once all that was promised is taken. */
static int measure(struct pressure *p, struct memory_room *room)
{
	int r = memory_measure(p->memory, room);

	room->spare -= r < 0 ? 0 : (int64_t)atomic_load(&p->promised);
	return r;
}

void pressure_look(struct pressure *pressure, bool event)
{
	struct pressure *p = pressure;
	struct memory_room room = { .spare = 0 };
	int64_t spare;

	(void)pthread_mutex_lock(&p->lock);
	if (measure(p, &room) == 0) {
		/* An event need not be ours to answer: tasks of another container may
		 * wait at its own limit. So it only asks for more to be left. */
		spare = event ? room.spare - (int64_t)room.reserve : room.spare;
		if (spare < 0)
			(void)give_way(p, (uint64_t)-spare);
		else if (p->limit < p->setup.limit && !event)
			p->quiet = room.spare > (int64_t)room.reserve ? p->quiet + 1 : 0;
		if (p->quiet >= QUIET_LOOKS)
			raise_limit(p, &room);
		if (p->limit == p->setup.limit)
			p->quiet = 0;
		set_credit(p, room.spare);
	}
	(void)pthread_mutex_unlock(&p->lock);
}

/* ---- Making files ---- */

static bool take_credit(struct pressure *p, uint64_t bytes)
{
	int_fast64_t credit = atomic_load(&p->credit);

	do {
		if (credit < 0 || (uint64_t)credit < bytes)
			return false;
	} while (!atomic_compare_exchange_weak(&p->credit, &credit,
					       credit - (int_fast64_t)bytes));
	return true;
}

static uint64_t above_zero(uint64_t value, uint64_t less)
{
	return value > less ? value - less : 0;
}

/* Looks, gives way and looks again. Where one cannot look, the kernel has to say no. */
static bool find_room(struct pressure *p, uint64_t bytes)
{
	struct memory_room room = { .spare = 0 };
	int64_t missing = 0;

	for (unsigned int tries = 0; tries < 2; tries++) {
		uint64_t used = p->setup.files->used(p->setup.inodes);

		if (measure(p, &room) < 0)
			return true;
		missing = (int64_t)bytes - room.spare;
		if (missing <= 0) {
			set_credit(p, -missing);
			return true;
		}
		/* In vain where all that the others take would not do. */
		if ((uint64_t)missing > above_zero(used, bytes))
			return false;
		if (tries == 0 && give_way(p, (uint64_t)missing + SLACK) == 0)
			return false;
	}
	return false;
}

static void wake(struct pressure *p)
{
	const uint64_t one = 1;

	if (atomic_load(&p->asleep) && atomic_exchange(&p->asleep, false) &&
	    write(p->wake_event, &one, sizeof(one)) < 0)
		log_debug("%s: wake: %s", p->setup.subject, errtext(errno));
}

int pressure_admit(struct pressure *pressure, uint64_t bytes)
{
	bool found;

	if (!pressure)
		return 0;
	wake(pressure);
	if (bytes > MOST_BYTES)
		return -ENOMEM;
	found = take_credit(pressure, bytes);
	if (!found) {
		(void)pthread_mutex_lock(&pressure->lock);
		found = find_room(pressure, bytes);
		(void)pthread_mutex_unlock(&pressure->lock);
	}
	if (!found)
		return -ENOMEM;
	(void)atomic_fetch_add(&pressure->promised, bytes);
	return 0;
}

void pressure_settle(struct pressure *pressure, uint64_t bytes)
{
	if (pressure)
		(void)atomic_fetch_sub(&pressure->promised, bytes);
}

bool pressure_relieve(struct pressure *pressure, uint64_t bytes)
{
	uint64_t given;

	if (!pressure)
		return false;
	(void)pthread_mutex_lock(&pressure->lock);
	given = give_way(pressure, bytes);
	(void)pthread_mutex_unlock(&pressure->lock);
	return given > 0;
}

/* ---- The thread ---- */

static bool has_files(struct pressure *p)
{
	bool lowered;

	(void)pthread_mutex_lock(&p->lock);
	lowered = p->limit < p->setup.limit;
	(void)pthread_mutex_unlock(&p->lock);
	return lowered || p->setup.files->used(p->setup.inodes) > 0;
}

/* Whether there is something to look after. If not, the next file wakes the thread. */
static bool stay_awake(struct pressure *p)
{
	if (has_files(p))
		return true;
	atomic_store(&p->asleep, true);
	return has_files(p);
}

static void *run_looks(void *argument)
{
	struct pressure *p = argument;
	struct pollfd fds[2 + MEMORY_EVENTS] = {
		{ .fd = p->stop_event, .events = POLLIN },
		{ .fd = p->wake_event, .events = POLLIN },
	};

	memory_poll_events(p->memory_events, fds + 2);
	for (;;) {
		bool awake = stay_awake(p);
		uint64_t count;
		bool event;

		if (poll(fds, awake ? ARRAY_LEN(fds) : 2, awake ? LOOK_MS : -1) < 0 &&
		    errno != EINTR)
			return NULL;
		atomic_store(&p->asleep, false);
		if (fds[0].revents)
			return NULL;
		if (fds[1].revents && read(p->wake_event, &count, sizeof(count)) < 0)
			return NULL;
		event = awake && memory_take_events(fds + 2);
		pressure_look(p, event);
	}
}

/* ---- Life ---- */

static uint64_t inodes_used(struct inodes *inodes)
{
	struct inodes_summary summary;

	inodes_summarise(inodes, &summary);
	return summary.used;
}

const struct pressure_files pressure_inodes = {
	.used = inodes_used,
	.set_limit = inodes_set_limit,
};

int pressure_new(const struct pressure_setup *setup, struct pressure **pressure)
{
	struct pressure *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->setup = *setup;
	p->limit = setup->limit;
	(void)pthread_mutex_init(&p->lock, NULL);
	p->stop_event = eventfd(0, EFD_CLOEXEC);
	p->wake_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	memory_open_events(setup->roots, p->memory_events);
	r = memory_open(setup->roots, &p->memory);
	if (r == 0 && (p->stop_event < 0 || p->wake_event < 0))
		r = -EMFILE;
	if (r < 0) {
		pressure_free(p);
		return r;
	}
	*pressure = p;
	return 0;
}

int pressure_start(struct pressure *pressure)
{
	int r = thread_start(&pressure->thread, run_looks, pressure);

	pressure->started = r == 0;
	return r;
}

void pressure_stop(struct pressure *pressure)
{
	if (!pressure || !pressure->started)
		return;
	thread_stop(pressure->thread, pressure->stop_event);
	pressure->started = false;
}

void pressure_free(struct pressure *pressure)
{
	if (!pressure)
		return;
	close_fd(&pressure->stop_event);
	close_fd(&pressure->wake_event);
	for (unsigned int i = 0; i < MEMORY_EVENTS; i++)
		close_fd(&pressure->memory_events[i]);
	memory_close(pressure->memory);
	(void)pthread_mutex_destroy(&pressure->lock);
	free(pressure);
}

void pressure_summarise(struct pressure *pressure, struct pressure_summary *summary)
{
	(void)pthread_mutex_lock(&pressure->lock);
	*summary = (struct pressure_summary){ .limit = pressure->limit,
					      .events = pressure->events };
	(void)pthread_mutex_unlock(&pressure->lock);
}
