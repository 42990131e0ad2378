/*
 * What this machine gives to a mount, found out by trying each thing and taking it back:
 * the answer to `weightfs --probe`, which `mountctl doctor` explains.
 */
#ifndef FS_PROBE_H
#define FS_PROBE_H

#include "util/macros.h"
#include "util/strbuf.h"

/* Appends one JSON object; docs/weightfs.8 lists its members. Nothing stays mounted, open
 * or written. Before any thread exists. 0 or -ENOMEM. */
MUST_CHECK int probe_write(struct strbuf *out);

#endif
