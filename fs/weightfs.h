/* One mount: what every part of the daemon works on. */
#ifndef FS_WEIGHTFS_H
#define FS_WEIGHTFS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "busy_poll.h"
#include "numa_mirror.h"
#include "options.h"
#include "refusal.h"
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

struct advices;
struct cloneplaces;
struct hints;
struct inodes;
struct jobs;
struct passthrough;
struct pins;
struct placement;
struct predict;
struct prefetcher;
struct pressure;
struct profile;
struct push;
struct recorder;
struct residency;
struct source_cache;

struct weightfs {
	struct options options;
	struct served *served;
	const char *mountpoint;  /* absolute */
	char *socket_path;       /* absolute; NULL where there is no control socket */
	struct timespec started; /* monotonic clock */
	struct sandbox sandbox;  /* what was given up */
	struct live_file live[LIVE_COUNT];
	struct busy_poll busy_poll;
	struct placement *placement; /* on which NUMA nodes memory lies */

	/* NULL until the mount serves. */
	struct hints *hints;
	struct jobs *jobs;
	struct pins *pins;

	/* NULL where every tensor is streamed: then nothing needs to happen at open. */
	struct inodes *inodes;
	struct passthrough *passthrough;
	atomic_bool stopping;       /* the session ends: what is being made is given up */
	struct recorder *recorder;  /* what is used, for a profile */
	struct profile *profile;    /* to predict by; NULL for none */
	bool all_small;             /* no tensor is large enough for a file of its own */
	struct predict *predict;    /* NULL: nothing is made resident unless asked for */
	struct pressure *pressure;  /* makes files give way; NULL without `inodes` */
	int tmpfs;                  /* directory of resident files; -1 for none */
	struct numa_mirror mirror;  /* memory nodes with a tree of their own */
	struct cloneplaces *clones; /* where clones are made; NULL for nowhere */
	const char *no_passthrough; /* why it is not tried; NULL where it is */
	char no_clones[REFUSAL_MAX]; /* why `clones` is NULL; else empty */

	struct advices *advices;           /* how tensors are read */
	struct residency *residency;       /* what of the source is cached */
	struct prefetcher *prefetcher;     /* NULL: nothing is read ahead */
	struct push *push;                 /* NULL: nothing is pushed to clients */
	struct source_cache *source_cache; /* NULL: what was read stays there */

	/* Set once the kernel has said what it can do. */
	atomic_uint_fast64_t readahead_bytes;
	atomic_bool readahead_raised;
};

#endif
