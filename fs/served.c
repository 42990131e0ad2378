#include "served.h"

#include <errno.h>
#include <string.h>

/* ---- Choosing the file that is the model ---- */

/* `forced` is the only format that counts; NULL for any. */
static const struct parser_ops *recognise(const struct source_file *file, bool by_name,
					  const struct parser_ops *forced)
{
	const struct parser_ops *ops;
	struct reader r;
	struct diag ignored;

	reader_init_fd(&r, file->fd, file->size, &ignored);
	ops = by_name ? parser_recognise(&r, file->name) : parser_probe(&r);
	reader_fini(&r);
	return forced && ops != forced ? NULL : ops;
}

static bool is_top_level(const struct source_file *file)
{
	return !strchr(file->name, '/');
}

static void add_format_names(struct strbuf *text)
{
	for (size_t i = 0; parser_table[i]; i++) {
		if (i > 0)
			strbuf_add_str(text, ", ");
		strbuf_add_str(text, parser_table[i]->name);
	}
}

static int fail_no_model(const struct source *source, struct diag *diag)
{
	char names[256];
	struct strbuf text;

	strbuf_init_fixed(&text, names, sizeof(names));
	add_format_names(&text);
	if (source->is_dir && source->skipped_link_count > 0)
		return diag_fail(
			diag, -ENOENT,
			"%s: no model in this directory: none of its %u files is one "
			"of: %s; %u links that lead out of it were left out",
			source->path, source->file_count, names,
			source->skipped_link_count);
	if (source->is_dir)
		return diag_fail(
			diag, -ENOENT,
			"%s: no model in this directory: none of its %u files is one "
			"of: %s",
			source->path, source->file_count, names);
	return diag_fail(diag, -EBADMSG,
			 "%s: not a model file: the content is none of: %s", source->path,
			 names);
}

static int fail_many_models(const struct source *source, const char *first,
			    const char *second, struct diag *diag)
{
	return diag_fail(diag, -ENOTSUP,
			 "%s: more than one model file in this directory (%s and %s): "
			 "name one of them",
			 source->path, DIAG_QUOTED(first, strlen(first)),
			 DIAG_QUOTED(second, strlen(second)));
}

/* The one model file of a directory: by content; if none is, one whose name promises to
 * be, so that its parser says what is wrong with it. */
static int choose_in_dir(const struct source *source, const struct parser_ops *forced,
			 uint32_t *chosen, const struct parser_ops **format,
			 struct diag *diag)
{
	for (int by_name = 0; by_name <= 1; by_name++) {
		bool found = false;

		for (uint32_t i = 0; i < source->file_count; i++) {
			const struct source_file *file = &source->files[i];
			const struct parser_ops *ops =
				is_top_level(file) ? recognise(file, by_name, forced)
						   : NULL;

			if (!ops)
				continue;
			if (found)
				return fail_many_models(source,
							source->files[*chosen].name,
							file->name, diag);
			found = true;
			*chosen = i;
			*format = ops;
		}
		if (found)
			return 0;
	}
	return fail_no_model(source, diag);
}

/* Which file is the model, and its format. A single file is what `forced` says it is. */
static int choose_file(const struct source *source, const struct parser_ops *forced,
		       uint32_t *chosen, const struct parser_ops **format,
		       struct diag *diag)
{
	*chosen = 0;
	if (source->is_dir)
		return choose_in_dir(source, forced, chosen, format, diag);
	*format = forced ? forced : recognise(&source->files[0], true, NULL);
	return *format ? 0 : fail_no_model(source, diag);
}

/* ---- Loading ---- */

static int fail_memory(struct diag *diag)
{
	return diag_fail(diag, -ENOMEM, "out of memory");
}

static int parse_file(struct served *served, uint32_t file_index, struct diag *diag)
{
	const struct source_file *file = &served->source->files[file_index];
	struct reader reader;
	uint16_t shard;
	int r;

	r = model_add_shard(served->model, file->name, file->size, &shard, diag);
	if (r < 0)
		return r;
	served->shard_files[shard] = file_index;
	reader_init_fd(&reader, file->fd, file->size, diag);
	r = served->format->parse(&reader, served->model, shard);
	reader_fini(&reader);
	if (r < 0)
		diag_prefix(diag, file->path);
	return r;
}

static void count_tensor_bytes(struct served *served)
{
	for (size_t i = 0; i < model_tensor_count(served->model); i++) {
		const struct tensor *t = model_tensor(served->model, i);

		served->file_tensor_bytes[served->shard_files[t->shard]] += t->nbytes;
	}
}

static int parse_model(struct served *served, const char *format, struct diag *diag)
{
	const struct source *source = served->source;
	uint32_t chosen;
	int r;

	r = choose_file(source, format ? parser_find(format) : NULL, &chosen,
			&served->format, diag);
	if (r < 0)
		return r;
	served->shard_files = calloc(1, sizeof(*served->shard_files));
	served->file_tensor_bytes =
		calloc(source->file_count, sizeof(*served->file_tensor_bytes));
	if (!served->shard_files || !served->file_tensor_bytes ||
	    model_new(served->format->name, &served->model) < 0)
		return fail_memory(diag);
	r = parse_file(served, chosen, diag);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < source->skipped_link_count; i++)
		model_warn(
			served->model,
			"%s: left out: it is a link that leads out of the model's directory",
			DIAG_QUOTED(source->skipped_links[i],
				    strlen(source->skipped_links[i])));
	if (model_seal(served->model) < 0)
		return fail_memory(diag);
	count_tensor_bytes(served);
	r = tree_new(served->model, &served->tree, diag);
	if (r < 0)
		diag_prefix(diag, source->path);
	return r;
}

int served_load(const char *path, const char *format, struct served **served,
		struct diag *diag)
{
	struct served *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return fail_memory(diag);
	(void)pthread_mutex_init(&s->document_lock, NULL);
	r = source_open(path, &s->source, diag);
	if (r < 0)
		diag_prefix(diag, path);
	else
		r = parse_model(s, format, diag);
	if (r < 0) {
		served_free(s);
		return r;
	}
	*served = s;
	return 0;
}

struct source_file *served_tensor_file(const struct served *served,
				       const struct tensor *tensor)
{
	return &served->source->files[served->shard_files[tensor->shard]];
}

void served_free(struct served *served)
{
	if (!served)
		return;
	for (unsigned int i = 0; i < DOCUMENT_COUNT; i++)
		document_free(atomic_load(&served->documents[i]));
	tree_free(served->tree);
	model_unref(served->model);
	source_close(served->source);
	free(served->shard_files);
	free(served->file_tensor_bytes);
	(void)pthread_mutex_destroy(&served->document_lock);
	free(served);
}
