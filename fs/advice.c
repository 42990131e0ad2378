#include "advice.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>

#include "util/errtext.h"
#include "util/log.h"

/* Reads may overtake each other by so much. */
#define LEAST_JUMP ((uint64_t)1 << 20)

/* So many short runs in a row are random. */
#define RUNS_RANDOM 8u
#define RUNS_MAX    255u

#define RUNS_BITS 8u

/* A quarter of the descriptors that the process may have. */
#define SHARE_OF_FILES 4u

struct trace {
	atomic_uint_fast64_t end; /* of the last read */
	atomic_uint_fast64_t run; /* KiB since the last jump, and in the lowest bits how
				     many runs in front of it were short */
	atomic_uchar advice;      /* enum advice: what was said last */
};

struct rule {
	char *pattern; /* heap */
	enum advice advice;
};

struct advices {
	const struct served *served;
	uint64_t jump_bytes;
	struct trace *traces; /* by index of the tensor */
	int *random_fds;      /* by file of the source; -1 for none */

	pthread_mutex_t lock; /* protects the rest */
	struct rule rules[ADVICE_RULES_MAX];
	unsigned int rule_count;
};

static const char *const names[] = {
	[ADVICE_NORMAL] = "normal",     [ADVICE_SEQUENTIAL] = "sequential",
	[ADVICE_RANDOM] = "random",     [ADVICE_WILLNEED] = "willneed",
	[ADVICE_DONTNEED] = "dontneed",
};

const char *advice_name(enum advice advice)
{
	return names[advice];
}

bool advice_parse(const char *name, enum advice *advice)
{
	for (unsigned int i = 0; name && i < ADVICE_COUNT; i++) {
		if (strcmp(names[i], name) != 0)
			continue;
		*advice = (enum advice)i;
		return true;
	}
	return false;
}

/* ---- Rules ---- */

/* Takes out the rule with this pattern, which the new one outdoes; all of them where that
 * is for every name. With the lock held. */
static void remove_rules(struct advices *a, const char *pattern)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < a->rule_count; i++) {
		if (strcmp(pattern, "*") == 0 ||
		    strcmp(pattern, a->rules[i].pattern) == 0)
			free(a->rules[i].pattern);
		else
			a->rules[kept++] = a->rules[i];
	}
	a->rule_count = kept;
}

int advices_add_rule(struct advices *a, const char *pattern, enum advice advice)
{
	char *copy;
	int r;

	if (strlen(pattern) > ADVICE_PATTERN_MAX)
		return -E2BIG;
	copy = strdup(pattern);
	r = copy ? 0 : -ENOMEM;
	(void)pthread_mutex_lock(&a->lock);
	if (r == 0)
		remove_rules(a, pattern);
	/* Where there is none before it, there is nothing to return from. */
	if (r == 0 && (advice != ADVICE_NORMAL || a->rule_count > 0)) {
		if (a->rule_count == ADVICE_RULES_MAX)
			r = -ENOSPC;
		else
			a->rules[a->rule_count++] = (struct rule){ copy, advice };
		copy = r == 0 ? NULL : copy;
	}
	(void)pthread_mutex_unlock(&a->lock);
	free(copy);
	return r;
}

bool advices_set(struct advices *a, uint32_t tensor, enum advice advice)
{
	struct trace *trace = &a->traces[tensor];

	atomic_store_explicit(&trace->run, 0, memory_order_relaxed);
	return atomic_exchange(&trace->advice, (unsigned char)advice) != advice;
}

void advices_write(struct advices *a, struct jsonw *w)
{
	jsonw_begin_array(w);
	if (!a) {
		jsonw_end_array(w);
		return;
	}
	(void)pthread_mutex_lock(&a->lock);
	for (unsigned int i = 0; i < a->rule_count; i++) {
		jsonw_begin_object(w);
		jsonw_key(w, "pattern");
		jsonw_string(w, a->rules[i].pattern);
		jsonw_key(w, "advice");
		jsonw_string(w, advice_name(a->rules[i].advice));
		jsonw_end_object(w);
	}
	(void)pthread_mutex_unlock(&a->lock);
	jsonw_end_array(w);
}

/* ---- Reads ---- */

enum advice advices_of(const struct advices *a, uint32_t tensor)
{
	return a ? (enum advice)atomic_load_explicit(&a->traces[tensor].advice,
						     memory_order_relaxed)
		 : ADVICE_NORMAL;
}

static unsigned int short_runs(uint64_t run)
{
	return (unsigned int)(run & ((1u << RUNS_BITS) - 1));
}

bool advices_is_random(const struct advices *a, uint32_t tensor)
{
	enum advice advice = advices_of(a, tensor);

	if (!a || advice != ADVICE_NORMAL)
		return advice == ADVICE_RANDOM;
	return short_runs(atomic_load_explicit(&a->traces[tensor].run,
					       memory_order_relaxed)) >= RUNS_RANDOM;
}

/*
 * A run ends where the next read is far from it. One that is no longer than what the
 * client's kernel reads around a single touch tells of none; one that is longer, of a
 * reader in order. What is lost where several threads note at once is a read or two.
 */
void advices_note_read(struct advices *a, uint32_t tensor, uint64_t offset, uint64_t len)
{
	struct trace *trace;
	uint64_t end;
	uint64_t run;
	uint64_t kib;
	unsigned int runs;

	if (!a)
		return;
	trace = &a->traces[tensor];
	end = atomic_load_explicit(&trace->end, memory_order_relaxed);
	run = atomic_load_explicit(&trace->run, memory_order_relaxed);
	runs = short_runs(run);
	kib = run >> RUNS_BITS;
	if ((offset > end ? offset - end : end - offset) > a->jump_bytes) {
		runs += kib <= a->jump_bytes >> 10 && runs < RUNS_MAX ? 1 : 0;
		kib = 0;
	}
	kib += (len + 1023) >> 10;
	if (kib > a->jump_bytes >> 10)
		runs = 0;
	atomic_store_explicit(&trace->end, offset + len, memory_order_relaxed);
	atomic_store_explicit(&trace->run, kib << RUNS_BITS | runs, memory_order_relaxed);
}

int advices_fd(const struct advices *a, uint32_t tensor, const struct source_file *file)
{
	int fd = -1;

	if (advices_is_random(a, tensor))
		fd = a->random_fds[file - a->served->source->files];
	return fd < 0 ? file->fd : fd;
}

/* ---- Life ---- */

/* Of the same inode, whatever has become of its name. */
static int open_again(const struct source_file *file)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		log_debug("%s: open again: %s", file->path, errtext(errno));
	else
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	return fd;
}

/* Whether the process may have another descriptor of each file that has tensors, and
 * most are left for what a mount cannot do without. */
static bool has_descriptors(const struct served *served)
{
	struct rlimit limit = { .rlim_cur = 0 };
	size_t shards = model_shard_count(served->model);

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	if (shards <= limit.rlim_cur / SHARE_OF_FILES)
		return true;
	log_info("%s: random reads get no descriptors of their own: the model's %zu "
		 "files are more than a quarter of the limit of open files, %ju",
		 served->source->path, shards, (uintmax_t)limit.rlim_cur);
	return false;
}

static int init_advices(struct advices *a)
{
	const struct source *source = a->served->source;
	size_t count = model_tensor_count(a->served->model);
	bool again = has_descriptors(a->served);

	a->traces = calloc(count > 0 ? count : 1, sizeof(*a->traces));
	a->random_fds = calloc(source->file_count, sizeof(*a->random_fds));
	if (!a->traces || !a->random_fds)
		return -ENOMEM;
	for (uint32_t i = 0; i < source->file_count; i++)
		a->random_fds[i] = again && a->served->file_tensor_bytes[i] > 0
					   ? open_again(&source->files[i])
					   : -1;
	return 0;
}

int advices_new(const struct served *served, uint64_t jump_bytes,
		struct advices **advices)
{
	struct advices *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->served = served;
	a->jump_bytes = jump_bytes > LEAST_JUMP ? jump_bytes : LEAST_JUMP;
	(void)pthread_mutex_init(&a->lock, NULL);
	r = init_advices(a);
	if (r < 0) {
		advices_free(a);
		return r;
	}
	*advices = a;
	return 0;
}

void advices_free(struct advices *a)
{
	if (!a)
		return;
	for (uint32_t i = 0;
	     a->random_fds && a->traces && i < a->served->source->file_count; i++)
		close_fd(&a->random_fds[i]);
	for (unsigned int i = 0; i < a->rule_count; i++)
		free(a->rules[i].pattern);
	(void)pthread_mutex_destroy(&a->lock);
	free(a->random_fds);
	free(a->traces);
	free(a);
}
