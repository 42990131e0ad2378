#include <stddef.h>

#include "mountctl/job.h"

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option options[] = {
		{ "resident", no_argument, NULL, JOB_OPTION_RESIDENT },
		JOB_VIEW_OPTION,
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};

	return job_command(&command_prefetch, options, argc, argv, json);
}

const struct command command_prefetch = {
	.name = "prefetch",
	.usage = "MOUNTPOINT PATTERN... [--resident [--view VIEW,...]]",
	.summary = "bring tensors into memory",
	.help = "PATTERN is a shell pattern on tensor names, as in '*.layers.0.*'. Without\n"
		"options the bytes come into the page cache of the model file.\n\n"
		"  --resident    into memory of their own, from which clients map them; needs a\n"
		"                mount with passthrough\n"
		"  --view VIEW   the files of tensors (the default), npy or safetensors\n",
	.run = run,
};
