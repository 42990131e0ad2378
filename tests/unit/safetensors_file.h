/* Files of safetensors, built and parsed for tests. */
#ifndef TESTS_SAFETENSORS_FILE_H
#define TESTS_SAFETENSORS_FILE_H

#include "parse_bytes.h"
#include "parsers/formats.h"

/* A tensor of U8 elements as it stands in a header; the numbers are string literals. Its
 * shape is [end], which is its size when `begin` is "0". */
#define U8_AT(name, begin, end)                                                       \
	"\"" name "\":{\"dtype\":\"U8\",\"shape\":[" end "],\"data_offsets\":[" begin \
	"," end "]}"

/* Little-endian. */
void file_add_u64(struct strbuf *file, uint64_t value);

/* Starts `file` with the length and the bytes of `header`, then `data_len` zeros. The
 * caller gives it to strbuf_fini(). */
void file_build(struct strbuf *file, const char *header, size_t len, size_t data_len);

/* Each takes a header as it stands in the file; `data_len` zeros follow as the bytes of
 * the tensors. `words` is the whole sentence. */
void expect_file_refused(const void *bytes, size_t len, int err, const char *words);
void expect_bytes_refused(const char *header, size_t len, size_t data_len, int err,
			  const char *words);
void expect_refused(const char *header, size_t data_len, int err, const char *words);

/* Parses a good file; the caller gives `parsed` to parsed_fini(). */
void accept_header(const char *header, size_t data_len, struct parsed *parsed);
void expect_accepted(const char *header, size_t data_len, size_t tensors,
		     size_t warnings);

#endif
