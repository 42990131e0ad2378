/* Profiles on the side of who asked for them: fetched from a daemon, written to a file,
 * shown. */
#ifndef MOUNTCTL_PROFILE_H
#define MOUNTCTL_PROFILE_H

#include "mountctl/daemon.h"

/* Asks the daemon for what it has recorded. 0, or a negative errno with a message logged.
 */
MUST_CHECK int profile_fetch(const struct daemon_peer *peer, struct strbuf *text);

/* Reads a file. 0, or a negative errno with a message logged. */
MUST_CHECK int profile_read(const char *path, struct strbuf *text);

/* Writes the file in place of what has its name, if anything has: never a part of it.
 * What is no file, such as /dev/stdout, is written to. 0, or a negative errno with a
 * message logged. */
MUST_CHECK int profile_write(const char *path, const struct strbuf *text);

/* Whether profile_write() would replace the file, if there is one of this name. 0, or a
 * negative errno with a message logged. */
MUST_CHECK int profile_check_file(const char *path);

/* What a profile adds up to. */
struct profile_sums {
	uint64_t tensors;
	uint64_t bytes;
	uint64_t end_ms; /* the last use */
};

/* Adds up the lines; what is wrong with them is logged in the name of `subject`. 0 or
 * -EBADMSG. */
MUST_CHECK int profile_sum(const char *subject, const struct strbuf *text,
			   struct profile_sums *sums);

/* Print a profile that profile_sum() has accepted: a table, or a JSON document. 0 or
 * -ENOMEM. */
MUST_CHECK int profile_print_table(const struct strbuf *text);
MUST_CHECK int profile_print_json(const struct strbuf *text);

#endif
