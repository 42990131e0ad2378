#include "gguf_file.h"

#include "parsers/formats.h"
#include "unit.h"

void put(struct strbuf *f, uint64_t value, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		strbuf_add_char(f, (char)(value >> (8 * i) & 0xff));
}

void put_u32(struct strbuf *f, uint64_t value)
{
	put(f, value, 4);
}

void put_u64(struct strbuf *f, uint64_t value)
{
	put(f, value, 8);
}

void put_bytes(struct strbuf *f, const char *bytes, size_t len)
{
	put_u64(f, len);
	strbuf_add(f, bytes, len);
}

void put_string(struct strbuf *f, const char *text)
{
	put_bytes(f, text, strlen(text));
}

void put_zeros(struct strbuf *f, size_t count)
{
	for (size_t i = 0; i < count; i++)
		strbuf_add_char(f, 0);
}

void pad(struct strbuf *f, size_t alignment)
{
	while (f->len % alignment != 0)
		strbuf_add_char(f, 0);
}

struct strbuf header(uint32_t version, uint64_t tensors, uint64_t keys)
{
	struct strbuf f;

	strbuf_init(&f);
	strbuf_add_str(&f, "GGUF");
	put_u32(&f, version);
	put_u64(&f, tensors);
	put_u64(&f, keys);
	return f;
}

struct strbuf file(uint64_t tensors, uint64_t keys)
{
	return header(3, tensors, keys);
}

void put_key(struct strbuf *f, const char *key, uint32_t type)
{
	put_string(f, key);
	put_u32(f, type);
}

void put_array_key(struct strbuf *f, const char *key, uint32_t type, uint64_t count)
{
	put_key(f, key, ARRAY);
	put_u32(f, type);
	put_u64(f, count);
}

void put_alignment(struct strbuf *f, uint32_t alignment)
{
	put_key(f, "general.alignment", U32);
	put_u32(f, alignment);
}

void put_layout(struct strbuf *f, size_t rank, const uint64_t *dims, uint32_t type,
		uint64_t offset)
{
	put_u32(f, rank);
	for (size_t i = 0; i < rank; i++)
		put_u64(f, dims[i]);
	put_u32(f, type);
	put_u64(f, offset);
}

void put_tensor(struct strbuf *f, const char *name, size_t rank, const uint64_t *dims,
		uint32_t type, uint64_t offset)
{
	put_string(f, name);
	put_layout(f, rank, dims, type, offset);
}

void expect_error(struct strbuf *f, int err, const char *words)
{
	struct parsed parsed;

	ck_assert_int_eq(f->err, 0);
	parse_bytes(&parser_gguf, f->data, f->len, &parsed);
	ck_assert_msg(parsed.err == err, "error %d '%s', expected %d '%s'", parsed.err,
		      parsed.diag.text, err, words);
	ck_assert_msg(strstr(parsed.diag.text, words) != NULL, "'%s' has no '%s'",
		      parsed.diag.text, words);
	parsed_fini(&parsed);
	strbuf_fini(f);
}

void expect_good(struct strbuf *f, struct parsed *parsed)
{
	ck_assert_int_eq(f->err, 0);
	parse_bytes(&parser_gguf, f->data, f->len, parsed);
	ck_assert_msg(parsed->err == 0, "error %d '%s'", parsed->err, parsed->diag.text);
	strbuf_fini(f);
}

void expect_tensors(struct strbuf *f, size_t count)
{
	struct parsed parsed;

	expect_good(f, &parsed);
	ck_assert_uint_eq(model_tensor_count(parsed.model), count);
	ck_assert_uint_eq(model_warning_count(parsed.model), 0);
	parsed_fini(&parsed);
}

void expect_warning(struct strbuf *f, const char *words)
{
	struct parsed parsed;

	expect_good(f, &parsed);
	ck_assert_uint_eq(model_warning_count(parsed.model), 1);
	ck_assert_str_eq(model_warning(parsed.model, 0), words);
	parsed_fini(&parsed);
}
