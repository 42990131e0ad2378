/*
 * The commands that give the daemon work on tensors named by patterns: prefetch, pin,
 * unpin, evict, advise, place. All send a request that starts a job, show how far it is,
 * and say what came of it.
 */
#ifndef MOUNTCTL_JOB_H
#define MOUNTCTL_JOB_H

#include "mountctl/command.h"

/* getopt_long() values of the options that these commands may have. */
#define JOB_OPTION_RESIDENT   'r'
#define JOB_OPTION_NO_FILL    'n'
#define JOB_OPTION_VIEW       'v'
#define JOB_OPTION_NODE       'N'
#define JOB_OPTION_INTERLEAVE 'i'
#define JOB_OPTION_LOCAL      'l'
#define JOB_OPTION_RESET      'R'

#define JOB_VIEW_OPTION                                          \
	{                                                        \
		"view", required_argument, NULL, JOB_OPTION_VIEW \
	}

/* Runs such a command: reads its arguments, in which `options` are allowed, and waits
 * until the job is over. SIGINT, SIGTERM and SIGHUP cancel the job, and end this program
 * once it has stopped. */
enum command_result job_command(const struct command *command,
				const struct option *options, int argc, char **argv,
				bool json);

#endif
