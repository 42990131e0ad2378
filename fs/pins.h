/*
 * Which files are not to be evicted, and why: because a person pinned them, or because a
 * job holds on to what it has made until all of it is there. inodes.h knows only whether
 * a file is pinned; here it is counted for whom.
 *
 * Any thread. The lock is held while inodes_pin() is called, so that the last one to let
 * go and the next one to hold cannot pass each other.
 */
#ifndef FS_PINS_H
#define FS_PINS_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

struct pins;

/* 0 or -ENOMEM. */
MUST_CHECK int pins_new(struct weightfs *fs, struct pins **pins);
void pins_free(struct pins *pins); /* NULL is fine */

/* Pins one file of a tensor's view for a person, or undoes that. `changed` tells whether
 * it was otherwise before. 0 or -ENOMEM. */
MUST_CHECK int pins_set(struct pins *pins, struct node node, bool pinned, bool *changed);

/* Holds on to a file for a job, which lets it go again as often as it took hold. 0 or
 * -ENOMEM. */
MUST_CHECK int pins_hold(struct pins *pins, struct node node);
void pins_release(struct pins *pins, struct node node);

/* Whether a person pinned this file; whether a job holds on to it. */
bool pins_is_set(struct pins *pins, struct node node);
bool pins_is_held(struct pins *pins, struct node node);

/* How many files are pinned by a person. */
uint64_t pins_count(struct pins *pins);

#endif
