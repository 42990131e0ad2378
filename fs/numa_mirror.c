#include "numa_mirror.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void numa_mirror_init(struct numa_mirror *mirror, uint64_t nodes)
{
	*mirror = (struct numa_mirror){ 0 };
	for (uint16_t i = 0; i < NUMA_MIRROR_MOST; i++)
		if (nodes >> i & 1)
			mirror->nodes[mirror->count++] = i;
}

bool numa_mirror_has(const struct numa_mirror *mirror, uint16_t copy)
{
	for (unsigned int i = 0; i < mirror->count; i++)
		if (mirror->nodes[i] + 1 == copy)
			return true;
	return false;
}

uint16_t numa_mirror_file(const struct numa_mirror *mirror, uint16_t copy)
{
	bool is_first = mirror->count > 0 && mirror->nodes[0] + 1 == copy;

	return is_first ? 0 : copy;
}

unsigned int numa_mirror_file_count(const struct numa_mirror *mirror)
{
	return mirror->count > 0 ? mirror->count : 1;
}

uint16_t numa_mirror_file_at(const struct numa_mirror *mirror, unsigned int place)
{
	return place > 0 ? (uint16_t)(mirror->nodes[place] + 1) : 0;
}

unsigned int numa_mirror_place(const struct numa_mirror *mirror, uint16_t copy)
{
	unsigned int place = 0;

	while (place < mirror->count && numa_mirror_file_at(mirror, place) != copy)
		place++;
	assert(place < numa_mirror_file_count(mirror));
	return place;
}

int numa_mirror_node(const struct numa_mirror *mirror, uint16_t copy)
{
	if (mirror->count == 0)
		return -1;
	return copy > 0 ? copy - 1 : mirror->nodes[0];
}

void numa_mirror_name(uint16_t copy, char name[static NUMA_MIRROR_NAME_MAX])
{
	(void)snprintf(name, NUMA_MIRROR_NAME_MAX, "node%d", copy - 1);
}

uint16_t numa_mirror_find(const struct numa_mirror *mirror, const char *name)
{
	char candidate[NUMA_MIRROR_NAME_MAX];

	/* Most names are others. */
	if (strncmp(name, "node", 4) != 0)
		return 0;
	for (unsigned int i = 0; i < mirror->count; i++) {
		uint16_t copy = (uint16_t)(mirror->nodes[i] + 1);

		numa_mirror_name(copy, candidate);
		if (strcmp(candidate, name) == 0)
			return copy;
	}
	return 0;
}
