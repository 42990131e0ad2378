/*
 * Writes GGUF files byte by byte for the tests, and says what the parser must make of
 * them.
 */
#ifndef TESTS_GGUF_FILE_H
#define TESTS_GGUF_FILE_H

#include "parse_bytes.h"

/* Types of values. */
enum {
	U8,
	I8,
	U16,
	I16,
	U32,
	I32,
	F32,
	BOOL,
	STRING,
	ARRAY,
	U64,
	I64,
	F64,
};

/* Types of tensors. */
enum {
	GGML_F32 = 0,
	GGML_F16 = 1,
	GGML_Q4_0 = 2,
	GGML_I8 = 24,
	GGML_I64 = 27,
};

#define MINUS_ONE UINT64_MAX

/* The header of a file with these counts; version 3 for file(). */
struct strbuf header(uint32_t version, uint64_t tensors, uint64_t keys);
struct strbuf file(uint64_t tensors, uint64_t keys);

void put(struct strbuf *f, uint64_t value, unsigned int bytes);
void put_u32(struct strbuf *f, uint64_t value);
void put_u64(struct strbuf *f, uint64_t value);
void put_zeros(struct strbuf *f, size_t count);
void pad(struct strbuf *f, size_t alignment);

/* A length and the bytes. */
void put_bytes(struct strbuf *f, const char *bytes, size_t len);
void put_string(struct strbuf *f, const char *text);

/* A key up to its value, or up to the elements of its array. */
void put_key(struct strbuf *f, const char *key, uint32_t type);
void put_array_key(struct strbuf *f, const char *key, uint32_t type, uint64_t count);
void put_alignment(struct strbuf *f, uint32_t alignment);

/* The dimensions in the order of the file, innermost first. */
#define DIMS(...) ARRAY_LEN(((uint64_t[]){ __VA_ARGS__ })), ((uint64_t[]){ __VA_ARGS__ })
#define SCALAR    0, NULL

/* What is said of a tensor; put_layout() without its name. */
void put_layout(struct strbuf *f, size_t rank, const uint64_t *dims, uint32_t type,
		uint64_t offset);
void put_tensor(struct strbuf *f, const char *name, size_t rank, const uint64_t *dims,
		uint32_t type, uint64_t offset);

/* What the parser must make of the file, which is freed. `words` is a part of what is
 * said; expect_tensors() allows no warning. The caller gives `parsed` to parsed_fini().
 */
void expect_error(struct strbuf *f, int err, const char *words);
void expect_good(struct strbuf *f, struct parsed *parsed);
void expect_tensors(struct strbuf *f, size_t count);
void expect_warning(struct strbuf *f, const char *words);

#endif
