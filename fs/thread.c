#include "thread.h"

#include <signal.h>
#include <stdint.h>
#include <unistd.h>

int thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
	sigset_t all;
	sigset_t old;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(thread, NULL, run, argument);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

void thread_stop(pthread_t thread, int stop_event)
{
	const uint64_t one = 1;

	if (write(stop_event, &one, sizeof(one)) == (ssize_t)sizeof(one))
		(void)pthread_join(thread, NULL);
}
