/* Text for people: names made safe for a terminal, aligned, coloured where wanted. */
#ifndef MOUNTCTL_TEXT_H
#define MOUNTCTL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/strbuf.h"

/* Appends `text` so that it cannot steer a terminal: control characters, those that turn
 * the direction of writing, and bytes that are no UTF-8 become \xNN, byte by byte. */
void text_escape(struct strbuf *out, const char *text, size_t len);

/* Room for text_bytes(). */
#define TEXT_BYTES_MAX 48

/* "589 bytes", "1.5 GiB (1610612736 bytes)"; returns `text`. */
const char *text_bytes(uint64_t bytes, char text[static TEXT_BYTES_MAX]);

/* Appends "1 file", "12 files". */
void text_add_count(struct strbuf *out, uint64_t count, const char *unit);

/* Columns that valid UTF-8 takes, counting one for each character. */
size_t text_width(const char *text);

/* Logs "NAME: what: detail" with NAME escaped. `err` is errno or 0 for no detail.
 * Returns -err, or -EIO without one. */
int text_error(const char *name, const char *what, int err);

/* Whether stdout is a terminal. */
bool text_is_terminal(void);

enum text_style {
	TEXT_PLAIN,
	TEXT_BOLD,
	TEXT_DIM,
	TEXT_GREEN,
	TEXT_YELLOW,
	TEXT_RED
};

/* The sequence that starts a style on stdout, or "" without colours: stdout is no
 * terminal, or NO_COLOR is set and not empty. TEXT_PLAIN ends a style. */
const char *text_style(enum text_style style);

#endif
