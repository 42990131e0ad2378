#include <stdio.h>
#include <string.h>

#include "mountctl/command.h"
#include "mountctl/text.h"
#include "util/log.h"

static const struct command *const commands[] = {
	&command_mount,   &command_umount, &command_list,     &command_status,
	&command_ls,      &command_info,   &command_prefetch, &command_pin,
	&command_unpin,   &command_evict,  &command_advise,   &command_place,
	&command_profile, &command_doctor,
};

static void print_help(void)
{
	(void)printf(
		"usage: mountctl [--json] COMMAND [ARGUMENT...]\n\n"
		"Mounts model files as directory trees in which every tensor is a file, and\n"
		"looks after such mounts.\n\ncommands:\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		(void)printf("  %s%-8s%s %s\n", text_style(TEXT_BOLD), commands[i]->name,
			     text_style(TEXT_PLAIN), commands[i]->summary);
	(void)printf("  %s%-8s%s %s\n\noptions:\n"
		     "  --json     print one JSON document\n"
		     "  --help     print this\n"
		     "  --version  print the version\n",
		     text_style(TEXT_BOLD), "help", text_style(TEXT_PLAIN),
		     "describe a command: help COMMAND");
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

static enum command_result unknown_command(const char *name)
{
	(void)text_error(name, "unknown command: see 'mountctl --help'", 0);
	return COMMAND_USAGE;
}

static enum command_result run_help(int argc, char **argv)
{
	const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;

	if (argc > 1 && !command)
		return unknown_command(argv[1]);
	if (command)
		command_print_help(command);
	else
		print_help();
	return command_finish();
}

static enum command_result run_command(int argc, char **argv, bool json)
{
	const struct command *command = find_command(argv[0]);

	if (strcmp(argv[0], "help") == 0)
		return run_help(argc, argv);
	if (!command)
		return unknown_command(argv[0]);
	return command->run(argc, argv, json);
}

static enum command_result run_program(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, COMMAND_OPTION_JSON },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	bool json = false;
	int option;

	opterr = 0;
	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
		switch (option) {
		case COMMAND_OPTION_JSON:
			json = true;
			break;
		case 'h':
			print_help();
			return command_finish();
		case 'V':
			(void)printf("mountctl %s\n", WEIGHTFS_VERSION);
			return command_finish();
		default:
			(void)text_error(argv[optind - 1],
					 "unknown option: see 'mountctl --help'", 0);
			return COMMAND_USAGE;
		}
	}
	if (optind == argc) {
		log_error("no command: see 'mountctl --help'");
		return COMMAND_USAGE;
	}
	argc -= optind;
	argv += optind;
	optind = 0; /* glibc: the next getopt_long() starts anew */
	return run_command(argc, argv, json);
}

int main(int argc, char **argv)
{
	log_init("mountctl", LOG_LEVEL_INFO);
	return (int)run_program(argc, argv);
}
