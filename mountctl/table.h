/* Rows of text in aligned columns. */
#ifndef MOUNTCTL_TABLE_H
#define MOUNTCTL_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/strbuf.h"

#define TABLE_COLUMNS_MAX 12

struct table_column {
	const char *title; /* NULL in the first column: no line of titles */
	bool right;        /* numbers: aligned to the right */
};

struct table {
	const struct table_column *columns;
	int column_count;
	size_t cells;
	size_t widths[TABLE_COLUMNS_MAX];
	struct strbuf text; /* all cells, each ended by NUL */
};

/* `columns` must outlive the table. */
void table_init(struct table *table, const struct table_column *columns,
		int column_count);
void table_fini(struct table *table);

/* The next cell, row by row. It must be printable already (text_escape()). */
void table_add(struct table *table, const char *cell);
void table_add_size(struct table *table, uint64_t bytes);

/* Prints to stdout, titles in bold, `indent` spaces in front of each row. 0 or -ENOMEM.
 */
MUST_CHECK int table_print(const struct table *table, int indent);

#endif
