#include "parsers/parser.h"

#include "parsers/formats.h"

const struct parser_ops *const parser_table[] = {
	&parser_gguf,
	&parser_safetensors,
	NULL,
};

const struct parser_ops *parser_find(const char *name)
{
	for (size_t i = 0; parser_table[i]; i++)
		if (strcmp(parser_table[i]->name, name) == 0)
			return parser_table[i];
	return NULL;
}

static bool has_magic(struct reader *r, const struct parser_magic *magic)
{
	const uint8_t *bytes;

	return reader_seek(r, "magic", magic->offset) == 0 &&
	       reader_bytes(r, "magic", magic->len, &bytes) == 0 &&
	       memcmp(bytes, magic->bytes, magic->len) == 0;
}

static bool recognises(const struct parser_ops *ops, struct reader *r)
{
	for (const struct parser_magic *m = ops->magics; m && m->bytes; m++)
		if (has_magic(r, m))
			return true;
	r->pos = 0;
	return ops->probe && ops->probe(r);
}

static bool promises(const struct parser_ops *ops, const char *file_name, size_t len)
{
	for (const char *const *suffix = ops->suffixes; *suffix; suffix++) {
		size_t n = strlen(*suffix);

		if (len > n && memcmp(file_name + len - n, *suffix, n) == 0)
			return true;
	}
	return false;
}

const struct parser_ops *parser_probe(struct reader *r)
{
	for (size_t i = 0; parser_table[i]; i++)
		if (recognises(parser_table[i], r))
			return parser_table[i];
	return NULL;
}

const struct parser_ops *parser_promised(const char *file_name, size_t len)
{
	for (size_t i = 0; parser_table[i]; i++)
		if (promises(parser_table[i], file_name, len))
			return parser_table[i];
	return NULL;
}

const struct parser_ops *parser_recognise(struct reader *r, const char *file_name)
{
	const struct parser_ops *ops = parser_probe(r);

	return ops || !file_name ? ops : parser_promised(file_name, strlen(file_name));
}
