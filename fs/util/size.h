/* Sizes as people write and read them. Units are powers of 1024. */
#ifndef UTIL_SIZE_H
#define UTIL_SIZE_H

#include <stdint.h>

#include "util/macros.h"

/* Reads "4096", "128K", "4M", "2G" or "1T" (either case, an optional "iB" or "B" behind
 * the unit). Returns 0, -EINVAL for anything else or -ERANGE above 2^63 - 1. */
MUST_CHECK int size_parse(const char *text, uint64_t *bytes);

#define SIZE_TEXT_MAX 16

/* "512 B", "1.5 KiB", "640.2 GiB"; returns `text`. */
const char *size_format(uint64_t bytes, char text[static SIZE_TEXT_MAX]);

#endif
