#include "safetensors_file.h"

#include <check.h>

void file_add_u64(struct strbuf *file, uint64_t value)
{
	for (unsigned int i = 0; i < 8; i++)
		strbuf_add_char(file, (char)(value >> 8 * i & 0xff));
}

void file_build(struct strbuf *file, const char *header, size_t len, size_t data_len)
{
	strbuf_init(file);
	file_add_u64(file, len);
	strbuf_add(file, header, len);
	for (size_t i = 0; i < data_len; i++)
		strbuf_add_char(file, '\0');
	ck_assert_int_eq(file->err, 0);
}

void expect_file_refused(const void *bytes, size_t len, int err, const char *words)
{
	struct parsed parsed;

	parse_bytes(&parser_safetensors, bytes, len, &parsed);
	ck_assert_int_eq(parsed.err, err);
	ck_assert_str_eq(parsed.diag.text, words);
	parsed_fini(&parsed);
}

void expect_bytes_refused(const char *header, size_t len, size_t data_len, int err,
			  const char *words)
{
	CLEANUP(strbuf_fini) struct strbuf file;

	file_build(&file, header, len, data_len);
	expect_file_refused(file.data, file.len, err, words);
}

void expect_refused(const char *header, size_t data_len, int err, const char *words)
{
	expect_bytes_refused(header, strlen(header), data_len, err, words);
}

void accept_header(const char *header, size_t data_len, struct parsed *parsed)
{
	CLEANUP(strbuf_fini) struct strbuf file;

	file_build(&file, header, strlen(header), data_len);
	parse_bytes(&parser_safetensors, file.data, file.len, parsed);
	ck_assert_msg(parsed->err == 0, "%s", parsed->diag.text);
}

void expect_accepted(const char *header, size_t data_len, size_t tensors, size_t warnings)
{
	struct parsed parsed;

	accept_header(header, data_len, &parsed);
	ck_assert_uint_eq(model_tensor_count(parsed.model), tensors);
	ck_assert_uint_eq(model_warning_count(parsed.model), warnings);
	parsed_fini(&parsed);
}
