/*
 * What kernel and daemon agree on in INIT, with either library: from libfuse 3.17 on the
 * features are words of 64 bits of their own, and whoever uses them must leave the old
 * ones alone.
 */
#ifndef FS_CONN_H
#define FS_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "ops.h"

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
#define CONN_CAPABLE capable_ext
#define CONN_WANT    want_ext
typedef uint64_t conn_features;
#else
#define CONN_CAPABLE capable
#define CONN_WANT    want
typedef unsigned int conn_features;
#endif

/* Whether the kernel offers all of these FUSE_CAP_*. From the init operation, as the
 * others. */
static inline bool conn_offers(const struct fuse_conn_info *conn, conn_features features)
{
	return (conn->CONN_CAPABLE & features) == features;
}

/* Takes of these what the kernel offers. */
static inline void conn_want(struct fuse_conn_info *conn, conn_features features)
{
	conn->CONN_WANT |= conn->CONN_CAPABLE & features;
}

static inline void conn_refuse(struct fuse_conn_info *conn, conn_features features)
{
	conn->CONN_WANT &= ~features;
}

#endif
