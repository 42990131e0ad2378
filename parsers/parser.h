/*
 * The formats. Each is one file that ends in one `const struct parser_ops`, and one line
 * in the table of parser.c. A format is recognised by content; the file name is asked
 * only to choose whose error message fits a file that no format recognises.
 */
#ifndef PARSERS_PARSER_H
#define PARSERS_PARSER_H

#include <stdbool.h>
#include <stdint.h>

#include "parsers/model.h"
#include "parsers/reader.h"
#include "util/jsonw.h"

struct parser_magic {
	uint64_t offset;
	const char *bytes;
	size_t len;
};

struct parser_ops {
	const char *name;                  /* as in model.json and -o format= */
	const char *longname;              /* for people */
	const struct parser_magic *magics; /* ends with a NULL in .bytes; may be NULL */
	const char *const
		*suffixes; /* file names that promise this format; NULL-terminated */

	/* For formats without a magic: whether the file looks like one. Optional. */
	bool (*probe)(struct reader *r);

	/* Adds the tensors of `shard`, whose bytes `r` reads. 0, or a negative errno with
	 * the words in r->diag. */
	int (*parse)(struct reader *r, struct model *model, uint16_t shard);

	/* Writes the format's own metadata as one JSON object. Reads the file again:
	 * nothing of it is kept in memory. 0, or a negative errno with the words in
	 * r->diag. */
	int (*write_metadata)(struct reader *r, struct jsonw *out);
};

/* The parser of that name, or NULL. */
const struct parser_ops *parser_find(const char *name);

/* All parsers, NULL-terminated. */
extern const struct parser_ops *const parser_table[];

/* The parser for this content, else the one that `file_name` (NULL for none) promises,
 * else NULL: then the file is no model file that is known. Moves r->pos. */
const struct parser_ops *parser_recognise(struct reader *r, const char *file_name);

/* The parser that a file name of `len` bytes promises, or NULL. */
const struct parser_ops *parser_promised(const char *file_name, size_t len);

/* Like parser_recognise() but by content alone. */
const struct parser_ops *parser_probe(struct reader *r);

#endif
