#include "requests.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "hints.h"
#include "inodes.h"
#include "live.h"
#include "placement.h"
#include "recorder.h"
#include "residency.h"
#include "util/errtext.h"

/* Each tensor's is one digit. */
#define BACKINGS_MAX 10u

void requests_reply_error(struct jsonw *w, const char *text)
{
	jsonw_begin_object(w);
	jsonw_key(w, "ok");
	jsonw_bool(w, false);
	jsonw_key(w, "error");
	jsonw_string(w, text);
	jsonw_end_object(w);
}

static void begin_reply(struct jsonw *w)
{
	jsonw_begin_object(w);
	jsonw_key(w, "ok");
	jsonw_bool(w, true);
}

static void command_status(const struct weightfs *fs, const cJSON *request,
			   struct jsonw *w)
{
	bool numa = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, "numa"));

	begin_reply(w);
	jsonw_key(w, "status");
	live_write_status(fs, numa ? LIVE_PLACED : LIVE_COUNTED, w);
	jsonw_end_object(w);
}

/* ---- Backings of all tensors ---- */

/* The place of a name in the list, to which it is added when it is new. */
static unsigned int place_in(const char *names[static BACKINGS_MAX], const char *name)
{
	unsigned int place = 0;

	while (names[place] && strcmp(names[place], name) != 0 &&
	       place < BACKINGS_MAX - 1)
		place++;
	names[place] = name;
	return place;
}

static char backing_digit(const struct weightfs *fs, struct node node,
			  const char *names[static BACKINGS_MAX])
{
	const char *name =
		fs->inodes ? inodes_backing_name(fs->inodes, node) : backing_stream.name;

	return (char)('0' + place_in(names, name));
}

static char pin_digit(const struct weightfs *fs, struct node node)
{
	for (unsigned int view = 0; view < VIEW_COUNT; view++) {
		node.view = (enum view)view;
		if (pins_is_set(fs->pins, node))
			return '1';
	}
	return '0';
}

/* The tree of a memory node, or the main one where none is named. False if there is none
 * such. */
static bool take_node(const struct weightfs *fs, const cJSON *request, uint16_t *copy)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(request, "node");
	uint16_t tree;

	*copy = 0;
	if (!item)
		return true;
	if (!cJSON_IsNumber(item) || item->valueint < 0 || item->valueint >= UINT16_MAX)
		return false;
	tree = (uint16_t)(item->valueint + 1);
	*copy = numa_mirror_file(&fs->mirror, tree);
	return numa_mirror_has(&fs->mirror, tree);
}

static void command_backings(const struct weightfs *fs, const cJSON *request,
			     struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf backings = { 0 };
	CLEANUP(strbuf_fini) struct strbuf pins = { 0 };
	const char *names[BACKINGS_MAX] = { NULL };
	struct node node = layout_tensor(VIEW_RAW, 0);

	if (!take_node(fs, request, &node.copy)) {
		requests_reply_error(w, "backings: no tree of such a memory node");
		return;
	}
	for (; node.index < model_tensor_count(fs->served->model); node.index++) {
		strbuf_add_char(&backings, backing_digit(fs, node, names));
		strbuf_add_char(&pins, pin_digit(fs, node));
	}
	if (backings.err || pins.err) {
		requests_reply_error(w, "backings: out of memory");
		return;
	}
	begin_reply(w);
	jsonw_key(w, "names");
	jsonw_begin_array(w);
	for (unsigned int i = 0; i < BACKINGS_MAX && names[i]; i++)
		jsonw_string(w, names[i]);
	jsonw_end_array(w);
	jsonw_key(w, "backings");
	jsonw_string_bytes(w, backings.data ? backings.data : "", backings.len);
	jsonw_key(w, "pinned");
	jsonw_string_bytes(w, pins.data ? pins.data : "", pins.len);
	jsonw_end_object(w);
}

/* ---- What of all tensors is cached ---- */

/* The control thread waits no longer for it. */
#define COUNT_MS 10u

static void write_percents(const struct weightfs *fs, struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	for (uint32_t i = 0; i < model_tensor_count(fs->served->model); i++)
		strbuf_addf(&text, "%02x", residency_percent(fs->residency, i));
	jsonw_key(w, "cached");
	jsonw_string_bytes(w, text.data ? text.data : "", text.len);
}

/* Numbers of jobs and of counts are small: a double holds them. 0 is none. */
static uint64_t number_of(const cJSON *request, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(request, key);

	return cJSON_IsNumber(item) && item->valueint > 0 ? (uint64_t)item->valueint : 0;
}

static void command_page_cache(const struct weightfs *fs, const cJSON *request,
			       struct jsonw *w)
{
	uint64_t count = number_of(request, "count");
	bool ready;

	if (count == 0)
		count = residency_ask(fs->residency, RESIDENCY_TENSORS);
	ready = residency_wait(fs->residency, RESIDENCY_TENSORS, count, COUNT_MS);
	begin_reply(w);
	jsonw_key(w, "count");
	jsonw_u64(w, count);
	jsonw_key(w, "ready");
	jsonw_bool(w, ready);
	if (ready)
		write_percents(fs, w);
	jsonw_end_object(w);
}

/* ---- Jobs ---- */

/* The functions that take a member return NULL, or what is wrong with it. */
static const char *take_patterns(const cJSON *request, struct job_spec *spec)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(request, "patterns");
	const cJSON *item;

	if (!cJSON_IsArray(list) || !list->child)
		return "request: no list of patterns";
	spec->patterns = calloc((size_t)cJSON_GetArraySize(list), sizeof(char *));
	if (!spec->patterns)
		return "request: out of memory";
	for (item = list->child; item; item = item->next) {
		if (!cJSON_IsString(item))
			return "request: a pattern that is no string";
		spec->patterns[spec->pattern_count] = strdup(item->valuestring);
		if (!spec->patterns[spec->pattern_count])
			return "request: out of memory";
		spec->pattern_count++;
	}
	return NULL;
}

static bool take_view(const char *name, struct job_spec *spec)
{
	for (unsigned int i = 0; name && i < VIEW_COUNT; i++) {
		if (strcmp(name, view_info((enum view)i)->dir) != 0)
			continue;
		spec->views[i] = true;
		return true;
	}
	return false;
}

/* Without any: the raw one for what brings in, all of them for what gives up. */
static const char *take_views(const cJSON *request, struct job_spec *spec)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(request, "views");
	bool all = spec->command != JOB_PREFETCH && spec->command != JOB_PIN;
	const cJSON *item;

	if (!list || (cJSON_IsArray(list) && !list->child))
		for (unsigned int i = 0; i < VIEW_COUNT; i++)
			spec->views[i] = all || i == VIEW_RAW;
	else if (!cJSON_IsArray(list))
		return "request: the views are no list";
	for (item = list ? list->child : NULL; item; item = item->next)
		if (!take_view(cJSON_GetStringValue(item), spec))
			return "request: unknown view";
	return NULL;
}

static const char *take_spec(const cJSON *request, struct job_spec *spec)
{
	const cJSON *fill = cJSON_GetObjectItemCaseSensitive(request, "fill");
	const char *name = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(request, "command"));
	const char *wrong;

	for (unsigned int i = 0; i < JOB_COMMAND_COUNT; i++)
		if (strcmp(name, job_command_name((enum job_command)i)) == 0)
			spec->command = (enum job_command)i;
	if (spec->command == JOB_ADVISE &&
	    !advice_parse(cJSON_GetStringValue(
				  cJSON_GetObjectItemCaseSensitive(request, "advice")),
			  &spec->advice))
		return "request: unknown advice";
	spec->fill = spec->command == JOB_PIN && !cJSON_IsFalse(fill);
	spec->resident =
		spec->command == JOB_PIN ||
		(spec->command == JOB_PREFETCH &&
		 cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(request, "resident")));
	wrong = take_patterns(request, spec);
	return wrong ? wrong : take_views(request, spec);
}

static void reply_no_files(const char *reason, struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	strbuf_addf(&text, "no tensor can be resident: %s", reason);
	requests_reply_error(w, text.data ? text.data : "no tensor can be resident");
}

/* Takes `spec` over. */
static void start_job(const struct weightfs *fs, struct job_spec *spec, struct jsonw *w)
{
	uint64_t id = 0;
	int r = hints_start(fs->hints, spec, &id);

	if (r < 0) {
		requests_reply_error(
			w, r == -EBUSY ? "too many jobs are running: wait for one to end"
				       : errtext(-r));
		return;
	}
	begin_reply(w);
	jsonw_key(w, "job");
	jsonw_u64(w, id);
	jsonw_end_object(w);
}

static void command_job_start(const struct weightfs *fs, const cJSON *request,
			      struct jsonw *w)
{
	struct job_spec spec = { .pattern_count = 0 };
	const char *wrong = take_spec(request, &spec);
	/* That a tensor is too small is what becomes of it, and no failure. */
	const char *no_files =
		spec.resident && !fs->all_small ? live_no_passthrough(fs) : NULL;

	if (wrong || no_files) {
		job_spec_fini(&spec);
		if (wrong)
			requests_reply_error(w, wrong);
		else
			reply_no_files(no_files, w);
		return;
	}
	start_job(fs, &spec, w);
}

/* ---- Placement ---- */

/* Where memory is to go: "0,1", "interleave", "local", or "reset" for what the mount's
 * option says. False with words. */
static bool take_target(const struct weightfs *fs, const char *to, struct job_spec *spec,
			struct strbuf *words)
{
	struct placement_choice choice;

	if (fs->options.numa.mode == PLACEMENT_MIRROR) {
		strbuf_add_str(words, "the mount has a copy of what is pinned on each "
				      "node: option numa=mirror");
		return false;
	}
	if (to && strcmp(to, "reset") == 0) {
		spec->reset = true;
		return true;
	}
	if (!to || !placement_parse(to, &choice) ||
	    !placement_may_choose(fs->placement, &choice, &spec->policy)) {
		strbuf_add_str(words, "no such nodes: there are ");
		placement_write_nodes(placement_nodes(fs->placement), words);
		return false;
	}
	return true;
}

static void command_place(const struct weightfs *fs, const cJSON *request,
			  struct jsonw *w)
{
	const char *to =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "to"));
	CLEANUP(strbuf_fini) struct strbuf words = { 0 };
	struct job_spec spec = { .pattern_count = 0 };
	const char *wrong = take_spec(request, &spec);

	if (!wrong && !take_target(fs, to, &spec, &words))
		wrong = words.data ? words.data : "request: out of memory";
	if (!wrong) {
		start_job(fs, &spec, w);
		return;
	}
	job_spec_fini(&spec);
	requests_reply_error(w, wrong);
}

/* ---- Looking at jobs ---- */

static void command_job(const struct weightfs *fs, const cJSON *request, struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct jsonw job;

	jsonw_init(&job, &text);
	if (!jobs_write(fs->jobs, number_of(request, "job"), &job) || text.err) {
		requests_reply_error(w, text.err ? "job: out of memory" : "no such job");
		return;
	}
	begin_reply(w);
	jsonw_key(w, "job");
	jsonw_raw(w, text.data, text.len);
	jsonw_end_object(w);
}

static void command_cancel(const struct weightfs *fs, const cJSON *request,
			   struct jsonw *w)
{
	if (!jobs_cancel(fs->jobs, number_of(request, "job"))) {
		requests_reply_error(w, "no such job");
		return;
	}
	begin_reply(w);
	jsonw_end_object(w);
}

/* ---- Profiles ---- */

/* Bytes of a profile in one reply, about. */
#define PROFILE_PIECE ((size_t)1 << 20)

static void reply_recording(const struct weightfs *fs, struct jsonw *w)
{
	begin_reply(w);
	jsonw_key(w, "recording");
	jsonw_bool(w, recorder_is_recording(fs->recorder));
	jsonw_key(w, "tensors");
	jsonw_u64(w, recorder_count(fs->recorder));
}

static void profile_record(const struct weightfs *fs, const cJSON *request,
			   struct jsonw *w)
{
	const char *file =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "file"));
	int r = file && strlen(file) >= PATH_MAX ? -ENAMETOOLONG
						 : recorder_start(fs->recorder, file);

	if (r < 0) {
		requests_reply_error(
			w, r == -EALREADY
				   ? "a profile is being recorded: see 'mountctl profile "
				     "stop'"
				   : errtext(-r));
		return;
	}
	reply_recording(fs, w);
	jsonw_end_object(w);
}

static const char nothing_recorded[] =
	"nothing was recorded: see 'mountctl profile record'";

/* Fine to repeat: what was recorded can be read until the next one. */
static void profile_stop(const struct weightfs *fs, const cJSON *request, struct jsonw *w)
{
	(void)request;
	if (!recorder_stop(fs->recorder) && !recorder_has_recorded(fs->recorder)) {
		requests_reply_error(w, nothing_recorded);
		return;
	}
	reply_recording(fs, w);
	if (recorder_file(fs->recorder)) {
		jsonw_key(w, "file");
		jsonw_string(w, recorder_file(fs->recorder));
	}
	jsonw_end_object(w);
}

static void profile_read(const struct weightfs *fs, const cJSON *request, struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	uint32_t next;

	if (!recorder_has_recorded(fs->recorder)) {
		requests_reply_error(w, nothing_recorded);
		return;
	}
	next = recorder_write(fs->recorder, (uint32_t)number_of(request, "from"),
			      PROFILE_PIECE, &text);
	if (text.err) {
		requests_reply_error(w, "profile: out of memory");
		return;
	}
	reply_recording(fs, w);
	jsonw_key(w, "text");
	jsonw_string_bytes(w, text.data ? text.data : "", text.len);
	jsonw_key(w, "next");
	jsonw_u64(w, next);
	jsonw_end_object(w);
}

static void command_profile(const struct weightfs *fs, const cJSON *request,
			    struct jsonw *w)
{
	static const struct {
		const char *name;
		void (*run)(const struct weightfs *fs, const cJSON *request,
			    struct jsonw *w);
	} actions[] = {
		{ "record", profile_record },
		{ "stop", profile_stop },
		{ "read", profile_read },
	};
	const char *action =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "action"));

	for (size_t i = 0; action && i < ARRAY_LEN(actions); i++) {
		if (strcmp(actions[i].name, action) == 0) {
			actions[i].run(fs, request, w);
			return;
		}
	}
	requests_reply_error(w, "request: unknown action of a profile");
}

static const struct command {
	const char *name;
	void (*run)(const struct weightfs *fs, const cJSON *request, struct jsonw *w);
} commands[] = {
	{ "status", command_status },         { "backings", command_backings },
	{ "page_cache", command_page_cache }, { "prefetch", command_job_start },
	{ "pin", command_job_start },         { "unpin", command_job_start },
	{ "evict", command_job_start },       { "advise", command_job_start },
	{ "place", command_place },           { "job", command_job },
	{ "cancel", command_cancel },         { "profile", command_profile },
};

void requests_answer(const struct weightfs *fs, const char *text, struct jsonw *w)
{
	cJSON *request = cJSON_Parse(text);
	const char *name = cJSON_GetStringValue(
		cJSON_GetObjectItemCaseSensitive(request, "command"));

	for (size_t i = 0; name && i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			commands[i].run(fs, request, w);
			cJSON_Delete(request);
			return;
		}
	}
	requests_reply_error(w, name ? "request: unknown command"
				     : "request: no JSON with a command");
	cJSON_Delete(request);
}
