#include "shards.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "parsers/shard_index.h"
#include "parsers/shard_name.h"

static int fail_memory(struct diag *diag)
{
	return diag_fail(diag, -ENOMEM, "out of memory");
}

/* Puts the path of the file in front of what was worded already: the name that people
 * know, not that of a blob which it may be a link to. */
static int blame_file(const struct served *served, uint32_t file_index, int err,
		      struct diag *diag)
{
	const struct source *source = served->source;
	CLEANUP(free_ptr) char *path = NULL;

	if (source->is_dir &&
	    asprintf(&path, "%s/%s", source->path, source->files[file_index].name) < 0)
		path = NULL;
	diag_prefix(diag, path ? path : source->path);
	return err;
}

static int add_shard(struct served *served, uint32_t file_index, uint16_t *shard,
		     struct diag *diag)
{
	const struct source_file *file = &served->source->files[file_index];
	uint32_t *files =
		reallocarray(served->shard_files, model_shard_count(served->model) + 1,
			     sizeof(*files));
	int r;

	if (!files)
		return fail_memory(diag);
	served->shard_files = files;
	r = model_add_shard(served->model, file->name, file->size, shard, diag);
	if (r == 0)
		files[*shard] = file_index;
	return r;
}

/* ---- One file by itself ---- */

static int load_file(struct served *served, uint32_t file_index, struct diag *diag)
{
	const struct source_file *file = &served->source->files[file_index];
	struct reader reader;
	uint16_t shard = 0;
	int r;

	r = add_shard(served, file_index, &shard, diag);
	if (r < 0)
		return r;
	reader_init_fd(&reader, file->fd, file->size, diag);
	r = served->format->parse(&reader, served->model, shard);
	reader_fini(&reader);
	if (r < 0)
		diag_prefix(diag, file->path);
	return r;
}

/* ---- One of several ---- */

#define NO_INDEX UINT32_MAX

/* Puts "shard 'NAME'" in front of what was worded already, or "shard 'NAME', named for
 * tensor 'T'" where an index says so. */
static int blame_shard(struct diag *diag, int err, const char *name,
		       const struct shard_index_tensor *tensor)
{
	char prefix[2 * DIAG_QUOTE_MAX + 32];

	if (tensor)
		(void)snprintf(prefix, sizeof(prefix), "shard %s, named for tensor %s",
			       DIAG_QUOTED(name, strlen(name)),
			       DIAG_QUOTED(tensor->name, tensor->name_len));
	else
		(void)snprintf(prefix, sizeof(prefix), "shard %s",
			       DIAG_QUOTED(name, strlen(name)));
	diag_prefix(diag, prefix);
	return err;
}

static bool is_same_file(const struct source_file *a, const struct source_file *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

/* Two names of one file would be two shards with the same tensors. */
static int check_other_file(const struct served *served, const struct source_file *file,
			    struct diag *diag)
{
	for (size_t i = 0; i < model_shard_count(served->model); i++) {
		const struct source_file *other =
			&served->source->files[served->shard_files[i]];

		if (is_same_file(other, file))
			return diag_fail(diag, -EBADMSG, "is the same file as %s",
					 DIAG_QUOTED(other->name, strlen(other->name)));
	}
	return 0;
}

/* Parses what should be of the model's format: where the content is not, the words say so
 * first. */
static int parse_shard(struct served *served, struct reader *reader, uint16_t shard)
{
	const struct parser_ops *found = parser_probe(reader);
	char prefix[64];
	int r;

	if (found && found != served->format)
		return diag_fail(reader->diag, -EBADMSG, "is a %s file, expected %s",
				 found->name, served->format->name);
	r = served->format->parse(reader, served->model, shard);
	if (r < 0 && !found) {
		(void)snprintf(prefix, sizeof(prefix), "is no %s file",
			       served->format->name);
		diag_prefix(reader->diag, prefix);
	}
	return r;
}

/* Adds the file of that name; `index_file` is the position of the index that names it, or
 * NO_INDEX. Errors are worded without the name. */
static int load_shard(struct served *served, const char *name, uint32_t index_file,
		      struct diag *diag)
{
	size_t warnings = model_warning_count(served->model);
	const struct source_file *file;
	struct reader reader;
	uint32_t index;
	uint16_t shard;
	int r;

	r = source_need_file(served->source, name, &index, diag);
	if (r < 0)
		return r;
	file = &served->source->files[index];
	if (index_file != NO_INDEX &&
	    is_same_file(file, &served->source->files[index_file]))
		return diag_fail(diag, -EBADMSG, "is the index itself");
	r = check_other_file(served, file, diag);
	if (r < 0)
		return r;
	r = add_shard(served, index, &shard, diag);
	if (r < 0)
		return r;
	reader_init_fd(&reader, file->fd, file->size, diag);
	r = parse_shard(served, &reader, shard);
	reader_fini(&reader);
	model_prefix_warnings(served->model, warnings, name);
	return r;
}

/* ---- Files that an index names ---- */

static int check_tensor(const struct served *served, const struct shard_index *index,
			const struct shard_index_tensor *named, struct diag *diag)
{
	const struct tensor *t =
		model_find_tensor(served->model, named->name, named->name_len);
	const char *wanted = index->files[named->file].name;
	const char *found;

	/* Shards are the index's files, in their order. */
	if (t && t->shard == named->file)
		return 0;
	if (!t)
		return diag_fail(diag, -EBADMSG,
				 "tensor %s: is not in %s, where the index has it",
				 DIAG_QUOTED(named->name, named->name_len),
				 DIAG_QUOTED(wanted, strlen(wanted)));
	found = model_shard(served->model, t->shard)->name;
	return diag_fail(diag, -EBADMSG, "tensor %s: is in %s, the index has it in %s",
			 DIAG_QUOTED(named->name, named->name_len),
			 DIAG_QUOTED(found, strlen(found)),
			 DIAG_QUOTED(wanted, strlen(wanted)));
}

/* Tensors that the index does not name, of each shard: how many and the first. */
struct surplus {
	uint32_t count;
	const struct tensor *first;
};

/* The model is not sealed yet, so the tensors stand in the order of the shards. */
static void find_surplus(const struct model *model, const bool *named,
			 struct surplus *surplus)
{
	for (size_t i = 0; i < model_tensor_count(model); i++) {
		const struct tensor *t = model_tensor(model, i);

		if (!named[i] && surplus[t->shard].count++ == 0)
			surplus[t->shard].first = t;
	}
}

/* Served all the same: they are in the files, and readers of single shards see them. */
static void warn_of_surplus(struct model *model, const struct surplus *surplus)
{
	for (size_t i = 0; i < model_shard_count(model); i++) {
		const char *name = model_shard(model, i)->name;
		const struct tensor *t = surplus[i].first;

		if (t)
			model_warn(model,
				   "%s: %u tensors that the index does not name, as %s",
				   name, surplus[i].count,
				   DIAG_QUOTED(t->name, t->name_len));
	}
}

static int compare_with_file(const void *name, const void *file)
{
	return strcmp(name, ((const struct shard_index_file *)file)->name);
}

static bool is_named(const struct shard_index *index, const char *name)
{
	return bsearch(name, index->files, index->file_count, sizeof(*index->files),
		       compare_with_file) != NULL;
}

/* Files beside the shards that are numbered as they are were taken for theirs when the
 * model was chosen. An index that lost some of its lines, or that is of another saving
 * of the model, would hide them. */
static void warn_of_strays(struct served *served, const struct shard_index *index)
{
	const char *shard = index->files[0].name;
	const char *first = NULL;
	struct shard_name set;
	struct shard_name number;
	uint32_t count = 0;

	if (!shard_name_parse(shard, &set))
		return;
	for (uint32_t i = 0; i < served->source->file_count; i++) {
		const char *name = served->source->files[i].name;

		if (!shard_name_parse(name, &number))
			continue;
		number.count = set.count; /* of another saving as well */
		number.count_digits = set.count_digits;
		if (!shard_name_same_set(shard, &set, name, &number) ||
		    is_named(index, name))
			continue;
		first = first ? first : name;
		count++;
	}
	if (first)
		model_warn(served->model,
			   "files numbered like the shards that the index does not name: "
			   "%" PRIu32 ", as %s",
			   count, DIAG_QUOTED(first, strlen(first)));
}

/* All tensors of the index are in the model. */
static void mark_named(const struct model *model, const struct shard_index *index,
		       bool *named)
{
	for (size_t i = 0; i < index->tensor_count; i++) {
		const struct shard_index_tensor *t = &index->tensors[i];

		named[model_tensor_index(model, model_find_tensor(model, t->name,
								  t->name_len))] = true;
	}
}

static int note_surplus(struct model *model, const struct shard_index *index,
			struct diag *diag)
{
	bool *named = calloc(model_tensor_count(model), sizeof(*named));
	struct surplus *surplus = calloc(model_shard_count(model), sizeof(*surplus));
	int r = -ENOMEM;

	if (named && surplus) {
		mark_named(model, index, named);
		find_surplus(model, named, surplus);
		warn_of_surplus(model, surplus);
		r = 0;
	}
	free(surplus);
	free(named);
	return r < 0 ? fail_memory(diag) : 0;
}

static int check_index(struct served *served, const struct shard_index *index,
		       struct diag *diag)
{
	for (size_t i = 0; i < index->tensor_count; i++) {
		int r = check_tensor(served, index, &index->tensors[i], diag);

		if (r < 0)
			return r;
	}
	if (model_tensor_count(served->model) > index->tensor_count)
		return note_surplus(served->model, index, diag);
	return 0;
}

/* Where the index's name promises no format, it is that of the first file's content. */
static int find_format(struct served *served, const struct shard_index *index,
		       struct diag *diag)
{
	const char *name = index->files[0].name;
	struct source_file *file;
	struct reader reader;
	struct diag ignored;
	uint32_t position;
	int r;

	r = source_need_file(served->source, name, &position, diag);
	if (r < 0)
		return blame_shard(diag, r, name, &index->tensors[index->files[0].first]);
	file = &served->source->files[position];
	reader_init_fd(&reader, file->fd, file->size, &ignored);
	served->format = parser_probe(&reader);
	reader_fini(&reader);
	if (served->format)
		return 0;
	r = diag_fail(diag, -ENOTSUP, "its content is of no format that is read");
	return blame_shard(diag, r, name, &index->tensors[index->files[0].first]);
}

static int load_named(struct served *served, const struct shard_index *index,
		      uint32_t index_file, struct diag *diag)
{
	if (!served->format) {
		int r = find_format(served, index, diag);

		if (r < 0)
			return r;
	}
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): set by find_format(). */
	if (model_new(served->format->name, &served->model) < 0)
		return fail_memory(diag);
	model_reserve(served->model, index->tensor_count);
	for (size_t i = 0; i < index->file_count; i++) {
		const struct shard_index_file *file = &index->files[i];
		int r = load_shard(served, file->name, index_file, diag);

		if (r < 0)
			return blame_shard(diag, r, file->name,
					   &index->tensors[file->first]);
	}
	warn_of_strays(served, index);
	return check_index(served, index, diag);
}

static int load_indexed(struct served *served, uint32_t file_index, struct diag *diag)
{
	const struct source_file *file = &served->source->files[file_index];
	struct shard_index index;
	struct reader reader;
	int r;

	reader_init_fd(&reader, file->fd, file->size, diag);
	r = shard_index_read(&reader, file->name, &index);
	if (r == 0)
		r = load_named(served, &index, file_index, diag);
	shard_index_fini(&index);
	reader_fini(&reader);
	return r < 0 ? blame_file(served, file_index, r, diag) : 0;
}

/* ---- Files that are numbered ---- */

/* What a part of a split GGUF says of itself, against its name and the first part. */
static int check_part(const struct shard_part *part, const struct shard_part *first,
		      const struct shard_name *name, struct diag *diag)
{
	if (!part->has_count || !part->has_number || !part->has_tensors)
		return diag_fail(diag, -EBADMSG, "key '%s' is missing",
				 !part->has_count    ? "split.count"
				 : !part->has_number ? "split.no"
						     : "split.tensors.count");
	if (part->count != name->count)
		return diag_fail(diag, -EBADMSG,
				 "key 'split.count' is %" PRIu32
				 ", its name says %" PRIu32 " files",
				 part->count, name->count);
	if (part->number + 1 != name->number)
		return diag_fail(diag, -EBADMSG,
				 "key 'split.no' is %" PRIu32
				 ", counted from 0, its name says file %" PRIu32,
				 part->number, name->number);
	if (part->tensors != first->tensors)
		return diag_fail(diag, -EBADMSG,
				 "key 'split.tensors.count' is %" PRId64
				 ", in the first file %" PRId64,
				 part->tensors, first->tensors);
	return 0;
}

static bool is_split_format(const struct served *served)
{
	return served->format == parser_find("gguf");
}

static int load_number(struct served *served, const char *set, struct shard_name number,
		       uint32_t wanted, struct diag *diag)
{
	CLEANUP(free_ptr) char *name = shard_name_make(set, &number, wanted);
	int r;

	if (!name)
		return fail_memory(diag);
	number.number = wanted;
	r = load_shard(served, name, NO_INDEX, diag);
	if (r == 0 && is_split_format(served))
		r = check_part(&model_shard(served->model, wanted - 1)->part,
			       &model_shard(served->model, 0)->part, &number, diag);
	return r < 0 ? blame_shard(diag, r, name, NULL) : 0;
}

static int check_tensor_count(const struct served *served, struct diag *diag)
{
	int64_t said = model_shard(served->model, 0)->part.tensors;
	size_t found = model_tensor_count(served->model);

	if (said >= 0 && (uint64_t)said == found)
		return 0;
	return diag_fail(diag, -EBADMSG,
			 "key 'split.tensors.count' is %" PRId64
			 ", the %zu files have %zu tensors",
			 said, model_shard_count(served->model), found);
}

/* Adds all files of the set from `next` on, a number from 1; those before are added. */
static int load_set(struct served *served, const char *set,
		    const struct shard_name *number, uint32_t next, struct diag *diag)
{
	for (; next <= number->count; next++) {
		int r = load_number(served, set, *number, next, diag);

		if (r < 0)
			return r;
	}
	return is_split_format(served) ? check_tensor_count(served, diag) : 0;
}

static int load_numbered(struct served *served, uint32_t file_index, struct diag *diag)
{
	const char *set = served->source->files[file_index].name;
	struct shard_name number;
	int r;

	if (!shard_name_parse(set, &number))
		return diag_fail(diag, -EINVAL, "%s: has no number in its name", set);
	if (model_new(served->format->name, &served->model) < 0)
		return fail_memory(diag);
	r = load_set(served, set, &number, 1, diag);
	if (r < 0)
		diag_prefix(diag, served->source->path);
	else if (!is_split_format(served))
		model_warn(served->model,
			   "no index names the %" PRIu32
			   " files of this model: they were taken by their names",
			   number.count);
	return r;
}

/* ---- A file that says that it is a part ---- */

/* `name` is that of the only file so far, which has the key split.count. */
static int check_first_part(const struct shard_part *part, const char *name,
			    struct shard_name *number, struct diag *diag)
{
	CLEANUP(free_ptr) char *first = NULL;

	if (!shard_name_parse(name, number))
		return diag_fail(
			diag, -EBADMSG,
			"key 'split.count' is %" PRIu32
			", but its name does not end in '-00001-of-%05u.gguf' or "
			"another such number",
			part->count, part->count);
	if (part->has_number && part->number > 0 && number->number > 1) {
		first = shard_name_make(name, number, 1);
		return diag_fail(diag, -EINVAL,
				 "is file %" PRIu32 " of %" PRIu32
				 " of a model: name the first of them, %s",
				 part->number + 1, part->count,
				 first ? DIAG_QUOTED(first, strlen(first)) : "");
	}
	return check_part(part, part, number, diag);
}

/* One file whose name says that it is one of several, and that is all that says so. */
static void warn_of_number(struct served *served, const char *name)
{
	struct shard_name number;

	if (!shard_name_parse(name, &number) || number.count < 2)
		return;
	model_warn(served->model, "its name says file %" PRIu32 " of %" PRIu32 "%s",
		   number.number, number.count,
		   is_split_format(served)
			   ? ", but it has no key 'split.count' that says so"
			   : ": the others are not shown: mount their directory or index "
			     "to have all");
}

/* Adds the other files where the one that was parsed is the first of several. */
static int load_other_parts(struct served *served, uint32_t file_index, struct diag *diag)
{
	const struct shard_part part = model_shard(served->model, 0)->part;
	const char *name = model_shard(served->model, 0)->name;
	struct shard_name number;
	int r;

	if (!part.has_count || part.count < 2) {
		warn_of_number(served, name);
		return 0;
	}
	r = check_first_part(&part, name, &number, diag);
	if (r < 0)
		return blame_file(served, file_index, r, diag);
	model_prefix_warnings(served->model, 0, name);
	r = load_set(served, name, &number, 2, diag);
	if (r < 0)
		diag_prefix(diag, served->source->path);
	return r;
}

static int load_single(struct served *served, uint32_t file_index, struct diag *diag)
{
	int r;

	if (model_new(served->format->name, &served->model) < 0)
		return fail_memory(diag);
	r = load_file(served, file_index, diag);
	return r < 0 ? r : load_other_parts(served, file_index, diag);
}

/* ---- All ---- */

static int load_chosen(struct served *served, const struct choice *choice,
		       struct diag *diag)
{
	switch (choice->kind) {
	case CHOICE_INDEX:
		return load_indexed(served, choice->file, diag);
	case CHOICE_NUMBERED:
		return load_numbered(served, choice->file, diag);
	case CHOICE_FILE:
		break;
	}
	return load_single(served, choice->file, diag);
}

static void warn_of_others(struct served *served, const struct choice *choice)
{
	for (uint32_t i = 0; i < choice->other_count; i++) {
		const char *name = served->source->files[choice->others[i]].name;

		model_warn(served->model,
			   "%s: another model in this directory, which is not shown: "
			   "name it to mount it",
			   DIAG_QUOTED(name, strlen(name)));
	}
}

/* One of them may be what was meant. */
static void warn_of_broken(struct served *served, const struct choice *choice)
{
	const char *name;
	char more[32] = "";

	if (choice->broken_count == 0)
		return;
	if (choice->broken_count > 1)
		(void)snprintf(more, sizeof(more), ", as of %" PRIu32 " more files",
			       choice->broken_count - 1);
	name = served->source->files[choice->broken].name;
	model_warn(served->model, "%s: its name says %s, its content does not%s",
		   DIAG_QUOTED(name, strlen(name)),
		   parser_promised(name, strlen(name))->name, more);
}

int shards_load(struct served *served, const struct choice *choice, struct diag *diag)
{
	int r;

	served->format = choice->format;
	r = load_chosen(served, choice, diag);
	if (r == 0) {
		warn_of_others(served, choice);
		warn_of_broken(served, choice);
	}
	return r;
}
