#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "memory.h"
#include "parsers/parser.h"
#include "placement.h"
#include "util/size.h"
#include "util/strbuf.h"

#define MOST_THREADS      1024u
#define DEFAULT_READAHEAD ((uint64_t)4 << 20)
#define MOST_READAHEAD    ((uint64_t)1 << 30)

static const char *const backing_names[] = {
	[BACKING_AUTO] = "auto",
	[BACKING_STREAM] = "stream",
	[BACKING_CLONE] = "clone",
	[BACKING_RESIDENT] = "resident",
};

static const char *const huge_page_names[] = {
	[HUGE_AUTO] = "auto",
	[HUGE_ALWAYS] = "always",
	[HUGE_NEVER] = "never",
};

/* Half of what is available now, for resident tensors. */
static uint64_t default_limit(void)
{
	struct memory_room room;

	memory_look(&room);
	return room.available / 2;
}

/* A share of what the daemon may use at most. */
static uint64_t memory_percent(uint64_t percent)
{
	struct memory_room room;

	memory_look(&room);
	return room.total / 100 * percent;
}

/* Two for each core: one that copies and one that waits for the disk. More of them only
 * take turns, which keeps the client waiting for the piece that it needs first. */
static unsigned int default_threads(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (cores < 2)
		return 4;
	return cores < 8 ? (unsigned int)cores * 2 : 16;
}

void options_init(struct options *options)
{
	*options = (struct options){
		.uid = getuid(),
		.gid = getgid(),
		.threads = default_threads(),
		.readahead_bytes = DEFAULT_READAHEAD,
		.backing = BACKING_AUTO,
		.push = true,
		.resident_limit = default_limit(),
		.prediction = true,
		.ms_flags = MS_RDONLY | MS_NOSUID | MS_NODEV,
	};
}

static int fail_value(struct diag *diag, const char *name, const char *value,
		      const char *expected)
{
	return diag_fail(diag, -EINVAL, "option %s: value %s: must be %s", name,
			 DIAG_QUOTED(value, strlen(value)), expected);
}

/* A number from `least` to `most`. */
static int parse_number(const char *name, const char *value, uint64_t least,
			uint64_t most, uint64_t *number, struct diag *diag)
{
	char expected[64];

	if (value[strspn(value, "0123456789")] == '\0' &&
	    size_parse(value, number) == 0 && *number >= least && *number <= most)
		return 0;
	(void)snprintf(expected, sizeof(expected), "a number from %llu to %llu",
		       (unsigned long long)least, (unsigned long long)most);
	return fail_value(diag, name, value, expected);
}

/* The user and group numbers (uid_t)-1 and (gid_t)-1 mean "none" to the kernel. */
#define MOST_ID ((uint64_t)UINT32_MAX - 1)

static int set_uid(struct options *o, const char *value, struct diag *diag)
{
	uint64_t number = 0;
	int r = parse_number("uid", value, 0, MOST_ID, &number, diag);

	if (r == 0)
		o->uid = (uid_t)number;
	return r;
}

static int set_gid(struct options *o, const char *value, struct diag *diag)
{
	uint64_t number = 0;
	int r = parse_number("gid", value, 0, MOST_ID, &number, diag);

	if (r == 0)
		o->gid = (gid_t)number;
	return r;
}

static int set_threads(struct options *o, const char *value, struct diag *diag)
{
	uint64_t number = 0;
	int r = parse_number("threads", value, 1, MOST_THREADS, &number, diag);

	if (r == 0)
		o->threads = (unsigned int)number;
	return r;
}

static int set_readahead(struct options *o, const char *value, struct diag *diag)
{
	uint64_t bytes;

	if (size_parse(value, &bytes) < 0 || bytes > MOST_READAHEAD)
		return fail_value(diag, "readahead", value,
				  "a size up to 1G, such as 128K or 4M");
	o->readahead_bytes = bytes;
	return 0;
}

/* The position of a value in a list of names, or -1. */
static int find_name(const char *const *names, size_t count, const char *value)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], value) == 0)
			return (int)i;
	return -1;
}

static int set_backing(struct options *o, const char *value, struct diag *diag)
{
	int i = find_name(backing_names, ARRAY_LEN(backing_names), value);

	if (i < 0)
		return fail_value(diag, "backing", value,
				  "auto, stream, clone or resident");
	o->backing = (enum backing_choice)i;
	return 0;
}

static int set_huge_pages(struct options *o, const char *value, struct diag *diag)
{
	int i = find_name(huge_page_names, ARRAY_LEN(huge_page_names), value);

	if (i < 0)
		return fail_value(diag, "hugepages", value, "auto, always or never");
	o->huge_pages = (enum huge_pages)i;
	return 0;
}

/* A size, or a share of all memory such as "40%". */
static int set_resident_limit(struct options *o, const char *value, struct diag *diag)
{
	size_t digits = strspn(value, "0123456789");

	if (digits > 0 && digits <= 3 && strcmp(value + digits, "%") == 0) {
		unsigned long percent = strtoul(value, NULL, 10);

		if (percent <= 100) {
			o->resident_limit = memory_percent(percent);
			return 0;
		}
	} else if (size_parse(value, &o->resident_limit) == 0) {
		return 0;
	}
	return fail_value(diag, "resident_limit", value,
			  "a size such as 16G, or a share of all memory such as 40%");
}

static int set_numa(struct options *o, const char *value, struct diag *diag)
{
	if (!placement_parse(value, &o->numa))
		return fail_value(diag, "numa", value,
				  "local, auto, interleave, mirror, numbers of nodes "
				  "such as 0 or 0,1, or a GPU such as gpu:0");
	return 0;
}

static int set_source_cache(struct options *o, const char *value, struct diag *diag)
{
	static const char *const names[] = { "keep", "drop" };
	int i = find_name(names, ARRAY_LEN(names), value);

	if (i < 0)
		return fail_value(diag, "source_cache", value, "keep or drop");
	o->drop_source_cache = i == 1;
	return 0;
}

/* "on" or "off". */
static int parse_switch(const char *name, const char *value, bool *is_on,
			struct diag *diag)
{
	static const char *const names[] = { "off", "on" };
	int i = find_name(names, ARRAY_LEN(names), value);

	if (i < 0)
		return fail_value(diag, name, value, "on or off");
	*is_on = i == 1;
	return 0;
}

static int set_prediction(struct options *o, const char *value, struct diag *diag)
{
	return parse_switch("prediction", value, &o->prediction, diag);
}

static int set_profile(struct options *o, const char *value, struct diag *diag)
{
	if (strlen(value) >= sizeof(o->profile))
		return fail_value(diag, "profile", value, "the name of a file");
	(void)snprintf(o->profile, sizeof(o->profile), "%s", value);
	return 0;
}

static int set_push(struct options *o, const char *value, struct diag *diag)
{
	return parse_switch("push", value, &o->push, diag);
}

static int set_format(struct options *o, const char *value, struct diag *diag)
{
	const struct parser_ops *ops = parser_find(value);
	char names[256];
	struct strbuf text;

	if (ops) {
		o->format = ops->name;
		return 0;
	}
	strbuf_init_fixed(&text, names, sizeof(names));
	strbuf_add_str(&text, "one of: ");
	for (size_t i = 0; parser_table[i]; i++)
		strbuf_addf(&text, "%s%s", i > 0 ? ", " : "", parser_table[i]->name);
	return fail_value(diag, "format", value, names);
}

static int set_allow_other(struct options *o, const char *value, struct diag *diag)
{
	(void)value;
	(void)diag;
	o->allow_other = true;
	return 0;
}

static int do_nothing(struct options *o, const char *value, struct diag *diag)
{
	(void)o;
	(void)value;
	(void)diag;
	return 0;
}

enum value_need {
	NO_VALUE,
	NEEDS_VALUE,
};

static const struct option_info {
	const char *name;
	const char *value; /* what it looks like, for --help */
	enum value_need need;
	int (*set)(struct options *o, const char *value, struct diag *diag);
} option_table[] = {
	{ "allow_other", NULL, NO_VALUE, set_allow_other },
	{ "ro", NULL, NO_VALUE, do_nothing }, /* always */
	{ "uid", "N", NEEDS_VALUE, set_uid },
	{ "gid", "N", NEEDS_VALUE, set_gid },
	{ "threads", "N", NEEDS_VALUE, set_threads },
	{ "readahead", "SIZE", NEEDS_VALUE, set_readahead },
	{ "backing", "auto|stream|clone|resident", NEEDS_VALUE, set_backing },
	{ "resident_limit", "SIZE|PERCENT%", NEEDS_VALUE, set_resident_limit },
	{ "hugepages", "auto|always|never", NEEDS_VALUE, set_huge_pages },
	{ "numa", "local|auto|N[,N...]|interleave|gpu:N|mirror", NEEDS_VALUE, set_numa },
	{ "source_cache", "keep|drop", NEEDS_VALUE, set_source_cache },
	{ "prediction", "on|off", NEEDS_VALUE, set_prediction },
	{ "profile", "FILE", NEEDS_VALUE, set_profile },
	{ "push", "on|off", NEEDS_VALUE, set_push },
	{ "format", "NAME", NEEDS_VALUE, set_format },
};

/* What mount(8) and /etc/fstab pass to every file system. "rw" is their default and
 * cannot be meant: this file system is always read-only. */
static const struct mount_flag {
	const char *name;
	unsigned long set;
	unsigned long clear;
} mount_flags[] = {
	{ "rw", 0, 0 },
	{ "defaults", 0, 0 },
	{ "nosuid", MS_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },
	{ "noexec", MS_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "noatime", MS_NOATIME, 0 },
	{ "atime", 0, MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME, 0 },
	{ "relatime", MS_RELATIME, 0 },
	{ "default_permissions", 0, 0 }, /* always */
	{ "_netdev", 0, 0 },
	{ "nofail", 0, 0 },
	{ "auto", 0, 0 },
	{ "noauto", 0, 0 },
	{ "user", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 },
	{ "users", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0 },
	{ "nouser", 0, 0 },
};

void options_list(char *text, size_t size)
{
	struct strbuf out;

	strbuf_init_fixed(&out, text, size);
	for (size_t i = 0; i < ARRAY_LEN(option_table); i++) {
		strbuf_addf(&out, "%s%s", i > 0 ? ", " : "", option_table[i].name);
		if (option_table[i].value)
			strbuf_addf(&out, "=%s", option_table[i].value);
	}
}

static bool set_mount_flag(struct options *options, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(mount_flags); i++) {
		const struct mount_flag *flag = &mount_flags[i];

		if (strcmp(flag->name, name) == 0) {
			options->ms_flags =
				(options->ms_flags | flag->set) & ~flag->clear;
			return true;
		}
	}
	return false;
}

/* x-systemd.automount, X-mount.mkdir=...: notes to other programs in /etc/fstab. */
static bool is_note(const char *name)
{
	return strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0;
}

static int set_option(struct options *options, const char *name, const char *value,
		      struct diag *diag)
{
	char known[512];

	for (size_t i = 0; i < ARRAY_LEN(option_table); i++) {
		const struct option_info *info = &option_table[i];

		if (strcmp(info->name, name) != 0)
			continue;
		if (info->need == NEEDS_VALUE && (!value || !*value))
			return diag_fail(diag, -EINVAL, "option %s: needs a value: %s=%s",
					 name, name, info->value);
		if (info->need == NO_VALUE && value)
			return diag_fail(diag, -EINVAL, "option %s: takes no value",
					 name);
		return info->set(options, value, diag);
	}
	if ((!value && set_mount_flag(options, name)) || is_note(name))
		return 0;
	options_list(known, sizeof(known));
	return diag_fail(diag, -EINVAL, "unknown option %s: the options are: %s",
			 DIAG_QUOTED(name, strlen(name)), known);
}

/* Numbers behind a number, as in "numa=0,1": they are options of no name. */
static void take_list(const char *value, char **rest)
{
	while (*value >= '0' && *value <= '9' && *rest) {
		size_t digits = strspn(*rest, "0123456789");

		if (digits == 0 || ((*rest)[digits] != ',' && (*rest)[digits] != '\0'))
			return;
		(*rest)[-1] = ',';
		(void)strsep(rest, ",");
	}
}

static int parse_items(struct options *options, char *text, struct diag *diag)
{
	char *item;
	int r = 0;

	while (r == 0 && (item = strsep(&text, ","))) {
		char *value = strchr(item, '=');

		if (value)
			*value++ = '\0';
		if (value && strcmp(item, "numa") == 0)
			take_list(value, &text);
		if (*item || value)
			r = set_option(options, item, value, diag);
	}
	return r;
}

int options_parse(struct options *options, const char *text, struct diag *diag)
{
	char *copy = strdup(text);
	int r;

	if (!copy)
		return diag_fail(diag, -ENOMEM, "out of memory");
	r = parse_items(options, copy, diag);
	free(copy);
	return r;
}

const char *options_backing_name(enum backing_choice choice)
{
	return backing_names[choice];
}
