#include "util/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Large enough that the header is noise, small enough that a tiny model stays tiny. */
#define FIRST_CHUNK ((size_t)4 << 10)
#define MOST_CHUNK  ((size_t)1 << 20)

struct arena_chunk {
	struct arena_chunk *next;
	size_t used;
	size_t capacity;
	max_align_t bytes[];
};

void arena_fini(struct arena *arena)
{
	while (arena->chunks) {
		struct arena_chunk *chunk = arena->chunks;

		arena->chunks = chunk->next;
		free(chunk);
	}
}

static int add_chunk(struct arena *arena, size_t need)
{
	size_t capacity = arena->chunks ? arena->chunks->capacity * 2 : FIRST_CHUNK;
	struct arena_chunk *chunk;

	if (capacity > MOST_CHUNK)
		capacity = MOST_CHUNK;
	if (capacity < need)
		capacity = need;
	if (capacity > SIZE_MAX / 2)
		return -1;
	chunk = malloc(sizeof(*chunk) + capacity);
	if (!chunk)
		return -1;
	chunk->next = arena->chunks;
	chunk->used = 0;
	chunk->capacity = capacity;
	arena->chunks = chunk;
	return 0;
}

static void *take(struct arena *arena, size_t len, size_t align)
{
	struct arena_chunk *chunk = arena->chunks;
	size_t start = chunk ? (chunk->used + align - 1) / align * align : 0;

	if (!chunk || start > chunk->capacity || len > chunk->capacity - start) {
		if (add_chunk(arena, len) < 0)
			return NULL;
		chunk = arena->chunks;
		start = 0;
	}
	chunk->used = start + len;
	return (char *)chunk->bytes + start;
}

void *arena_alloc(struct arena *arena, size_t len)
{
	return take(arena, len, sizeof(uint64_t));
}

char *arena_copy(struct arena *arena, const void *bytes, size_t len)
{
	char *copy = len < SIZE_MAX ? take(arena, len + 1, 1) : NULL;

	if (!copy)
		return NULL;
	if (len > 0)
		memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}
