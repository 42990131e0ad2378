#include "mountctl/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "mountctl/table.h"
#include "mountctl/text.h"
#include "util/fd.h"
#include "util/jsonw.h"
#include "util/log.h"
#include "util/profile.h"
#include "util/size.h"

#define SECONDS_MAX 32

/* ---- From the daemon ---- */

/* Appends one piece. `next` becomes the place of the next one, or 0. */
static int fetch_piece(const struct daemon_peer *peer, uint64_t *next,
		       struct strbuf *text)
{
	CLEANUP(strbuf_fini) struct strbuf request = { 0 };
	CLEANUP(strbuf_fini) struct strbuf answer = { 0 };
	struct json reply = { 0 };
	int r;

	strbuf_addf(&request,
		    "{\"command\":\"profile\",\"action\":\"read\",\"from\":%" PRIu64
		    "}\n",
		    *next);
	r = daemon_request(peer, &request, &answer, &reply);
	if (r < 0)
		return daemon_complain(peer->mountpoint, r, reply);
	json_add_string(text, json_get(reply, "text"));
	*next = json_u64(json_get(reply, "next"));
	return text->err;
}

int profile_fetch(const struct daemon_peer *peer, struct strbuf *text)
{
	uint64_t next = 0;
	uint64_t from;
	int r;

	do {
		from = next;
		r = fetch_piece(peer, &next, text);
	} while (r == 0 && next > from && text->len <= PROFILE_MAX);
	if (r == 0 && next > 0)
		return text_error(peer->mountpoint, "profile: too long", EFBIG);
	return r;
}

/* ---- Files ---- */

int profile_read(const char *path, struct strbuf *text)
{
	CLEANUP(close_fd)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char piece[16384];
	ssize_t n = 0;

	if (fd < 0)
		return text_error(path, "open", errno);
	while (text->len <= PROFILE_MAX && (n = read(fd, piece, sizeof(piece))) > 0)
		strbuf_add(text, piece, (size_t)n);
	if (n < 0)
		return text_error(path, "read", errno);
	return text->err < 0 ? text_error(path, "read", ENOMEM) : 0;
}

static int write_over(const char *path, const struct strbuf *text)
{
	CLEANUP(close_fd)
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	size_t done = 0;

	if (fd < 0)
		return text_error(path, "open", errno);
	while (done < text->len) {
		ssize_t n = write(fd, text->data + done, text->len - done);

		if (n < 0 && errno != EINTR)
			return text_error(path, "write", errno);
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* The mode that a new file gets. */
static mode_t usual_mode(void)
{
	mode_t mask = umask(0);

	(void)umask(mask);
	return 0666 & ~mask;
}

static int fill_file(int fd, const struct strbuf *text, mode_t mode)
{
	int r = fd_write_fully(fd, text->data, text->len, 0);

	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	return r;
}

/* A slip of the hand must not cost a model, which is the other file that people have at
 * hand here. 0 where the file is a profile or empty. */
static int check_replaceable(const char *path)
{
	CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char start[64];
	ssize_t n = fd < 0 ? -1 : read(fd, start, sizeof(start));

	if (n < 0)
		return text_error(path, "open", errno);
	if (n == 0 || profile_is_one(start, (size_t)n))
		return 0;
	(void)text_error(path, "not written: there is another file of this name", 0);
	return -EEXIST;
}

/* Writes a file beside `path` and puts it in its place. */
static int replace(const char *path, const struct strbuf *text, mode_t mode)
{
	CLEANUP(free_ptr) char *temporary = NULL;
	int fd;
	int r;

	if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
		temporary = NULL;
		return text_error(path, "write", ENOMEM);
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return text_error(path, "create", errno);
	r = fill_file(fd, text, mode);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r == 0)
		return 0;
	(void)unlink(temporary);
	return text_error(path, "write", -r);
}

int profile_write(const char *path, const struct strbuf *text)
{
	CLEANUP(free_ptr) char *target = NULL;
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return replace(path, text, usual_mode());
	if (!S_ISREG(st.st_mode))
		return write_over(path, text);
	r = check_replaceable(path);
	if (r < 0)
		return r;
	target = realpath(path, NULL);
	if (!target)
		return text_error(path, "write", errno);
	return replace(target, text, st.st_mode & 0777);
}

int profile_check_file(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : text_error(path, "open", errno);
	return S_ISREG(st.st_mode) ? check_replaceable(path) : 0;
}

/* ---- Reading lines ---- */

static int complain_of_line(const char *subject, const struct profile_reader *reader)
{
	CLEANUP(strbuf_fini) struct strbuf what = { 0 };

	strbuf_add_str(&what, "profile: ");
	if (reader->line > 0)
		strbuf_addf(&what, "line %u ", reader->line);
	strbuf_add_str(&what, reader->wrong);
	(void)text_error(subject, what.data ? what.data : reader->wrong, 0);
	return -EBADMSG;
}

int profile_sum(const char *subject, const struct strbuf *text, struct profile_sums *sums)
{
	struct profile_reader reader;
	struct profile_header header;
	struct profile_use use;

	*sums = (struct profile_sums){ 0 };
	(void)(profile_begin(&reader, text->data ? text->data : "", text->len, &header));
	while (!reader.wrong && profile_next(&reader, &use)) {
		uint64_t end = use.first_ms + use.time_ms;

		sums->tensors++;
		if (__builtin_add_overflow(sums->bytes, use.bytes, &sums->bytes))
			sums->bytes = UINT64_MAX;
		if (end > sums->end_ms)
			sums->end_ms = end;
	}
	return reader.wrong ? complain_of_line(subject, &reader) : 0;
}

/* ---- For people ---- */

static const char *format_ms(uint64_t ms, char text[static SECONDS_MAX])
{
	(void)snprintf(text, SECONDS_MAX, "%" PRIu64 ".%03u s", ms / 1000,
		       (unsigned int)(ms % 1000));
	return text;
}

static void add_text(struct table *table, struct profile_text text)
{
	CLEANUP(strbuf_fini) struct strbuf cell = { 0 };

	text_escape(&cell, text.at, text.len);
	table_add(table, cell.data ? cell.data : "");
}

static void add_row(struct table *table, uint64_t number, const struct profile_use *use)
{
	char cell[SECONDS_MAX];

	(void)snprintf(cell, sizeof(cell), "%" PRIu64, number);
	table_add(table, cell);
	table_add(table, format_ms(use->first_ms, cell));
	table_add(table, format_ms(use->time_ms, cell));
	table_add_size(table, use->bytes);
	add_text(table, use->view);
	add_text(table, use->name);
}

static void print_header(const struct profile_header *header)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	char size[SIZE_TEXT_MAX];

	text_escape(&line, header->model.at, header->model.len);
	strbuf_add_str(&line, ": ");
	text_add_count(&line, header->tensors, "tensor");
	strbuf_addf(&line, ", %s", size_format(header->bytes, size));
	(void)printf("%s\n", line.data ? line.data : "");
}

int profile_print_table(const struct strbuf *text)
{
	static const struct table_column columns[] = {
		{ "", true },      { "first use", true }, { "time", true },
		{ "bytes", true }, { "view", false },     { "name", false },
	};
	CLEANUP(table_fini) struct table table;
	struct profile_reader reader;
	struct profile_header header;
	struct profile_use use;
	uint64_t number = 0;

	table_init(&table, columns, ARRAY_LEN(columns));
	if (profile_begin(&reader, text->data, text->len, &header))
		print_header(&header);
	while (profile_next(&reader, &use))
		add_row(&table, ++number, &use);
	return table_print(&table, 0);
}

/* ---- For programs ---- */

/* A name as it is, without %XX; where that is none, as it stands. */
static void write_name(struct jsonw *w, const char *key, struct profile_text name)
{
	CLEANUP(free_ptr) char *bytes = malloc(name.len + 1);
	size_t len;

	jsonw_key(w, key);
	if (bytes && profile_decode(name, bytes, &len))
		jsonw_string_bytes(w, bytes, len);
	else
		jsonw_string_bytes(w, name.at, name.len);
}

static void write_ms(struct jsonw *w, const char *key, uint64_t ms)
{
	jsonw_key(w, key);
	jsonw_double(w, (double)ms / 1000, 15);
}

static void write_use(struct jsonw *w, const struct profile_use *use)
{
	jsonw_begin_object(w);
	write_name(w, "name", use->name);
	write_name(w, "view", use->view);
	write_ms(w, "first_s", use->first_ms);
	write_ms(w, "time_s", use->time_ms);
	jsonw_key(w, "bytes");
	jsonw_u64(w, use->bytes);
	jsonw_end_object(w);
}

int profile_print_json(const struct strbuf *text)
{
	CLEANUP(strbuf_fini) struct strbuf out = { 0 };
	struct profile_reader reader;
	struct profile_header header = { 0 };
	struct profile_use use;
	struct jsonw w;

	jsonw_init(&w, &out);
	(void)profile_begin(&reader, text->data, text->len, &header);
	jsonw_begin_object(&w);
	write_name(&w, "model", header.model);
	jsonw_key(&w, "tensor_count");
	jsonw_u64(&w, header.tensors);
	jsonw_key(&w, "total_bytes");
	jsonw_u64(&w, header.bytes);
	jsonw_key(&w, "uses");
	jsonw_begin_array(&w);
	while (profile_next(&reader, &use))
		write_use(&w, &use);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
	if (out.err < 0)
		return log_errno(out.err, "profile: print");
	(void)printf("%s\n", out.data);
	return 0;
}
