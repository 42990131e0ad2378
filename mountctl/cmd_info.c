#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "mountctl/command.h"
#include "mountctl/daemon.h"
#include "mountctl/describe.h"
#include "mountctl/mounts.h"
#include "mountctl/tensors.h"
#include "mountctl/text.h"
#include "util/jsonw.h"
#include "util/log.h"

#define XATTR_PREFIX "user.weightfs."

/* A file or directory of a mounted tree. */
struct place {
	const char *path; /* absolute */
	const struct mount *mount;
	char *model_dir;   /* where its model.json is */
	const char *below; /* its part of `path` behind model_dir, and behind the tree of
			      a memory node there; "" for that itself */
};

static const char *const views[] = {
	"flat/tensors", "flat/npy", "flat/safetensors", "tensors", "npy", "safetensors",
};

/* The view that a path below the model's directory lies in, or NULL; `rest` is what
 * stands behind it. */
static const char *view_of(const char *below, const char **rest)
{
	for (size_t i = 0; i < ARRAY_LEN(views); i++) {
		size_t len = strlen(views[i]);

		if (strncmp(below, views[i], len) != 0 ||
		    (below[len] != '/' && below[len] != '\0'))
			continue;
		*rest = below + len + (below[len] == '/');
		return views[i];
	}
	return NULL;
}

static bool has_model(const char *dir)
{
	CLEANUP(free_ptr) char *path = NULL;

	if (asprintf(&path, "%s/model.json", dir) < 0) {
		path = NULL;
		return false;
	}
	return access(path, F_OK) == 0;
}

/* The mount point is the model, or it holds one directory a model. 0 or -ENOMEM. */
static int find_model(struct place *place)
{
	unsigned int node;

	place->model_dir = strdup(place->mount->mountpoint);
	if (!place->model_dir)
		return -ENOMEM;
	if (!has_model(place->model_dir) && *place->below != '\0') {
		size_t len =
			(size_t)(place->below - place->path) + strcspn(place->below, "/");

		free(place->model_dir);
		place->model_dir = strndup(place->path, len);
		if (!place->model_dir)
			return -ENOMEM;
		place->below = place->path + len;
		place->below += strspn(place->below, "/");
	}
	(void)mounts_node_tree(place->below, &node, &place->below);
	return 0;
}

/* ---- a tensor file ---- */

/* One attribute with its prefix cut off: "dtype" of user.weightfs.dtype. */
struct attribute {
	const char *name;
	struct strbuf value;
};

static void attribute_fini(struct attribute *attribute)
{
	strbuf_fini(&attribute->value);
}

/* 0 or a negative errno. */
static int read_attribute(const char *path, const char *full_name,
			  struct attribute *attribute)
{
	char value[XATTR_SIZE_MAX];
	ssize_t len = lgetxattr(path, full_name, value, sizeof(value));

	if (len < 0)
		return -errno;
	strbuf_add(&attribute->value, value, (size_t)len);
	return attribute->value.err;
}

static bool is_number(const struct strbuf *value)
{
	return value->data && value->len > 0 && value->len < 20 &&
	       strspn(value->data, "0123456789") == value->len;
}

/* "4096,4096" becomes [4096,4096]. */
static void write_shape(struct jsonw *out, const struct strbuf *value)
{
	CLEANUP(strbuf_fini) struct strbuf array = { 0 };

	strbuf_add_char(&array, '[');
	strbuf_add(&array, value->data, value->len);
	strbuf_add_char(&array, ']');
	if (array.data && strspn(array.data, "[0123456789,]") == array.len)
		jsonw_raw(out, array.data, array.len);
	else
		jsonw_string_bytes(out, value->data, value->len);
}

static void write_attribute(struct jsonw *out, const struct attribute *attribute)
{
	bool is_name = strcmp(attribute->name, "name") == 0;

	jsonw_key(out, attribute->name);
	if (strcmp(attribute->name, "shape") == 0)
		write_shape(out, &attribute->value);
	else if (!is_name && is_number(&attribute->value))
		jsonw_raw(out, attribute->value.data, attribute->value.len);
	else
		jsonw_string_bytes(out, attribute->value.data, attribute->value.len);
}

static void print_attribute(const struct attribute *attribute)
{
	CLEANUP(strbuf_fini) struct strbuf safe = { 0 };
	char size[TEXT_BYTES_MAX];

	if (strcmp(attribute->name, "nbytes") == 0 && is_number(&attribute->value))
		strbuf_add_str(&safe,
			       text_bytes(strtoull(attribute->value.data, NULL, 10),
					  size));
	else
		text_escape(&safe, attribute->value.data, attribute->value.len);
	if (strcmp(attribute->name, "shape") == 0 && safe.len == 0)
		strbuf_add_str(&safe, "scalar");
	(void)printf("%-10s %s\n", attribute->name, safe.data ? safe.data : "");
}

/* Names of all attributes, one NUL behind each. 0 or a negative errno. */
static int read_names(const char *path, struct strbuf *names)
{
	char list[XATTR_LIST_MAX];
	ssize_t len = llistxattr(path, list, sizeof(list));

	if (len < 0)
		return -errno;
	strbuf_add(names, list, (size_t)len);
	return names->err;
}

/* Every attribute of ours: to the document with `out`, else printed. */
static int show_attributes(const struct place *place, struct jsonw *out)
{
	CLEANUP(strbuf_fini) struct strbuf names = { 0 };
	int r = read_names(place->path, &names);

	for (const char *name = names.data;
	     r == 0 && name && name < names.data + names.len; name += strlen(name) + 1) {
		CLEANUP(attribute_fini)
		struct attribute attribute = {
			.name = name + strlen(XATTR_PREFIX),
		};

		if (strncmp(name, XATTR_PREFIX, strlen(XATTR_PREFIX)) != 0)
			continue;
		r = read_attribute(place->path, name, &attribute);
		if (r == 0 && out)
			write_attribute(out, &attribute);
		else if (r == 0)
			print_attribute(&attribute);
	}
	return r < 0 ? text_error(place->path, "read attributes", -r) : 0;
}

static void print_line(const char *label, const char *text)
{
	CLEANUP(strbuf_fini) struct strbuf safe = { 0 };

	text_escape(&safe, text, strlen(text));
	(void)printf("%-10s %s\n", label, safe.data ? safe.data : "");
}

static void begin_document(struct jsonw *out, const struct place *place, const char *kind)
{
	jsonw_begin_object(out);
	jsonw_key(out, "kind");
	jsonw_string(out, kind);
	jsonw_key(out, "path");
	jsonw_string(out, place->path);
	jsonw_key(out, "mountpoint");
	jsonw_string(out, place->mount->mountpoint);
	jsonw_key(out, "source");
	jsonw_string(out, place->mount->source);
}

static void print_place(const struct place *place)
{
	print_line("path", place->path);
	print_line("mounted at", place->mount->mountpoint);
	print_line("source", place->mount->source);
}

static int print_document(struct strbuf *text)
{
	if (text->err)
		return log_errno(text->err, "info");
	(void)printf("%s\n", text->data);
	return 0;
}

static int show_tensor(const struct place *place, bool json)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	const char *rest;
	const char *view = view_of(place->below, &rest);
	struct jsonw out;
	int r;

	if (!json) {
		r = show_attributes(place, NULL);
		print_line("view", view ? view : "none");
		print_place(place);
		return r;
	}
	jsonw_init(&out, &text);
	begin_document(&out, place, "tensor");
	jsonw_key(&out, "view");
	if (view)
		jsonw_string(&out, view);
	else
		jsonw_null(&out);
	r = show_attributes(place, &out);
	jsonw_end_object(&out);
	return r < 0 ? r : print_document(&text);
}

/* ---- any other file ---- */

static int show_file(const struct place *place, const struct stat *st, bool json)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	char size[TEXT_BYTES_MAX];
	struct jsonw out;

	if (!json) {
		print_place(place);
		print_line("size", text_bytes((uint64_t)st->st_size, size));
		return 0;
	}
	jsonw_init(&out, &text);
	begin_document(&out, place, "file");
	jsonw_key(&out, "nbytes");
	jsonw_u64(&out, (uint64_t)st->st_size);
	jsonw_end_object(&out);
	return print_document(&text);
}

/* ---- a directory ---- */

/* Keeps the tensors whose path lies below `prefix`; all for "". 0 or -ENOMEM. */
static int keep_below(struct tensors *tensors, const char *prefix)
{
	size_t len = strlen(prefix);
	size_t kept = 0;

	while (len > 0 && prefix[len - 1] == '/')
		len--;
	for (size_t i = 0; len > 0 && i < tensors->count; i++) {
		struct tensor_entry tensor = tensors->list[i];
		CLEANUP(strbuf_fini) struct strbuf path = { 0 };

		json_add_string(&path, json_get(tensor.json, "path"));
		if (path.err)
			return path.err;
		if (path.len > len && memcmp(path.data, prefix, len) == 0 &&
		    path.data[len] == '/') {
			/* Swapped, so that each name is still freed once. */
			tensors->list[i] = tensors->list[kept];
			tensors->list[kept++] = tensor;
		}
	}
	for (size_t i = kept; len > 0 && i < tensors->count; i++)
		free(tensors->list[i].name);
	tensors->count = len > 0 ? kept : tensors->count;
	return 0;
}

static int print_directory(const struct place *place, struct tensors *tensors, bool json)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	char size[TEXT_BYTES_MAX];
	uint64_t bytes = 0;
	struct jsonw out;

	for (size_t i = 0; i < tensors->count; i++)
		bytes += tensors->list[i].nbytes;
	if (!json) {
		print_place(place);
		(void)printf("%-10s %zu\n%-10s %s\n\n", "tensors", tensors->count, "size",
			     text_bytes(bytes, size));
		return tensors_print_dtypes(tensors, 0);
	}
	jsonw_init(&out, &text);
	begin_document(&out, place, "directory");
	jsonw_key(&out, "tensor_count");
	jsonw_u64(&out, tensors->count);
	jsonw_key(&out, "total_bytes");
	jsonw_u64(&out, bytes);
	jsonw_end_object(&out);
	return print_document(&text);
}

static int show_directory(const struct place *place, bool json)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	CLEANUP(tensors_fini) struct tensors tensors = { 0 };
	const char *rest = "";
	int r;

	if (*place->below != '\0' && strcmp(place->below, "flat") != 0 &&
	    !view_of(place->below, &rest)) {
		(void)text_error(place->path, "holds no tensors", 0);
		return -EINVAL;
	}
	r = tensors_load(place->model_dir, &text, &tensors);
	if (r == 0)
		r = keep_below(&tensors, rest);
	return r < 0 ? r : print_directory(place, &tensors, json);
}

/* ---- the command ---- */

static int show_place(struct place *place, bool json)
{
	struct stat st;
	int r;

	if (lstat(place->path, &st) < 0)
		return text_error(place->path, "look up", errno);
	r = find_model(place);
	if (r < 0)
		return text_error(place->path, "look up", -r);
	if (S_ISDIR(st.st_mode))
		return show_directory(place, json);
	if (lgetxattr(place->path, XATTR_PREFIX "name", NULL, 0) >= 0)
		return show_tensor(place, json);
	return show_file(place, &st, json);
}

static int show_mounted(struct place *place, bool json)
{
	CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };
	int r = daemon_require(place->mount, &answer);

	if (r == 0)
		r = show_place(place, json);
	free(place->model_dir);
	return r;
}

static enum command_result show(const char *path, bool json)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(free_ptr) char *absolute = NULL;
	struct place place = { 0 };
	enum command_result status;
	int r;

	if (mounts_read(&mounts) < 0)
		return COMMAND_FAILED;
	absolute = mounts_absolute_path(&mounts, path);
	if (!absolute) {
		(void)text_error(path, "look up", ENOMEM);
		return COMMAND_FAILED;
	}
	place.path = absolute;
	place.mount = mounts_containing(&mounts, absolute, &place.below);
	if (place.mount)
		r = show_mounted(&place, json);
	else
		r = describe_model(path, json);
	status = command_finish();
	return r < 0 ? COMMAND_FAILED : status;
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option long_options[] = { COMMAND_COMMON_OPTIONS, { 0 } };
	enum command_result status;
	int option;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1)
		if (command_common_option(&command_info, option, argv, &json, &status))
			return status;
	if (argc - optind != 1 || *argv[optind] == '\0')
		return command_wrong_usage(&command_info, "needs one path");
	return show(argv[optind], json);
}

const struct command command_info = {
	.name = "info",
	.usage = "PATH",
	.summary = "show everything about a tensor file, a directory of them, or a model",
	.help = "PATH is a file or directory in a mount, or a model file or directory that is\n"
		"not mounted.\n",
	.run = run,
};
