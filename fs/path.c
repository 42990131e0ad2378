#include "path.h"

#include <stdio.h>
#include <string.h>

#include "util/utf8.h"

/* '~' and 16 hexadecimal digits. */
#define MARK_LEN 17

static const char hex_digits[] = "0123456789ABCDEF";

static bool needs_escape(unsigned char c, bool encode_slash)
{
	return c < 0x20 || c == 0x7f || c == '%' || (encode_slash && c == '/');
}

/* Length of the run at the start of `bytes` that is taken over as it is. */
static size_t plain_run(const char *bytes, size_t len, bool encode_slash)
{
	size_t i = 0;

	while (i < len) {
		unsigned char c = (unsigned char)bytes[i];
		size_t n = c < 0x80 ? 1 : utf8_char_len(bytes + i, len - i);

		if (n == 0 || needs_escape(c, encode_slash))
			break;
		i += n;
	}
	return i;
}

/* "." and ".." cannot be file names. They occur only where a name is not split at dots.
 */
static bool is_dots(const char *bytes, size_t len)
{
	return (len == 1 && bytes[0] == '.') ||
	       (len == 2 && bytes[0] == '.' && bytes[1] == '.');
}

bool path_is_plain(const char *bytes, size_t len, bool encode_slash)
{
	return len > 0 && !is_dots(bytes, len) &&
	       plain_run(bytes, len, encode_slash) == len;
}

static void add_escape(struct strbuf *out, unsigned char c)
{
	const char escape[3] = { '%', hex_digits[c >> 4], hex_digits[c & 15] };

	strbuf_add(out, escape, sizeof(escape));
}

void path_encode(struct strbuf *out, const char *bytes, size_t len, bool encode_slash)
{
	bool dots = is_dots(bytes, len);
	size_t i = 0;

	if (len == 0)
		strbuf_add_char(out, '%');
	while (i < len) {
		size_t run = dots ? 0 : plain_run(bytes + i, len - i, encode_slash);

		strbuf_add(out, bytes + i, run);
		i += run;
		if (i < len)
			add_escape(out, (unsigned char)bytes[i++]);
	}
}

static int hex_value(char c)
{
	const char *digit = c ? strchr(hex_digits, c) : NULL;

	return digit ? (int)(digit - hex_digits) : -1;
}

bool path_decode(const char *stem, size_t len, char *out, size_t *out_len)
{
	size_t n = 0;

	if (len == 1 && stem[0] == '%') {
		*out_len = 0;
		return true;
	}
	for (size_t i = 0; i < len; i++) {
		int high;
		int low;

		if (stem[i] != '%') {
			out[n++] = stem[i];
			continue;
		}
		if (len - i < 3)
			return false;
		high = hex_value(stem[i + 1]);
		low = hex_value(stem[i + 2]);
		if (high < 0 || low < 0)
			return false;
		out[n++] = (char)(high * 16 + low);
		i += 2;
	}
	*out_len = n;
	return true;
}

bool path_cut_hash(const char *name, size_t len, uint64_t *hash)
{
	uint64_t value = 0;

	if (len < MARK_LEN || name[len - MARK_LEN] != '~')
		return false;
	for (size_t i = len - MARK_LEN + 1; i < len; i++) {
		char c = name[i];

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*hash = value;
	return true;
}

/* Shorter than any cut file name: those lack at most one escape or character of 255 bytes
 * less the longest suffix. */
#define LOOKS_CUT_LEN 200

bool path_needs_cut(const char *stem, size_t len, size_t suffix_len)
{
	uint64_t hash;

	if (len > PATH_NAME_MAX - suffix_len)
		return true;
	return len >= LOOKS_CUT_LEN && path_cut_hash(stem, len, &hash);
}

/* The longest length up to `most` that ends between two characters and outside of an
 * escape. */
static size_t boundary(const char *stem, size_t len, size_t most)
{
	size_t i = 0;

	if (len <= most)
		return len;
	for (;;) {
		size_t n = stem[i] == '%' ? 3 : utf8_char_len(stem + i, len - i);

		if (n == 0)
			n = 1;
		if (i + n > most)
			return i;
		i += n;
	}
}

size_t path_file_name(const char *stem, size_t len, const char *suffix, uint64_t hash,
		      char out[static PATH_NAME_MAX + 1])
{
	size_t suffix_len = strlen(suffix);

	if (path_needs_cut(stem, len, suffix_len)) {
		size_t keep = boundary(stem, len, PATH_NAME_MAX - MARK_LEN - suffix_len);

		memcpy(out, stem, keep);
		(void)snprintf(out + keep, MARK_LEN + 1, "~%016llx",
			       (unsigned long long)hash);
		len = keep + MARK_LEN;
	} else {
		memcpy(out, stem, len);
	}
	memcpy(out + len, suffix, suffix_len + 1);
	return len + suffix_len;
}
