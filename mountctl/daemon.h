/* Talks to the daemon behind a mount, and never waits longer than it was told. */
#ifndef MOUNTCTL_DAEMON_H
#define MOUNTCTL_DAEMON_H

#include <sys/types.h>

#include "mountctl/json.h"
#include "mountctl/mounts.h"
#include "util/strbuf.h"

enum daemon_state {
	DAEMON_OK,
	DAEMON_DEAD,      /* it is gone; each access to the mount fails */
	DAEMON_NO_ANSWER, /* it may hang, or does not speak our protocol */
	DAEMON_NO_ACCESS, /* another user's mount, without allow_other */
	DAEMON_PART,      /* a bind mount of a part, where its socket is not */
	DAEMON_COVERED,   /* another mount hides this one; daemon_ask() never says so */
};

struct daemon_answer {
	enum daemon_state state;
	pid_t pid; /* the process at the other end as the kernel knows it; 0 if unknown */
	struct strbuf text;
	struct json status; /* lies in `text`; no value unless the state is DAEMON_OK */
};

/* Asks for the status document; docs/status.md describes it. `answer` is filled in any
 * case and finished by the caller. */
void daemon_ask(const struct mount *mount, int timeout_ms, struct daemon_answer *answer);

void daemon_answer_fini(struct daemon_answer *answer);

/* Where a daemon is asked for more than its status. */
struct daemon_peer {
	const char *mountpoint; /* borrowed */
	struct strbuf socket;
	uid_t owner;
};

/* Finds the daemon's socket. 0, -ENOENT if it has none, or another negative errno;
 * nothing is logged. */
MUST_CHECK int daemon_find(const struct mount *mount, struct daemon_peer *peer);
void daemon_peer_fini(struct daemon_peer *peer);

/* Sends a request, one line as ctl_proto.h has it, and reads the whole reply, which lies
 * in `text`. 0; -EREMOTEIO if the daemon refuses, whose words are the reply's "error"; or
 * another negative errno. Nothing is logged. */
MUST_CHECK int daemon_request(const struct daemon_peer *peer,
			      const struct strbuf *request, struct strbuf *text,
			      struct json *reply);

/* Logs why daemon_request() failed with `r`, and returns that. */
int daemon_complain(const char *mountpoint, int r, struct json reply);

/* "ok", "dead", "no answer", "no access", "part", "covered". */
const char *daemon_state_name(enum daemon_state state);

/* Asks, and logs what is wrong unless the state is DAEMON_OK. 0 or a negative errno. */
MUST_CHECK int daemon_require(const struct mount *mount, struct daemon_answer *answer);

#endif
