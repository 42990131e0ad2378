/* Profiles: whatever the text, each line is either taken apart or found wrong, and what
 * was taken apart is written so that it reads the same. */
#include <stdint.h>
#include <stdio.h>

#include "util/macros.h"
#include "util/profile.h"

/* The name is libFuzzer's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static bool is_same(struct profile_text a, struct profile_text b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static bool lies_in(struct profile_text part, const char *text, size_t len)
{
	return part.at >= text && part.len <= len &&
	       (size_t)(part.at - text) <= len - part.len;
}

static void check_name(struct profile_text name)
{
	CLEANUP(free_ptr) char *bytes = malloc(name.len + 1);
	size_t len;

	require(bytes && name.len > 0);
	if (profile_decode(name, bytes, &len))
		require(len <= name.len);
}

/* Writes a line and reads it again. */
static void check_line(const struct profile_header *header, const struct profile_use *use)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	struct profile_header header_again;
	struct profile_use again;
	struct profile_reader reader;

	profile_write_header(&out, header);
	profile_write_use(&out, use);
	require(out.err == 0);
	require(profile_begin(&reader, out.data, out.len, &header_again));
	require(header_again.tensors == header->tensors &&
		header_again.bytes == header->bytes &&
		is_same(header_again.model, header->model));
	require(profile_next(&reader, &again));
	require(again.first_ms == use->first_ms && again.time_ms == use->time_ms &&
		again.bytes == use->bytes && is_same(again.view, use->view) &&
		is_same(again.name, use->name));
	require(!profile_next(&reader, &again) && !reader.wrong);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Exactly as long as the input, so that AddressSanitizer sees reads outside. */
	CLEANUP(free_ptr) char *text = malloc(size > 0 ? size : 1);
	struct profile_reader reader;
	struct profile_header header;
	struct profile_use use;

	require(text != NULL);
	memcpy(text, data, size);
	if (!profile_begin(&reader, text, size, &header)) {
		require(reader.wrong != NULL);
		return 0;
	}
	require(lies_in(header.model, text, size));
	while (profile_next(&reader, &use)) {
		require(lies_in(use.view, text, size) && lies_in(use.name, text, size));
		check_name(use.name);
		check_line(&header, &use);
	}
	require(!profile_next(&reader, &use));
	return 0;
}
