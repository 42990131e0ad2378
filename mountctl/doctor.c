#include "mountctl/doctor.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "util/kernel.h"

void finding_set(struct finding *finding, enum mark mark, const char *cost,
		 const char *advice)
{
	finding->mark = mark;
	strbuf_add_str(&finding->cost, cost);
	if (advice)
		strbuf_add_str(&finding->advice, advice);
}

void finding_fini(struct finding *finding)
{
	strbuf_fini(&finding->value);
	strbuf_fini(&finding->cost);
	strbuf_fini(&finding->advice);
}

/* NULL with errno set. */
static FILE *open_below(const struct machine *machine, const char *path)
{
	char full[PATH_MAX];

	if (snprintf(full, sizeof(full), "%s%s", machine->root, path) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	return fopen(full, "re");
}

int machine_read_line(const struct machine *machine, const char *path, char *text,
		      size_t size)
{
	FILE *file = open_below(machine, path);
	bool read;

	if (!file)
		return -errno;
	read = fgets(text, (int)size, file) != NULL;
	(void)fclose(file);
	if (!read)
		return -ENODATA;
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

/* "max" and the like are none. */
static bool take_number(const char *text, uint64_t *number)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (end == text || errno != 0)
		return false;
	*number = value;
	return true;
}

bool machine_read_number(const struct machine *machine, const char *path,
			 uint64_t *number)
{
	char text[64];

	return machine_read_line(machine, path, text, sizeof(text)) == 0 &&
	       take_number(text, number);
}

bool machine_has(const struct machine *machine, const char *path)
{
	char full[PATH_MAX];

	return snprintf(full, sizeof(full), "%s%s", machine->root, path) < PATH_MAX &&
	       access(full, F_OK) == 0;
}

bool machine_read_field(const struct machine *machine, const char *path, const char *key,
			uint64_t *number)
{
	FILE *file = open_below(machine, path);
	size_t len = strlen(key);
	bool found = false;
	char line[256];

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = strncmp(line, key, len) == 0 && line[len] == ':' &&
			take_number(line + len + 1, number);
	(void)fclose(file);
	return found;
}

bool machine_probed(const struct machine *machine, const char *name,
		    struct finding *finding)
{
	struct json outcome = json_get(machine->probe, name);

	if (json_is_true(json_get(outcome, "ok")))
		return true;
	if (json_type(outcome) == JSON_OBJECT)
		json_add_string(&finding->value, json_get(outcome, "reason"));
	else
		strbuf_add_str(&finding->value, "not known: weightfs did not say");
	return false;
}

const char *machine_remedy(const struct finding *finding)
{
	static const struct {
		const char *reason; /* a part of it */
		const char *remedy;
	} table[] = {
		{ "user namespace", "mount outside of the container, or in one that has "
				    "the host's user namespace" },
		{ "CAP_SYS_ADMIN", "mount as root; in a container with "
				   "--cap-add SYS_ADMIN --device /dev/fuse" },
		{ "seccomp", "let the container's seccomp profile allow it" },
		{ "6.9 has", "run Linux 6.9 or later" },
		{ "CONFIG_", "run a kernel that was built with it" },
		{ "/dev/fuse", "load the module (modprobe fuse); in a container use "
			       "--device /dev/fuse" },
		{ "io_uring_disabled", "sysctl kernel.io_uring_disabled=0" },
		{ "lsm=", "add landlock to lsm= on the kernel's command line" },
	};

	for (size_t i = 0; finding->value.data && i < ARRAY_LEN(table); i++)
		if (strstr(finding->value.data, table[i].reason))
			return table[i].remedy;
	return NULL;
}

unsigned int machine_kernel(const struct machine *machine)
{
	char release[128];

	if (machine_read_line(machine, "/proc/sys/kernel/osrelease", release,
			      sizeof(release)) < 0)
		return 0;
	return kernel_parse(release);
}
