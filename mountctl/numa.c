#include "mountctl/numa.h"

#include <inttypes.h>
#include <stdio.h>

#include "mountctl/text.h"
#include "util/size.h"

static void add_size(struct strbuf *out, uint64_t bytes)
{
	char text[SIZE_TEXT_MAX];

	strbuf_add_str(out, size_format(bytes, text));
}

/* "node 0", "nodes 0,1", "all nodes in turn" or "the thread's own node". */
static void add_target(struct strbuf *out, struct json nodes, bool interleave)
{
	struct json_iter iter = json_iter(nodes);
	const char *comma = "";
	struct json node;

	if (interleave) {
		strbuf_add_str(out, "all nodes in turn");
		return;
	}
	if (json_count(nodes) == 0) {
		strbuf_add_str(out, "the thread's own node");
		return;
	}
	strbuf_add_str(out, json_count(nodes) == 1 ? "node " : "nodes ");
	while (json_next(&iter, NULL, &node)) {
		strbuf_addf(out, "%s%" PRIu64, comma, json_u64(node));
		comma = ",";
	}
}

void numa_add_rule(struct strbuf *out, struct json rule)
{
	CLEANUP(free_ptr) char *pattern = json_dup_printable(json_get(rule, "pattern"));

	strbuf_addf(out, "'%s' on ", pattern ? pattern : "");
	add_target(out, json_get(rule, "nodes"),
		   json_is_true(json_get(rule, "interleave")));
	strbuf_add_str(out, ", ");
	text_add_count(out, json_u64(json_get(rule, "tensors")), "tensor");
}

static void print_line(const char *label, const struct strbuf *line)
{
	(void)printf("  %-12s %s\n", label, line->data ? line->data : "");
}

static void print_choice(struct json numa)
{
	CLEANUP(free_ptr) char *choice = json_dup_printable(json_get(numa, "choice"));
	CLEANUP(free_ptr) char *origin = json_dup_printable(json_get(numa, "origin"));
	CLEANUP(free_ptr) char *reason = json_dup_printable(json_get(numa, "reason"));
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };

	strbuf_addf(&line, "%s: ", choice ? choice : "");
	if (!json_is_true(json_get(numa, "effective"))) {
		strbuf_addf(&line, "no effect: %s", reason ? reason : "");
	} else if (json_count(json_get(numa, "mirror")) > 0) {
		strbuf_add_str(&line, "what is pinned has a copy on each of ");
		add_target(&line, json_get(numa, "mirror"), false);
	} else {
		add_target(&line, json_get(numa, "placed_on"),
			   json_is_true(json_get(numa, "interleave")));
	}
	if (origin && *origin != '\0')
		strbuf_addf(&line, ", that of %s", origin);
	print_line("numa", &line);
}

static void print_rules(struct json rules)
{
	struct json_iter iter = json_iter(rules);
	struct json rule;

	while (json_next(&iter, NULL, &rule)) {
		CLEANUP(strbuf_fini) struct strbuf line = { 0 };

		numa_add_rule(&line, rule);
		print_line("rule", &line);
	}
}

static void print_files(struct json files)
{
	CLEANUP(free_ptr) char *error = json_dup_printable(json_get(files, "error"));
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };
	uint64_t failed = json_u64(json_get(files, "failed"));
	uint64_t no_room = json_u64(json_get(files, "no_room"));

	if (no_room > 0) {
		text_add_count(&line, no_room, "file");
		strbuf_add_str(&line, " found no room on their nodes");
	}
	if (failed > 0) {
		strbuf_add_str(&line, line.len > 0 ? "; " : "");
		text_add_count(&line, failed, "file");
		strbuf_addf(&line, " could not be bound: %s", error ? error : "");
	}
	if (line.len > 0)
		print_line("not placed", &line);
}

/* The bytes that an array of objects with `node` and `bytes` has for a node. */
static uint64_t bytes_on(struct json nodes, uint64_t node)
{
	struct json_iter iter = json_iter(nodes);
	struct json entry;

	while (json_next(&iter, NULL, &entry))
		if (json_u64(json_get(entry, "node")) == node)
			return json_u64(json_get(entry, "bytes"));
	return 0;
}

/* ", 64.0 MiB resident", or nothing where that is not known. */
static void add_part(struct strbuf *out, struct json look, uint64_t node,
		     const char *what)
{
	if (json_type(json_get(look, "nodes")) != JSON_ARRAY)
		return;
	strbuf_add_str(out, ", ");
	if (json_is_true(json_get(look, "sample")))
		strbuf_add_str(out, "about ");
	add_size(out, bytes_on(json_get(look, "nodes"), node));
	strbuf_addf(out, " %s", what);
}

static void print_node_lines(struct json numa)
{
	struct json_iter iter = json_iter(json_get(numa, "nodes"));
	struct json pages = json_get(numa, "pages");
	struct json node;

	while (json_next(&iter, NULL, &node)) {
		CLEANUP(strbuf_fini) struct strbuf line = { 0 };
		uint64_t number = json_u64(json_get(node, "node"));
		char label[32];

		(void)snprintf(label, sizeof(label), "node %" PRIu64, number);
		add_size(&line, json_u64(json_get(node, "free")));
		strbuf_add_str(&line, " of ");
		add_size(&line, json_u64(json_get(node, "total")));
		strbuf_add_str(&line, " free");
		add_part(&line, json_get(pages, "resident"), number, "resident");
		add_part(&line, json_get(pages, "source_cache"), number,
			 "of the source cached");
		print_line(label, &line);
	}
}

/* Why it is not known where pages lie. */
static void print_unknown(struct json look, const char *what)
{
	CLEANUP(free_ptr) char *reason = json_dup_printable(json_get(look, "reason"));
	CLEANUP(strbuf_fini) struct strbuf line = { 0 };

	if (!reason || *reason == '\0')
		return;
	strbuf_addf(&line, "where %s lies: %s", what, reason);
	print_line("not known", &line);
}

void numa_print_choice(struct json numa)
{
	print_choice(numa);
	print_rules(json_get(numa, "rules"));
	print_files(json_get(numa, "files"));
}

void numa_print_nodes(struct json numa)
{
	struct json pages = json_get(numa, "pages");

	print_node_lines(numa);
	print_unknown(json_get(pages, "resident"), "what is resident");
	print_unknown(json_get(pages, "source_cache"), "the page cache of the source");
}
