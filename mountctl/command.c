#include "mountctl/command.h"

#include <errno.h>
#include <stdio.h>

#include "mountctl/text.h"
#include "util/log.h"

void command_print_help(const struct command *command)
{
	(void)printf("usage: mountctl [--json] %s %s\n\n%s\n", command->name,
		     command->usage, command->summary);
	if (command->help)
		(void)printf("\n%s", command->help);
}

enum command_result command_wrong_usage(const struct command *command, const char *what)
{
	log_error("%s: %s: see 'mountctl help %s'", command->name, what, command->name);
	return COMMAND_USAGE;
}

bool command_common_option(const struct command *command, int option, bool *json,
			   enum command_result *status)
{
	switch (option) {
	case COMMAND_OPTION_JSON:
		*json = true;
		return false;
	case COMMAND_OPTION_HELP:
		command_print_help(command);
		*status = command_finish();
		return true;
	case ':':
		*status = command_wrong_usage(command, "an option lacks its value");
		return true;
	default:
		*status = command_wrong_usage(command, "unknown option");
		return true;
	}
}

enum command_result command_finish(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return COMMAND_DONE;
	/* Whoever reads has enough, as in `mountctl ls | head`: no reason to complain. */
	if (errno != EPIPE)
		(void)text_error("standard output", "write", errno);
	return COMMAND_FAILED;
}
