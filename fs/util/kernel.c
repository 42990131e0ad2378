#include "util/kernel.h"

#include <stdlib.h>

unsigned int kernel_parse(const char *release)
{
	char *end;
	unsigned long major = strtoul(release, &end, 10);
	unsigned long minor;

	if (end == release || *end != '.' || major == 0)
		return 0;
	release = end + 1;
	minor = strtoul(release, &end, 10);
	if (end == release || major > 999 || minor > 999)
		return 0;
	return KERNEL(major, minor);
}
