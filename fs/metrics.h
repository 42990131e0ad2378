/* The text of .weightfs/metrics: counters for a monitoring system, in the text format of
 * Prometheus, version 0.0.4. */
#ifndef FS_METRICS_H
#define FS_METRICS_H

#include "inodes.h"
#include "util/strbuf.h"

/* Appends the text. `all` has the sums of all backings, of `stream` as well. Any thread.
 */
void metrics_write(const struct weightfs *fs, const struct inodes_summary *all,
		   double uptime_s, struct strbuf *out);

#endif
