/*
 * Parses the files of a model: one, or several ("shards") that an index names, that their
 * names number, or that say of themselves that they are parts (split GGUF).
 */
#ifndef FS_SHARDS_H
#define FS_SHARDS_H

#include "choose.h"
#include "served.h"

/* Makes the model, and what `served` has of its files, from what was chosen. 0, or a
 * negative errno with words that start with the file to blame. */
MUST_CHECK int shards_load(struct served *served, const struct choice *choice,
			   struct diag *diag);

#endif
