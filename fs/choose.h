/* Which files of a SOURCE are the model. */
#ifndef FS_CHOOSE_H
#define FS_CHOOSE_H

#include "parsers/parser.h"
#include "source.h"

enum choice_kind {
	CHOICE_FILE,  /* one file, which may turn out to be the first of a split GGUF */
	CHOICE_INDEX, /* an index that names the files */
	CHOICE_NUMBERED, /* files that only their names number: STEM-00001-of-00005... */
};

#define CHOICE_MOST_OTHERS 8

struct choice {
	enum choice_kind kind;
	uint32_t file; /* in source->files: the file, the index, or one of the set */
	const struct parser_ops *format; /* of the model's files; NULL: of an index that
					    does not promise one */
	/* Other models of the directory, which stand behind this one: a file of each. */
	uint32_t others[CHOICE_MOST_OTHERS];
	uint32_t other_count;
	/* Files whose names promise a format that their content does not have, as where a
	 * download was cut short: how many, and the first. */
	uint32_t broken_count;
	uint32_t broken;
};

/* `forced` is the only format that counts; NULL for any. 0, or a negative errno with
 * words that start with SOURCE's path. */
MUST_CHECK int choose_model(const struct source *source, const struct parser_ops *forced,
			    struct choice *choice, struct diag *diag);

#endif
