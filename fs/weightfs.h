/* One mount: what every part of the daemon works on. */
#ifndef FS_WEIGHTFS_H
#define FS_WEIGHTFS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "options.h"
#include "sandbox.h"
#include "served.h"

/* A file whose content changes while it is looked at: a text made anew when its
 * attributes are asked for, and kept for the reads that follow. */
struct live_file {
	pthread_mutex_t lock; /* protects the rest; not held across a reply */
	char *text;
	size_t len;
	struct timespec made; /* wall clock; the file's mtime */
};

enum live_kind {
	LIVE_STATS,   /* .weightfs/stats.json */
	LIVE_METRICS, /* .weightfs/metrics */
	LIVE_COUNT,
};

struct inodes;
struct passthrough;

struct weightfs {
	struct options options;
	struct served *served;
	const char *mountpoint;  /* absolute */
	char *socket_path;       /* absolute; NULL where there is no control socket */
	struct timespec started; /* monotonic clock */
	struct sandbox sandbox;  /* what was given up */
	struct live_file live[LIVE_COUNT];

	/* NULL where every tensor is streamed: then nothing needs to happen at open. */
	struct inodes *inodes;
	struct passthrough *passthrough;
	int tmpfs;                  /* directory of resident files; -1 for none */
	const char *no_passthrough; /* why it is not tried; NULL where it is */

	/* Set once the kernel has said what it can do. */
	atomic_uint_fast64_t readahead_bytes;
	atomic_bool readahead_raised;
};

#endif
