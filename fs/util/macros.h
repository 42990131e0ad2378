/* Small helpers of the C language that every layer uses. */
#ifndef UTIL_MACROS_H
#define UTIL_MACROS_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

/* Runs fn(&variable) when the variable goes out of scope. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

#define MUST_CHECK             __attribute__((warn_unused_result))
#define PRINTF_LIKE(at, first) __attribute__((format(printf, at, first)))

/* For system calls whose structures have no const although they only read. */
static inline void *discard_const(const void *pointer)
{
	void *same;

	memcpy(&same, &pointer, sizeof(same));
	return same;
}

/* CLEANUP(free_ptr) for a pointer of any object type. */
static inline void free_ptr(void *address_of_pointer)
{
	void *memory;

	memcpy(&memory, address_of_pointer, sizeof(memory));
	free(memory);
}

/* CLEANUP(close_fd) for a file descriptor; negative means none. */
static inline void close_fd(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

#endif
