/* The control socket: a thread that answers mountctl. The protocol is in ctl_proto.h. */
#ifndef FS_CONTROL_H
#define FS_CONTROL_H

#include "weightfs.h"

struct control;

/* Makes the socket, sets fs->socket_path and starts the thread. A mount works without
 * one: it has no .weightfs/socket then. 0 or a negative errno, logged. */
MUST_CHECK int control_start(struct weightfs *fs, struct control **control);

/* Stops and joins the thread, removes the socket; NULL is fine. */
void control_stop(struct control *control);

#endif
