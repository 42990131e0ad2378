/* What a model file or directory holds, without mounting it: asked of weightfs(8). */
#ifndef MOUNTCTL_DESCRIBE_H
#define MOUNTCTL_DESCRIBE_H

#include <stdbool.h>

#include "util/macros.h"

/* Prints it: the document as it is with `json`, else for people. 0, or a negative errno
 * with a message logged. */
MUST_CHECK int describe_model(const char *path, bool json);

#endif
