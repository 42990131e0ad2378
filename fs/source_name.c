#include "source_name.h"

#include "parsers/shard_name.h"
#include "util/strbuf.h"

static const char snapshots[] = "/snapshots/";

const char *source_name_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

char *source_name_parent(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash > path ? strndup(path, (size_t)(slash - path))
				     : strdup("/");
}

/* Whether the path up to `end` ends in a component models--NAME. */
static bool ends_in_repository(const char *path, const char *end)
{
	const char *slash = memrchr(path, '/', (size_t)(end - path));
	const char *name = slash ? slash + 1 : path;

	return strncmp(name, "models--", 8) == 0 && end > name + 8;
}

size_t source_name_hub_len(const char *dir)
{
	size_t len = 0;

	for (const char *at = strstr(dir, snapshots); at; at = strstr(at + 1, snapshots))
		if (ends_in_repository(dir, at) && at[strlen(snapshots)] != '\0')
			len = (size_t)(at - dir);
	return len;
}

/* "models--org--name" becomes "org/name"; a directory in a snapshot, as pipelines have
 * them, follows. */
static char *hub_model_name(const char *dir, size_t len)
{
	const char *end = dir + len;
	const char *inside = strchr(end + strlen(snapshots), '/');
	const char *start = memrchr(dir, '/', len);
	struct strbuf name;

	start = (start ? start + 1 : dir) + strlen("models--");
	strbuf_init(&name);
	while (start < end) {
		if (start + 2 <= end && strncmp(start, "--", 2) == 0) {
			strbuf_add_char(&name, '/');
			start += 2;
		} else {
			strbuf_add_char(&name, *start++);
		}
	}
	if (inside)
		strbuf_add_str(&name, inside);
	return strbuf_steal(&name);
}

char *source_name_of_dir(const char *dir)
{
	size_t repository = source_name_hub_len(dir);

	return repository ? hub_model_name(dir, repository)
			  : strdup(source_name_base(dir));
}

char *source_name_of_file(const char *path)
{
	const char *base = source_name_base(path);
	size_t len = shard_name_index_len(base);
	struct shard_name part;
	const char *dot;

	if (len == 0)
		len = strlen(base);
	/* Only the first of a split GGUF is the whole model; a shard of safetensors that
	 * was named alone keeps its number. */
	if (shard_name_parse(base, &part) && strcmp(part.suffix, ".gguf") == 0 &&
	    part.stem_len > 0)
		return strndup(base, part.stem_len);
	dot = memrchr(base, '.', len);
	return strndup(base, dot && dot > base ? (size_t)(dot - base) : len);
}
