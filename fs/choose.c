/*
 * A file is what it is. Of a directory the candidates are the models at its top level: a
 * file by itself, an index with all files that it names, a set of numbered files. One
 * candidate is the model. Of several it is the one that the libraries would load, or the
 * only one that is no side-car of another; else none.
 */
#include "choose.h"

#include <errno.h>
#include <string.h>

#include "parsers/shard_index.h"
#include "parsers/shard_name.h"

/* Indexes of one directory that are read to choose among them. */
#define MOST_READINGS 8u

struct candidate {
	enum choice_kind kind;
	uint32_t file;
	const struct parser_ops *format;
	struct shard_name number; /* of a CHOICE_NUMBERED */
	bool is_covered;          /* an index names it */
};

struct search {
	const struct source *source;
	const struct parser_ops *forced;
	bool by_name; /* the second round: what only promises to be a model */
	struct candidate *list;
	uint32_t count;
	uint32_t broken_count; /* as in struct choice */
	uint32_t broken;
};

/* ---- Formats ---- */

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

/* The format that the name of an index promises, as "model.safetensors" in
 * model.safetensors.index.json does. */
static const struct parser_ops *index_format(const char *name)
{
	return parser_promised(name, shard_name_index_len(name));
}

static void add_format_names(struct strbuf *text)
{
	for (size_t i = 0; parser_table[i]; i++) {
		if (i > 0)
			strbuf_add_str(text, ", ");
		strbuf_add_str(text, parser_table[i]->name);
	}
}

/* ---- Refusals ---- */

/* What of the directory was not looked at, where that is anything. */
static void add_left_out(const struct source *source, struct strbuf *text)
{
	if (source->skipped_link_count > 0)
		strbuf_addf(text, "; %u links that lead out of it were left out",
			    source->skipped_link_count);
	if (source->broken_link_count > 0)
		strbuf_addf(text, "; %u links lead to files that do not exist",
			    source->broken_link_count);
	if (source->forbidden_count > 0)
		strbuf_addf(text, "; %u files may not be read", source->forbidden_count);
}

static int fail_no_model(const struct source *source, struct diag *diag)
{
	char words[512];
	struct strbuf text;

	strbuf_init_fixed(&text, words, sizeof(words));
	add_format_names(&text);
	if (!source->is_dir)
		return diag_fail(diag, -EBADMSG,
				 "%s: not a model file: the content is none of: %s",
				 source->path, words);
	add_left_out(source, &text);
	return diag_fail(
		diag, -ENOENT,
		"%s: no model in this directory: none of its %u files is one of: "
		"%s",
		source->path, source->file_count, words);
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

/* ---- Candidates ---- */

static uint32_t file_of(const struct candidate *c)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the list is never NULL. */
	return c->file;
}

static const char *name_of(const struct search *s, const struct candidate *c)
{
	return s->source->files[file_of(c)].name;
}

/* The set that a numbered file belongs to, if another file of it was seen before. */
static struct candidate *find_set(struct search *s, const char *name,
				  const struct shard_name *number)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (s->list[i].kind == CHOICE_NUMBERED &&
		    shard_name_same_set(name_of(s, &s->list[i]), &s->list[i].number, name,
					number))
			return &s->list[i];
	return NULL;
}

/* Files are sorted, so the first of a set that is seen has the lowest number. */
static void add_numbered(struct search *s, uint32_t file, const struct shard_name *number)
{
	const struct parser_ops *format;

	if (find_set(s, s->source->files[file].name, number))
		return;
	format = recognise(&s->source->files[file], s->by_name, s->forced);
	if (format)
		s->list[s->count++] = (struct candidate){ .kind = CHOICE_NUMBERED,
							  .file = file,
							  .format = format,
							  .number = *number };
}

/* An index is known by its name, as JSON has no mark; in the second round also one whose
 * files are of no format that its name promises. */
static void add_index(struct search *s, uint32_t file)
{
	const struct parser_ops *format = index_format(s->source->files[file].name);

	if (!format && !s->by_name)
		return;
	if (!format || !s->forced || format == s->forced)
		s->list[s->count++] = (struct candidate){
			.kind = CHOICE_INDEX,
			.file = file,
			.format = format ? format : s->forced,
		};
}

/* Of any format where one is forced: it is not asked what the content is then. */
static void note_broken(struct search *s, uint32_t file)
{
	const char *name = s->source->files[file].name;

	if (!s->forced && parser_promised(name, strlen(name)) && s->broken_count++ == 0)
		s->broken = file;
}

static void add_candidate(struct search *s, uint32_t file)
{
	const struct source_file *f = &s->source->files[file];
	const struct parser_ops *format;
	struct shard_name number;

	if (strchr(f->name, '/'))
		return;
	if (shard_name_index_len(f->name) > 0) {
		add_index(s, file);
		return;
	}
	if (shard_name_parse(f->name, &number) && number.count > 1) {
		add_numbered(s, file, &number);
		return;
	}
	format = recognise(f, s->by_name, s->forced);
	if (format)
		s->list[s->count++] = (struct candidate){ .kind = CHOICE_FILE,
							  .file = file,
							  .format = format };
	else
		note_broken(s, file);
}

/* ---- What an index covers ---- */

/* Most sets are named as their index: STEM.SUFFIX.index.json has
 * STEM-00001-of-00005.SUFFIX.
 */
static bool is_named_alike(const char *index, const char *name,
			   const struct shard_name *number)
{
	size_t len = shard_name_index_len(index);

	return len == number->stem_len + strlen(number->suffix) &&
	       memcmp(index, name, number->stem_len) == 0 &&
	       memcmp(index + number->stem_len, number->suffix, strlen(number->suffix)) ==
		       0;
}

static void cover_by_name(struct search *s, const struct candidate *index)
{
	for (uint32_t i = 0; i < s->count; i++) {
		struct candidate *c = &s->list[i];

		if (c->kind == CHOICE_NUMBERED &&
		    is_named_alike(name_of(s, index), name_of(s, c), &c->number))
			c->is_covered = true;
	}
}

static void cover_named(struct search *s, const struct shard_index *index)
{
	for (uint32_t i = 0; i < s->count; i++)
		for (size_t k = 0; k < index->file_count; k++)
			if (s->list[i].kind != CHOICE_INDEX &&
			    strcmp(index->files[k].name, name_of(s, &s->list[i])) == 0)
				s->list[i].is_covered = true;
}

/* What an index has that cannot be read is said when it is chosen. */
static void cover_by_reading(struct search *s, const struct candidate *c)
{
	const struct source_file *file = &s->source->files[c->file];
	struct shard_index index;
	struct diag ignored;
	struct reader r;

	reader_init_fd(&r, file->fd, file->size, &ignored);
	if (shard_index_read(&r, file->name, &index) == 0)
		cover_named(s, &index);
	shard_index_fini(&index);
	reader_fini(&r);
}

static void drop_covered(struct search *s)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < s->count; i++)
		if (!s->list[i].is_covered)
			s->list[kept++] = s->list[i];
	s->count = kept;
}

/* Reading an index of a large model takes a while, so names are asked first. */
static void drop_parts(struct search *s)
{
	unsigned int readings = 0;

	for (uint32_t i = 0; i < s->count; i++)
		if (s->list[i].kind == CHOICE_INDEX)
			cover_by_name(s, &s->list[i]);
	drop_covered(s);
	if (s->count < 2)
		return;
	for (uint32_t i = 0; i < s->count && readings < MOST_READINGS; i++) {
		if (s->list[i].kind == CHOICE_INDEX) {
			cover_by_reading(s, &s->list[i]);
			readings++;
		}
	}
	drop_covered(s);
}

/* ---- Preference ---- */

/* The order in which transformers and diffusers look for a model. */
static const char *const preferred[] = {
	"model.safetensors",
	"model.safetensors.index.json",
	"diffusion_pytorch_model.safetensors",
	"diffusion_pytorch_model.safetensors.index.json",
};

static const struct candidate *find_preferred(const struct search *s)
{
	for (size_t k = 0; k < ARRAY_LEN(preferred); k++)
		for (uint32_t i = 0; i < s->count; i++)
			if (strcmp(name_of(s, &s->list[i]), preferred[k]) == 0)
				return &s->list[i];
	return NULL;
}

/* What stands beside the model proper of llama.cpp: a projector for images, whose name
 * has the word "mmproj" in front or behind that of the model, or heads that predict more
 * tokens. */
static bool is_side_car(const char *name)
{
	static const char word[] = "mmproj";
	const char *at = strstr(name, word);

	if (at && (at == name || strchr("-._", at[-1])) &&
	    strchr("-._", at[strlen(word)]))
		return true;
	return strncmp(name, "mtp-", 4) == 0;
}

/* As where a link named "latest" is beside it; a hub cache has files of one content
 * once. */
static bool is_same_file(const struct search *s, const struct candidate *a,
			 const struct candidate *b)
{
	const struct source_file *left = &s->source->files[file_of(a)];
	const struct source_file *right = &s->source->files[file_of(b)];

	return a->kind == CHOICE_FILE && b->kind == CHOICE_FILE &&
	       left->dev == right->dev && left->ino == right->ino;
}

/* The one candidate that stands for itself, or NULL. */
static const struct candidate *find_main(const struct search *s)
{
	const struct candidate *found = NULL;

	for (uint32_t i = 0; i < s->count; i++) {
		if (is_side_car(name_of(s, &s->list[i])))
			continue;
		if (found && !is_same_file(s, found, &s->list[i]))
			return NULL;
		found = found ? found : &s->list[i];
	}
	return found;
}

static void take(const struct search *s, const struct candidate *chosen,
		 struct choice *choice)
{
	*choice = (struct choice){ .kind = chosen->kind,
				   .file = chosen->file,
				   .format = chosen->format,
				   .broken_count = s->broken_count,
				   .broken = s->broken };
	for (uint32_t i = 0; i < s->count; i++)
		if (&s->list[i] != chosen && !is_same_file(s, &s->list[i], chosen) &&
		    choice->other_count < CHOICE_MOST_OTHERS)
			choice->others[choice->other_count++] = file_of(&s->list[i]);
}

/* 0, a negative errno, or 1: no candidate in this round. */
static int choose_candidate(struct search *s, struct choice *choice, struct diag *diag)
{
	const struct candidate *chosen;

	s->count = 0;
	s->broken_count = 0;
	for (uint32_t i = 0; i < s->source->file_count; i++)
		add_candidate(s, i);
	drop_parts(s);
	if (s->count == 0)
		return 1;
	chosen = s->count == 1 ? &s->list[0] : find_preferred(s);
	if (!chosen)
		chosen = find_main(s);
	if (!chosen)
		return fail_many_models(s->source, name_of(s, &s->list[0]),
					name_of(s, &s->list[1]), diag);
	take(s, chosen, choice);
	return 0;
}

/* By content; if nothing is a model, by names that promise one, so that its parser says
 * what is wrong with it. */
static int choose_in_dir(const struct source *source, const struct parser_ops *forced,
			 struct choice *choice, struct diag *diag)
{
	struct search s = { .source = source, .forced = forced };
	int r;

	s.list = reallocarray(NULL, source->file_count + 1, sizeof(*s.list));
	if (!s.list)
		return diag_fail(diag, -ENOMEM, "out of memory");
	r = choose_candidate(&s, choice, diag);
	if (r > 0) {
		s.by_name = true;
		r = choose_candidate(&s, choice, diag);
	}
	free(s.list);
	return r > 0 ? fail_no_model(source, diag) : r;
}

/* A single file is what its content says, then its name; `forced` is believed. */
static int choose_single(const struct source *source, const struct parser_ops *forced,
			 struct choice *choice, struct diag *diag)
{
	const struct source_file *file = &source->files[0];
	const struct parser_ops *format = recognise(file, false, NULL);

	*choice = (struct choice){ .kind = CHOICE_FILE,
				   .format = forced ? forced : format };
	if (format)
		return 0;
	if (shard_name_index_len(file->name) > 0) {
		choice->kind = CHOICE_INDEX;
		choice->format = forced ? forced : index_format(file->name);
		return 0;
	}
	if (!choice->format)
		choice->format = recognise(file, true, NULL);
	return choice->format ? 0 : fail_no_model(source, diag);
}

int choose_model(const struct source *source, const struct parser_ops *forced,
		 struct choice *choice, struct diag *diag)
{
	return source->is_dir ? choose_in_dir(source, forced, choice, diag)
			      : choose_single(source, forced, choice, diag);
}
