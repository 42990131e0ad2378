#include "mountctl/mounts.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "ctl_proto.h"
#include "mountctl/text.h"
#include "util/strbuf.h"

#define MOUNTINFO "/proc/self/mountinfo"

/* As the kernel: more links in one path are a loop. */
#define LINKS_MAX 40

static void close_stream(FILE **stream)
{
	if (*stream)
		(void)fclose(*stream);
}

static void mount_fini(struct mount *mount)
{
	free(mount->mountpoint);
	free(mount->source);
	free(mount->fs_type);
}

void mounts_fini(struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->count; i++)
		mount_fini(&mounts->list[i]);
	free(mounts->list);
	*mounts = (struct mounts){ 0 };
}

static bool is_octal_escape(const char *text)
{
	return text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
	       text[2] <= '7' && text[3] >= '0' && text[3] <= '7';
}

/* The kernel writes space, tab, newline, '\\' and '#' as \ooo. */
static char *dup_unescaped(const char *field)
{
	char *copy = strdup(field);
	char *out = copy;

	if (!copy)
		return NULL;
	while (*field != '\0') {
		if (!is_octal_escape(field)) {
			*out++ = *field++;
			continue;
		}
		*out++ = (char)((field[1] - '0') << 6 | (field[2] - '0') << 3 |
				(field[3] - '0'));
		field += 4;
	}
	*out = '\0';
	return copy;
}

static uid_t parse_user_id(const char *options)
{
	const char *user_id = options ? strstr(options, "user_id=") : NULL;

	return user_id ? (uid_t)strtoul(user_id + strlen("user_id="), NULL, 10) : 0;
}

/* Of "major:minor". */
static unsigned int parse_minor(const char *device)
{
	const char *colon = strchr(device, ':');

	return colon ? (unsigned int)strtoul(colon + 1, NULL, 10) : 0;
}

/* `36 35 98:0 /root /mountpoint options [optional...] - type source super-options`.
 * 1 for a mount, 0 for a line of another shape, -ENOMEM. */
static int parse_line(char *line, struct mount *mount)
{
	char *save = NULL;
	char *separator = strstr(line, " - ");
	const char *fields[5] = { NULL };
	const char *fs_type;
	const char *source;
	const char *options;

	if (!separator)
		return 0;
	*separator = '\0';
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		fields[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
	fs_type = strtok_r(separator + 3, " ", &save);
	source = strtok_r(NULL, " ", &save);
	options = strtok_r(NULL, " ", &save);
	if (!fields[4] || !source)
		return 0;
	*mount = (struct mount){
		.mountpoint = dup_unescaped(fields[4]),
		.source = dup_unescaped(source),
		.fs_type = dup_unescaped(fs_type),
		.id = (unsigned int)strtoul(fields[0], NULL, 10),
		.parent = (unsigned int)strtoul(fields[1], NULL, 10),
		.is_part = strcmp(fields[3], "/") != 0,
		.dev_minor = parse_minor(fields[2]),
		.user_id = parse_user_id(options),
	};
	if (mount->mountpoint && mount->source && mount->fs_type)
		return 1;
	mount_fini(mount);
	return -ENOMEM;
}

int mounts_parse(char *text, struct mounts *mounts)
{
	struct mounts found = { 0 };
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct mount *list =
			reallocarray(found.list, found.count + 1, sizeof(*found.list));
		int r;

		if (list)
			found.list = list;
		r = list ? parse_line(line, &list[found.count]) : -ENOMEM;
		if (r < 0) {
			mounts_fini(&found);
			return r;
		}
		found.count += (size_t)r;
	}
	*mounts = found;
	return 0;
}

int mounts_read(struct mounts *mounts)
{
	CLEANUP(close_stream) FILE *stream = fopen(MOUNTINFO, "re");
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	char piece[4096];
	size_t n;
	int r;

	if (!stream)
		return text_error(MOUNTINFO, "open", errno);
	while ((n = fread(piece, 1, sizeof(piece), stream)) > 0)
		strbuf_add(&text, piece, n);
	if (ferror(stream))
		return text_error(MOUNTINFO, "read", EIO);
	r = text.err ? text.err : mounts_parse(text.data ? text.data : piece, mounts);
	return r < 0 ? text_error(MOUNTINFO, "read", -r) : 0;
}

bool mount_is_weightfs(const struct mount *mount)
{
	return strcmp(mount->fs_type, CTL_FS_TYPE) == 0;
}

const struct mount *mounts_at(const struct mounts *mounts, const char *path)
{
	for (size_t i = mounts->count; i > 0; i--)
		if (strcmp(mounts->list[i - 1].mountpoint, path) == 0)
			return &mounts->list[i - 1];
	return NULL;
}

bool mounts_is_covered(const struct mounts *mounts, const struct mount *mount)
{
	for (size_t i = 0; i < mounts->count; i++) {
		const struct mount *other = &mounts->list[i];

		if (other->parent == mount->id && other->id != mount->id &&
		    strcmp(other->mountpoint, mount->mountpoint) == 0)
			return true;
	}
	return false;
}

bool mounts_has_device(const struct mounts *mounts, unsigned int dev_minor)
{
	for (size_t i = 0; i < mounts->count; i++)
		if (mount_is_weightfs(&mounts->list[i]) &&
		    mounts->list[i].dev_minor == dev_minor)
			return true;
	return false;
}

bool mounts_path_is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return *path == '/';
	return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

const struct mount *mounts_containing(const struct mounts *mounts, const char *path,
				      const char **below)
{
	const struct mount *best = NULL;

	for (size_t i = mounts->count; i > 0; i--) {
		const struct mount *mount = &mounts->list[i - 1];

		if (mounts_path_is_below(path, mount->mountpoint) &&
		    (!best || strlen(mount->mountpoint) > strlen(best->mountpoint)))
			best = mount;
	}
	if (!best || !mount_is_weightfs(best))
		return NULL;
	*below = path + strlen(best->mountpoint);
	while (**below == '/')
		(*below)++;
	return best;
}

/* Numbers of nodes have at most four digits. */
bool mounts_node_tree(const char *below, unsigned int *node, const char **rest)
{
	const char *digits = below + strlen("node");
	size_t len;

	if (strncmp(below, "node", strlen("node")) != 0)
		return false;
	len = strspn(digits, "0123456789");
	if (len == 0 || len > 4 || (digits[len] != '/' && digits[len] != '\0'))
		return false;
	*node = (unsigned int)strtoul(digits, NULL, 10);
	*rest = digits + len + (digits[len] == '/');
	return true;
}

/* A path that is followed component by component. */
struct walk {
	struct strbuf
		done; /* what is resolved: absolute, no trailing '/', "" for the root */
	char *rest;
	int links;
	size_t mount_len; /* of a weightfs mount point that was entered, else 0 */
};

static void pop_component(struct walk *walk)
{
	while (walk->done.len > 0 && walk->done.data[walk->done.len - 1] != '/')
		walk->done.len--;
	if (walk->done.len > 0)
		walk->done.len--;
	if (walk->done.data)
		walk->done.data[walk->done.len] = '\0';
	if (walk->done.len < walk->mount_len)
		walk->mount_len = 0;
}

/* Puts the target of a link in front of what is left. 0 or -ENOMEM. */
static int follow(struct walk *walk, const char *target)
{
	char *rest;

	if (asprintf(&rest, "%s/%s", target, walk->rest) < 0)
		return -ENOMEM;
	free(walk->rest);
	walk->rest = rest;
	pop_component(walk);
	if (*target == '/') {
		walk->done.len = 0;
		walk->done.data[0] = '\0';
	}
	return 0;
}

/* `component` was appended to what is done: follows it if it is a link. 0 or -ENOMEM. */
static int enter(const struct mounts *mounts, struct walk *walk)
{
	const struct mount *mount = mounts_at(mounts, walk->done.data);
	char target[PATH_MAX];
	ssize_t len;

	if (mount && mount_is_weightfs(mount))
		walk->mount_len = walk->done.len;
	if (walk->mount_len > 0 || walk->links == LINKS_MAX)
		return 0;
	len = readlink(walk->done.data, target, sizeof(target) - 1);
	if (len < 0)
		return 0;
	target[len] = '\0';
	walk->links++;
	return follow(walk, target);
}

static int step(const struct mounts *mounts, struct walk *walk)
{
	char *component = walk->rest + strspn(walk->rest, "/");
	size_t len = strcspn(component, "/");
	bool is_dot = len == 1 && component[0] == '.';
	bool is_dot_dot = len == 2 && memcmp(component, "..", 2) == 0;

	if (len > 0 && !is_dot && !is_dot_dot) {
		strbuf_add_char(&walk->done, '/');
		strbuf_add(&walk->done, component, len);
	}
	memmove(walk->rest, component + len, strlen(component + len) + 1);
	if (walk->done.err)
		return walk->done.err;
	if (is_dot_dot)
		pop_component(walk);
	if (len == 0 || is_dot || is_dot_dot)
		return 0;
	return enter(mounts, walk);
}

static char *walk_path(const struct mounts *mounts, struct walk *walk)
{
	while (walk->rest && *walk->rest != '\0')
		if (step(mounts, walk) < 0)
			return NULL;
	if (!walk->rest)
		return NULL;
	if (walk->done.len == 0)
		strbuf_add_char(&walk->done, '/');
	return strbuf_steal(&walk->done);
}

char *mounts_absolute_path(const struct mounts *mounts, const char *path)
{
	CLEANUP(free_ptr) char *cwd = *path == '/' ? NULL : get_current_dir_name();
	struct walk walk = { 0 };
	char *absolute;

	if (*path == '/')
		walk.rest = strdup(path);
	else if (asprintf(&walk.rest, "%s/%s", cwd ? cwd : "", path) < 0)
		walk.rest = NULL;
	absolute = walk_path(mounts, &walk);
	strbuf_fini(&walk.done);
	free(walk.rest);
	return absolute;
}

const struct mount *mounts_require(struct mounts *mounts, const char *path,
				   char **absolute, const char **below)
{
	const struct mount *mount;

	if (mounts_read(mounts) < 0)
		return NULL;
	*absolute = mounts_absolute_path(mounts, path);
	mount = *absolute ? mounts_containing(mounts, *absolute, below) : NULL;
	if (!mount)
		(void)text_error(path, "not a weightfs mount", 0);
	return mount;
}
