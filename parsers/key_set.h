/*
 * A set of byte strings, to find keys that occur twice. The bytes are not copied and must
 * outlive the set. The hash is seeded at random, so that the author of a file cannot aim
 * for collisions.
 */
#ifndef PARSERS_KEY_SET_H
#define PARSERS_KEY_SET_H

#include <stddef.h>
#include <stdint.h>

#include "util/macros.h"

struct key_slot;

/* A zeroed set ({ 0 }) is empty and ready. */
struct key_set {
	struct key_slot *slots; /* open addressing */
	size_t capacity;        /* 0 or a power of two */
	size_t count;
	uint64_t seed;
};

void key_set_fini(struct key_set *set);

/* `key` is not NULL, also when it is empty, and has less than 4 GiB. Returns 0, -EEXIST
 * or -ENOMEM. */
MUST_CHECK int key_set_add(struct key_set *set, const char *key, size_t len);

/* How many keys were added before this one, which is in the set; else SIZE_MAX. */
size_t key_set_find(const struct key_set *set, const char *key, size_t len);

#endif
