/*
 * Shell patterns on names of tensors, as the daemon and mountctl both take them: those of
 * fnmatch(3), where '*' and '?' match dots and slashes too. Names and patterns are bytes.
 */
#ifndef UTIL_PATTERN_H
#define UTIL_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "util/strbuf.h"

/* A name as patterns see it: a string of C, so that a NUL in it counts as the byte 1. It
 * lies in `scratch`, until the next call or the end of that. NULL when out of memory. */
const char *pattern_subject(struct strbuf *scratch, const char *name, size_t len);

bool pattern_matches(const char *pattern, const char *subject);

#endif
