/* pin and unpin. */
#include <stddef.h>

#include "mountctl/job.h"

static enum command_result run_pin(int argc, char **argv, bool json)
{
	static const struct option options[] = {
		{ "no-fill", no_argument, NULL, JOB_OPTION_NO_FILL },
		JOB_VIEW_OPTION,
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};

	return job_command(&command_pin, options, argc, argv, json);
}

static enum command_result run_unpin(int argc, char **argv, bool json)
{
	static const struct option options[] = {
		JOB_VIEW_OPTION,
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};

	return job_command(&command_unpin, options, argc, argv, json);
}

const struct command command_pin = {
	.name = "pin",
	.usage = "MOUNTPOINT PATTERN... [--no-fill] [--view VIEW,...]",
	.summary = "keep tensors in memory of their own",
	.help = "Makes the tensors resident as 'prefetch --resident' does, and keeps them so:\n"
		"their memory is not given to others.\n\n"
		"  --no-fill     pin those that are resident or will be, but make none so now\n"
		"  --view VIEW   the files of tensors (the default), npy or safetensors\n",
	.run = run_pin,
};

const struct command command_unpin = {
	.name = "unpin",
	.usage = "MOUNTPOINT PATTERN... [--view VIEW,...]",
	.summary = "undo pin",
	.help = "The tensors stay resident until their memory is needed for others.\n\n"
		"  --view VIEW   the files of tensors, npy or safetensors only\n",
	.run = run_unpin,
};
