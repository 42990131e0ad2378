/*
 * What is asked over the control socket, and the answers: fs/ctl_proto.h has the shapes.
 * They run in the control thread, one at a time, and must take milliseconds: what takes
 * longer is a job.
 */
#ifndef FS_REQUESTS_H
#define FS_REQUESTS_H

#include "util/jsonw.h"
#include "weightfs.h"

/* Writes the reply to a request, whatever its text is. */
void requests_answer(const struct weightfs *fs, const char *text, struct jsonw *w);

/* A reply that only says what is wrong. */
void requests_reply_error(struct jsonw *w, const char *text);

#endif
