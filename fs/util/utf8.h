/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef UTIL_UTF8_H
#define UTIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at the start of `text` (1 to 4), or 0 if no valid one starts
 * there. */
size_t utf8_char_len(const char *text, size_t len);

bool utf8_is_valid(const char *text, size_t len);

/* As utf8_char_len(), but also 0 for characters that steer a terminal: controls, and
 * those that turn the direction of writing. */
size_t utf8_shown_len(const char *text, size_t len);

/* Writes code point `cp` as UTF-8 and returns the number of bytes (1 to 4). `cp` must be
 * a Unicode scalar value: at most 0x10FFFF and no surrogate. */
size_t utf8_encode(uint32_t cp, char out[static 4]);

#endif
