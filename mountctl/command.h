/* The commands of mountctl. Each is one file cmd_<name>.c that ends in one table entry.
 */
#ifndef MOUNTCTL_COMMAND_H
#define MOUNTCTL_COMMAND_H

#include <getopt.h>
#include <stdbool.h>

/* What the program exits with; weightfs(8) has the same numbers. */
enum command_result {
	COMMAND_DONE = 0,
	COMMAND_FAILED = 1, /* with a message on stderr */
	COMMAND_USAGE = 2,
};

struct command {
	const char *name;
	const char *usage;   /* what stands behind the name */
	const char *summary; /* one line for the list of commands */
	const char *help;    /* what the options do; lines end in '\n' */

	/* argv[0] is the command's name. `json` is set by --json in front of the command;
	 * one behind it is the command's to read. */
	enum command_result (*run)(int argc, char **argv, bool json);
};

extern const struct command command_mount;
extern const struct command command_umount;
extern const struct command command_list;
extern const struct command command_status;
extern const struct command command_ls;
extern const struct command command_info;
extern const struct command command_doctor;
extern const struct command command_prefetch;
extern const struct command command_pin;
extern const struct command command_unpin;
extern const struct command command_advise;
extern const struct command command_evict;
extern const struct command command_profile;
extern const struct command command_place;

/* getopt_long() values of the options that every command has. */
#define COMMAND_OPTION_JSON 0x100
#define COMMAND_OPTION_HELP 'h'
#define COMMAND_COMMON_OPTIONS                                 \
	{ "json", no_argument, NULL, COMMAND_OPTION_JSON },    \
	{                                                      \
		"help", no_argument, NULL, COMMAND_OPTION_HELP \
	}

/* Takes one of the options above, or what getopt_long() calls wrong in `argv`. True if
 * the command is over with `*status`: help was printed or the usage is wrong. */
bool command_common_option(const struct command *command, int option, char **argv,
			   bool *json, enum command_result *status);

/* Logs what is wrong with the arguments, with a hint at the help. Returns COMMAND_USAGE.
 */
enum command_result command_wrong_usage(const struct command *command, const char *what);

/* Prints the help of one command to stdout. */
void command_print_help(const struct command *command);

/* Flushes stdout: COMMAND_DONE, or COMMAND_FAILED with a message if it could not all be
 * written. */
enum command_result command_finish(void);

#endif
