#include "mountctl/table.h"

#include <assert.h>
#include <stdio.h>

#include "mountctl/text.h"
#include "util/log.h"
#include "util/size.h"

void table_init(struct table *table, const struct table_column *columns, int column_count)
{
	assert(column_count > 0 && column_count <= TABLE_COLUMNS_MAX);
	*table = (struct table){ .columns = columns, .column_count = column_count };
	for (int i = 0; columns[0].title && i < column_count; i++)
		table->widths[i] = text_width(columns[i].title);
}

void table_fini(struct table *table)
{
	strbuf_fini(&table->text);
}

void table_add(struct table *table, const char *cell)
{
	size_t *width = &table->widths[table->cells % (size_t)table->column_count];
	size_t needed = text_width(cell);

	if (needed > *width)
		*width = needed;
	strbuf_add(&table->text, cell, strlen(cell) + 1);
	table->cells++;
}

void table_add_size(struct table *table, uint64_t bytes)
{
	char text[SIZE_TEXT_MAX];

	table_add(table, size_format(bytes, text));
}

static void print_cell(const struct table *table, int column, const char *cell)
{
	size_t fill = table->widths[column] - text_width(cell);
	bool last = column == table->column_count - 1;
	int before = table->columns[column].right ? (int)fill : 0;
	int behind = table->columns[column].right || last ? 0 : (int)fill;

	(void)printf("%*s%s%*s%s", before, "", cell, behind, "", last ? "" : "  ");
}

static void print_titles(const struct table *table, int indent)
{
	(void)printf("%s%*s", text_style(TEXT_BOLD), indent, "");
	for (int i = 0; i < table->column_count; i++)
		print_cell(table, i, table->columns[i].title);
	(void)printf("%s\n", text_style(TEXT_PLAIN));
}

int table_print(const struct table *table, int indent)
{
	const char *cell = table->text.data;

	if (table->text.err)
		return log_errno(table->text.err, "table");
	if (table->columns[0].title)
		print_titles(table, indent);
	for (size_t i = 0; i < table->cells; i++) {
		int column = (int)(i % (size_t)table->column_count);

		if (column == 0)
			(void)printf("%*s", indent, "");
		print_cell(table, column, cell);
		if (column == table->column_count - 1)
			(void)putchar('\n');
		cell += strlen(cell) + 1;
	}
	return 0;
}
