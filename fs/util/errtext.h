/* The text of an error number as it stands inside of a message: "no such file or
 * directory". */
#ifndef UTIL_ERRTEXT_H
#define UTIL_ERRTEXT_H

/* `err` is an errno, positive or negative. Valid until the thread's next call. */
const char *errtext(int err);

#endif
