#include "profile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "util/errtext.h"
#include "util/profile.h"

/* What is collected while lines are read. */
struct uses {
	const struct model *model;
	uint32_t *tensors; /* in the order of the lines */
	uint32_t count;
	bool *is_taken;
	uint32_t views[VIEW_COUNT]; /* how many tensors were used in each */
	uint32_t lines;
	char *name; /* room for one */
};

static void uses_fini(const struct uses *uses)
{
	free(uses->tensors);
	free(uses->is_taken);
	free(uses->name);
}

static int uses_init(struct uses *uses, const struct model *model)
{
	size_t count = model_tensor_count(model) + 1;

	*uses = (struct uses){ .model = model };
	uses->tensors = malloc(count * sizeof(*uses->tensors));
	uses->is_taken = calloc(count, sizeof(*uses->is_taken));
	uses->name = malloc(PROFILE_LINE_MAX);
	return uses->tensors && uses->is_taken && uses->name ? 0 : -ENOMEM;
}

static bool find_view(struct profile_text text, enum view *view)
{
	for (unsigned int i = 0; i < VIEW_COUNT; i++) {
		const char *name = view_info((enum view)i)->dir;

		if (strlen(name) == text.len && memcmp(name, text.at, text.len) == 0) {
			*view = (enum view)i;
			return true;
		}
	}
	return false;
}

/* Takes one line. NULL, or what is wrong with it. Of two lines of one tensor the first
 * counts. */
static const char *take_use(struct uses *uses, const struct profile_use *use)
{
	const struct tensor *tensor;
	enum view view = VIEW_RAW;
	size_t len;
	size_t index;

	if (!find_view(use->view, &view))
		return "names no view: it must be tensors, npy or safetensors";
	if (!profile_decode(use->name, uses->name, &len))
		return "has a name with a '%' that is not followed by two digits";
	uses->lines++;
	tensor = model_find_tensor(uses->model, uses->name, len);
	if (!tensor)
		return NULL;
	index = model_tensor_index(uses->model, tensor);
	uses->views[view]++;
	if (uses->is_taken[index])
		return NULL;
	uses->is_taken[index] = true;
	uses->tensors[uses->count++] = (uint32_t)index;
	return NULL;
}

static uint32_t known_lines(const struct uses *uses, enum view *most)
{
	uint32_t known = 0;

	*most = VIEW_RAW;
	for (unsigned int i = 0; i < VIEW_COUNT; i++) {
		known += uses->views[i];
		if (uses->views[i] > uses->views[*most])
			*most = (enum view)i;
	}
	return known;
}

static int fail_line(const struct profile_reader *reader, const char *wrong,
		     struct diag *diag)
{
	if (reader->line == 0)
		return diag_fail(diag, -EBADMSG, "profile: %s", wrong);
	return diag_fail(diag, -EBADMSG, "profile: line %u %s", reader->line, wrong);
}

static int read_lines(const char *text, size_t len, struct uses *uses, struct diag *diag)
{
	struct profile_reader reader;
	struct profile_header header;
	struct profile_use use;

	if (!profile_begin(&reader, text, len, &header))
		return fail_line(&reader, reader.wrong, diag);
	while (profile_next(&reader, &use)) {
		const char *wrong = take_use(uses, &use);

		if (wrong)
			return fail_line(&reader, wrong, diag);
	}
	if (reader.wrong)
		return fail_line(&reader, reader.wrong, diag);
	if (uses->count == 0 && uses->lines > 0)
		return diag_fail(diag, -ENOENT,
				 "profile: of another model: none of its %u tensors is "
				 "in this one; it was recorded from %s",
				 uses->lines,
				 DIAG_QUOTED(header.model.at, header.model.len));
	return 0;
}

/* The order of what was collected. */
static int take_order(const struct uses *uses, struct profile *profile)
{
	struct profile made = { .view = VIEW_RAW };
	int r;

	made.unknown = uses->lines - known_lines(uses, &made.view);
	r = predict_order_of_list(uses->model, uses->tensors, uses->count, &made.order);
	if (r == 0)
		*profile = made;
	return r;
}

int profile_parse(const char *text, size_t len, const struct model *model,
		  struct profile *profile, struct diag *diag)
{
	struct uses uses;
	int r = uses_init(&uses, model);

	if (r == 0)
		r = read_lines(text, len, &uses, diag);
	if (r == 0)
		r = take_order(&uses, profile);
	uses_fini(&uses);
	return r == -ENOMEM ? diag_fail(diag, r, "profile: out of memory") : r;
}

/* 0 or a negative errno. Nothing that waits is opened, and no more is read than is
 * allowed and a byte. */
static int read_file(const char *path, struct strbuf *text)
{
	CLEANUP(close_fd)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	while (text->len <= PROFILE_MAX && !text->err) {
		char piece[16384];
		ssize_t n = read(fd, piece, sizeof(piece));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : text->err;
		strbuf_add(text, piece, (size_t)n);
	}
	return text->err;
}

int profile_load(const char *path, const struct model *model, struct profile *profile,
		 struct diag *diag)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	int r = read_file(path, &text);

	if (r == -EINVAL)
		r = diag_fail(diag, r, "profile: not a file");
	else if (r < 0)
		r = diag_fail(diag, r, "profile: read: %s", errtext(-r));
	else
		r = profile_parse(text.data ? text.data : "", text.len, model, profile,
				  diag);
	if (r < 0)
		diag_prefix(diag, path);
	return r;
}

void profile_fini(struct profile *profile)
{
	predict_order_fini(&profile->order);
}
