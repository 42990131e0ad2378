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
