#include "residency.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "pagecache.h"
#include "thread.h"

struct residency {
	const struct served *served;
	uint32_t tensor_count;
	atomic_uchar *percents; /* by index of the tensor */

	pthread_mutex_t lock; /* protects the rest; not held while the kernel counts */
	pthread_cond_t asked; /* for the thread */
	pthread_cond_t counted;
	uint64_t wanted[RESIDENCY_KIND_COUNT]; /* numbers of counts */
	uint64_t begun[RESIDENCY_KIND_COUNT];
	uint64_t done[RESIDENCY_KIND_COUNT];
	struct residency_sums sums;

	atomic_bool stopping;
	pthread_t thread;
	bool started;
};

/* ---- Counting ---- */

static bool has_tensors(const struct residency *r, uint32_t file)
{
	return r->served->file_tensor_bytes[file] > 0;
}

/* So much is looked at until it is asked whether to stop: some milliseconds where all of
 * it is cached. */
#define PIECE ((uint64_t)1 << 30)

/* What of a range is cached. 0 or a negative errno. */
static int count_range(const struct residency *r, const struct source_file *file,
		       uint64_t from, uint64_t len, uint64_t *cached)
{
	*cached = 0;
	while (len > 0 && !atomic_load(&r->stopping)) {
		uint64_t n = len < PIECE ? len : PIECE;
		uint64_t part;
		int failed = pagecache_count(file, from, n, &part);

		if (failed < 0)
			return failed;
		*cached += part;
		from += n;
		len -= n;
	}
	return 0;
}

static void count_files(struct residency *r)
{
	const struct source *source = r->served->source;
	struct residency_sums sums = { .known = true };

	for (uint32_t i = 0; i < source->file_count && !atomic_load(&r->stopping); i++) {
		const struct source_file *file = &source->files[i];
		uint64_t cached = 0;

		if (!has_tensors(r, i))
			continue;
		if (count_range(r, file, 0, file->size, &cached) < 0)
			sums.known = false;
		sums.bytes += file->size;
		sums.cached += cached;
	}
	(void)pthread_mutex_lock(&r->lock);
	r->sums = sums;
	(void)pthread_mutex_unlock(&r->lock);
}

/* What is neither none nor all is not rounded to it. */
static unsigned int percent_of(uint64_t part, uint64_t whole)
{
	uint64_t percent;

	if (part >= whole)
		return 100;
	percent = (uint64_t)((double)part * 100 / (double)whole);
	return part > 0 && percent == 0 ? 1 : (unsigned int)percent;
}

static void count_tensors(struct residency *r)
{
	for (uint32_t i = 0; i < r->tensor_count && !atomic_load(&r->stopping); i++) {
		const struct tensor *t = model_tensor(r->served->model, i);
		const struct source_file *file = served_tensor_file(r->served, t);
		unsigned int percent = RESIDENCY_UNKNOWN;
		uint64_t cached;

		if (count_range(r, file, t->offset, t->nbytes, &cached) == 0)
			percent = percent_of(cached, t->nbytes);
		atomic_store_explicit(&r->percents[i], (unsigned char)percent,
				      memory_order_relaxed);
	}
}

/* ---- The thread ---- */

/* With the lock held, which is given up meanwhile. Whether somebody had asked. */
static bool count_if_asked(struct residency *r, enum residency_kind kind,
			   void (*count)(struct residency *r))
{
	uint64_t number = r->begun[kind] + 1;

	if (r->wanted[kind] < number)
		return false;
	r->begun[kind] = number;
	(void)pthread_mutex_unlock(&r->lock);
	count(r);
	(void)pthread_mutex_lock(&r->lock);
	r->done[kind] = number;
	(void)pthread_cond_broadcast(&r->counted);
	return true;
}

static void *run(void *argument)
{
	struct residency *r = argument;

	(void)pthread_mutex_lock(&r->lock);
	while (!atomic_load(&r->stopping)) {
		bool files = count_if_asked(r, RESIDENCY_FILES, count_files);
		bool tensors = count_if_asked(r, RESIDENCY_TENSORS, count_tensors);

		if (!files && !tensors && !atomic_load(&r->stopping))
			(void)pthread_cond_wait(&r->asked, &r->lock);
	}
	(void)pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* ---- What others call ---- */

uint64_t residency_ask(struct residency *r, enum residency_kind kind)
{
	uint64_t number;

	(void)pthread_mutex_lock(&r->lock);
	number = r->begun[kind] + 1;
	r->wanted[kind] = number;
	(void)pthread_cond_signal(&r->asked);
	(void)pthread_mutex_unlock(&r->lock);
	return number;
}

bool residency_wait(struct residency *r, enum residency_kind kind, uint64_t count,
		    unsigned int timeout_ms)
{
	struct timespec until;
	int failed = 0;
	bool done;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += timeout_ms * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	(void)pthread_mutex_lock(&r->lock);
	while (r->done[kind] < count && failed == 0)
		failed = pthread_cond_timedwait(&r->counted, &r->lock, &until);
	done = r->done[kind] >= count;
	(void)pthread_mutex_unlock(&r->lock);
	return done;
}

void residency_summarise(struct residency *r, struct residency_sums *sums)
{
	(void)pthread_mutex_lock(&r->lock);
	*sums = r->sums;
	(void)pthread_mutex_unlock(&r->lock);
}

unsigned int residency_percent(const struct residency *r, uint32_t tensor)
{
	return atomic_load_explicit(&r->percents[tensor], memory_order_relaxed);
}

/* ---- Life ---- */

static void init_conditions(struct residency *r)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&r->counted, &attr);
	(void)pthread_condattr_destroy(&attr);
	(void)pthread_cond_init(&r->asked, NULL);
}

int residency_new(const struct served *served, struct residency **residency)
{
	struct residency *r = calloc(1, sizeof(*r));
	size_t count = model_tensor_count(served->model);

	if (!r)
		return -ENOMEM;
	r->served = served;
	r->tensor_count = (uint32_t)count;
	r->percents = malloc(count > 0 ? count : 1);
	if (!r->percents) {
		free(r);
		return -ENOMEM;
	}
	memset(r->percents, RESIDENCY_UNKNOWN, count);
	for (uint32_t i = 0; i < served->source->file_count; i++)
		r->sums.bytes += has_tensors(r, i) ? served->source->files[i].size : 0;
	(void)pthread_mutex_init(&r->lock, NULL);
	init_conditions(r);
	*residency = r;
	return 0;
}

int residency_start(struct residency *r)
{
	int failed = thread_start(&r->thread, run, r);

	r->started = failed == 0;
	return failed;
}

void residency_free(struct residency *r)
{
	if (!r)
		return;
	(void)pthread_mutex_lock(&r->lock);
	atomic_store(&r->stopping, true);
	(void)pthread_cond_signal(&r->asked);
	(void)pthread_mutex_unlock(&r->lock);
	if (r->started)
		(void)pthread_join(r->thread, NULL);
	(void)pthread_cond_destroy(&r->asked);
	(void)pthread_cond_destroy(&r->counted);
	(void)pthread_mutex_destroy(&r->lock);
	free(r->percents);
	free(r);
}
