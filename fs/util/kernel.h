/* Versions of Linux, for the few things that depend on them. */
#ifndef UTIL_KERNEL_H
#define UTIL_KERNEL_H

/* 6.9 as a number that compares. */
#define KERNEL(major, minor) ((unsigned int)(major)*1000u + (unsigned int)(minor))

#define KERNEL_MAJOR(version) ((version) / 1000u)
#define KERNEL_MINOR(version) ((version) % 1000u)

/* The version in a release as uname(2) has it, "6.9.1-amd64"; 0 if it is none. */
unsigned int kernel_parse(const char *release);

#endif
