#include "util/profile.h"

#include <inttypes.h>

#define MAGIC "weightfs-profile 1 "

/* ---- Pieces of a line ---- */

static bool take_text(struct profile_text *line, const char *text)
{
	size_t len = strlen(text);

	if (line->len < len || memcmp(line->at, text, len) != 0)
		return false;
	line->at += len;
	line->len -= len;
	return true;
}

/* A number of at most 19 digits, so that it fits. */
static bool take_number(struct profile_text *line, uint64_t *number)
{
	size_t len = 0;

	*number = 0;
	while (len < line->len && len < 19 && line->at[len] >= '0' &&
	       line->at[len] <= '9')
		*number = *number * 10 + (uint64_t)(line->at[len++] - '0');
	line->at += len;
	line->len -= len;
	return len > 0;
}

/* Seconds with three digits behind the point. */
static bool take_ms(struct profile_text *line, uint64_t *ms)
{
	struct profile_text digits;
	uint64_t seconds;
	uint64_t rest;

	if (!take_number(line, &seconds) || !take_text(line, ".") || line->len < 3 ||
	    seconds > PROFILE_MS_MAX / 1000)
		return false;
	digits = (struct profile_text){ line->at, 3 };
	if (!take_number(&digits, &rest) || digits.len > 0)
		return false;
	line->at += 3;
	line->len -= 3;
	*ms = seconds * 1000 + rest;
	return true;
}

/* Up to the next space, which is taken too. */
static bool take_word(struct profile_text *line, struct profile_text *word)
{
	const char *space = memchr(line->at, ' ', line->len);

	if (!space || space == line->at)
		return false;
	*word = (struct profile_text){ line->at, (size_t)(space - line->at) };
	line->at += word->len + 1;
	line->len -= word->len + 1;
	return true;
}

/* ---- Lines ---- */

static bool fail(struct profile_reader *reader, const char *wrong)
{
	reader->wrong = wrong;
	return false;
}

/* The next line without its end. False behind the last one. */
static bool next_line(struct profile_reader *reader, struct profile_text *line)
{
	size_t left = (size_t)(reader->end - reader->at);
	const char *newline = left > 0 ? memchr(reader->at, '\n', left) : NULL;

	if (left == 0 || reader->wrong)
		return false;
	reader->line++;
	*line = (struct profile_text){ reader->at,
				       newline ? (size_t)(newline - reader->at) : left };
	if (line->len >= PROFILE_LINE_MAX)
		return fail(reader, "is too long");
	for (size_t i = 0; i < line->len; i++)
		if ((unsigned char)line->at[i] < 0x20 || line->at[i] == 0x7f)
			return fail(reader, "has a control character");
	reader->at += line->len + (newline != NULL);
	return true;
}

bool profile_is_one(const char *text, size_t len)
{
	return len >= strlen(MAGIC) && memcmp(text, MAGIC, strlen(MAGIC)) == 0;
}

bool profile_begin(struct profile_reader *reader, const char *text, size_t len,
		   struct profile_header *header)
{
	struct profile_text line;

	*reader = (struct profile_reader){ .at = text, .end = text + len };
	if (len == 0)
		return fail(reader, "is empty");
	if (!profile_is_one(text, len))
		return fail(reader, "does not begin with '" MAGIC "'");
	if (len > PROFILE_MAX)
		return fail(reader, "has more than 64 MiB");
	if (!next_line(reader, &line) || !take_text(&line, MAGIC))
		return false;
	if (!take_text(&line, "tensors=") || !take_number(&line, &header->tensors) ||
	    !take_text(&line, " bytes=") || !take_number(&line, &header->bytes) ||
	    !take_text(&line, " model="))
		return fail(reader, "is not of the form 'tensors=N bytes=N model=NAME'");
	header->model = line;
	return true;
}

bool profile_next(struct profile_reader *reader, struct profile_use *use)
{
	struct profile_text line;

	do {
		if (!next_line(reader, &line))
			return false;
	} while (line.len == 0 || line.at[0] == '#');
	if (!take_ms(&line, &use->first_ms) || !take_text(&line, " ") ||
	    !take_ms(&line, &use->time_ms) || !take_text(&line, " ") ||
	    !take_number(&line, &use->bytes) || !take_text(&line, " ") ||
	    !take_word(&line, &use->view) || line.len == 0)
		return fail(reader,
			    "is not of the form 'SECONDS SECONDS BYTES VIEW NAME'");
	use->name = line;
	return true;
}

/* ---- Names ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool profile_decode(struct profile_text name, char *out, size_t *len)
{
	size_t n = 0;

	/* As in paths, an empty name. */
	if (name.len == 1 && name.at[0] == '%') {
		*len = 0;
		return true;
	}
	for (size_t i = 0; i < name.len; i++) {
		if (name.at[i] != '%') {
			out[n++] = name.at[i];
			continue;
		}
		if (name.len - i < 3 || hex_value(name.at[i + 1]) < 0 ||
		    hex_value(name.at[i + 2]) < 0)
			return false;
		out[n++] = (char)(hex_value(name.at[i + 1]) * 16 +
				  hex_value(name.at[i + 2]));
		i += 2;
	}
	*len = n;
	return true;
}

/* ---- Writing ---- */

void profile_write_header(struct strbuf *out, const struct profile_header *header)
{
	strbuf_addf(out,
		    MAGIC "tensors=%" PRIu64 " bytes=%" PRIu64 " model=", header->tensors,
		    header->bytes);
	strbuf_add(out, header->model.at, header->model.len);
	strbuf_add_str(out, "\n# first_s time_s bytes view name\n");
}

void profile_write_use(struct strbuf *out, const struct profile_use *use)
{
	strbuf_addf(out, "%" PRIu64 ".%03u %" PRIu64 ".%03u %" PRIu64 " ",
		    use->first_ms / 1000, (unsigned int)(use->first_ms % 1000),
		    use->time_ms / 1000, (unsigned int)(use->time_ms % 1000), use->bytes);
	strbuf_add(out, use->view.at, use->view.len);
	strbuf_add_char(out, ' ');
	strbuf_add(out, use->name.at, use->name.len);
	strbuf_add_char(out, '\n');
}
