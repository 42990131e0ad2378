/*
 * The watch: a thread that notices changes of the source and makes the kernel forget what
 * it cached of it, so that opens fail with ESTALE and reads with EIO.
 */
#ifndef FS_WATCH_H
#define FS_WATCH_H

#include "layout.h"

struct fuse_session;
struct watch;

/* Starts the thread. `session` must be mounted and outlive the watch. 0 or a negative
 * errno. */
MUST_CHECK int watch_start(struct weightfs *fs, struct fuse_session *session,
			   struct watch **watch);

/* Makes the kernel drop the pages of a file, mapped ones too: who needs them asks again.
 * Any thread but one that answers a request; nothing happens after watch_silence(). */
void watch_forget_pages(struct watch *watch, struct node node);

/* Around anything else that tells the kernel something by itself. Where begin says no,
 * the descriptor is about to be closed. Any thread but one that answers a request. */
MUST_CHECK bool watch_begin(struct watch *watch);
void watch_end(struct watch *watch);

/* From here on the watch tells the kernel nothing more, nor do others. Call it before the
 * unmount, which closes the descriptor that notifications go to; NULL is fine. False if
 * one is still under way after a second. */
MUST_CHECK bool watch_silence(struct watch *watch);

/* Stops and joins the thread, after the unmount; NULL is fine. */
void watch_stop(struct watch *watch);

#endif
