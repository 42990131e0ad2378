#include "parsers/key_set.h"

#include <errno.h>

#include "util/hash.h"

#define FIRST_CAPACITY 16

struct key_slot {
	const char *key; /* NULL: free */
	uint32_t len;
	uint32_t number; /* in the order of adding */
};

void key_set_fini(struct key_set *set)
{
	free(set->slots);
	*set = (struct key_set){ 0 };
}

/* The slot that holds this key, or the free one where it belongs. */
static struct key_slot *find_slot(const struct key_set *set, const char *key, size_t len)
{
	size_t at = (size_t)hash_seeded(key, len, set->seed) & (set->capacity - 1);

	for (;;) {
		struct key_slot *slot = &set->slots[at];

		if (!slot->key || (slot->len == len && memcmp(slot->key, key, len) == 0))
			return slot;
		at = (at + 1) & (set->capacity - 1);
	}
}

static int grow(struct key_set *set)
{
	struct key_set grown = { .count = set->count };

	grown.capacity = set->capacity ? set->capacity * 2 : FIRST_CAPACITY;
	grown.seed = set->capacity ? set->seed : hash_random_seed();
	grown.slots = calloc(grown.capacity, sizeof(*grown.slots));
	if (!grown.slots)
		return -ENOMEM;
	for (size_t i = 0; i < set->capacity; i++) {
		const struct key_slot *slot = &set->slots[i];

		if (slot->key)
			*find_slot(&grown, slot->key, slot->len) = *slot;
	}
	free(set->slots);
	*set = grown;
	return 0;
}

int key_set_add(struct key_set *set, const char *key, size_t len)
{
	struct key_slot *slot;

	if (set->count >= set->capacity / 4 * 3 && grow(set) < 0)
		return -ENOMEM;
	slot = find_slot(set, key, len);
	if (slot->key)
		return -EEXIST;
	*slot = (struct key_slot){ .key = key,
				   .len = (uint32_t)len,
				   .number = (uint32_t)set->count };
	set->count++;
	return 0;
}

size_t key_set_find(const struct key_set *set, const char *key, size_t len)
{
	const struct key_slot *slot = set->count > 0 ? find_slot(set, key, len) : NULL;

	return slot && slot->key ? slot->number : SIZE_MAX;
}
