#include "placement_rules.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "util/pattern.h"

/* Above the bits of nodes. */
#define INTERLEAVE ((uint64_t)1 << 63)

struct rule {
	char *pattern; /* heap; NULL: the place is free */
	uint64_t age;  /* a later one has more */
	uint64_t tensors;
	atomic_uint_fast64_t policy; /* the nodes, and INTERLEAVE */
};

struct placement_rules {
	const struct model *model;
	size_t tensor_count;
	atomic_uint count; /* written with the lock held */

	/* By tensor: 0 for none, or the place of its rule + 1. NULL until there is a
	 * rule; stays afterwards. Written with the lock held. */
	_Atomic(atomic_uchar *) of_tensor;

	pthread_mutex_t lock; /* protects the rest, but for `policy` of rules */
	uint64_t last_age;
	struct rule rules[PLACEMENT_MOST_RULES];
};

_Static_assert(PLACEMENT_MOST_RULES < UINT8_MAX, "places of rules fit their type");
_Static_assert(NUMA_MOST_NODES < 63, "nodes and INTERLEAVE fit one number");

int placement_rules_new(const struct model *model, struct placement_rules **rules)
{
	struct placement_rules *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->model = model;
	r->tensor_count = model_tensor_count(model);
	(void)pthread_mutex_init(&r->lock, NULL);
	*rules = r;
	return 0;
}

void placement_rules_free(struct placement_rules *rules)
{
	if (!rules)
		return;
	for (size_t i = 0; i < PLACEMENT_MOST_RULES; i++)
		free(rules->rules[i].pattern);
	free(atomic_load(&rules->of_tensor));
	(void)pthread_mutex_destroy(&rules->lock);
	free(rules);
}

/* ---- With the lock held ---- */

static struct rule *find_rule(struct placement_rules *rules, const char *pattern)
{
	for (size_t i = 0; i < PLACEMENT_MOST_RULES; i++)
		if (rules->rules[i].pattern &&
		    strcmp(rules->rules[i].pattern, pattern) == 0)
			return &rules->rules[i];
	return NULL;
}

static struct rule *find_free(struct placement_rules *rules)
{
	for (size_t i = 0; i < PLACEMENT_MOST_RULES; i++)
		if (!rules->rules[i].pattern)
			return &rules->rules[i];
	return NULL;
}

static unsigned char number_of(const struct placement_rules *rules,
			       const struct rule *rule)
{
	return (unsigned char)(rule - rules->rules + 1);
}

/* Gives a tensor to a rule, or to none. */
static void assign(struct placement_rules *rules, size_t tensor, struct rule *rule)
{
	atomic_uchar *of_tensor = atomic_load(&rules->of_tensor);
	unsigned char before = atomic_load(&of_tensor[tensor]);

	if (before > 0)
		rules->rules[before - 1].tensors--;
	if (rule)
		rule->tensors++;
	atomic_store(&of_tensor[tensor], rule ? number_of(rules, rule) : 0);
}

/* The latest rule that matches; NULL for none. */
static struct rule *best_rule(struct placement_rules *rules, const char *subject)
{
	struct rule *best = NULL;

	for (size_t i = 0; i < PLACEMENT_MOST_RULES; i++) {
		struct rule *rule = &rules->rules[i];

		if (rule->pattern && (!best || rule->age > best->age) &&
		    pattern_matches(rule->pattern, subject))
			best = rule;
	}
	return best;
}

/* A subject of patterns for each tensor, one after the other; NULL when out of memory. */
static const char *subject_of(const struct placement_rules *rules, size_t tensor,
			      struct strbuf *scratch)
{
	const struct tensor *t = model_tensor(rules->model, tensor);

	return pattern_subject(scratch, t->name, t->name_len);
}

/* The rule that was added last takes what it matches. */
static int spread(struct placement_rules *rules, struct rule *rule)
{
	CLEANUP(strbuf_fini) struct strbuf scratch = { 0 };

	for (size_t i = 0; i < rules->tensor_count; i++) {
		const char *subject = subject_of(rules, i, &scratch);

		if (!subject)
			return -ENOMEM;
		if (pattern_matches(rule->pattern, subject))
			assign(rules, i, rule);
	}
	return 0;
}

/* What a rule had goes to others. One that cannot be matched for want of memory has none
 * from now on. */
static int withdraw(struct placement_rules *rules, struct rule *rule)
{
	const atomic_uchar *of_tensor = atomic_load(&rules->of_tensor);
	CLEANUP(strbuf_fini) struct strbuf scratch = { 0 };
	int r = 0;

	free(rule->pattern);
	rule->pattern = NULL;
	for (size_t i = 0; i < rules->tensor_count && rule->tensors > 0; i++) {
		const char *subject;

		if (atomic_load(&of_tensor[i]) != number_of(rules, rule))
			continue;
		subject = subject_of(rules, i, &scratch);
		assign(rules, i, subject ? best_rule(rules, subject) : NULL);
		r = subject ? r : -ENOMEM;
	}
	(void)atomic_fetch_sub(&rules->count, 1);
	return r;
}

static int make_table(struct placement_rules *rules)
{
	if (!atomic_load(&rules->of_tensor))
		atomic_store(&rules->of_tensor,
			     calloc(rules->tensor_count + 1, sizeof(atomic_uchar)));
	return atomic_load(&rules->of_tensor) ? 0 : -ENOMEM;
}

static int add(struct placement_rules *rules, const char *pattern,
	       struct placement_policy policy)
{
	struct rule *old = find_rule(rules, pattern);
	struct rule *rule = old ? old : find_free(rules);
	char *copy;

	if (!rule)
		return -ENOSPC;
	copy = strdup(pattern);
	if (!copy || make_table(rules) < 0) {
		free(copy);
		return -ENOMEM;
	}
	if (old)
		(void)withdraw(rules, old);
	rule->pattern = copy;
	rule->age = ++rules->last_age;
	atomic_store(&rule->policy, policy.nodes | (policy.interleave ? INTERLEAVE : 0));
	(void)atomic_fetch_add(&rules->count, 1);
	return spread(rules, rule);
}

/* ---- What others call ---- */

int placement_rules_add(struct placement_rules *rules, const char *pattern,
			struct placement_policy policy)
{
	int r;

	if (strlen(pattern) > PLACEMENT_PATTERN_MAX)
		return -E2BIG;
	(void)pthread_mutex_lock(&rules->lock);
	r = add(rules, pattern, policy);
	(void)pthread_mutex_unlock(&rules->lock);
	return r;
}

int placement_rules_remove(struct placement_rules *rules, const char *pattern)
{
	struct rule *rule;
	int r = -ENOENT;

	(void)pthread_mutex_lock(&rules->lock);
	rule = find_rule(rules, pattern);
	if (rule)
		r = withdraw(rules, rule);
	(void)pthread_mutex_unlock(&rules->lock);
	return r;
}

bool placement_rules_any(const struct placement_rules *rules)
{
	return rules && atomic_load_explicit(&rules->count, memory_order_relaxed) > 0;
}

bool placement_rules_find(const struct placement_rules *rules, uint32_t tensor,
			  struct placement_policy *policy)
{
	const atomic_uchar *of_tensor;
	unsigned char number;
	uint64_t packed;

	if (!placement_rules_any(rules) || tensor >= rules->tensor_count)
		return false;
	of_tensor = atomic_load_explicit(&rules->of_tensor, memory_order_acquire);
	number = of_tensor
			 ? atomic_load_explicit(&of_tensor[tensor], memory_order_relaxed)
			 : 0;
	if (number == 0)
		return false;
	packed = atomic_load_explicit(&rules->rules[number - 1].policy,
				      memory_order_relaxed);
	*policy = (struct placement_policy){ packed & ~INTERLEAVE,
					     (packed & INTERLEAVE) != 0 };
	return true;
}

/* The rule that comes after one of this age. */
static const struct rule *next_rule(const struct placement_rules *rules, uint64_t age)
{
	const struct rule *next = NULL;

	for (size_t i = 0; i < PLACEMENT_MOST_RULES; i++) {
		const struct rule *rule = &rules->rules[i];

		if (rule->pattern && rule->age > age && (!next || rule->age < next->age))
			next = rule;
	}
	return next;
}

static void write_rule(const struct rule *rule, struct jsonw *w)
{
	uint64_t packed = atomic_load(&rule->policy);

	jsonw_begin_object(w);
	jsonw_key(w, "pattern");
	jsonw_string(w, rule->pattern);
	jsonw_key(w, "nodes");
	placement_write_node_array(packed & ~INTERLEAVE, w);
	jsonw_key(w, "interleave");
	jsonw_bool(w, (packed & INTERLEAVE) != 0);
	jsonw_key(w, "tensors");
	jsonw_u64(w, rule->tensors);
	jsonw_end_object(w);
}

void placement_rules_write(struct placement_rules *rules, struct jsonw *w)
{
	const struct rule *rule;

	jsonw_begin_array(w);
	(void)pthread_mutex_lock(&rules->lock);
	for (rule = next_rule(rules, 0); rule; rule = next_rule(rules, rule->age))
		write_rule(rule, w);
	(void)pthread_mutex_unlock(&rules->lock);
	jsonw_end_array(w);
}
