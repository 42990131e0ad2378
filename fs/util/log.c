#include "util/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "util/errtext.h"
#include "util/utf8.h"

#define MESSAGE_MAX 2048
#define SHOWN_MAX   (2 * MESSAGE_MAX) /* with escapes */

static const char *program_name = "weightfs";
static enum log_level most_shown = LOG_LEVEL_INFO;
static atomic_bool use_syslog; /* set while other threads may log */

void log_init(const char *program, enum log_level most)
{
	program_name = program;
	most_shown = most;
}

void log_to_syslog(void)
{
	openlog(program_name, LOG_PID, LOG_DAEMON);
	use_syslog = true;
}

/* A path may have been named by whoever made the model: nothing in it begins a line of
 * the log or steers a terminal. */
static void make_harmless(const char *message, char out[static SHOWN_MAX])
{
	size_t len = strlen(message);
	size_t at = 0;

	/* Room for an escape and the NUL. */
	while (len > 0 && at < SHOWN_MAX - 4) {
		size_t n = utf8_shown_len(message, len);

		if (n > 0)
			memcpy(out + at, message, n);
		else
			(void)snprintf(out + at, 5, "\\x%02x", (unsigned char)*message);
		at += n > 0 ? n : 4;
		n = n > 0 ? n : 1;
		message += n;
		len -= n;
	}
	out[at] = '\0';
}

static void emit(enum log_level level, const char *message)
{
	char line[SHOWN_MAX];
	static const int priorities[] = {
		[LOG_LEVEL_ERROR] = LOG_ERR,
		[LOG_LEVEL_WARNING] = LOG_WARNING,
		[LOG_LEVEL_INFO] = LOG_INFO,
		[LOG_LEVEL_DEBUG] = LOG_DEBUG,
	};

	if (level > most_shown)
		return;
	make_harmless(message, line);
	if (use_syslog)
		syslog(priorities[level], "%s", line);
	else
		(void)fprintf(stderr, "%s: %s%s\n", program_name,
			      level == LOG_LEVEL_WARNING ? "warning: " : "", line);
}

PRINTF_LIKE(2, 0)
static void vemit(enum log_level level, const char *format, va_list args)
{
	char message[MESSAGE_MAX];

	(void)vsnprintf(message, sizeof(message), format, args);
	emit(level, message);
}

#define DEFINE_LOG(function, level)            \
	void function(const char *format, ...) \
	{                                      \
		va_list args;                  \
                                               \
		va_start(args, format);        \
		vemit(level, format, args);    \
		va_end(args);                  \
	}

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_info, LOG_LEVEL_INFO)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)

int log_errno(int err, const char *format, ...)
{
	char message[MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	log_error("%s: %s", message, errtext(err));
	return err;
}
