/* The extended attributes user.weightfs.* of tensor files. */
#ifndef FS_XATTR_H
#define FS_XATTR_H

#include "layout.h"

/* All names, each ended by NUL, as listxattr(2) returns them; nothing for other files. */
void xattr_list(const struct weightfs *fs, struct node node, struct strbuf *out);

/* The value, without a NUL. 0 or -ENODATA. */
MUST_CHECK int xattr_get(const struct weightfs *fs, struct node node, const char *name,
			 struct strbuf *out);

#endif
