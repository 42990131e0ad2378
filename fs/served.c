#include "served.h"

#include <errno.h>
#include <string.h>

#include "shards.h"

static int fail_memory(struct diag *diag)
{
	return diag_fail(diag, -ENOMEM, "out of memory");
}

static void count_tensor_bytes(struct served *served)
{
	for (size_t i = 0; i < model_tensor_count(served->model); i++) {
		const struct tensor *t = model_tensor(served->model, i);

		served->file_tensor_bytes[served->shard_files[t->shard]] += t->nbytes;
	}
}

static void warn_of_links(struct served *served)
{
	const struct source *source = served->source;

	for (uint32_t i = 0; i < source->skipped_link_count; i++)
		model_warn(
			served->model,
			"%s: left out: it is a link that leads out of the model's directory",
			DIAG_QUOTED(source->skipped_links[i],
				    strlen(source->skipped_links[i])));
}

/* What is made of a model whose files are parsed and known. */
static int finish_model(struct served *served, struct diag *diag)
{
	struct source *source = served->source;
	int r;

	r = source_seal(source, diag);
	if (r < 0)
		return r;
	served->file_tensor_bytes =
		calloc(source->file_count, sizeof(*served->file_tensor_bytes));
	if (!served->file_tensor_bytes || model_seal(served->model) < 0)
		return fail_memory(diag);
	count_tensor_bytes(served);
	r = tree_new(served->model, &served->tree, diag);
	if (r < 0)
		diag_prefix(diag, source->path);
	return r;
}

static int parse_model(struct served *served, const char *format, struct diag *diag)
{
	struct choice choice;
	int r;

	r = choose_model(served->source, format ? parser_find(format) : NULL, &choice,
			 diag);
	if (r < 0)
		return r;
	r = shards_load(served, &choice, diag);
	if (r < 0)
		return r;
	warn_of_links(served);
	return finish_model(served, diag);
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
