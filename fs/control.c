#include "control.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cjson/cJSON.h>

#include "ctl_proto.h"
#include "hints.h"
#include "inodes.h"
#include "live.h"
#include "thread.h"
#include "util/errtext.h"
#include "util/log.h"

#define SOCKET_SUFFIX ".sock"

/* After a connection that could not be taken, for want of descriptors as a rule. */
#define ACCEPT_PAUSE_MS 100

/* Each tensor's is one digit. */
#define BACKINGS_MAX 10u

struct control {
	struct weightfs *fs;
	pthread_t thread;
	bool started;
	int listener;
	int stop_event;
	char dir[96];
	char request[CTL_REQUEST_MAX + 1];
};

/* ---- Where the socket lives ---- */

/* /run/weightfs for root, else the user's runtime directory, else one in /tmp that is
 * theirs. */
static int socket_dir(char *dir, size_t size)
{
	const char *runtime =
		getenv("XDG_RUNTIME_DIR"); /* NOLINT(concurrency-mt-unsafe) */
	struct stat st;

	if (getuid() == 0)
		(void)snprintf(dir, size, "/run/weightfs");
	else if (runtime && runtime[0] == '/' && strlen(runtime) < 64)
		(void)snprintf(dir, size, "%s/weightfs", runtime);
	else
		(void)snprintf(dir, size, "/tmp/weightfs-%u", getuid());
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return log_errno(-errno, "%s: make the control socket's directory", dir);
	/* Somebody else's directory, or a link, is not to be trusted. */
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid() ||
	    (st.st_mode & 022))
		return log_errno(-EPERM, "%s: use it for the control socket", dir);
	return 0;
}

/* Removes a socket that nobody listens to: its daemon was killed. */
static void remove_if_dead(const char *dir, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/%.20s", dir,
		       name);
	if (fd >= 0 &&
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 &&
	    errno == ECONNREFUSED)
		(void)unlink(address.sun_path);
	if (fd >= 0)
		(void)close(fd);
}

static bool is_socket_name(const char *name)
{
	size_t len = strlen(name);
	size_t suffix_len = strlen(SOCKET_SUFFIX);

	return len > suffix_len && strcmp(name + len - suffix_len, SOCKET_SUFFIX) == 0;
}

static void remove_dead_sockets(const char *dir)
{
	DIR *stream = opendir(dir);
	const struct dirent *entry;

	/* The threads come later. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (stream && (entry = readdir(stream)))
		if (is_socket_name(entry->d_name))
			remove_if_dead(dir, entry->d_name);
	if (stream)
		(void)closedir(stream);
}

/*
 * Makes the socket `path`. Before anybody listens to it, it has another name: else a
 * daemon that starts at the same time would take it for a dead one. A socket of these
 * names was left behind by a process that is gone: its number is ours.
 */
static int bind_socket(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	mode_t old;
	int r;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s.new", path);
	(void)unlink(address.sun_path);
	old = umask(0177);
	r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	(void)umask(old);
	if (r == 0 && (listen(fd, 16) < 0 || rename(address.sun_path, path) < 0))
		r = -errno;
	if (r == 0)
		return 0;
	(void)unlink(address.sun_path);
	return log_errno(r, "%s: make the control socket", path);
}

static int open_socket(struct control *c)
{
	char path[sizeof(c->dir) + 20];
	int r;

	r = socket_dir(c->dir, sizeof(c->dir));
	if (r < 0)
		return r;
	remove_dead_sockets(c->dir);
	(void)snprintf(path, sizeof(path), "%.80s/%d" SOCKET_SUFFIX, c->dir,
		       (int)getpid());
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener < 0)
		return log_errno(-errno, "make the control socket");
	r = bind_socket(c->listener, path);
	if (r < 0)
		return r;
	c->fs->socket_path = strdup(path);
	if (c->fs->socket_path)
		return 0;
	(void)unlink(path);
	return -ENOMEM;
}

/* ---- Requests ---- */

static void reply_error(struct jsonw *w, const char *text)
{
	jsonw_begin_object(w);
	jsonw_key(w, "ok");
	jsonw_bool(w, false);
	jsonw_key(w, "error");
	jsonw_string(w, text);
	jsonw_end_object(w);
}

static void begin_reply(struct jsonw *w)
{
	jsonw_begin_object(w);
	jsonw_key(w, "ok");
	jsonw_bool(w, true);
}

static void command_status(const struct weightfs *fs, const cJSON *request,
			   struct jsonw *w)
{
	(void)request;
	begin_reply(w);
	jsonw_key(w, "status");
	live_write_status(fs, w);
	jsonw_end_object(w);
}

/* ---- Backings of all tensors ---- */

/* The place of a name in the list, to which it is added when it is new. */
static unsigned int place_in(const char *names[static BACKINGS_MAX], const char *name)
{
	unsigned int place = 0;

	while (names[place] && strcmp(names[place], name) != 0 &&
	       place < BACKINGS_MAX - 1)
		place++;
	names[place] = name;
	return place;
}

static char backing_digit(const struct weightfs *fs, uint32_t tensor,
			  const char *names[static BACKINGS_MAX])
{
	const struct node node = { NODE_TENSOR, VIEW_RAW, tensor };
	const char *name =
		fs->inodes ? inodes_backing_name(fs->inodes, node) : backing_stream.name;

	return (char)('0' + place_in(names, name));
}

static char pin_digit(const struct weightfs *fs, uint32_t tensor)
{
	for (unsigned int view = 0; view < VIEW_COUNT; view++)
		if (pins_is_set(fs->pins,
				(struct node){ NODE_TENSOR, (enum view)view, tensor }))
			return '1';
	return '0';
}

static void command_backings(const struct weightfs *fs, const cJSON *request,
			     struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf backings = { 0 };
	CLEANUP(strbuf_fini) struct strbuf pins = { 0 };
	const char *names[BACKINGS_MAX] = { NULL };

	(void)request;
	for (uint32_t i = 0; i < model_tensor_count(fs->served->model); i++) {
		strbuf_add_char(&backings, backing_digit(fs, i, names));
		strbuf_add_char(&pins, pin_digit(fs, i));
	}
	if (backings.err || pins.err) {
		reply_error(w, "backings: out of memory");
		return;
	}
	begin_reply(w);
	jsonw_key(w, "names");
	jsonw_begin_array(w);
	for (unsigned int i = 0; i < BACKINGS_MAX && names[i]; i++)
		jsonw_string(w, names[i]);
	jsonw_end_array(w);
	jsonw_key(w, "backings");
	jsonw_string_bytes(w, backings.data ? backings.data : "", backings.len);
	jsonw_key(w, "pinned");
	jsonw_string_bytes(w, pins.data ? pins.data : "", pins.len);
	jsonw_end_object(w);
}

/* ---- Jobs ---- */

/* The functions that take a member return NULL, or what is wrong with it. */
static const char *take_patterns(const cJSON *request, struct job_spec *spec)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(request, "patterns");
	const cJSON *item;

	if (!cJSON_IsArray(list) || !list->child)
		return "request: no list of patterns";
	spec->patterns = calloc((size_t)cJSON_GetArraySize(list), sizeof(char *));
	if (!spec->patterns)
		return "request: out of memory";
	for (item = list->child; item; item = item->next) {
		if (!cJSON_IsString(item))
			return "request: a pattern that is no string";
		spec->patterns[spec->pattern_count] = strdup(item->valuestring);
		if (!spec->patterns[spec->pattern_count])
			return "request: out of memory";
		spec->pattern_count++;
	}
	return NULL;
}

static bool take_view(const char *name, struct job_spec *spec)
{
	for (unsigned int i = 0; name && i < VIEW_COUNT; i++) {
		if (strcmp(name, view_info((enum view)i)->dir) != 0)
			continue;
		spec->views[i] = true;
		return true;
	}
	return false;
}

/* Without any: the raw one for what brings in, all of them for what gives up. */
static const char *take_views(const cJSON *request, struct job_spec *spec)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(request, "views");
	bool all = spec->command == JOB_UNPIN || spec->command == JOB_EVICT;
	const cJSON *item;

	if (!list || (cJSON_IsArray(list) && !list->child))
		for (unsigned int i = 0; i < VIEW_COUNT; i++)
			spec->views[i] = all || i == VIEW_RAW;
	else if (!cJSON_IsArray(list))
		return "request: the views are no list";
	for (item = list ? list->child : NULL; item; item = item->next)
		if (!take_view(cJSON_GetStringValue(item), spec))
			return "request: unknown view";
	return NULL;
}

static const char *take_spec(const cJSON *request, struct job_spec *spec)
{
	const cJSON *fill = cJSON_GetObjectItemCaseSensitive(request, "fill");
	const char *name = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(request, "command"));
	const char *wrong;

	for (unsigned int i = 0; i < JOB_COMMAND_COUNT; i++)
		if (strcmp(name, job_command_name((enum job_command)i)) == 0)
			spec->command = (enum job_command)i;
	spec->fill = spec->command == JOB_PIN && !cJSON_IsFalse(fill);
	spec->resident =
		spec->command == JOB_PIN ||
		(spec->command == JOB_PREFETCH &&
		 cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, "resident")));
	wrong = take_patterns(request, spec);
	return wrong ? wrong : take_views(request, spec);
}

static void reply_no_files(const char *reason, struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	strbuf_addf(&text, "no tensor can be resident: %s", reason);
	reply_error(w, text.data ? text.data : "no tensor can be resident");
}

static void command_job_start(const struct weightfs *fs, const cJSON *request,
			      struct jsonw *w)
{
	struct job_spec spec = { .pattern_count = 0 };
	const char *wrong = take_spec(request, &spec);
	const char *no_files = spec.resident ? live_no_passthrough(fs) : NULL;
	uint64_t id = 0;
	int r;

	if (wrong || no_files) {
		job_spec_fini(&spec);
		if (wrong)
			reply_error(w, wrong);
		else
			reply_no_files(no_files, w);
		return;
	}
	r = hints_start(fs->hints, &spec, &id);
	if (r < 0) {
		reply_error(w, r == -EBUSY
				       ? "too many jobs are running: wait for one to end"
				       : errtext(-r));
		return;
	}
	begin_reply(w);
	jsonw_key(w, "job");
	jsonw_u64(w, id);
	jsonw_end_object(w);
}

/* Numbers of jobs are small: a double holds them. 0 is none. */
static uint64_t job_number(const cJSON *request)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(request, "job");

	return cJSON_IsNumber(item) && item->valueint > 0 ? (uint64_t)item->valueint : 0;
}

static void command_job(const struct weightfs *fs, const cJSON *request, struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct jsonw job;

	jsonw_init(&job, &text);
	if (!jobs_write(fs->jobs, job_number(request), &job) || text.err) {
		reply_error(w, text.err ? "job: out of memory" : "no such job");
		return;
	}
	begin_reply(w);
	jsonw_key(w, "job");
	jsonw_raw(w, text.data, text.len);
	jsonw_end_object(w);
}

static void command_cancel(const struct weightfs *fs, const cJSON *request,
			   struct jsonw *w)
{
	if (!jobs_cancel(fs->jobs, job_number(request))) {
		reply_error(w, "no such job");
		return;
	}
	begin_reply(w);
	jsonw_end_object(w);
}

static const struct command {
	const char *name;
	void (*run)(const struct weightfs *fs, const cJSON *request, struct jsonw *w);
} commands[] = {
	{ "status", command_status },
	{ "backings", command_backings },
	{ "prefetch", command_job_start },
	{ "pin", command_job_start },
	{ "unpin", command_job_start },
	{ "evict", command_job_start },
	{ "job", command_job },
	{ "cancel", command_cancel },
};

static void handle_request(const struct weightfs *fs, const char *text, struct jsonw *w)
{
	cJSON *request = cJSON_Parse(text);
	const char *name = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(request, "command"));

	for (size_t i = 0; name && i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			commands[i].run(fs, request, w);
			cJSON_Delete(request);
			return;
		}
	}
	reply_error(w, name ? "request: unknown command"
			    : "request: no JSON with a command");
	cJSON_Delete(request);
}

/* ---- Connections ---- */

static bool is_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == getuid());
}

static bool wait_for(const struct control *c, int fd, short events)
{
	struct pollfd fds[] = {
		{ .fd = fd, .events = events },
		{ .fd = c->stop_event, .events = POLLIN },
	};

	return poll(fds, ARRAY_LEN(fds), CTL_TIMEOUT_MS) > 0 && !fds[1].revents;
}

/* Reads up to the newline. 0 or a negative errno; the text is in c->request. */
static int read_request(struct control *c, int fd)
{
	size_t len = 0;

	while (len < CTL_REQUEST_MAX) {
		ssize_t n;

		if (!wait_for(c, fd, POLLIN))
			return -ETIMEDOUT;
		n = read(fd, c->request + len, CTL_REQUEST_MAX - len);
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		len += (size_t)n;
		c->request[len] = '\0';
		if (memchr(c->request, '\n', len))
			return 0;
	}
	return -EMSGSIZE;
}

static void write_reply(const struct control *c, int fd, const struct strbuf *reply)
{
	size_t done = 0;

	while (!reply->err && done < reply->len && wait_for(c, fd, POLLOUT)) {
		ssize_t n = send(fd, reply->data + done, reply->len - done, MSG_NOSIGNAL);

		if (n < 0)
			return;
		done += (size_t)n;
	}
}

static void serve_client(struct control *c, int fd)
{
	struct strbuf reply;
	struct jsonw w;
	int r;

	if (!is_allowed(fd))
		return;
	r = read_request(c, fd);
	if (r < 0 && r != -EMSGSIZE)
		return;
	strbuf_init(&reply);
	jsonw_init(&w, &reply);
	if (r == 0)
		handle_request(c->fs, c->request, &w);
	else
		reply_error(&w, "request: too long");
	strbuf_add_char(&reply, '\n');
	write_reply(c, fd, &reply);
	strbuf_fini(&reply);
}

static void *run(void *argument)
{
	struct control *c = argument;
	struct pollfd fds[] = {
		{ .fd = c->stop_event, .events = POLLIN },
		{ .fd = c->listener, .events = POLLIN },
	};

	for (;;) {
		int fd;

		if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			(void)poll(fds, 1, ACCEPT_PAUSE_MS);
			continue;
		}
		serve_client(c, fd);
		(void)close(fd);
	}
}

int control_open(struct weightfs *fs, struct control **control)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->fs = fs;
	c->listener = -1;
	c->stop_event = eventfd(0, EFD_CLOEXEC);
	r = c->stop_event < 0 ? log_errno(-errno, "make an event") : open_socket(c);
	if (r < 0) {
		control_close(c);
		return r;
	}
	*control = c;
	return 0;
}

int control_start(struct control *control)
{
	int r = thread_start(&control->thread, run, control);

	control->started = r == 0;
	return r;
}

void control_close(struct control *control)
{
	if (!control)
		return;
	if (control->started)
		thread_stop(control->thread, control->stop_event);
	if (control->fs->socket_path)
		(void)unlink(control->fs->socket_path);
	if (control->listener >= 0)
		(void)close(control->listener);
	if (control->stop_event >= 0)
		(void)close(control->stop_event);
	free(control);
}
