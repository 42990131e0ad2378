/*
 * Profiles: which tensors a loader used, in the order of their first use.
 *
 *     weightfs-profile 1 tensors=147 bytes=4294967296 model=llama-3b
 *     # first_s time_s bytes view name
 *     0.000 0.031 52428800 tensors model.embed_tokens.weight
 *     0.040 0.004 8388608 tensors model.layers.0.self_attn.q_proj.weight
 *
 * The first line is of the model: its tensors, and their bytes. Each other line is a
 * tensor: seconds from the start of the recording to its first use, from there to its
 * last one, bytes that were used, which files (tensors, npy, safetensors), and its name
 * to the end of the line, in which '%', control characters and what is no UTF-8 are %XX.
 * Lines that begin with '#' are comments; those and empty ones are passed over.
 *
 * Who reads a profile trusts nothing in it.
 */
#ifndef UTIL_PROFILE_H
#define UTIL_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/strbuf.h"

/* Bytes of a whole profile, and of one line with its end: a name of 64 KiB, all of it
 * written as %XX, fits. */
#define PROFILE_MAX      ((size_t)64 << 20)
#define PROFILE_LINE_MAX ((size_t)256 << 10)

/* Milliseconds: 30 years. */
#define PROFILE_MS_MAX 1000000000000u

/* Text of the profile; not terminated. */
struct profile_text {
	const char *at;
	size_t len;
};

struct profile_header {
	uint64_t tensors; /* of the model */
	uint64_t bytes;
	struct profile_text model; /* its name, with %XX */
};

struct profile_use {
	uint64_t first_ms;
	uint64_t time_ms;
	uint64_t bytes;
	struct profile_text view;
	struct profile_text name; /* with %XX */
};

/* The text outlives the reader and what it gives. */
struct profile_reader {
	const char *at;
	const char *end;
	unsigned int line; /* the one that was read last, from 1 on; 0: of the whole */
	const char *wrong; /* what is wrong with it; NULL for nothing */
};

/* Whether a text, or as much of its beginning as is there, is a profile's. */
bool profile_is_one(const char *text, size_t len);

/* Reads the first line. False if that is none; `wrong` says why. */
bool profile_begin(struct profile_reader *reader, const char *text, size_t len,
		   struct profile_header *header);

/* Reads the next line of a tensor. False at the end, or where `wrong` is set. */
bool profile_next(struct profile_reader *reader, struct profile_use *use);

/* Turns a name back into its bytes, of which there are at most as many; `out` has room
 * for them. False where a '%' is followed by no two digits. */
bool profile_decode(struct profile_text name, char *out, size_t *len);

/* Append lines, with what the names need already in them. */
void profile_write_header(struct strbuf *out, const struct profile_header *header);
void profile_write_use(struct strbuf *out, const struct profile_use *use);

#endif
