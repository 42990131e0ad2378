/*
 * Where clones are made: a directory without a name on the file system of each model
 * file, in which files without a name can be made. It is made beside the model file and
 * removed at once; what is left is the descriptor. So the sandbox can allow to make files
 * there and nowhere else, no file of the source is within reach, the daemon needs no
 * rights to somebody else's directory, and nothing is left behind.
 */
#ifndef FS_CLONEPLACE_H
#define FS_CLONEPLACE_H

#include "served.h"

/* File systems of one model; further ones have no clones. */
#define CLONEPLACE_MOST 8u

struct cloneplace {
	dev_t dev;
	int dir;        /* a negative errno where clones cannot be made */
	uint64_t block; /* bytes of a block of this file system */
};

struct cloneplaces {
	struct cloneplace places[CLONEPLACE_MOST];
	unsigned int count;
	size_t shards;
	uint8_t *by_shard;    /* position in `places`; CLONEPLACE_MOST for none */
	atomic_bool *refused; /* by shard: it was tried, and cannot be */
	atomic_int error;     /* of the last that was refused; 0 for none */
};

/* Finds out where clones can be made, by trying. 0, or the negative errno of the first
 * place where that is nowhere: then there is nothing to close. Needs the rights to make a
 * file beside the model's, and /proc. */
MUST_CHECK int cloneplace_open(const struct served *served, struct cloneplaces **places);
void cloneplace_close(struct cloneplaces *places); /* NULL is fine */

/* The place for clones of this shard; NULL for none. Any thread. */
const struct cloneplace *cloneplace_of(const struct cloneplaces *places, uint16_t shard);

/* Remembers that this shard cannot be cloned; says so once. Any thread. */
void cloneplace_refuse(struct cloneplaces *places, const struct source_file *file,
		       uint16_t shard, int err);

/* 0 while some shard can be cloned, else why the last could not. Any thread. */
int cloneplace_error(const struct cloneplaces *places);

/* A file without a name, open for writing. Returns a descriptor or a negative errno. */
MUST_CHECK int cloneplace_file(const struct cloneplace *place);

/* Makes bytes [to, to + len) of `fd` share the blocks of bytes [from, from + len) of the
 * source; all are multiples of the block size. 0 or a negative errno. */
MUST_CHECK int cloneplace_share(int fd, uint64_t to, const struct source_file *file,
				uint64_t from, uint64_t len);

#endif
