/* The control socket: a thread that answers mountctl. The protocol is in ctl_proto.h. */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include "weightfs.h"

struct control;

/* Makes the socket and sets fs->socket_path. A mount works without one: it has no
 * .weightfs/socket then. 0 or a negative errno, logged. */
MUST_CHECK int control_open(struct weightfs *fs, struct control **control);

/* Starts the thread that answers. 0 or a negative errno. */
MUST_CHECK int control_start(struct control *control);

/* Stops and joins the thread if it was started, removes the socket; NULL is fine. */
void control_close(struct control *control);

#endif
