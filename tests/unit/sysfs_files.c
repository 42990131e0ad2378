#include "sysfs_files.h"

#include <stdio.h>

static const char *path_of(char path[static 256], const char *format, unsigned int node)
{
	(void)snprintf(path, 256, "sys/devices/system/node/node%u/%s", node, format);
	return path;
}

const char *sysfs_files_root(void)
{
	return model_dir_path("sys");
}

void sysfs_files_nodes(const char *list, unsigned int count)
{
	char path[256];

	model_dir_write_text("sys/devices/system/node/has_memory", list);
	for (unsigned int i = 0; i < count; i++) {
		model_dir_write_text(path_of(path, "cpulist", i), "0\n");
		sysfs_files_memory(i, 8192, 4096, 1024);
	}
}

void sysfs_files_memory(unsigned int node, unsigned int total, unsigned int unused,
			unsigned int file_cache)
{
	char path[256];
	char text[512];

	(void)snprintf(text, sizeof(text),
		       "Node %u MemTotal:       %u kB\n"
		       "Node %u MemFree:        %u kB\n"
		       "Node %u Active:         999999 kB\n"
		       "Node %u Active(file):   %u kB\n"
		       "Node %u Inactive(file): %u kB\n",
		       node, total << 10, node, unused << 10, node, node, file_cache << 9,
		       node, file_cache << 9);
	model_dir_write_text(path_of(path, "meminfo", node), text);
}

void sysfs_files_gpu(const char *address, const char *vendor, int node)
{
	static const char *const names[] = { "vendor", "class", "numa_node" };
	char number[16];
	char path[256];

	(void)snprintf(number, sizeof(number), "%d\n", node);
	for (unsigned int i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/%s", address,
			       names[i]);
		model_dir_write_text(path, i == 0   ? vendor
					   : i == 1 ? "0x030200\n"
						    : number);
	}
}
