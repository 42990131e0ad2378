#include <errno.h>

#include "inodes_state.h"
#include "util/hash.h"

#define FIRST_BUCKETS 256u

/* ---- Lists ---- */

void inodes_list_append(struct inode **list, struct inode *inode)
{
	struct inode *first = *list;

	inode->list = list;
	if (!first) {
		inode->list_next = inode;
		inode->list_prev = inode;
		*list = inode;
		return;
	}
	inode->list_next = first;
	inode->list_prev = first->list_prev;
	first->list_prev->list_next = inode;
	first->list_prev = inode;
}

void inodes_list_remove(struct inode *inode)
{
	if (!inode->list)
		return;
	if (inode->list_next == inode)
		*inode->list = NULL;
	else if (*inode->list == inode)
		*inode->list = inode->list_next;
	inode->list_next->list_prev = inode->list_prev;
	inode->list_prev->list_next = inode->list_next;
	inode->list = NULL;
}

/* ---- The table ---- */

int inodes_table_init(struct inodes *inodes)
{
	inodes->buckets = calloc(FIRST_BUCKETS, sizeof(struct inode *));
	inodes->bucket_mask = FIRST_BUCKETS - 1;
	return inodes->buckets ? 0 : -ENOMEM;
}

static uint32_t bucket_of(const struct inodes *inodes, struct node node)
{
	uint64_t ino = layout_ino(node);

	return (uint32_t)hash_stable(&ino, sizeof(ino)) & inodes->bucket_mask;
}

static bool same_node(struct node a, struct node b)
{
	return a.kind == b.kind && a.view == b.view && a.index == b.index &&
	       a.copy == b.copy;
}

struct inode *inodes_find(const struct inodes *inodes, struct node node)
{
	struct inode *inode = inodes->buckets[bucket_of(inodes, node)];

	while (inode && !same_node(inode->node, node))
		inode = inode->bucket_next;
	return inode;
}

/* Without the memory the buckets just get longer. */
static void grow(struct inodes *inodes)
{
	uint32_t old_count = inodes->bucket_mask + 1;
	struct inode **old = inodes->buckets;
	struct inode **buckets = calloc((size_t)old_count * 2, sizeof(struct inode *));

	if (!buckets)
		return;
	inodes->buckets = buckets;
	inodes->bucket_mask = old_count * 2 - 1;
	for (uint32_t i = 0; i < old_count; i++) {
		while (old[i]) {
			struct inode *inode = old[i];
			uint32_t at = bucket_of(inodes, inode->node);

			old[i] = inode->bucket_next;
			inode->bucket_next = buckets[at];
			buckets[at] = inode;
		}
	}
	free(old);
}

struct inode *inodes_find_or_add(struct inodes *inodes, struct node node)
{
	struct inode *inode = inodes_find(inodes, node);
	uint32_t at;

	if (inode)
		return inode;
	inode = calloc(1, sizeof(*inode));
	if (!inode)
		return NULL;
	if (inodes->count > inodes->bucket_mask)
		grow(inodes);
	at = bucket_of(inodes, node);
	inode->node = node;
	inode->choice = BACKING_STREAM;
	inode->bucket_next = inodes->buckets[at];
	inodes->buckets[at] = inode;
	inodes->count++;
	return inode;
}

void inodes_drop_if_idle(struct inodes *inodes, struct inode *inode)
{
	struct inode **link = &inodes->buckets[bucket_of(inodes, inode->node)];

	if (inode->state != INODE_IDLE || inode->pinned || inode->stream_opens > 0)
		return;
	while (*link != inode)
		link = &(*link)->bucket_next;
	*link = inode->bucket_next;
	inodes->count--;
	free(inode);
}
