/* Parts of the GGUF parser that its two files share. */
#ifndef PARSERS_GGUF_KV_H
#define PARSERS_GGUF_KV_H

#include "parsers/model.h"
#include "parsers/reader.h"
#include "util/jsonw.h"

struct gguf_header {
	uint32_t version;
	uint64_t tensor_count;
	uint64_t key_count;
};

/* What parsing needs of the keys. */
struct gguf_facts {
	uint32_t alignment; /* of the data */
	struct shard_part part;
};

/* Reads a u64 length. The file must hold that many bytes more, and `most` is the limit.
 */
MUST_CHECK int gguf_read_length(struct reader *r, const char *what, uint64_t most,
				uint64_t *len);

/* Whether the rest of the file can hold `count` things of at least `unit` bytes, and
 * whether they are at most `most`. The count stood at `pos`. */
MUST_CHECK int gguf_check_count(struct reader *r, const char *what, uint64_t pos,
				uint64_t count, unsigned int unit, uint64_t most);

/*
 * Reads all keys and their values, from behind the header to the first tensor. Writes
 * them into the object that is open in `out`, the fields of the header first; NULL: they
 * are checked and skipped.
 */
MUST_CHECK int gguf_read_keys(struct reader *r, const struct gguf_header *h,
			      struct jsonw *out, struct gguf_facts *facts);

#endif
