#include "recorder.h"

#include <errno.h>
#include <stdatomic.h>

#include "path.h"
#include "served.h"
#include "util/profile.h"

/* Of one tensor. */
struct note {
	atomic_uint_fast64_t bytes;
	atomic_uint place; /* in the order of first uses, from 1 on; 0: not used */
	atomic_uint first_ms;
	atomic_uint last_ms;
	atomic_uchar view;
};

struct recorder {
	const struct served *served;
	struct note *notes; /* made by the first start; stays until the end */
	uint32_t *order;    /* room for the tensors in the order of their first use */
	char *file;         /* heap; NULL for none */
	atomic_uint_fast64_t start_ms;

	/* `notes` while a recording is under way. */
	_Atomic(struct note *) active;
	atomic_uint places;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint32_t tensor_count(const struct recorder *recorder)
{
	return (uint32_t)model_tensor_count(recorder->served->model);
}

/* ---- Noting ---- */

/* One thread makes the first note of a tensor. A place that another took meanwhile stays
 * empty. */
static void note_time(struct recorder *r, struct note *note, struct node node)
{
	unsigned int ms =
		(unsigned int)(now_ms() -
			       atomic_load_explicit(&r->start_ms, memory_order_relaxed));
	unsigned int none = 0;

	if (atomic_load_explicit(&note->place, memory_order_relaxed) == 0 &&
	    atomic_compare_exchange_strong(&note->place, &none,
					   atomic_fetch_add(&r->places, 1) + 1)) {
		atomic_store_explicit(&note->first_ms, ms, memory_order_relaxed);
		atomic_store_explicit(&note->view, (unsigned char)node.view,
				      memory_order_relaxed);
	}
	atomic_store_explicit(&note->last_ms, ms, memory_order_relaxed);
}

/* The note of a tensor while something is recorded, else NULL. */
static struct note *find_note(struct recorder *r, struct node node)
{
	struct note *notes = atomic_load_explicit(&r->active, memory_order_acquire);

	return notes ? &notes[node.index] : NULL;
}

void recorder_note_read(struct recorder *recorder, struct node node, uint64_t bytes)
{
	struct note *note = find_note(recorder, node);

	if (!note)
		return;
	note_time(recorder, note, node);
	(void)atomic_fetch_add_explicit(&note->bytes, bytes, memory_order_relaxed);
}

void recorder_note_open(struct recorder *recorder, struct node node)
{
	struct note *note = find_note(recorder, node);

	if (!note)
		return;
	note_time(recorder, note, node);
	atomic_store_explicit(&note->bytes, UINT64_MAX, memory_order_relaxed);
}

void recorder_note_release(struct recorder *recorder, struct node node)
{
	struct note *note = find_note(recorder, node);

	if (note && atomic_load_explicit(&note->place, memory_order_relaxed) > 0)
		note_time(recorder, note, node);
}

/* ---- Starting and stopping ---- */

int recorder_new(const struct served *served, struct recorder **recorder)
{
	struct recorder *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->served = served;
	*recorder = r;
	return 0;
}

void recorder_free(struct recorder *recorder)
{
	if (!recorder)
		return;
	free(recorder->notes);
	free(recorder->order);
	free(recorder->file);
	free(recorder);
}

static int make_notes(struct recorder *r)
{
	size_t count = tensor_count(r) > 0 ? tensor_count(r) : 1;

	if (!r->notes)
		r->notes = calloc(count, sizeof(*r->notes));
	if (!r->order)
		r->order = calloc(count, sizeof(*r->order));
	return r->notes && r->order ? 0 : -ENOMEM;
}

/* What is late of the recording before may still come in between: it is a use. */
int recorder_start(struct recorder *r, const char *file)
{
	char *copy;

	if (recorder_is_recording(r))
		return -EALREADY;
	copy = file ? strdup(file) : NULL;
	if (make_notes(r) < 0 || (file && !copy)) {
		free(copy);
		return -ENOMEM;
	}
	free(r->file);
	r->file = copy;
	for (uint32_t i = 0; i < tensor_count(r); i++) {
		atomic_store(&r->notes[i].place, 0);
		atomic_store(&r->notes[i].bytes, 0);
	}
	atomic_store(&r->places, 0);
	atomic_store(&r->start_ms, now_ms());
	atomic_store_explicit(&r->active, r->notes, memory_order_release);
	return 0;
}

const char *recorder_file(const struct recorder *recorder)
{
	return recorder->file;
}

bool recorder_stop(struct recorder *recorder)
{
	return atomic_exchange(&recorder->active, NULL) != NULL;
}

bool recorder_is_recording(const struct recorder *recorder)
{
	return atomic_load(&recorder->active) != NULL;
}

bool recorder_has_recorded(const struct recorder *recorder)
{
	return recorder->notes && recorder->order;
}

uint32_t recorder_count(const struct recorder *r)
{
	uint32_t count = 0;

	for (uint32_t i = 0; r->notes && i < tensor_count(r); i++)
		count += atomic_load(&r->notes[i].place) > 0;
	return count;
}

/* ---- Writing ---- */

static int compare_places(const void *left, const void *right, void *argument)
{
	const struct note *notes = argument;
	unsigned int a;
	unsigned int b;
	uint32_t x;
	uint32_t y;

	memcpy(&x, left, sizeof(x));
	memcpy(&y, right, sizeof(y));
	a = atomic_load(&notes[x].place);
	b = atomic_load(&notes[y].place);
	return (a > b) - (a < b);
}

/* Puts the tensors that were used into `order`. Returns how many those are. */
static uint32_t sort_uses(const struct recorder *r)
{
	uint32_t count = 0;

	for (uint32_t i = 0; r->notes && i < tensor_count(r); i++)
		if (atomic_load(&r->notes[i].place) > 0)
			r->order[count++] = i;
	if (count > 0)
		qsort_r(r->order, count, sizeof(*r->order), compare_places, r->notes);
	return count;
}

static void write_header(const struct recorder *r, struct strbuf *out)
{
	CLEANUP(strbuf_fini) struct strbuf name = { 0 };
	const struct served *served = r->served;
	struct profile_header header = {
		.tensors = tensor_count(r),
		.bytes = model_total_bytes(served->model),
	};

	path_encode(&name, served->source->name, strlen(served->source->name), false);
	header.model = (struct profile_text){ name.data ? name.data : "", name.len };
	profile_write_header(out, &header);
}

static void write_use(const struct recorder *r, uint32_t tensor, struct strbuf *out)
{
	CLEANUP(strbuf_fini) struct strbuf name = { 0 };
	const struct tensor *t = model_tensor(r->served->model, tensor);
	const struct note *note = &r->notes[tensor];
	const char *view = view_info((enum view)atomic_load(&note->view))->dir;
	unsigned int first_ms = atomic_load(&note->first_ms);
	unsigned int last_ms = atomic_load(&note->last_ms);
	struct profile_use use = {
		.first_ms = first_ms,
		.time_ms = last_ms > first_ms ? last_ms - first_ms : 0,
		.bytes = atomic_load(&note->bytes),
		.view = { view, strlen(view) },
	};

	/* Read more than once, or with the rest of its last page. */
	if (use.bytes > t->nbytes)
		use.bytes = t->nbytes;
	path_encode(&name, t->name, t->name_len, false);
	use.name = (struct profile_text){ name.data ? name.data : "", name.len };
	profile_write_use(out, &use);
	if (name.err)
		out->err = name.err;
}

uint32_t recorder_write(const struct recorder *recorder, uint32_t from, size_t most,
			struct strbuf *out)
{
	uint32_t count = sort_uses(recorder);

	if (from == 0)
		write_header(recorder, out);
	/* One at least, so that it goes on. */
	while (from < count && !out->err) {
		write_use(recorder, recorder->order[from++], out);
		if (out->len >= most)
			break;
	}
	return from < count ? from : 0;
}
