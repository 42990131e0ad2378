/* Runs a parser on bytes in memory, for tests and fuzzers. */
#ifndef TESTS_PARSE_BYTES_H
#define TESTS_PARSE_BYTES_H

#include "parsers/parser.h"

struct parsed {
	int err;             /* what the parser (or sealing) returned */
	struct model *model; /* sealed; NULL when err is not 0 */
	struct diag diag;    /* the words when err is not 0, else empty */
};

/*
 * Parses `bytes` as the only shard ("model") of a model and seals it. The parser works on
 * a copy that is exactly `len` bytes long, so that AddressSanitizer sees each read
 * outside of it. Give `parsed` to parsed_fini().
 */
void parse_bytes(const struct parser_ops *ops, const void *bytes, size_t len,
		 struct parsed *parsed);

void parsed_fini(struct parsed *parsed);

/* What the format writes as metadata.json; the caller frees it. NULL on failure, with the
 * words in `diag`. */
char *metadata_of_bytes(const struct parser_ops *ops, const void *bytes, size_t len,
			struct diag *diag);

#endif
