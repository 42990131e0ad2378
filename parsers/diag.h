/*
 * One sentence that says why an operation failed, worded where the failure is found.
 *
 * Parsers word it as `what: detail` (with the offset or the tensor to blame); whoever
 * knows the file puts its name in front with diag_prefix(). Text from a file goes through
 * diag_quote(), so that a name cannot bring escape sequences to a terminal.
 */
#ifndef PARSERS_DIAG_H
#define PARSERS_DIAG_H

#include <stddef.h>

#include "util/macros.h"

/* A path and a sentence. */
#define DIAG_TEXT_MAX 5120

struct diag {
	char text[DIAG_TEXT_MAX];
};

/* Keeps the sentence and returns `err`: return diag_fail(diag, -EBADMSG, "...", ...); */
PRINTF_LIKE(3, 4) int diag_fail(struct diag *diag, int err, const char *format, ...);

/* Puts "PREFIX: " in front of the sentence. */
void diag_prefix(struct diag *diag, const char *prefix);

#define DIAG_QUOTE_MAX 128

/* `bytes` between single quotes: unprintable bytes, quotes and backslashes as \xHH, more
 * than about 100 bytes cut with "...". Returns `out`. */
const char *diag_quote(char out[static DIAG_QUOTE_MAX], const void *bytes, size_t len);

/* For one use inside a call: diag_fail(..., "tensor %s", DIAG_QUOTED(name, len)). */
#define DIAG_QUOTED(bytes, len) diag_quote((char[DIAG_QUOTE_MAX]){ 0 }, (bytes), (len))

#endif
