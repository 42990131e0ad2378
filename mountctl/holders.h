/* Who keeps a mount busy. */
#ifndef MOUNTCTL_HOLDERS_H
#define MOUNTCTL_HOLDERS_H

#include "mountctl/mounts.h"

/* Logs up to five processes that have something below `mountpoint` open, mapped, or as
 * their working directory, and the mounts below it. Best effort: other users' processes
 * are hidden from all but root. */
void holders_log(const char *mountpoint, const struct mounts *mounts);

#endif
