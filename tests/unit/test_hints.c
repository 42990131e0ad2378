/*
 * Jobs of people where each memory node has a file of each pinned tensor: which files are
 * made, in which order, out of what, and what becomes of all of them. Real files in
 * memory, no mount; memory is placed by nobody here.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include "hints.h"
#include "inodes.h"
#include "model_dir.h"
#include "unit.h"

#define KIB   ((uint64_t)1 << 10)
#define FIRST (100 * KIB)
#define LATER (300 * KIB)
#define SMALL KIB

static const char model_json[] =
	"{\"x.first\":{\"dtype\":\"U8\",\"shape\":[102400],\"data_offsets\":[0,102400]},"
	"\"x.later\":{\"dtype\":\"U8\",\"shape\":[307200],\"data_offsets\":[102400,409600]},"
	"\"small\":{\"dtype\":\"U8\",\"shape\":[1024],\"data_offsets\":[409600,410624]}}";

#define MOST_MADE 16

static struct weightfs fs;
static struct hints *hints;
static struct node made[MOST_MADE]; /* in the order of their being complete */
static atomic_uint made_count;
static atomic_uint source_reads;
static atomic_uint forgotten; /* files whose pages the kernel was to forget */

/* ---- What is watched ---- */

/* The linker's names.
 * NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,readability-identifier-naming) */
int __real_fill_copy(const struct source_file *file, uint64_t from, uint64_t len,
		     int target, uint64_t to, const atomic_bool *stop);
int __wrap_fill_copy(const struct source_file *file, uint64_t from, uint64_t len,
		     int target, uint64_t to, const atomic_bool *stop);

int __wrap_fill_copy(const struct source_file *file, uint64_t from, uint64_t len,
		     int target, uint64_t to, const atomic_bool *stop)
{
	const struct timespec of_a_disk = { .tv_nsec = 20000000 };

	atomic_fetch_add(&source_reads, 1);
	(void)nanosleep(&of_a_disk, NULL);
	return __real_fill_copy(file, from, len, target, to, stop);
}

void __wrap_watch_forget_pages(struct watch *watch, struct node node);

/* There is no kernel that has any. */
void __wrap_watch_forget_pages(struct watch *watch, struct node node)
{
	(void)watch;
	(void)node;
	atomic_fetch_add(&forgotten, 1);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,readability-identifier-naming) */

/* ---- A mount's files without a mount ---- */

static bool is_large(const struct weightfs *ignored, struct node node)
{
	(void)ignored;
	return model_tensor(fs.served->model, node.index)->nbytes >= BACKING_LEAST_BYTES;
}

static int make_file(struct weightfs *of, struct node node, int like)
{
	int fd = backing_resident.make(of, node, like);
	unsigned int place = atomic_fetch_add(&made_count, 1);

	if (fd >= 0 && place < MOST_MADE)
		made[place] = node;
	return fd;
}

static uint64_t cost_of(const struct weightfs *of, struct node node)
{
	return backing_resident.cost(of, node);
}

static int register_file(struct passthrough *passthrough, int fd)
{
	(void)passthrough;
	return fd + 1;
}

static void unregister_file(struct passthrough *passthrough, int id)
{
	(void)passthrough;
	(void)id;
}

static void start(uint64_t limit, struct numa_mirror mirror)
{
	static const struct backing_ops resident = {
		.name = "resident",
		.suits = is_large,
		.make = make_file,
		.cost = cost_of,
	};
	static const struct backing_ops *const backings[BACKING_CHOICE_COUNT] = {
		[BACKING_STREAM] = &backing_stream,
		[BACKING_RESIDENT] = &resident,
	};
	static const struct inodes_kernel kernel = {
		.register_file = register_file,
		.unregister_file = unregister_file,
	};
	const struct inodes_setup setup = {
		.fs = &fs,
		.kernel = &kernel,
		.backings = backings,
		.limit = limit,
		.most_files = { [BACKING_RESIDENT] = 100 },
	};

	fs.mirror = mirror;
	ck_assert_int_eq(inodes_new(&setup, &fs.inodes), 0);
	ck_assert_int_eq(inodes_start(fs.inodes, 3), 0);
	ck_assert_int_eq(hints_new(&fs, NULL, &hints), 0);
}

static void load_model(void)
{
	struct diag diag;

	model_dir_make();
	model_dir_write_safetensors("m.safetensors", model_json, FIRST + LATER + SMALL);
	fs = (struct weightfs){ .mountpoint = "/mnt" };
	options_init(&fs.options);
	/* A tmpfs, as that of a mount. */
	fs.tmpfs = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fs.tmpfs, 0);
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &fs.served, &diag), 0);
	atomic_store(&made_count, 0);
	atomic_store(&source_reads, 0);
	atomic_store(&forgotten, 0);
}

static void free_all(void)
{
	hints_free(hints);
	inodes_free(fs.inodes);
	served_free(fs.served);
	(void)close(fs.tmpfs);
	model_dir_remove();
}

/* ---- Jobs ---- */

/* Runs a job to its end; the document that it then has goes to `text`. */
static void run(struct job_spec spec, const char *pattern, struct strbuf *text)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	struct jsonw w;
	uint64_t id;

	spec.patterns = calloc(1, sizeof(char *));
	ck_assert_ptr_nonnull(spec.patterns);
	spec.patterns[0] = strdup(pattern);
	spec.pattern_count = 1;
	if (spec.command == JOB_PIN || spec.command == JOB_PREFETCH)
		spec.views[VIEW_RAW] = true;
	else
		memset(spec.views, true, sizeof(spec.views));
	ck_assert_int_eq(hints_start(hints, &spec, &id), 0);
	while (jobs_running(fs.jobs) > 0)
		(void)nanosleep(&moment, NULL);
	strbuf_init(text);
	jsonw_init(&w, text);
	ck_assert(jobs_write(fs.jobs, id, &w));
}

/* How many files or tensors came to this. */
static uint64_t outcome(const struct strbuf *text, const char *name)
{
	char key[64];
	const char *at;

	(void)snprintf(key, sizeof(key), "\"%s\":{\"count\":", name);
	at = strstr(text->data, key);
	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void pin(const char *pattern, struct strbuf *text)
{
	run((struct job_spec){ .command = JOB_PIN, .fill = true, .resident = true },
	    pattern, text);
}

static struct inodes_summary sums(void)
{
	struct inodes_summary summary;

	inodes_summarise(fs.inodes, &summary);
	return summary;
}

static struct node file_of(uint32_t tensor, uint16_t copy)
{
	struct node node = layout_tensor(VIEW_RAW, tensor);

	node.copy = copy;
	return node;
}

static bool is_ready(uint32_t tensor, uint16_t copy)
{
	return inodes_state(fs.inodes, file_of(tensor, copy)) == INODE_READY;
}

static bool is_pinned(uint32_t tensor, uint16_t copy)
{
	return pins_is_set(fs.pins, file_of(tensor, copy));
}

/* Compares a file with what the source has. */
static void expect_bytes(uint32_t tensor, uint16_t copy)
{
	const struct tensor *t = model_tensor(fs.served->model, tensor);
	const struct source_file *file = served_tensor_file(fs.served, t);
	int fd = inodes_borrow(fs.inodes, file_of(tensor, copy), BACKING_RESIDENT);
	uint8_t *bytes = malloc(t->nbytes + 1);

	ck_assert_ptr_nonnull(bytes);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, bytes, t->nbytes + 1, 0), (ssize_t)t->nbytes);
	ck_assert_mem_eq(bytes, file->bytes + t->offset, t->nbytes);
	(void)close(fd);
	free(bytes);
}

/* ---- Tests ---- */

#define NO_LIMIT (1024 * KIB * KIB)

/* Nodes 1 and 3: the main tree has the files of node 1. */
static const struct numa_mirror two = { .count = 2, .nodes = { 1, 3 } };
static const struct numa_mirror three = { .count = 3, .nodes = { 0, 1, 2 } };
static const struct numa_mirror none = { .count = 0 };

#define COPY 4 /* node 3 */

START_TEST(a_pin_makes_one_file_on_each_memory_node)
{
	struct strbuf text;

	start(NO_LIMIT, two);
	pin("*", &text);
	ck_assert_uint_eq(outcome(&text, "done"), 4);
	ck_assert_uint_eq(outcome(&text, "small"), 2);
	ck_assert_uint_eq(sums().used, 2 * (FIRST + LATER));
	ck_assert_uint_eq(sums().by[BACKING_RESIDENT].files, 4);
	/* Of which two tensors are said to be resident. */
	ck_assert_uint_eq(sums().by[BACKING_RESIDENT].tensors, 2);
	ck_assert_uint_eq(pins_count(fs.pins), 4);
	for (uint32_t tensor = 0; tensor < 2; tensor++) {
		ck_assert(is_pinned(tensor, 0) && is_pinned(tensor, COPY));
		expect_bytes(tensor, 0);
		expect_bytes(tensor, COPY);
	}
	ck_assert(!is_pinned(2, 0) && !is_pinned(2, COPY));
	strbuf_fini(&text);
}
END_TEST

START_TEST(the_source_is_read_once_for_all_memory_nodes)
{
	struct strbuf text;

	start(NO_LIMIT, three);
	pin("x.later", &text);
	ck_assert_uint_eq(outcome(&text, "done"), 3);
	ck_assert_uint_eq(atomic_load(&source_reads), 1);
	ck_assert_uint_eq(made[0].copy, 0);
	expect_bytes(1, 2);
	expect_bytes(1, 3);
	strbuf_fini(&text);
}
END_TEST

START_TEST(a_file_that_was_there_is_the_copy_of_the_first_node)
{
	struct strbuf text;

	start(NO_LIMIT, two);
	run((struct job_spec){ .command = JOB_PREFETCH, .resident = true }, "x.*", &text);
	ck_assert_uint_eq(outcome(&text, "done"), 2);
	ck_assert_uint_eq(sums().used, FIRST + LATER);
	ck_assert(!is_ready(0, COPY) && !is_ready(1, COPY));
	strbuf_fini(&text);
	pin("x.*", &text);
	ck_assert_uint_eq(outcome(&text, "already"), 2);
	ck_assert_uint_eq(outcome(&text, "done"), 2);
	ck_assert_uint_eq(sums().used, 2 * (FIRST + LATER));
	strbuf_fini(&text);
}
END_TEST

START_TEST(where_room_is_short_each_tensor_is_there_once_before_one_is_there_twice)
{
	struct strbuf text;

	start(2 * FIRST + LATER, two);
	pin("x.*", &text);
	ck_assert(is_ready(0, 0) && is_ready(1, 0));
	ck_assert(is_ready(0, COPY) && !is_ready(1, COPY));
	ck_assert_uint_eq(outcome(&text, "done"), 3);
	ck_assert_uint_eq(outcome(&text, "no_room"), 1);
	ck_assert_uint_eq(sums().used, 2 * FIRST + LATER);
	/* It holds from when there is a file. */
	ck_assert(is_pinned(1, COPY));
	strbuf_fini(&text);
}
END_TEST

START_TEST(unpinning_and_evicting_concern_the_files_of_all_memory_nodes)
{
	struct strbuf text;

	start(NO_LIMIT, two);
	pin("x.*", &text);
	strbuf_fini(&text);
	run((struct job_spec){ .command = JOB_EVICT }, "x.first", &text);
	ck_assert_uint_eq(outcome(&text, "pinned"), 1);
	ck_assert(is_ready(0, 0) && is_ready(0, COPY));
	strbuf_fini(&text);
	run((struct job_spec){ .command = JOB_UNPIN }, "x.*", &text);
	ck_assert_uint_eq(outcome(&text, "done"), 4);
	ck_assert_uint_eq(pins_count(fs.pins), 0);
	ck_assert_uint_eq(sums().pinned, 0);
	strbuf_fini(&text);
	run((struct job_spec){ .command = JOB_EVICT }, "x.first", &text);
	ck_assert_uint_eq(outcome(&text, "done"), 1);
	ck_assert_ptr_nonnull(strstr(text.data, "\"file_bytes\":204800"));
	ck_assert(!is_ready(0, 0) && !is_ready(0, COPY));
	ck_assert_uint_eq(sums().used, 2 * LATER);
	/* Two nodes' files of three views. */
	ck_assert_uint_eq(atomic_load(&forgotten), 6);
	strbuf_fini(&text);
}
END_TEST

START_TEST(what_is_pinned_on_one_node_only_is_not_evicted)
{
	struct strbuf text;
	bool changed;

	start(NO_LIMIT, two);
	ck_assert_int_eq(pins_set(fs.pins, file_of(0, COPY), true, &changed), 0);
	run((struct job_spec){ .command = JOB_EVICT }, "x.first", &text);
	ck_assert_uint_eq(outcome(&text, "pinned"), 1);
	strbuf_fini(&text);
}
END_TEST

START_TEST(pinning_without_making_marks_the_files_of_all_memory_nodes)
{
	struct strbuf text;

	start(NO_LIMIT, two);
	run((struct job_spec){ .command = JOB_PIN }, "x.*", &text);
	ck_assert_uint_eq(outcome(&text, "done"), 4);
	ck_assert_uint_eq(pins_count(fs.pins), 4);
	ck_assert(is_pinned(1, 0) && is_pinned(1, COPY));
	ck_assert_uint_eq(atomic_load(&made_count), 0);
	strbuf_fini(&text);
}
END_TEST

START_TEST(without_trees_of_memory_nodes_there_is_one_file)
{
	struct strbuf text;

	start(NO_LIMIT, none);
	pin("x.*", &text);
	ck_assert_uint_eq(outcome(&text, "done"), 2);
	ck_assert_uint_eq(sums().used, FIRST + LATER);
	ck_assert_uint_eq(pins_count(fs.pins), 2);
	strbuf_fini(&text);
}
END_TEST

static TCase *hints_case(void)
{
	TCase *t = tcase_create("hints");

	tcase_add_checked_fixture(t, load_model, free_all);
	tcase_add_test(t, a_pin_makes_one_file_on_each_memory_node);
	tcase_add_test(t, the_source_is_read_once_for_all_memory_nodes);
	tcase_add_test(t, a_file_that_was_there_is_the_copy_of_the_first_node);
	tcase_add_test(
		t,
		where_room_is_short_each_tensor_is_there_once_before_one_is_there_twice);
	tcase_add_test(t, unpinning_and_evicting_concern_the_files_of_all_memory_nodes);
	tcase_add_test(t, what_is_pinned_on_one_node_only_is_not_evicted);
	tcase_add_test(t, pinning_without_making_marks_the_files_of_all_memory_nodes);
	tcase_add_test(t, without_trees_of_memory_nodes_there_is_one_file);
	return t;
}

UNIT_MAIN("hints", hints_case)
