#include "mountctl/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "mountctl/text.h"
#include "util/size.h"

#define WIDTH_UNKNOWN 80u
#define BAR_MIN       10u
#define BAR_MAX       40u

/* The rate is an average in which what is older than this has little weight. */
#define RATE_S 3.0

void progress_init(struct progress *progress, bool wanted, bool rated)
{
	*progress = (struct progress){
		.shown = wanted && text_is_terminal(),
		.rated = rated,
	};
	(void)clock_gettime(CLOCK_MONOTONIC, &progress->last);
}

static size_t terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return WIDTH_UNKNOWN;
	return size.ws_col;
}

/* "0:07", "12:00", "3:05:00". */
static void add_time(struct strbuf *out, uint64_t seconds)
{
	if (seconds >= 3600)
		strbuf_addf(out, "%" PRIu64 ":%02u:%02u", seconds / 3600,
			    (unsigned int)(seconds / 60 % 60),
			    (unsigned int)(seconds % 60));
	else
		strbuf_addf(out, "%u:%02u", (unsigned int)(seconds / 60),
			    (unsigned int)(seconds % 60));
}

static void add_bar(struct strbuf *out, size_t width, double share)
{
	size_t full = (size_t)(share * (double)width);

	strbuf_add_char(out, '[');
	for (size_t i = 0; i < width; i++)
		strbuf_add_char(out, i < full ? '#' : '-');
	strbuf_add_str(out, "] ");
}

/* A piece is added if it fits the columns. */
static void add_if_room(struct strbuf *out, const struct strbuf *piece, size_t width)
{
	if (piece->len > 0 && out->len + piece->len < width)
		strbuf_add(out, piece->data, piece->len);
}

void progress_format(const struct progress *progress, size_t width, struct strbuf *out)
{
	uint64_t left = progress->total - progress->done;
	double share = progress->total > 0
			       ? (double)progress->done / (double)progress->total
			       : 0;
	char storage[4][64];
	struct strbuf head;
	struct strbuf bytes;
	struct strbuf rate;
	struct strbuf time;
	char text[SIZE_TEXT_MAX];
	size_t used;

	strbuf_init_fixed(&head, storage[0], sizeof(storage[0]));
	strbuf_init_fixed(&bytes, storage[1], sizeof(storage[1]));
	strbuf_init_fixed(&rate, storage[2], sizeof(storage[2]));
	strbuf_init_fixed(&time, storage[3], sizeof(storage[3]));
	strbuf_addf(&head, "%3u%% ", (unsigned int)(share * 100));
	strbuf_add_str(&bytes, size_format(progress->done, text));
	strbuf_addf(&bytes, " of %s", size_format(progress->total, text));
	if (progress->rate >= 1) {
		strbuf_addf(&rate, "  %s/s", size_format((uint64_t)progress->rate, text));
		strbuf_add_str(&time, "  ");
		add_time(&time, (uint64_t)((double)left / progress->rate + 0.5));
		strbuf_add_str(&time, " left");
	}
	used = head.len + bytes.len + rate.len + time.len;
	add_if_room(out, &head, width);
	if (used + BAR_MIN + 3 < width)
		add_bar(out, width - used - 4 < BAR_MAX ? width - used - 4 : BAR_MAX,
			share);
	add_if_room(out, &bytes, width);
	add_if_room(out, &rate, width);
	add_if_room(out, &time, width);
}

static void measure_rate(struct progress *progress, uint64_t done)
{
	struct timespec now;
	double seconds;
	double latest;
	double weight;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double)(now.tv_sec - progress->last.tv_sec) +
		  (double)(now.tv_nsec - progress->last.tv_nsec) / 1e9;
	if (seconds <= 0 || done < progress->done)
		return;
	latest = (double)(done - progress->done) / seconds;
	weight = progress->rate > 0 ? seconds / (seconds + RATE_S) : 1;
	progress->rate += (latest - progress->rate) * weight;
	progress->last = now;
}

static void draw(struct progress *progress, const struct strbuf *line)
{
	size_t fill = progress->width_before > line->len
			      ? progress->width_before - line->len
			      : 0;

	/* No sequences, so that every terminal can show it. */
	(void)printf("\r%s%*s%s", line->data ? line->data : "", (int)fill, "",
		     line->len == 0 ? "\r" : "");
	(void)fflush(stdout);
	progress->width_before = line->len;
}

void progress_update(struct progress *progress, uint64_t done, uint64_t total)
{
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };

	if (!progress->shown)
		return;
	if (progress->rated)
		measure_rate(progress, done);
	progress->done = done < total ? done : total;
	progress->total = total;
	if (total == 0)
		return;
	progress_format(progress, terminal_width(), &line);
	draw(progress, &line);
}

void progress_clear(struct progress *progress)
{
	const struct strbuf nothing = { 0 };

	if (progress->shown && progress->width_before > 0)
		draw(progress, &nothing);
}
