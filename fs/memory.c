#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

/* Control groups around the daemon; deeper ones are not seen. */
#define MOST_PLACES 16u

/* The longest of the files: memory.stat. */
#define TEXT_MAX 8192u

#define LEAST_RESERVE ((uint64_t)256 << 20)

/* A stall of 150 ms in a second; without CAP_SYS_RESOURCE the window must be a multiple
 * of two seconds. */
#define TRIGGER              "some 150000 1000000"
#define UNPRIVILEGED_TRIGGER "some 300000 2000000"

/* What the two versions of control groups call things. */
struct dialect {
	const char *limit;
	const char *high; /* a softer limit, above which the kernel slows down; or NULL */
	const char *usage;
	const char *inactive; /* lines of memory.stat: page cache that can go */
	const char *active;
};

static const struct dialect version_1 = {
	.limit = "memory.limit_in_bytes",
	.usage = "memory.usage_in_bytes",
	.inactive = "total_inactive_file",
	.active = "total_active_file",
};

static const struct dialect version_2 = {
	.limit = "memory.max",
	.high = "memory.high",
	.usage = "memory.current",
	.inactive = "inactive_file",
	.active = "active_file",
};

/* A control group; -1 for files that it has not. */
struct place {
	int limit;
	int high;
	int usage;
	int stat;
};

struct memory {
	int meminfo;
	const struct dialect *dialect; /* of the places */
	unsigned int place_count;
	struct place places[MOST_PLACES];
};

const struct memory_roots memory_system_roots = {
	.proc = "/proc",
	.cgroup = "/sys/fs/cgroup",
};

/* ---- Reading ---- */

static bool read_text(int fd, char text[static TEXT_MAX])
{
	ssize_t n = fd < 0 ? -1 : pread(fd, text, TEXT_MAX - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	return n > 0;
}

/* The number at the start of a text; "max" and other words are none. */
static bool parse_number(const char *text, uint64_t *number)
{
	char *end;

	text += strspn(text, ": \t");
	errno = 0;
	*number = strtoull(text, &end, 10);
	return end != text && errno == 0;
}

/* The number in the line "KEY NUMBER" or "KEY: NUMBER". */
static bool find_number(const char *text, const char *key, uint64_t *number)
{
	size_t len = strlen(key);

	while (text && *text) {
		if (strncmp(text, key, len) == 0 && strchr(": \t", text[len]))
			return parse_number(text + len, number);
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return false;
}

static bool read_number(int fd, uint64_t *number)
{
	char text[TEXT_MAX];

	return read_text(fd, text) && parse_number(text, number);
}

/* ---- Opening ---- */

static int open_in(const char *dir, const char *name, int flags)
{
	char path[PATH_MAX];

	if (!name || snprintf(path, sizeof(path), "%s/%s", dir, name) >= PATH_MAX)
		return -1;
	return open(path, flags | O_CLOEXEC);
}

static void close_place(const struct place *place)
{
	close_fd(&place->limit);
	close_fd(&place->high);
	close_fd(&place->usage);
	close_fd(&place->stat);
}

/* Adds a control group if it has memory to account for: a root has not. */
static void add_place(struct memory *m, const char *dir)
{
	struct place place = {
		.limit = open_in(dir, m->dialect->limit, O_RDONLY),
		.high = open_in(dir, m->dialect->high, O_RDONLY),
		.usage = open_in(dir, m->dialect->usage, O_RDONLY),
		.stat = open_in(dir, "memory.stat", O_RDONLY),
	};

	if (place.limit < 0 || place.usage < 0 || m->place_count == MOST_PLACES)
		close_place(&place);
	else
		m->places[m->place_count++] = place;
}

/* Opens the group at `path` below `base` and all around it. In a container the path may
 * be one that only the host sees; then the top is the container's own. */
static void add_places(struct memory *m, const char *base, char *path)
{
	char dir[PATH_MAX];
	char *slash;

	do {
		slash = strrchr(path, '/');
		if (slash && slash[1] == '\0')
			*slash = '\0';
		if (snprintf(dir, sizeof(dir), "%s%s", base, path) < PATH_MAX)
			add_place(m, dir);
		slash = strrchr(path, '/');
		if (slash)
			*slash = '\0';
	} while (slash);
}

/* The path of the process's group in the hierarchy with these controllers, in a text of
 * lines "NUMBER:CONTROLLER,...:PATH". */
static bool find_group(const char *text, const char *controller, char *path)
{
	while (text && *text) {
		const char *names = strchr(text, ':');
		const char *value = names ? strchr(names + 1, ':') : NULL;
		const char *end = strchrnul(text, '\n');
		const char *found = value ? strstr(names, controller) : NULL;

		if (found && found < value && value < end && end - value < PATH_MAX) {
			(void)snprintf(path, PATH_MAX, "%.*s", (int)(end - value - 1),
				       value + 1);
			return true;
		}
		text = *end ? end + 1 : NULL;
	}
	return false;
}

static bool read_groups(const struct memory_roots *roots, char text[static TEXT_MAX])
{
	CLEANUP(close_fd) int fd = open_in(roots->proc, "self/cgroup", O_RDONLY);

	return read_text(fd, text);
}

static void open_groups(struct memory *m, const struct memory_roots *roots)
{
	char base[PATH_MAX];
	char text[TEXT_MAX];
	char path[PATH_MAX];

	if (!read_groups(roots, text))
		return;
	m->dialect = &version_1;
	if (find_group(text, "memory", path)) {
		(void)snprintf(base, sizeof(base), "%s/memory", roots->cgroup);
		add_places(m, base, path);
	}
	if (m->place_count > 0)
		return;
	m->dialect = &version_2;
	if (find_group(text, "::", path))
		add_places(m, roots->cgroup, path);
}

int memory_open(const struct memory_roots *roots, struct memory **memory)
{
	struct memory *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->meminfo = open_in(roots->proc, "meminfo", O_RDONLY);
	open_groups(m, roots);
	*memory = m;
	return 0;
}

void memory_close(struct memory *memory)
{
	if (!memory)
		return;
	close_fd(&memory->meminfo);
	for (unsigned int i = 0; i < memory->place_count; i++)
		close_place(&memory->places[i]);
	free(memory);
}

/* ---- Measuring ---- */

static uint64_t reserve_of(uint64_t total)
{
	uint64_t reserve = total / 20 > LEAST_RESERVE ? total / 20 : LEAST_RESERVE;

	return reserve < total / 4 ? reserve : total / 4;
}

/* Takes a place into account. */
static void narrow(struct memory_room *room, uint64_t total, uint64_t available)
{
	uint64_t reserve = reserve_of(total);
	int64_t spare = (int64_t)available - (int64_t)reserve;

	if (total < room->total)
		room->total = total;
	if (available < room->available)
		room->available = available;
	if (spare < room->spare) {
		room->spare = spare;
		room->reserve = reserve;
	}
}

/* More than any machine has: what a group without a limit says, rounded to pages. */
#define NO_LIMIT ((uint64_t)INT64_MAX >> 1)

static uint64_t limit_of(const struct place *place)
{
	uint64_t limit = NO_LIMIT;
	uint64_t number;

	if (read_number(place->limit, &number) && number < limit)
		limit = number;
	if (read_number(place->high, &number) && number < limit)
		limit = number;
	return limit;
}

static void measure_place(const struct memory *m, const struct place *place,
			  struct memory_room *room)
{
	uint64_t limit = limit_of(place);
	uint64_t inactive = 0;
	uint64_t active = 0;
	char text[TEXT_MAX];
	uint64_t usage;

	if (limit >= NO_LIMIT || !read_number(place->usage, &usage))
		return;
	if (read_text(place->stat, text)) {
		(void)find_number(text, m->dialect->inactive, &inactive);
		(void)find_number(text, m->dialect->active, &active);
	}
	usage = usage > inactive + active ? usage - inactive - active : 0;
	narrow(room, limit, limit > usage ? limit - usage : 0);
}

int memory_measure(const struct memory *memory, struct memory_room *room)
{
	struct memory_room found = { .total = UINT64_MAX,
				     .available = UINT64_MAX,
				     .spare = INT64_MAX };
	uint64_t total_kib;
	uint64_t available_kib;
	char text[TEXT_MAX];

	if (!read_text(memory->meminfo, text) ||
	    !find_number(text, "MemTotal", &total_kib) ||
	    !find_number(text, "MemAvailable", &available_kib))
		return -EIO;
	narrow(&found, total_kib << 10, available_kib << 10);
	for (unsigned int i = 0; i < memory->place_count; i++)
		measure_place(memory, &memory->places[i], &found);
	*room = found;
	return 0;
}

/* ---- Events ---- */

/* A trigger exists as long as its descriptor. */
static int open_trigger(const char *dir, const char *name)
{
	static const char *const triggers[] = { TRIGGER, UNPRIVILEGED_TRIGGER };
	int fd = open_in(dir, name, O_RDWR | O_NONBLOCK);

	for (size_t i = 0; fd >= 0 && i < ARRAY_LEN(triggers); i++)
		if (write(fd, triggers[i], strlen(triggers[i]) + 1) > 0)
			return fd;
	close_fd(&fd);
	return -1;
}

void memory_open_events(const struct memory_roots *roots, int fds[static MEMORY_EVENTS])
{
	char text[TEXT_MAX];
	char path[PATH_MAX];
	char dir[PATH_MAX];

	fds[0] = open_trigger(roots->proc, "pressure/memory");
	fds[1] = -1;
	if (read_groups(roots, text) && find_group(text, "::", path) &&
	    strcmp(path, "/") != 0 &&
	    snprintf(dir, sizeof(dir), "%s%s", roots->cgroup, path) < PATH_MAX)
		fds[1] = open_trigger(dir, "memory.pressure");
}

void memory_poll_events(const int events[static MEMORY_EVENTS],
			struct pollfd fds[static MEMORY_EVENTS])
{
	for (unsigned int i = 0; i < MEMORY_EVENTS; i++)
		fds[i] = (struct pollfd){ .fd = events[i], .events = POLLPRI };
}

bool memory_event_fired(struct pollfd *fd)
{
	if (fd->revents & (POLLERR | POLLHUP | POLLNVAL)) {
		fd->fd = -1;
		return false;
	}
	return (fd->revents & POLLPRI) != 0;
}

bool memory_take_events(struct pollfd fds[static MEMORY_EVENTS])
{
	bool fired = false;

	for (unsigned int i = 0; i < MEMORY_EVENTS; i++)
		fired |= memory_event_fired(&fds[i]);
	return fired;
}

void memory_look(struct memory_room *room)
{
	struct memory *memory;
	uint64_t total;
	int r = memory_open(&memory_system_roots, &memory);

	if (r == 0) {
		r = memory_measure(memory, room);
		memory_close(memory);
	}
	if (r == 0)
		return;
	total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	*room = (struct memory_room){ .total = UINT64_MAX,
				      .available = UINT64_MAX,
				      .spare = INT64_MAX };
	narrow(room, total, total);
}
