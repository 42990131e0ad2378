#include "mountctl/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mountctl/text.h"
#include "util/log.h"

void command_print_help(const struct command *command)
{
	(void)printf("usage: mountctl [--json] %s%s%s\n\n%s\n", command->name,
		     *command->usage ? " " : "", command->usage, command->summary);
	if (command->help)
		(void)printf("\n%s", command->help);
}

enum command_result command_wrong_usage(const struct command *command, const char *what)
{
	log_error("%s: %s: see 'mountctl help %s'", command->name, what, command->name);
	return COMMAND_USAGE;
}

/* The option that getopt_long() complains about. Of letters only optopt is sure: others
 * may follow in the same argument. */
static void add_option(struct strbuf *text, const char *last)
{
	char letter[] = { '-', (char)optopt, '\0' };
	bool is_letter = optopt > ' ' && optopt < 0x7f && strncmp(last, "--", 2) != 0;

	strbuf_add_char(text, '\'');
	text_escape(text, is_letter ? letter : last, strlen(is_letter ? letter : last));
	strbuf_add_char(text, '\'');
}

static enum command_result wrong_option(const struct command *command, const char *last,
					bool lacks_value)
{
	CLEANUP(strbuf_fini) struct strbuf what = { 0 };

	strbuf_add_str(&what, lacks_value ? "option " : "unknown option ");
	add_option(&what, last);
	if (lacks_value)
		strbuf_add_str(&what, " needs a value");
	return command_wrong_usage(command, what.data ? what.data : "wrong option");
}

bool command_common_option(const struct command *command, int option, char **argv,
			   bool *json, enum command_result *status)
{
	switch (option) {
	case COMMAND_OPTION_JSON:
		*json = true;
		return false;
	case COMMAND_OPTION_HELP:
		command_print_help(command);
		*status = command_finish();
		return true;
	default:
		*status = wrong_option(command, argv[optind - 1], option == ':');
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
