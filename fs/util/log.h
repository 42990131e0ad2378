/*
 * Messages of a program: to stderr while it is in the foreground, to syslog once it is a
 * daemon. Grammar: `subject: what: detail`, lower case, no full stop, no newline.
 * What would steer a terminal or begin a line is written as \xHH. Any thread may log.
 */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <stdbool.h>

#include "util/macros.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* `program` stands in front of each message and is not copied. Call before any thread
 * starts. */
void log_init(const char *program, enum log_level most);

/* From here on to syslog instead of stderr. */
void log_to_syslog(void);

PRINTF_LIKE(1, 2) void log_error(const char *format, ...);
PRINTF_LIKE(1, 2) void log_warning(const char *format, ...);
PRINTF_LIKE(1, 2) void log_info(const char *format, ...);
PRINTF_LIKE(1, 2) void log_debug(const char *format, ...);

/* Logs the message with the text of `err` (0 > err) behind it and returns `err`, so that
 * an error is worded where it is born: return log_errno(-errno, "open %s", path); */
PRINTF_LIKE(2, 3) int log_errno(int err, const char *format, ...);

#endif
