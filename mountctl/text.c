#include "mountctl/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "util/log.h"
#include "util/size.h"
#include "util/utf8.h"

void text_escape(struct strbuf *out, const char *text, size_t len)
{
	while (len > 0) {
		size_t n = utf8_shown_len(text, len);

		if (n > 0) {
			strbuf_add(out, text, n);
		} else {
			strbuf_addf(out, "\\x%02x", (unsigned int)(unsigned char)*text);
			n = 1;
		}
		text += n;
		len -= n;
	}
}

const char *text_bytes(uint64_t bytes, char text[static TEXT_BYTES_MAX])
{
	char size[SIZE_TEXT_MAX];

	if (bytes < 1024)
		(void)snprintf(text, TEXT_BYTES_MAX, "%" PRIu64 " bytes", bytes);
	else
		(void)snprintf(text, TEXT_BYTES_MAX, "%s (%" PRIu64 " bytes)",
			       size_format(bytes, size), bytes);
	return text;
}

void text_add_count(struct strbuf *out, uint64_t count, const char *unit)
{
	strbuf_addf(out, "%" PRIu64 " %s%s", count, unit, count == 1 ? "" : "s");
}

size_t text_width(const char *text)
{
	size_t width = 0;

	for (; *text != '\0'; text++)
		if (((unsigned char)*text & 0xc0) != 0x80)
			width++;
	return width;
}

int text_error(const char *name, const char *what, int err)
{
	CLEANUP(strbuf_fini) struct strbuf safe = { 0 };

	text_escape(&safe, name, strlen(name));
	if (err)
		(void)log_errno(-err, "%s: %s", safe.data ? safe.data : "", what);
	else
		log_error("%s: %s", safe.data ? safe.data : "", what);
	return err ? -err : -EIO;
}

bool text_is_terminal(void)
{
	return isatty(STDOUT_FILENO) == 1;
}

static bool has_colours(void)
{
	const char *no_color = getenv("NO_COLOR"); // NOLINT(concurrency-mt-unsafe)
	const char *term = getenv("TERM");         // NOLINT(concurrency-mt-unsafe)

	return text_is_terminal() && (!no_color || *no_color == '\0') &&
	       !(term && strcmp(term, "dumb") == 0);
}

const char *text_style(enum text_style style)
{
	static const char *const sequences[] = {
		[TEXT_PLAIN] = "\033[0m",   [TEXT_BOLD] = "\033[1m",
		[TEXT_DIM] = "\033[2m",     [TEXT_GREEN] = "\033[32m",
		[TEXT_YELLOW] = "\033[33m", [TEXT_RED] = "\033[31m",
	};
	static int colours = -1;

	if (colours < 0)
		colours = has_colours();
	return colours ? sequences[style] : "";
}
