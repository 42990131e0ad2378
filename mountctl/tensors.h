/* The tensors of a model, as model.json lists them. */
#ifndef MOUNTCTL_TENSORS_H
#define MOUNTCTL_TENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "mountctl/json.h"
#include "mountctl/table.h"

struct tensor_entry {
	struct json json; /* the entry as it stands there */
	size_t index;     /* in the model's order */
	char *name;       /* printable */
	struct json dtype;
	struct json file;
	uint64_t nbytes;
	uint64_t offset; /* in the file */
};

struct tensors {
	struct json model; /* the document; its text belongs to who parsed it */
	struct tensor_entry *list;
	size_t count;
};

/* Takes the tensors of a model.json document. `tensors` points into its text. 0 or
 * -ENOMEM. */
MUST_CHECK int tensors_take(struct json model, struct tensors *tensors);

/* Reads DIR/model.json, whose text `text` then holds. 0, or a negative errno with a
 * message logged. Waits for the daemon without a limit: ask it first. */
MUST_CHECK int tensors_load(const char *dir, struct strbuf *text,
			    struct tensors *tensors);

void tensors_fini(struct tensors *tensors);

/* What is said of a path that is in a mount, but holds no model.json. */
#define TENSORS_NO_MODEL "holds no model: name the mount point"

/* Logs that a pattern matches no tensor. */
void tensors_complain_of_pattern(const char *pattern);

/* The columns "4096,4096" of an entry's shape; "scalar" without dimensions. Heap. */
char *tensor_shape_text(struct json shape);

/* Adds up tensors and bytes of each dtype and prints a table, the largest first.
 * 0 or -ENOMEM. Sorts the list. */
MUST_CHECK int tensors_print_dtypes(struct tensors *tensors, int indent);

/* Orders for qsort(): by name, the largest first, by dtype and name, by file and offset.
 */
int tensors_by_name(const void *a, const void *b);
int tensors_by_size(const void *a, const void *b);
int tensors_by_dtype(const void *a, const void *b);
int tensors_by_file(const void *a, const void *b);

#endif
