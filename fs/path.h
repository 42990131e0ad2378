/*
 * Tensor names as file names: the encoding of docs/formats.md ("Names"). It is injective:
 * two names never have the same path.
 *
 * A "stem" is an encoded component without the suffix of a view and of any length; a
 * "file name" is what stands in a directory: stem and suffix, cut to 255 bytes where that
 * is too long.
 */
#ifndef FS_PATH_H
#define FS_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/strbuf.h"

/* NAME_MAX: bytes of one file name. */
#define PATH_NAME_MAX 255

/* Appends the stem for the bytes of one component. `encode_slash` for names that are not
 * split at '/'. */
void path_encode(struct strbuf *out, const char *bytes, size_t len, bool encode_slash);

/* Whether path_encode() would append the bytes unchanged. */
bool path_is_plain(const char *bytes, size_t len, bool encode_slash);

/* Whether this stem needs cutting in a view with a suffix of this length. True as well
 * for a stem that looks as if it had been cut: so that a name cannot pretend to be
 * another one's cut form, it is marked with its own hash. */
bool path_needs_cut(const char *stem, size_t len, size_t suffix_len);

/* Writes the file name of a stem and returns its length. `hash` is that of the whole
 * name. */
size_t path_file_name(const char *stem, size_t len, const char *suffix, uint64_t hash,
		      char out[static PATH_NAME_MAX + 1]);

/* The hash that a cut file name ends in, if the name (without suffix) ends in one. */
bool path_cut_hash(const char *name, size_t len, uint64_t *hash);

/* Turns a stem back into the bytes it encodes; false if it is no valid encoding. `out`
 * has room for `len` bytes. The empty component '%' gives no bytes. */
bool path_decode(const char *stem, size_t len, char *out, size_t *out_len);

#endif
