#include <stddef.h>

#include "mountctl/job.h"

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option options[] = {
		JOB_VIEW_OPTION,
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};

	return job_command(&command_evict, options, argc, argv, json);
}

const struct command command_evict = {
	.name = "evict",
	.usage = "MOUNTPOINT PATTERN... [--view VIEW,...]",
	.summary = "drop tensors from memory",
	.help = "Gives up their memory and drops their bytes from the page cache. What is\n"
		"pinned stays, and what is open.\n\n"
		"  --view VIEW   the files of tensors, npy or safetensors only\n",
	.run = run,
};
