/* What the path of a SOURCE says: the model's name, and the repository that it is of. */
#ifndef FS_SOURCE_NAME_H
#define FS_SOURCE_NAME_H

#include <stddef.h>

/* The last component. */
const char *source_name_base(const char *path);

/* The directory of an absolute path. The caller frees it; NULL when out of memory. */
char *source_name_parent(const char *path);

/*
 * A snapshot of the Hugging Face hub cache, .../models--ORG--NAME/snapshots/REVISION, is
 * a tree of links into .../models--ORG--NAME/blobs. Returns the length of the
 * repository's path where `dir` is a snapshot or a directory in one, and 0 for any other.
 */
size_t source_name_hub_len(const char *dir);

/* The name of a model, for people: of a directory its name, or ORG/NAME of a snapshot;
 * of a file its name without suffix, and without what says that it is an index or the
 * first of several. The caller frees it; NULL when out of memory. */
char *source_name_of_dir(const char *dir);
char *source_name_of_file(const char *path);

#endif
