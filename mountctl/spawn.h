/* Runs another program and keeps what it says. */
#ifndef MOUNTCTL_SPAWN_H
#define MOUNTCTL_SPAWN_H

#include "util/strbuf.h"

struct spawn_result {
	int status;        /* exit status, or 128 + the signal that ended it */
	struct strbuf out; /* its standard output */
	struct strbuf err; /* its standard error */
};

void spawn_result_fini(struct spawn_result *result);

/* Runs argv[0] (looked up in PATH if it has no '/') and waits until it is done. What it
 * leaves running behind (a daemon) is not waited for. SIGINT reaches the program, but not
 * the caller, who has to tidy up. 0, or a negative errno if it could not be run; then
 * nothing is logged. `result` is to be zeroed before and finished after, always. */
MUST_CHECK int spawn_run(const char *const argv[], struct spawn_result *result);

/* Path of the weightfs program: beside this one, else just "weightfs" for PATH.
 * Heap; NULL when out of memory. */
char *spawn_find_weightfs(void);

/* Logs the lines a program wrote on stderr as our own: "weightfs: x" becomes
 * "mountctl: x". Returns how many there were, and takes the text
 * apart. */
int spawn_relay_errors(struct spawn_result *result, const char *program);

#endif
