#include "parsers/diag.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/utf8.h"

int diag_fail(struct diag *diag, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(diag->text, sizeof(diag->text), format, args);
	va_end(args);
	return err;
}

void diag_prefix(struct diag *diag, const char *prefix)
{
	char *text = diag->text;
	size_t len = strlen(prefix);

	/* A prefix that long is cut: the sentence matters more. */
	if (len > DIAG_TEXT_MAX - 1024)
		len = DIAG_TEXT_MAX - 1024;
	memmove(text + len + 2, text, DIAG_TEXT_MAX - len - 2);
	memcpy(text, prefix, len);
	memcpy(text + len, ": ", 2);
	text[DIAG_TEXT_MAX - 1] = '\0';
}

/* Bytes at the start of `s` that can be shown as they are: one printable character, or 0.
 */
static size_t printable_len(const char *s, size_t len)
{
	return s[0] == '\'' || s[0] == '\\' ? 0 : utf8_shown_len(s, len);
}

const char *diag_quote(char out[static DIAG_QUOTE_MAX], const void *bytes, size_t len)
{
	/* Room that stays free: one escape or character, "...", the quote and the NUL. */
	const size_t most = DIAG_QUOTE_MAX - 4 - 3 - 1 - 1;
	const char *s = bytes;
	size_t at = 0;
	size_t i = 0;

	out[at++] = '\'';
	while (i < len && at <= most) {
		size_t n = printable_len(s + i, len - i);

		if (n > 0) {
			memcpy(out + at, s + i, n);
			at += n;
			i += n;
		} else {
			at += (size_t)snprintf(out + at, 5, "\\x%02x",
					       (unsigned char)s[i]);
			i++;
		}
	}
	(void)snprintf(out + at, DIAG_QUOTE_MAX - at, i < len ? "...'" : "'");
	return out;
}
