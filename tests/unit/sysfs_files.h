/* What sysfs says of NUMA nodes, disks and GPUs, in files of a test: below sys/ of the
 * directory of model_dir.h. */
#ifndef TESTS_SYSFS_FILES_H
#define TESTS_SYSFS_FILES_H

#include "model_dir.h"

/* For numa_topology.h and placement_new(). Valid as model_dir_path() is. */
const char *sysfs_files_root(void);

/* The nodes that have memory, as the kernel lists them, each of them with processor 0. */
void sysfs_files_nodes(const char *list, unsigned int count);

/* What a node says of its memory, in MiB. */
void sysfs_files_memory(unsigned int node, unsigned int total, unsigned int unused,
			unsigned int file_cache);

/* A display device of this vendor at an address of the bus. */
void sysfs_files_gpu(const char *address, const char *vendor, int node);

#endif
