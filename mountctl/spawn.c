#include "mountctl/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "mountctl/text.h"
#include "util/log.h"

/* Not even a model of a million tensors is described by more. */
#define OUTPUT_MAX ((size_t)1 << 30)

void spawn_result_fini(struct spawn_result *result)
{
	strbuf_fini(&result->out);
	strbuf_fini(&result->err);
}

/* The two pipes of a running program, and the program. */
struct running {
	int out[2];
	int err[2];
	int failed[2]; /* gets errno if exec fails, else closes */
	pid_t pid;
	int pidfd;
};

static void close_pair(const int pair[2])
{
	close_fd(&pair[0]);
	close_fd(&pair[1]);
}

static _Noreturn void be_program(const char *const argv[], const struct running *run)
{
	char *const *args;
	int err;

	/* execvp() wants char *const[] for historical reasons and changes nothing. */
	memcpy(&args, &argv, sizeof(args));
	if (dup2(run->out[1], STDOUT_FILENO) >= 0 &&
	    dup2(run->err[1], STDERR_FILENO) >= 0)
		(void)execvp(argv[0], args);
	err = errno;
	_exit(write(run->failed[1], &err, sizeof(err)) > 0 ? 127 : 126);
}

/* Appends what is there; false once nothing more can come. */
static bool drain(int fd, struct strbuf *into)
{
	char piece[65536];
	ssize_t n;

	for (;;) {
		n = read(fd, piece, sizeof(piece));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		if (into->len < OUTPUT_MAX)
			strbuf_add(into, piece, (size_t)n);
	}
}

/* Until the program ends; a daemon it started may keep the pipes open for ever. */
static void watch(struct running *run, struct spawn_result *result)
{
	struct pollfd ready[] = {
		{ .fd = run->pidfd, .events = POLLIN },
		{ .fd = run->out[0], .events = POLLIN },
		{ .fd = run->err[0], .events = POLLIN },
	};

	while (ready[0].revents == 0) {
		if (poll(ready, ARRAY_LEN(ready), -1) < 0 && errno != EINTR)
			break;
		if (!drain(run->out[0], &result->out))
			ready[1].fd = -1;
		if (!drain(run->err[0], &result->err))
			ready[2].fd = -1;
	}
	(void)drain(run->out[0], &result->out);
	(void)drain(run->err[0], &result->err);
}

static int reap(struct running *run, struct spawn_result *result)
{
	int status;
	int err;

	if (waitpid(run->pid, &status, 0) < 0)
		return -errno;
	if (read(run->failed[0], &err, sizeof(err)) == (ssize_t)sizeof(err))
		return -err;
	result->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return result->out.err ? result->out.err : result->err.err;
}

static int start(const char *const argv[], struct running *run)
{
	if (pipe2(run->out, O_CLOEXEC) < 0 || pipe2(run->err, O_CLOEXEC) < 0 ||
	    pipe2(run->failed, O_CLOEXEC) < 0 ||
	    fcntl(run->out[0], F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(run->err[0], F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	run->pid = fork();
	if (run->pid == 0)
		be_program(argv, run);
	if (run->pid < 0)
		return -errno;
	/* Closed here, the pipes end when the program and its children are gone. */
	close_fd(&run->failed[1]);
	run->failed[1] = -1;
	run->pidfd = pidfd_open(run->pid, 0);
	return run->pidfd < 0 ? -errno : 0;
}

int spawn_run(const char *const argv[], struct spawn_result *result)
{
	struct running run = { { -1, -1 }, { -1, -1 }, { -1, -1 }, -1, -1 };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct sigaction before;
	int r = start(argv, &run);

	(void)sigaction(SIGINT, &ignore, &before);
	if (r == 0)
		watch(&run, result);
	if (run.pid > 0) {
		int reaped = reap(&run, result);

		r = r < 0 ? r : reaped;
	}
	(void)sigaction(SIGINT, &before, NULL);
	close_pair(run.out);
	close_pair(run.err);
	close_pair(run.failed);
	close_fd(&run.pidfd);
	return r;
}

char *spawn_find_weightfs(void)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *beside = NULL;
	char *slash;

	self[len < 0 ? 0 : len] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return strdup("weightfs");
	*slash = '\0';
	if (asprintf(&beside, "%s/weightfs", self) < 0)
		return NULL;
	if (access(beside, X_OK) == 0)
		return beside;
	free(beside);
	return strdup("weightfs");
}

int spawn_relay_errors(struct spawn_result *result, const char *program)
{
	size_t program_len = strlen(program);
	char *save = NULL;
	int count = 0;

	for (char *line = result->err.data ? strtok_r(result->err.data, "\n", &save)
					   : NULL;
	     line; line = strtok_r(NULL, "\n", &save)) {
		CLEANUP(strbuf_fini) struct strbuf safe = { 0 };

		if (strncmp(line, program, program_len) == 0 &&
		    strncmp(line + program_len, ": ", 2) == 0)
			line += program_len + 2;
		text_escape(&safe, line, strlen(line));
		log_error("%s", safe.data ? safe.data : "");
		count++;
	}
	return count;
}
