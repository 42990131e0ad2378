#include "util/hash.h"

#include <sys/random.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash_stable(const void *bytes, size_t len)
{
	return XXH3_64bits(bytes, len);
}

uint64_t hash_seeded(const void *bytes, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(bytes, len, seed);
}

uint64_t hash_random_seed(void)
{
	uint64_t seed;
	struct timespec now;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == (ssize_t)sizeof(seed))
		return seed;
	/* Early in boot only: weaker, but still not chosen by whoever wrote the file. */
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return hash_stable(&now, sizeof(now));
}
