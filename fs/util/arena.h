/* Memory that is taken in small pieces and given back at once. One thread at a time. */
#ifndef UTIL_ARENA_H
#define UTIL_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* newest first */
};

/* A zeroed arena ({ 0 }) is empty and ready. */
void arena_fini(struct arena *arena);

/* `len` bytes aligned to 8, not initialised; NULL when out of memory. */
void *arena_alloc(struct arena *arena, size_t len);

/* `len` bytes without alignment: a copy of `bytes` and a NUL behind it. NULL when out of
 * memory. */
char *arena_copy(struct arena *arena, const void *bytes, size_t len);

#endif
