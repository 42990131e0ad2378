#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "mountctl/command.h"
#include "mountctl/daemon.h"
#include "mountctl/mounts.h"
#include "mountctl/table.h"
#include "mountctl/tensors.h"
#include "mountctl/text.h"
#include "util/jsonw.h"
#include "util/log.h"
#include "util/pattern.h"
#include "util/size.h"

#define BACKING_TEXT_MAX 64

struct request {
	const char *mountpoint;
	char **patterns; /* NULL-terminated */
	int (*order)(const void *, const void *);
	bool long_format;
	bool json;
};

/* Where the backing of a tensor is found: in what the daemon said of all of them, or else
 * in the tensor's file. */
struct backings {
	const char *dir; /* absolute, without links: the model's directory in the mount */
	struct json only; /* the one backing that all tensors have, or no value */
	struct strbuf reply;
	struct json names;
	struct json digits; /* one for each tensor: the place of its backing in `names` */
	struct json pins;   /* one for each tensor: 1 if it is pinned */
	struct strbuf cached_reply;
	struct json cached; /* two for each tensor: percent in hexadecimal; ff: unknown */
};

static const struct {
	const char *name;
	int (*order)(const void *, const void *);
} orders[] = {
	{ "name", tensors_by_name },
	{ "size", tensors_by_size },
	{ "dtype", tensors_by_dtype },
	{ "file", tensors_by_file },
};

/* Where the daemon says nothing of each tensor but that one backing has all of them, not
 * one file need be asked. That saves 150,000 round trips on a model of 92,000 tensors. */
static struct json only_backing(struct json status)
{
	struct json_iter iter = json_iter(json_get(status, "backings"));
	uint64_t all = json_u64(json_get(status, "tensor_count"));
	struct json name;
	struct json backing;

	while (json_next(&iter, &name, &backing))
		if (json_u64(json_get(backing, "tensors")) == all)
			return name;
	return (struct json){ 0 };
}

/* Asks for the backings of all tensors at once. A daemon that may not be asked, that of
 * another user, leaves them unknown. */
static void ask_backings(const struct mount *mount, const char *below,
			 struct backings *backings)
{
	CLEANUP(daemon_peer_fini) struct daemon_peer peer = { 0 };
	CLEANUP(strbuf_fini) struct strbuf request = { 0 };
	struct json reply = { 0 };
	unsigned int node;
	const char *rest;

	strbuf_add_str(&request, "{\"command\":\"backings\"");
	if (mounts_node_tree(below, &node, &rest))
		strbuf_addf(&request, ",\"node\":%u", node);
	strbuf_add_str(&request, "}\n");
	if (daemon_find(mount, &peer) < 0 ||
	    daemon_request(&peer, &request, &backings->reply, &reply) < 0)
		return;
	backings->names = json_get(reply, "names");
	backings->digits = json_get(reply, "backings");
	backings->pins = json_get(reply, "pinned");
}

/* So long the daemon may look at the page cache of a large model. */
#define COUNT_TRIES 1000

/* Asks how much of each tensor is cached. The daemon counts in the background, and
 * answers within milliseconds whether it is done. */
static void ask_cached(const struct mount *mount, struct backings *backings)
{
	CLEANUP(daemon_peer_fini) struct daemon_peer peer = { 0 };
	struct json reply = { 0 };
	uint64_t count = 0;

	if (daemon_find(mount, &peer) < 0)
		return;
	for (int i = 0; i < COUNT_TRIES; i++) {
		CLEANUP(strbuf_fini) struct strbuf request = { 0 };

		strbuf_addf(&request,
			    "{\"command\":\"page_cache\",\"count\":%" PRIu64 "}\n",
			    count);
		strbuf_fini(&backings->cached_reply);
		if (daemon_request(&peer, &request, &backings->cached_reply, &reply) < 0)
			return;
		if (json_is_true(json_get(reply, "ready"))) {
			backings->cached = json_get(reply, "cached");
			return;
		}
		count = json_u64(json_get(reply, "count"));
	}
}

/* The share of a tensor that is cached, in percent; -1 where that is not known. */
static int cached_percent(const struct backings *backings, size_t index)
{
	char digits[3] = "";
	char *end;
	long percent;

	if (!backings->cached.at || json_type(backings->cached) != JSON_STRING ||
	    2 * index + 4 > backings->cached.len)
		return -1;
	memcpy(digits, backings->cached.at + 1 + 2 * index, 2);
	percent = strtol(digits, &end, 16);
	return *end == '\0' && percent <= 100 ? (int)percent : -1;
}

/* The digit of a tensor in such a string, or -1 if it has none. */
static int digit_at(struct json digits, size_t index)
{
	if (json_type(digits) != JSON_STRING || index + 2 >= digits.len)
		return -1;
	return digits.at[index + 1] - '0';
}

static struct json known_backing(const struct backings *backings, size_t index)
{
	struct json_iter iter = json_iter(backings->names);
	int place = digit_at(backings->digits, index);
	struct json name;

	for (int i = 0; json_next(&iter, NULL, &name); i++)
		if (i == place)
			return name;
	return backings->only;
}

static void get_backing(const struct backings *backings,
			const struct tensor_entry *tensor,
			char text[static BACKING_TEXT_MAX])
{
	CLEANUP(strbuf_fini) struct strbuf path = { 0 };
	ssize_t len = -1;

	strbuf_addf(&path, "%s/tensors/", backings->dir);
	json_add_string(&path, json_get(tensor->json, "path"));
	if (!path.err)
		len = lgetxattr(path.data, "user.weightfs.backing", text,
				BACKING_TEXT_MAX - 1);
	text[len < 0 ? 0 : len] = '\0';
	if (len < 0)
		(void)snprintf(text, BACKING_TEXT_MAX, "?");
}

static void add_backing(const struct backings *backings,
			const struct tensor_entry *tensor, struct strbuf *out)
{
	struct json known = known_backing(backings, tensor->index);
	char text[BACKING_TEXT_MAX];

	if (known.at) {
		json_add_string(out, known);
		return;
	}
	get_backing(backings, tensor, text);
	strbuf_add_str(out, text);
}

/* Marks the patterns that match the tensor. Whether there is one; -ENOMEM. */
static int match(const struct tensor_entry *tensor, char **patterns, bool *used)
{
	CLEANUP(strbuf_fini) struct strbuf name = { 0 };
	CLEANUP(strbuf_fini) struct strbuf scratch = { 0 };
	const char *subject;
	bool wanted = false;

	json_add_string(&name, json_get(tensor->json, "name"));
	subject = pattern_subject(&scratch, name.data ? name.data : "", name.len);
	if (name.err || !subject)
		return -ENOMEM;
	for (size_t i = 0; patterns[i]; i++) {
		if ((wanted && used[i]) || !pattern_matches(patterns[i], subject))
			continue;
		wanted = true;
		used[i] = true;
	}
	return wanted ? 1 : 0;
}

static int complain_of_unused(char **patterns, const bool *used)
{
	int r = 0;

	for (size_t i = 0; patterns[i]; i++) {
		if (used[i])
			continue;
		r = -ENOENT;
		tensors_complain_of_pattern(patterns[i]);
	}
	return r;
}

/* 0 or -ENOMEM. */
static int keep_matching(struct tensors *tensors, char **patterns, bool *used)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; i < tensors->count; i++) {
		struct tensor_entry tensor = tensors->list[i];
		int matched = match(&tensor, patterns, used);

		if (matched < 0)
			r = matched;
		if (matched > 0)
			tensors->list[kept++] = tensor;
		else
			free(tensor.name);
	}
	tensors->count = kept;
	return r;
}

/* Keeps the tensors that a pattern matches. 0, -ENOENT with a message for each pattern
 * that matched none, or -ENOMEM. */
static int filter(struct tensors *tensors, char **patterns)
{
	size_t pattern_count = 0;
	bool *used;
	int r;

	while (patterns[pattern_count])
		pattern_count++;
	if (pattern_count == 0)
		return 0;
	used = calloc(pattern_count, sizeof(*used));
	if (!used)
		return text_error("patterns", "match", ENOMEM);
	r = keep_matching(tensors, patterns, used);
	if (r < 0)
		(void)text_error("patterns", "match", -r);
	else
		r = complain_of_unused(patterns, used);
	free(used);
	return r;
}

static const char *pin_text(const struct backings *backings, size_t index)
{
	switch (digit_at(backings->pins, index)) {
	case 0:
		return "-";
	case 1:
		return "pinned";
	default:
		return "?";
	}
}

static void add_cached(struct table *table, int percent)
{
	char text[16] = "?";

	if (percent >= 0)
		(void)snprintf(text, sizeof(text), "%d%%", percent);
	table_add(table, text);
}

static void add_place(struct table *table, const struct tensor_entry *tensor)
{
	CLEANUP(free_ptr) char *file = json_dup_printable(tensor->file);
	char offset[24];

	(void)snprintf(offset, sizeof(offset), "%" PRIu64, tensor->offset);
	table_add(table, offset);
	table_add(table, file ? file : "?");
}

static void add_row(struct table *table, const struct tensor_entry *tensor,
		    const struct backings *backings, bool long_format)
{
	CLEANUP(free_ptr) char *dtype = json_dup_printable(tensor->dtype);
	CLEANUP(free_ptr)
	char *shape = tensor_shape_text(json_get(tensor->json, "shape"));
	CLEANUP(strbuf_fini) struct strbuf raw = { 0 };
	CLEANUP(strbuf_fini) struct strbuf backing = { 0 };

	add_backing(backings, tensor, &raw);
	text_escape(&backing, raw.data, raw.len);
	table_add(table, tensor->name);
	table_add(table, dtype ? dtype : "?");
	table_add(table, shape ? shape : "?");
	table_add_size(table, tensor->nbytes);
	table_add(table, backing.data ? backing.data : "?");
	if (long_format) {
		add_cached(table, cached_percent(backings, tensor->index));
		table_add(table, pin_text(backings, tensor->index));
		add_place(table, tensor);
	}
}

static void print_totals(size_t count, uint64_t bytes)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	char size[SIZE_TEXT_MAX];

	text_add_count(&line, count, "tensor");
	strbuf_addf(&line, ", %s", size_format(bytes, size));
	(void)printf("%s%s%s\n", text_style(TEXT_DIM), line.data ? line.data : "",
		     text_style(TEXT_PLAIN));
}

static int print_table(const struct tensors *tensors, const struct backings *backings,
		       bool long_format)
{
	static const struct table_column columns[] = {
		{ "NAME", false },   { "DTYPE", false },   { "SHAPE", true },
		{ "SIZE", true },    { "BACKING", false }, { "CACHED", true },
		{ "PINNED", false }, { "OFFSET", true },   { "FILE", false },
	};
	CLEANUP(table_fini) struct table table;
	uint64_t bytes = 0;
	int r;

	table_init(&table, columns,
		   long_format ? ARRAY_LEN(columns) : ARRAY_LEN(columns) - 4);
	for (size_t i = 0; i < tensors->count; i++) {
		add_row(&table, &tensors->list[i], backings, long_format);
		bytes += tensors->list[i].nbytes;
	}
	r = table_print(&table, 0);
	if (r == 0 && text_is_terminal())
		print_totals(tensors->count, bytes);
	return r;
}

static const char *pin_json(const struct backings *backings, size_t index)
{
	int digit = digit_at(backings->pins, index);

	return digit < 0 ? "null" : digit > 0 ? "true" : "false";
}

/* The entries as they stand in model.json, each with three members more at its end. */
static void print_documents(const struct tensors *tensors,
			    const struct backings *backings)
{
	(void)putchar('[');
	for (size_t i = 0; i < tensors->count; i++) {
		struct json entry = tensors->list[i].json;
		CLEANUP(strbuf_fini) struct strbuf backing = { 0 };
		CLEANUP(strbuf_fini) struct strbuf text = { 0 };
		int cached = cached_percent(backings, tensors->list[i].index);
		struct jsonw out;

		add_backing(backings, &tensors->list[i], &backing);
		jsonw_init(&out, &text);
		jsonw_string_bytes(&out, backing.data ? backing.data : "", backing.len);
		(void)printf("%s%.*s, \"backing\": %s, \"pinned\": %s, ",
			     i > 0 ? ",\n " : "", (int)entry.len - 1, entry.at,
			     text.data ? text.data : "null",
			     pin_json(backings, tensors->list[i].index));
		if (cached < 0)
			(void)printf("\"cached_percent\": null}");
		else
			(void)printf("\"cached_percent\": %d}", cached);
	}
	(void)printf("]\n");
}

static enum command_result list_tensors(const struct request *request,
					const struct backings *backings)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	CLEANUP(tensors_fini) struct tensors tensors = { 0 };
	enum command_result status;
	int r = tensors_load(backings->dir, &text, &tensors);

	if (r < 0)
		return COMMAND_FAILED;
	r = filter(&tensors, request->patterns);
	if (request->order)
		qsort(tensors.list, tensors.count, sizeof(*tensors.list), request->order);
	if (request->json)
		print_documents(&tensors, backings);
	else if (tensors.count > 0 &&
		 print_table(&tensors, backings, request->long_format) < 0)
		r = -ENOMEM;
	status = command_finish();
	return r < 0 ? COMMAND_FAILED : status;
}

static void backings_fini(struct backings *backings)
{
	strbuf_fini(&backings->reply);
	strbuf_fini(&backings->cached_reply);
}

static enum command_result list_mount(const struct request *request)
{
	CLEANUP(mounts_fini) struct mounts mounts = { 0 };
	CLEANUP(daemon_answer_fini) struct daemon_answer answer = { 0 };
	CLEANUP(free_ptr) char *dir = NULL;
	CLEANUP(backings_fini) struct backings backings = { 0 };
	const struct mount *mount;
	const char *below;

	mount = mounts_require(&mounts, request->mountpoint, &dir, &below);
	if (!mount)
		return COMMAND_FAILED;
	if (daemon_require(mount, &answer) < 0)
		return COMMAND_FAILED;
	backings.dir = dir;
	/* What the status counts are the files of the main tree. */
	if (*below == '\0')
		backings.only = only_backing(answer.status);
	ask_backings(mount, below, &backings);
	if (request->long_format || request->json)
		ask_cached(mount, &backings);
	return list_tensors(request, &backings);
}

static bool take_order(const char *name, struct request *request)
{
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		if (strcmp(orders[i].name, name) != 0)
			continue;
		request->order = orders[i].order;
		return true;
	}
	return false;
}

static enum command_result run(int argc, char **argv, bool json)
{
	static const struct option long_options[] = {
		{ "long", no_argument, NULL, 'l' },
		{ "sort", required_argument, NULL, 's' },
		COMMAND_COMMON_OPTIONS,
		{ 0 },
	};
	struct request request = { .json = json };
	enum command_result status;
	int option;

	// NOLINTNEXTLINE(concurrency-mt-unsafe): no thread is ever started
	while ((option = getopt_long(argc, argv, ":hls:", long_options, NULL)) != -1) {
		if (option == 'l')
			request.long_format = true;
		else if (option == 's' && !take_order(optarg, &request))
			return command_wrong_usage(
				&command_ls, "--sort takes name, size, dtype or file");
		else if (option != 's' && command_common_option(&command_ls, option, argv,
								&request.json, &status))
			return status;
	}
	if (optind == argc)
		return command_wrong_usage(&command_ls, "needs a mount point");
	request.mountpoint = argv[optind];
	request.patterns = argv + optind + 1;
	return list_mount(&request);
}

const struct command command_ls = {
	.name = "ls",
	.usage = "MOUNTPOINT [PATTERN...] [--sort name|size|dtype|file] [-l]",
	.summary = "list tensors with dtype, shape, size and backing",
	.help = "PATTERN is a shell pattern on tensor names, as in '*.layers.0.*'.\n\n"
		"  --sort ORDER  by name, size (largest first), dtype or file; without it in the\n"
		"                order of the model\n"
		"  -l            also how much of its source is in the page cache, whether it\n"
		"                is pinned, the source file and the offset there\n",
	.run = run,
};
