#include "memory_files.h"

#include <inttypes.h>
#include <stdio.h>

struct memory_roots memory_files_roots(void)
{
	static char proc[MODEL_DIR_PATH_MAX];
	static char cgroup[MODEL_DIR_PATH_MAX];

	(void)snprintf(proc, sizeof(proc), "%s", model_dir_path("proc"));
	(void)snprintf(cgroup, sizeof(cgroup), "%s", model_dir_path("cgroup"));
	return (struct memory_roots){ .proc = proc, .cgroup = cgroup };
}

void memory_files_machine(uint64_t total, uint64_t available)
{
	char text[256];

	(void)snprintf(text, sizeof(text),
		       "MemTotal:       %8" PRIu64 " kB\nMemFree:               1 kB\n"
		       "MemAvailable:   %8" PRIu64 " kB\nBuffers:               3 kB\n",
		       total >> 10, available >> 10);
	model_dir_write_text("proc/meminfo", text);
}

void memory_files_number(const char *name, uint64_t number)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%" PRIu64 "\n", number);
	model_dir_write_text(name, text);
}
