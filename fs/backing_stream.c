/* Reads are answered from the source by the daemon (content.c): there is no file to make.
 */
#include <errno.h>

#include "backing.h"

static bool stream_suits(const struct weightfs *fs, struct node node)
{
	(void)fs;
	(void)node;
	return true;
}

static int stream_make(struct weightfs *fs, struct node node, int like)
{
	(void)fs;
	(void)node;
	(void)like;
	return -EOPNOTSUPP;
}

static uint64_t stream_cost(const struct weightfs *fs, struct node node)
{
	(void)fs;
	(void)node;
	return 0;
}

const struct backing_ops backing_stream = {
	.name = "stream",
	.suits = stream_suits,
	.make = stream_make,
	.cost = stream_cost,
};
