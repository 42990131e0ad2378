#include "passthrough.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "conn.h"

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
#define NATIVE 1
#else
#define NATIVE 0
#endif

/* What headers of kernels before 6.9 lack. */
#define INIT_EXT          (1u << 30)
#define INIT2_PASSTHROUGH (1u << 5) /* bit 37 of both words of flags */
#define OPEN_PASSTHROUGH  (1u << 7)
/* The mount and one file system below it: what we pass through to is not stacked itself.
 */
#define STACK_DEPTH       1u

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define IOC_BACKING_OPEN  _IOW(229, 1, struct backing_map)
#define IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

int passthrough_register(struct passthrough *p, int fd)
{
	const struct backing_map map = { .fd = fd };
	int id = ioctl(fuse_session_fd(p->session), IOC_BACKING_OPEN, &map);

	if (id < 0)
		return -errno;
	return id > 0 ? id : -EIO;
}

void passthrough_unregister(struct passthrough *p, int id)
{
	const uint32_t number = (uint32_t)id;

	(void)ioctl(fuse_session_fd(p->session), IOC_BACKING_CLOSE, &number);
}

int passthrough_try(struct passthrough *p, int fd)
{
	int id = passthrough_register(p, fd);

	if (id < 0)
		return id;
	passthrough_unregister(p, id);
	return 0;
}

void passthrough_prepare(struct passthrough *p, struct fuse_session *session)
{
	p->wanted = true;
	p->session = session;
	privilege_read(&p->privilege);
	(void)pthread_mutex_init(&p->lock, NULL);
}

static int try_registration(struct passthrough *p)
{
	CLEANUP(close_fd) int fd = memfd_create("weightfs probe", MFD_CLOEXEC);

	return fd < 0 ? -errno : passthrough_try(p, fd);
}

static bool find_out(struct passthrough *p)
{
	int r;

	if (!atomic_load(&p->offered)) {
		refusal_of_offer(&p->privilege, p->refusal);
		return false;
	}
	if (!atomic_load(&p->agreed)) {
		(void)snprintf(p->refusal, sizeof(p->refusal),
			       "libfuse %s answers INIT in a form that is not known",
			       fuse_pkgversion());
		return false;
	}
	r = try_registration(p);
	if (r < 0)
		refusal_of_registration(&p->privilege, r, p->refusal);
	return r == 0;
}

bool passthrough_settle(struct passthrough *p)
{
	if (!atomic_load_explicit(&p->settled, memory_order_acquire)) {
		(void)pthread_mutex_lock(&p->lock);
		if (!atomic_load(&p->settled)) {
			atomic_store(&p->enabled, find_out(p));
			atomic_store(&p->settled, true);
		}
		(void)pthread_mutex_unlock(&p->lock);
	}
	return passthrough_is_enabled(p);
}

const char *passthrough_refusal(const struct passthrough *p)
{
	if (!atomic_load_explicit(&p->settled, memory_order_acquire))
		return "not known yet: the mount has only begun";
	return p->refusal;
}

#if NATIVE

void passthrough_see_request(struct passthrough *p, const char *request, size_t len)
{
	(void)p;
	(void)request;
	(void)len;
}

void passthrough_amend_reply(struct passthrough *p, const struct iovec *reply, int count)
{
	(void)p;
	(void)reply;
	(void)count;
}

void passthrough_init(struct passthrough *p, struct fuse_conn_info *conn)
{
	if (!p->wanted || !conn_offers(conn, FUSE_CAP_PASSTHROUGH))
		return;
	atomic_store(&p->offered, true);
	conn_want(conn, FUSE_CAP_PASSTHROUGH);
	/* libfuse counts without the mount itself. */
	conn->max_backing_stack_depth = STACK_DEPTH - 1;
	atomic_store(&p->agreed, true);
}

int passthrough_reply_open(fuse_req_t req, uint64_t handle, int id)
{
	const struct fuse_file_info info = { .fh = handle, .backing_id = id };

	return fuse_reply_open(req, &info);
}

#else

/* Where the words of INIT and its answer stand, from the start of the message: after the
 * header, the fields of fuse_init_in and fuse_init_out up to 7.36. */
#define IN_FLAGS_AT        (sizeof(struct fuse_in_header) + 12)
#define IN_FLAGS2_AT       (sizeof(struct fuse_in_header) + 16)
#define OUT_FLAGS_AT       12
#define OUT_FLAGS2_AT      32
#define OUT_STACK_DEPTH_AT 36
#define OUT_LEN            64

static uint32_t get_u32(const char *bytes, size_t at)
{
	uint32_t value;

	memcpy(&value, bytes + at, sizeof(value));
	return value;
}

static void put_u32(char *bytes, size_t at, uint32_t value)
{
	memcpy(bytes + at, &value, sizeof(value));
}

/* INIT is the first request. */
void passthrough_see_request(struct passthrough *p, const char *request, size_t len)
{
	struct fuse_in_header header;

	if (atomic_load_explicit(&p->answered, memory_order_relaxed) ||
	    len < IN_FLAGS2_AT + 4)
		return;
	memcpy(&header, request, sizeof(header));
	if (header.opcode == FUSE_INIT)
		atomic_store(&p->offered, (get_u32(request, IN_FLAGS_AT) & INIT_EXT) &&
						  (get_u32(request, IN_FLAGS2_AT) &
						   INIT2_PASSTHROUGH));
}

/* Its answer is the first reply, and sent by the thread that read it. */
void passthrough_amend_reply(struct passthrough *p, const struct iovec *reply, int count)
{
	char *out;

	if (atomic_exchange_explicit(&p->answered, true, memory_order_relaxed) ||
	    !p->wanted || !atomic_load(&p->offered) || count != 2 ||
	    reply[1].iov_len != OUT_LEN)
		return;
	out = reply[1].iov_base;
	put_u32(out, OUT_FLAGS_AT, get_u32(out, OUT_FLAGS_AT) | INIT_EXT);
	put_u32(out, OUT_FLAGS2_AT, get_u32(out, OUT_FLAGS2_AT) | INIT2_PASSTHROUGH);
	put_u32(out, OUT_STACK_DEPTH_AT, STACK_DEPTH);
	atomic_store(&p->agreed, true);
}

void passthrough_init(struct passthrough *p, struct fuse_conn_info *conn)
{
	(void)p;
	(void)conn;
}

int passthrough_reply_open(fuse_req_t req, uint64_t handle, int id)
{
	const struct {
		uint64_t handle;
		uint32_t flags;
		int32_t backing_id;
	} out = { .handle = handle, .flags = OPEN_PASSTHROUGH, .backing_id = id };

	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

#endif
