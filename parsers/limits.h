/*
 * What a model file may ask for. Each limit bounds memory or time that a hostile file
 * could otherwise choose; all are far above what published models use.
 */
#ifndef PARSERS_LIMITS_H
#define PARSERS_LIMITS_H

#define LIMIT_TENSORS    1000000u /* per model; the largest published has about 92,000 */
#define LIMIT_RANK       64u      /* torch and numpy 2 stop at 64 dimensions */
#define LIMIT_NAME_BYTES 65535u   /* of one tensor name or metadata key */
#define LIMIT_SHARDS     4096u    /* files of one model */

#endif
