/* What the status says about NUMA. */
#ifndef FS_PLACEMENT_STATUS_H
#define FS_PLACEMENT_STATUS_H

#include "util/jsonw.h"
#include "weightfs.h"

/* Writes the member "numa" of docs/status.md. Any thread. */
void placement_write_status(const struct weightfs *fs, struct jsonw *w);

#endif
