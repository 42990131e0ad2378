/* A profile as an order of tensors: what -o profile=FILE names. */
#ifndef FS_PROFILE_H
#define FS_PROFILE_H

#include "parsers/diag.h"
#include "predict_order.h"
#include "view.h"

struct profile {
	struct predict_order order;
	enum view view;   /* that most of its tensors were used in */
	uint32_t unknown; /* lines of tensors that the model does not have */
};

/* Takes the text of a profile. 0, or a negative errno with words that start with the line
 * to blame: -EBADMSG, -ENOENT (it is of another model), -ENOMEM. */
MUST_CHECK int profile_parse(const char *text, size_t len, const struct model *model,
			     struct profile *profile, struct diag *diag);

/* Reads the file of that name. As profile_parse(), with the file in front of the words;
 * or why it cannot be read. */
MUST_CHECK int profile_load(const char *path, const struct model *model,
			    struct profile *profile, struct diag *diag);

void profile_fini(struct profile *profile);

#endif
