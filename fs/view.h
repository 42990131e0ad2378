/*
 * Views: the same tensor bytes as a raw file, as a .npy file and as a .safetensors file,
 * the latter two with a header that is made up here and stored nowhere.
 *
 * Unless the tensor is empty the header is padded with spaces so that the data has the
 * same offset modulo 4096 in the view as in the source: then pages of one are pages of
 * the other.
 */
#ifndef FS_VIEW_H
#define FS_VIEW_H

#include <stdint.h>

#include "parsers/model.h"
#include "util/strbuf.h"

enum view {
	VIEW_RAW,
	VIEW_NPY,
	VIEW_SAFETENSORS,
	VIEW_COUNT,
};

struct view_info {
	const char *dir;    /* name of the directory at the top of the tree */
	const char *suffix; /* of file names; empty for the raw view */
};

const struct view_info *view_info(enum view view);

/* Bytes in front of the data. Takes no memory. */
uint64_t view_header_len(enum view view, const struct tensor *tensor);

/* Appends exactly that many bytes. Failure is kept in `out`. */
void view_write_header(enum view view, const struct tensor *tensor, struct strbuf *out);

#endif
