/*
 * What `mountctl place` said: tensors whose names match a pattern, and the nodes that
 * their memory is to lie on. The last rule that matches a name counts.
 *
 * Which rule a tensor has is found out when rules change, so that it is read without a
 * lock: on the way of each read.
 */
#ifndef FS_PLACEMENT_RULES_H
#define FS_PLACEMENT_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "parsers/model.h"
#include "placement.h"
#include "util/jsonw.h"

#define PLACEMENT_MOST_RULES  64u
#define PLACEMENT_PATTERN_MAX 1024u /* bytes */

struct placement_rules;

/* `model` outlives the rules. 0 or -ENOMEM. */
MUST_CHECK int placement_rules_new(const struct model *model,
				   struct placement_rules **rules);
void placement_rules_free(struct placement_rules *rules); /* NULL is fine */

/* Adds a rule behind all others; one with the same pattern goes. 0; -E2BIG: the pattern
 * is too long; -ENOSPC: there are as many rules as there may be; -ENOMEM. Takes some
 * milliseconds where names are many; the lock is held meanwhile. */
MUST_CHECK int placement_rules_add(struct placement_rules *rules, const char *pattern,
				   struct placement_policy policy);

/* Takes a rule away. 0, -ENOENT (there is none with this very pattern) or -ENOMEM. */
MUST_CHECK int placement_rules_remove(struct placement_rules *rules, const char *pattern);

/* The policy that a rule gives to a tensor; false where none does. No lock. Also for
 * tensors that are not there; NULL is fine. */
bool placement_rules_find(const struct placement_rules *rules, uint32_t tensor,
			  struct placement_policy *policy);

/* Whether there is any. No lock; NULL is fine. */
bool placement_rules_any(const struct placement_rules *rules);

/* Writes an array, the last rule last. */
void placement_rules_write(struct placement_rules *rules, struct jsonw *w);

#endif
