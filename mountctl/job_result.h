/* What came of a job of the daemon, for people and for scripts. */
#ifndef MOUNTCTL_JOB_RESULT_H
#define MOUNTCTL_JOB_RESULT_H

#include "mountctl/command.h"
#include "mountctl/json.h"

/* Prints a job that is over, as docs/status.md has it, and logs what is not as it was
 * asked for. `no_fill` is that of `mountctl pin`. */
enum command_result job_result_show(struct json job, const char *mountpoint, bool no_fill,
				    bool json);

#endif
