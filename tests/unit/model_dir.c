#include "model_dir.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The directory of the test that runs; check forks for each one. */
static char root[256];

/* The fixture cannot go on without its files, and has no test to fail. */
static void need(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	abort();
}

void model_dir_make(void)
{
	char template[] = "/tmp/weightfs-unit-XXXXXX";
	const char *made = mkdtemp(template);

	need(made != NULL, "mkdtemp");
	(void)snprintf(root, sizeof(root), "%s", template);
}

static int remove_entry(const char *path, const struct stat *st, int type,
			struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

void model_dir_remove(void)
{
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a test has one thread. */
	need(nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS) == 0, root);
}

const char *model_dir_path(const char *name)
{
	static char paths[8][MODEL_DIR_PATH_MAX];
	static unsigned int next;
	char *path = paths[next++ % ARRAY_LEN(paths)];

	(void)snprintf(path, MODEL_DIR_PATH_MAX, *name ? "%s/%s" : "%s%s", root, name);
	return path;
}

static void make_dirs_above(const char *name)
{
	char path[MODEL_DIR_PATH_MAX];
	char *at;

	(void)snprintf(path, sizeof(path), "%s", model_dir_path(name));
	for (at = strchr(path + strlen(root) + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		(void)mkdir(path, 0755);
		*at = '/';
	}
}

void model_dir_write(const char *name, const void *bytes, size_t len)
{
	int fd;

	make_dirs_above(name);
	fd = open(model_dir_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	need(fd >= 0, name);
	need(len == 0 || write(fd, bytes, len) == (ssize_t)len, name);
	(void)close(fd);
}

void model_dir_write_text(const char *name, const char *text)
{
	model_dir_write(name, text, strlen(text));
}

void model_dir_link(const char *name, const char *target)
{
	make_dirs_above(name);
	need(symlink(target, model_dir_path(name)) == 0, name);
}

void model_dir_add_safetensors(struct strbuf *file, const char *json, size_t data_len)
{
	size_t len = strlen(json);

	for (unsigned int i = 0; i < 8; i++)
		strbuf_add_char(file, (char)((uint64_t)len >> 8 * i & 0xff));
	strbuf_add(file, json, len);
	for (size_t i = 0; i < data_len; i++)
		strbuf_add_char(file, (char)(i * 7 + i / 251));
	need(file->err == 0, "out of memory");
}

void model_dir_write_safetensors(const char *name, const char *json, size_t data_len)
{
	struct strbuf file;

	strbuf_init(&file);
	model_dir_add_safetensors(&file, json, data_len);
	model_dir_write(name, file.data, file.len);
	strbuf_fini(&file);
}
