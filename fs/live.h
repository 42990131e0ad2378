/* .weightfs/stats.json and .weightfs/metrics: what the daemon knows of itself, as files.
 */
#ifndef FS_LIVE_H
#define FS_LIVE_H

#include <sys/stat.h>
#include <sys/types.h>

#include "util/jsonw.h"
#include "weightfs.h"

void live_init(struct weightfs *fs);
void live_fini(struct weightfs *fs);

/* Makes the text anew and tells its size and time. 0 or -ENOMEM. Any thread. */
MUST_CHECK int live_stat(struct weightfs *fs, enum live_kind kind, struct stat *st);

/* Copies bytes of the text that was made last. Returns their number, 0 behind the end. */
size_t live_read(struct weightfs *fs, enum live_kind kind, uint64_t offset, char *buffer,
		 size_t size);

/* Why no file can be passed through on this mount, so that no tensor can have one of its
 * own; NULL where it can. Any thread. */
const char *live_no_passthrough(const struct weightfs *fs);

/* How long the status may take to write. */
enum live_haste {
	LIVE_AT_ONCE, /* somebody waits for a file of the mount, and others behind them */
	LIVE_COUNTED, /* what is cached may be counted, for a moment */
	LIVE_PLACED,  /* and on which NUMA nodes memory lies */
};

/* The document of docs/status.md. Any thread. */
void live_write_status(const struct weightfs *fs, enum live_haste haste, struct jsonw *w);

#endif
