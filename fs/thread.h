/* Threads of the daemon's own. They take no signals: those are the main thread's. */
#ifndef FS_THREAD_H
#define FS_THREAD_H

#include <pthread.h>

#include "util/macros.h"

/* 0 or a negative errno. */
MUST_CHECK int thread_start(pthread_t *thread, void *(*run)(void *), void *argument);

/* Makes the eventfd readable that the thread waits for, and joins the thread. */
void thread_stop(pthread_t thread, int stop_event);

#endif
