/*
 * Which NUMA nodes this machine has, and which of them a disk or a GPU is at: what sysfs
 * says. Every function takes the directory that sysfs is mounted at, so that a test has
 * one of its own. Before the sandbox: files are opened.
 */
#ifndef FS_NUMA_TOPOLOGY_H
#define FS_NUMA_TOPOLOGY_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/macros.h"

#define SYSFS "/sys"

/* Nodes are bits of a number. Machines with more exist on paper; what is beyond is not
 * used. */
#define NUMA_MOST_NODES 60u
#define NUMA_NODE(node) ((uint64_t)1 << (node))

/* Bits of the nodes that have memory; 0 where the kernel tells of none. */
uint64_t numa_nodes_with_memory(const char *sysfs);

/* The processors of a node: none where it has memory only. */
void numa_node_cpus(const char *sysfs, unsigned int node, cpu_set_t *cpus);

/* Opens what node `node` says about its memory; or a negative errno. */
int numa_open_meminfo(const char *sysfs, unsigned int node);

/* Longest name of a device that is shown. */
#define NUMA_DEVICE_MAX 64

/* The node of the block device that holds a file system, through partitions, loop
 * devices and those that are made of others, of which the first one counts. The name of
 * the device that said so goes to `name`. Or -ENODEV: there is none, or it is at none. */
MUST_CHECK int numa_node_of_disk(const char *sysfs, dev_t dev,
				 char name[static NUMA_DEVICE_MAX]);

/* The node of the NVIDIA display device number `index`, in the order of addresses on the
 * bus. `count` tells how many there are. Or -ENODEV: no such device, or it is at none. */
MUST_CHECK int numa_node_of_gpu(const char *sysfs, unsigned int index,
				unsigned int *count);

/* Reads a list as the kernel writes it, "0-3,8", of numbers below `most`; `add` is called
 * for each. False if it is none. */
bool numa_read_list(const char *text, unsigned int most,
		    void (*add)(unsigned int number, void *context), void *context);

#endif
