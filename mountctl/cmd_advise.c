#include <stddef.h>

#include "mountctl/job.h"

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option options[] = { COMMAND_COMMON_OPTIONS, { 0 } };

	return job_command(&command_advise, options, argc, argv, json);
}

const struct command command_advise = {
	.name = "advise",
	.usage = "MOUNTPOINT PATTERN... normal|sequential|random|willneed|dontneed",
	.summary = "say how tensors are going to be read",
	.help = "PATTERN is a shell pattern on tensor names, as in '*.layers.0.*'.\n\n"
		"  normal        nothing special; takes back the next two\n"
		"  sequential    from its start on: the rest is read ahead then\n"
		"  random        in pieces here and there: nothing is read ahead\n"
		"  willneed      soon: read ahead now, without waiting for it\n"
		"  dontneed      no more: give up its memory, that of clients too\n\n"
		"The first three hold until the mount ends or others are given.\n",
	.run = run,
};
