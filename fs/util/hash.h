/* Hashes of byte strings, by xxHash (XXH3, 64 bits). */
#ifndef UTIL_HASH_H
#define UTIL_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The same on every machine and in every run: for names that users see. */
uint64_t hash_stable(const void *bytes, size_t len);

/* For hash tables. With a seed from hash_random_seed() an attacker who chooses the bytes
 * cannot aim for collisions. */
uint64_t hash_seeded(const void *bytes, size_t len, uint64_t seed);

uint64_t hash_random_seed(void);

#endif
