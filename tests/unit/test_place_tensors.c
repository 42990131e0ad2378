/*
 * The job that keeps rules and moves memory: on a machine with two nodes, whose kernel is
 * made up as far as it moves pages. Everything that is asked about is on one node then.
 */
#include <errno.h>
#include <fcntl.h>
#include <numaif.h>
#include <stdio.h>
#include <time.h>

#include "hints.h"
#include "inodes.h"
#include "placement_rules.h"
#include "sysfs_files.h"
#include "unit.h"

#define KIB   ((uint64_t)1 << 10)
#define FIRST (100 * KIB)
#define LATER (4096 * KIB)
#define SIZE  (FIRST + LATER)

static const char model_json[] =
	"{\"x.first\":{\"dtype\":\"U8\",\"shape\":[102400],\"data_offsets\":[0,102400]},"
	"\"x.later\":{\"dtype\":\"U8\",\"shape\":[4194304],\"data_offsets\":[102400,4296704]}}";

static struct weightfs fs;
static struct hints *hints;

/* ---- A kernel that moves pages ---- */

/* The linker puts this in front of the system call.
 * NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,readability-identifier-naming) */

static struct {
	int node;             /* all pages are there */
	unsigned int queries; /* calls that moved nothing */
	unsigned int moves;
	bool unprivileged; /* moves only what nobody else has mapped */
	bool full;         /* the other node has no room */
	int error;
} kernel;

long __wrap_move_pages(int pid, unsigned long count, void **pages, const int *nodes,
		       int *status, int flags);

long __wrap_move_pages(int pid, unsigned long count, void **pages, const int *nodes,
		       int *status, int flags)
{
	(void)pid;
	(void)pages;
	if (kernel.error != 0 || (kernel.unprivileged && flags == MPOL_MF_MOVE_ALL)) {
		errno = kernel.error != 0 ? kernel.error : EPERM;
		return -1;
	}
	kernel.moves += nodes ? 1 : 0;
	if (nodes && kernel.full) {
		errno = ENOMEM;
		return -1;
	}
	if (nodes)
		kernel.node = nodes[0];
	kernel.queries += nodes ? 0 : 1;
	for (unsigned long i = 0; i < count; i++)
		status[i] = kernel.node;
	return 0;
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,readability-identifier-naming) */

/* ---- A mount's files without a mount ---- */

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

static bool is_any(const struct weightfs *ignored, struct node node)
{
	(void)ignored;
	(void)node;
	return true;
}

static int make_file(struct weightfs *of, struct node node, int like)
{
	return backing_resident.make(of, node, like);
}

static uint64_t cost_of(const struct weightfs *of, struct node node)
{
	return backing_resident.cost(of, node);
}

static void make_inodes(void)
{
	static const struct backing_ops resident = {
		.name = "resident",
		.suits = is_any,
		.make = make_file,
		.cost = cost_of,
	};
	static const struct backing_ops *const backings[BACKING_CHOICE_COUNT] = {
		[BACKING_STREAM] = &backing_stream,
		[BACKING_RESIDENT] = &resident,
	};
	static const struct inodes_kernel inodes_kernel = {
		.register_file = register_file,
		.unregister_file = unregister_file,
	};
	const struct inodes_setup setup = {
		.fs = &fs,
		.kernel = &inodes_kernel,
		.backings = backings,
		.limit = 1024 * KIB * KIB,
		.most_files = { [BACKING_RESIDENT] = 100 },
	};

	ck_assert_int_eq(inodes_new(&setup, &fs.inodes), 0);
	ck_assert_int_eq(inodes_start(fs.inodes, 2), 0);
}

static void make_placement(const char *nodes)
{
	struct placement_setup setup = {
		.subject = "/mnt",
		.allowed = UINT64_MAX,
		.model = fs.served->model,
	};
	struct diag diag;

	sysfs_files_nodes(nodes, 2);
	setup.sysfs = sysfs_files_root();
	ck_assert_int_eq(placement_new(&setup, &fs.placement, &diag), 0);
}

static void load_model(void)
{
	struct diag diag;

	model_dir_make();
	model_dir_write_safetensors("m.safetensors", model_json, SIZE);
	fs = (struct weightfs){ .mountpoint = "/mnt" };
	options_init(&fs.options);
	fs.tmpfs = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fs.tmpfs, 0);
	ck_assert_int_eq(
		served_load(model_dir_path("m.safetensors"), NULL, &fs.served, &diag), 0);
	make_inodes();
	ck_assert_int_eq(hints_new(&fs, NULL, &hints), 0);
	memset(&kernel, 0, sizeof(kernel));
}

static void free_all(void)
{
	hints_free(hints);
	inodes_free(fs.inodes);
	placement_free(fs.placement);
	served_free(fs.served);
	(void)close(fs.tmpfs);
	model_dir_remove();
}

/* ---- Jobs ---- */

static void wait_for_jobs(void)
{
	const struct timespec moment = { .tv_nsec = 1000000 };

	while (jobs_running(fs.jobs) > 0)
		(void)nanosleep(&moment, NULL);
}

/* Runs a job to its end; the document that it then has goes to `text`. */
static void run(struct job_spec spec, const char *pattern, struct strbuf *text)
{
	struct jsonw w;
	uint64_t id;

	spec.patterns = calloc(1, sizeof(char *));
	ck_assert_ptr_nonnull(spec.patterns);
	spec.patterns[0] = strdup(pattern);
	spec.pattern_count = 1;
	spec.views[VIEW_RAW] = true;
	ck_assert_int_eq(hints_start(hints, &spec, &id), 0);
	wait_for_jobs();
	strbuf_init(text);
	jsonw_init(&w, text);
	ck_assert(jobs_write(fs.jobs, id, &w));
}

static uint64_t number_in(const struct strbuf *text, const char *key)
{
	const char *at = strstr(text->data, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void prefetch(const char *pattern)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	run((struct job_spec){ .command = JOB_PREFETCH, .resident = true }, pattern,
	    &text);
	ck_assert_ptr_nonnull(strstr(text.data, "\"done\":{"));
}

static void place(const char *pattern, uint64_t nodes, struct strbuf *text)
{
	run((struct job_spec){ .command = JOB_PLACE, .policy = { nodes, false } },
	    pattern, text);
}

#define ONE NUMA_NODE(1)

/* ---- Tests ---- */

START_TEST(files_and_the_page_cache_of_the_source_are_moved)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };
	struct placement_policy policy;

	make_placement("0-1\n");
	prefetch("*");
	place("x.later", ONE, &text);
	ck_assert_uint_eq(number_in(&text, "\"done\":{\"count\":"), 1);
	ck_assert_uint_eq(number_in(&text, "\"done_bytes\":"), LATER);
	ck_assert_uint_eq(number_in(&text, "\"total_bytes\":"), LATER);
	/* The made up kernel has all of it on one node: the first piece takes all along.
	 */
	ck_assert_uint_eq(number_in(&text, "\"file_bytes\":"), 2048 * KIB);
	ck_assert_int_eq(kernel.node, 1);
	ck_assert(placement_rules_find(placement_rules_of(fs.placement), 1, &policy));
	ck_assert_uint_eq(policy.nodes, ONE);
	ck_assert(!placement_rules_find(placement_rules_of(fs.placement), 0, &policy));
}
END_TEST

START_TEST(what_is_there_already_is_not_moved)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	make_placement("0-1\n");
	prefetch("*");
	place("*", 1, &text);
	ck_assert_uint_eq(number_in(&text, "\"already\":{\"count\":"), 2);
	ck_assert_uint_eq(kernel.moves, 0);
	ck_assert_uint_gt(kernel.queries, 0);
}
END_TEST

START_TEST(without_privileges_what_only_we_have_mapped_is_moved)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	make_placement("0-1\n");
	prefetch("*");
	kernel.unprivileged = true;
	place("*", ONE, &text);
	ck_assert_int_eq(kernel.node, 1);
	ck_assert_uint_gt(number_in(&text, "\"done\":{\"count\":"), 0);
	ck_assert_uint_eq(number_in(&text, "\"failed\":{\"count\":"), 0);
}
END_TEST

START_TEST(what_a_full_node_does_not_take_is_left_and_said)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	make_placement("0-1\n");
	prefetch("*");
	kernel.full = true;
	place("*", ONE, &text);
	ck_assert_uint_eq(number_in(&text, "\"left\":{\"count\":"), 2);
	ck_assert_ptr_nonnull(
		strstr(text.data, "\"examples\":[\"x.first\",\"x.later\"]"));
	ck_assert_uint_eq(number_in(&text, "\"file_bytes\":"), 0);
}
END_TEST

START_TEST(a_kernel_that_refuses_is_a_failure)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	make_placement("0-1\n");
	prefetch("*");
	kernel.error = EINVAL;
	place("*", ONE, &text);
	ck_assert_uint_eq(number_in(&text, "\"failed\":{\"count\":"), 2);
}
END_TEST

START_TEST(a_rule_that_is_taken_back_moves_by_what_is_left)
{
	CLEANUP(strbuf_fini) struct strbuf one = { 0 };
	CLEANUP(strbuf_fini) struct strbuf other = { 0 };
	CLEANUP(strbuf_fini) struct strbuf back = { 0 };

	make_placement("0-1\n");
	prefetch("x.later");
	place("*", 1, &one);
	place("x.*", ONE, &other);
	ck_assert_int_eq(kernel.node, 1);
	run((struct job_spec){ .command = JOB_PLACE, .reset = true }, "x.*", &back);
	ck_assert_int_eq(kernel.node, 0);
}
END_TEST

START_TEST(on_one_node_rules_are_kept_and_the_kernel_is_not_asked)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	make_placement("0\n");
	prefetch("*");
	place("*", ONE, &text);
	ck_assert_uint_eq(number_in(&text, "\"already\":{\"count\":"), 2);
	ck_assert_uint_eq(kernel.queries + kernel.moves, 0);
	ck_assert(placement_rules_any(placement_rules_of(fs.placement)));
}
END_TEST

static TCase *place_case(void)
{
	TCase *tcase = tcase_create("place");

	tcase_add_checked_fixture(tcase, load_model, free_all);
	tcase_add_test(tcase, files_and_the_page_cache_of_the_source_are_moved);
	tcase_add_test(tcase, what_is_there_already_is_not_moved);
	tcase_add_test(tcase, without_privileges_what_only_we_have_mapped_is_moved);
	tcase_add_test(tcase, what_a_full_node_does_not_take_is_left_and_said);
	tcase_add_test(tcase, a_kernel_that_refuses_is_a_failure);
	tcase_add_test(tcase, a_rule_that_is_taken_back_moves_by_what_is_left);
	tcase_add_test(tcase, on_one_node_rules_are_kept_and_the_kernel_is_not_asked);
	return tcase;
}

UNIT_MAIN("place_tensors", place_case)
