/*
 * The trees of memory nodes: with numa=mirror the root has node0/, node1/ and so on, each
 * with all that the root has, and what is pinned is in memory once on each node.
 *
 * The files in the tree of the first node are those of the main tree, under further
 * names: so there are as many copies in memory as there are nodes, and none more. The
 * tensors in the other trees are files of their own. `copy` of struct node tells them
 * apart: it is 0 for the main tree and its files, and k + 1 for node k.
 *
 * Immutable once the mount serves. Any thread.
 */
#ifndef FS_NUMA_MIRROR_H
#define FS_NUMA_MIRROR_H

#include <stdbool.h>
#include <stdint.h>

/* Each node has a file of each pinned tensor: more would be of no use. */
#define NUMA_MIRROR_MOST 64u

/* Room for "node" and a number. */
#define NUMA_MIRROR_NAME_MAX 16u

struct numa_mirror {
	unsigned int count;               /* 0: there are no such trees */
	uint16_t nodes[NUMA_MIRROR_MOST]; /* as the kernel numbers them, ascending */
};

/* Gives a tree to each of these nodes: bits. Before the mount. */
void numa_mirror_init(struct numa_mirror *mirror, uint64_t nodes);

/* Whether there is a tree of this `copy`, which is not 0. */
bool numa_mirror_has(const struct numa_mirror *mirror, uint16_t copy);

/* The `copy` of files in a tree: as that of the tree, but 0 in that of the first node. */
uint16_t numa_mirror_file(const struct numa_mirror *mirror, uint16_t copy);

/* How many files there are of a tensor in one view, at least 1, and the `copy` of each.
 * The first is that of the main tree. */
unsigned int numa_mirror_file_count(const struct numa_mirror *mirror);
uint16_t numa_mirror_file_at(const struct numa_mirror *mirror, unsigned int place);

/* The reverse; `copy` must be that of a file. */
unsigned int numa_mirror_place(const struct numa_mirror *mirror, uint16_t copy);

/* The memory node that a file belongs to, or -1 where there are no such trees. */
int numa_mirror_node(const struct numa_mirror *mirror, uint16_t copy);

/* Names of trees: the one of a `copy`, and the `copy` of a name, 0 for others. */
void numa_mirror_name(uint16_t copy, char name[static NUMA_MIRROR_NAME_MAX]);
uint16_t numa_mirror_find(const struct numa_mirror *mirror, const char *name);

#endif
