/*
 * How tensors are read, as people say or as their reads show: what that means for reading
 * the source ahead.
 *
 *     normal      what is read in pieces here and there is taken for random
 *     sequential  when its start is read, the rest of it is wanted
 *     random      the kernel reads no more of the source than is asked for, and nobody
 *                 predicts that the tensor will be read
 *
 * Rules are kept for as long as the mount lasts; the last one that matches a tensor
 * counts. What acts at once and is not kept (willneed, dontneed) is done by hints.c.
 */
#ifndef FS_ADVICE_H
#define FS_ADVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "served.h"
#include "util/jsonw.h"

enum advice {
	ADVICE_NORMAL,
	ADVICE_SEQUENTIAL,
	ADVICE_RANDOM,
	ADVICE_WILLNEED,
	ADVICE_DONTNEED,
	ADVICE_COUNT,
};

/* As in requests and on the command line. */
const char *advice_name(enum advice advice);

/* False where there is none with this name, which may be NULL. */
bool advice_parse(const char *name, enum advice *advice);

/* Rules that are kept at a time. */
#define ADVICE_RULES_MAX 256u

/* Bytes of a rule's pattern: everybody who looks at stats.json gets all of them. */
#define ADVICE_PATTERN_MAX 1024u

struct advices;

/* Opens a second descriptor of each file that has tensors; before the sandbox.
 * `jump_bytes` is what one touch of a mapping makes a client read. Borrows `served`. 0 or
 * -ENOMEM. A file that cannot be opened again is read as if nothing were random, and so
 * are all where that would take more than a quarter of RLIMIT_NOFILE. */
MUST_CHECK int advices_new(const struct served *served, uint64_t jump_bytes,
			   struct advices **advices);
void advices_free(struct advices *advices); /* NULL is fine */

/* ---- Rules; any thread, one at a time for the lock is theirs ---- */

/* Keeps a rule. 0; -E2BIG: the pattern is too long; -ENOSPC: there are ADVICE_RULES_MAX;
 * or -ENOMEM. */
MUST_CHECK int advices_add_rule(struct advices *advices, const char *pattern,
				enum advice advice);

/* Has a rule apply to a tensor. Returns whether it was otherwise before. */
bool advices_set(struct advices *advices, uint32_t tensor, enum advice advice);

/* Writes an array of the rules, the one that counts most last; NULL has none. */
void advices_write(struct advices *advices, struct jsonw *w);

/* ---- Reads; any thread, no lock; NULL is fine and knows nothing ---- */

/* What was said of a tensor last. */
enum advice advices_of(const struct advices *advices, uint32_t tensor);

/* Whether it is read at random offsets, as was said or as its reads show. */
bool advices_is_random(const struct advices *advices, uint32_t tensor);

/* A READ of a tensor's bytes. */
void advices_note_read(struct advices *advices, uint32_t tensor, uint64_t offset,
		       uint64_t len);

/* The descriptor to read a tensor by: for random ones one through which the kernel reads
 * nothing ahead. Whether it does is a property of the open file, not of a range. */
int advices_fd(const struct advices *advices, uint32_t tensor,
	       const struct source_file *file);

#endif
