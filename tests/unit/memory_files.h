/* What the kernel says of memory, in files of a test: below proc/ and cgroup/ of the
 * directory of model_dir.h. */
#ifndef TESTS_MEMORY_FILES_H
#define TESTS_MEMORY_FILES_H

#include "memory.h"
#include "model_dir.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* For memory_open() and others. Valid until the next call. */
struct memory_roots memory_files_roots(void);

void memory_files_machine(uint64_t total, uint64_t available);
void memory_files_number(const char *name, uint64_t number);

#endif
