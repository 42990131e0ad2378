/* What the status says about NUMA. */
#ifndef FS_PLACEMENT_STATUS_H
#define FS_PLACEMENT_STATUS_H

#include "util/jsonw.h"
#include "weightfs.h"

/* Writes the member "numa" of docs/status.md. With `pages` what lies where is counted: of
 * more than 1 GiB a sample, which takes some 0.1 s. Any thread. */
void placement_write_status(const struct weightfs *fs, bool pages, struct jsonw *w);

#endif
