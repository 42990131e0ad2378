/*
 * The control protocol between mountctl and a weightfs daemon.
 *
 * Transport: a Unix stream socket. MNT/.weightfs/socket is a symbolic link to it. A
 * client connects, sends one request (one line of JSON, ended by a newline), reads one
 * reply (one line of JSON) and the daemon closes. Only the mounting user and root may
 * connect.
 *
 *   request  {"command": "status"}
 *   reply    {"ok": true, "status": {...}}
 *            {"ok": false, "error": "what: detail"}
 *
 * "status" is the document that MNT/.weightfs/stats.json holds as well; docs/status.md
 * describes its members.
 *
 *   request  {"command": "backings"}
 *   reply    {"ok": true, "names": ["stream", "resident"], "backings": "0110...",
 *             "pinned": "0100..."}
 *
 * One digit for each tensor in the order of model.json: the place in "names" of the
 * backing that its raw view has now, and whether any view of it is pinned. 184 KB for
 * 92,000 tensors. With "node": 1 it is about the files in the tree of that memory node
 * (numa=mirror).
 *
 *   request  {"command": "page_cache"}
 *   reply    {"ok": true, "count": 3, "ready": false}
 *   request  {"command": "page_cache", "count": 3}
 *   reply    {"ok": true, "count": 3, "ready": true, "cached": "0064ff..."}
 *
 * Counts how much of each tensor is in the page cache of the source, which may take a
 * while: whoever asks repeats it with the number of the count until it is done. Two
 * hexadecimal digits for each tensor, percent, or "ff" where the kernel does not tell.
 *
 *   request  {"command": "prefetch", "patterns": ["*.q_proj.*"], "resident": true,
 *             "views": ["tensors", "npy"]}
 *            {"command": "pin", "patterns": [...], "views": [...], "fill": true}
 *            {"command": "unpin", "patterns": [...], "views": [...]}
 *            {"command": "evict", "patterns": [...], "views": [...]}
 *            {"command": "advise", "patterns": [...], "advice": "willneed"}
 *   reply    {"ok": true, "job": 7}
 *
 * Starts a job and does not wait for it. Without "views" it is about the raw view, for
 * "unpin", "evict" and "advise" about all of them. Patterns are matched by the daemon, in
 * the job's own thread: a request stays small however many tensors there are, nothing is
 * named by a number whose meaning both sides must agree on, and the names need not
 * travel at all. A pattern is any bytes but NUL. Those that are no UTF-8 stand as they
 * are in its string: not as \u escapes, which have no such values.
 *
 *   request  {"command": "profile", "action": "record"}
 *            {"command": "profile", "action": "stop"}
 *   reply    {"ok": true, "recording": true, "tensors": 120}
 *   request  {"command": "profile", "action": "read", "from": 0}
 *   reply    {"ok": true, "recording": false, "tensors": 120, "text": "...", "next": 90}
 *
 * Which tensors are used is noted from "record" to "stop". "read" gives lines of the
 * profile, as util/profile.h has them, from a tensor on: about 1 MiB at a time. "next" is
 * the tensor to go on from, 0 behind the last. What was recorded can be read until the
 * next "record".
 *
 *   request  {"command": "job", "job": 7}
 *   reply    {"ok": true, "job": {...}}
 *   request  {"command": "cancel", "job": 7}
 *   reply    {"ok": true}
 *
 * The document of a job is described in docs/status.md too. It can be asked for while the
 * job runs, and afterwards until the daemon needs its place: it keeps 32. A client that
 * goes away does not end its job.
 */
#ifndef CTL_PROTO_H
#define CTL_PROTO_H

/* Where the socket is found, relative to the mount point. */
#define CTL_SOCKET_LINK ".weightfs/socket"

/* File system type in the mount table. */
#define CTL_FS_TYPE "fuse.weightfs"

/* Bytes of one request with its newline; the daemon answers a longer one with an error.
 */
#define CTL_REQUEST_MAX 65536

/* A client or daemon that does not send or read for so long is given up. */
#define CTL_TIMEOUT_MS 10000

#endif
