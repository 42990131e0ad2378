/* The value of -o numa= as text. */
#include <string.h>

#include "placement.h"

static const struct {
	const char *name;
	enum placement_mode mode;
} names[] = {
	{ "local", PLACEMENT_LOCAL },
	{ "auto", PLACEMENT_AUTO },
	{ "interleave", PLACEMENT_INTERLEAVE },
	{ "mirror", PLACEMENT_MIRROR },
};

/* A number below `most` at the start of the text, which is moved behind it. */
static bool take_number(const char **text, unsigned int most, unsigned int *number)
{
	size_t digits = strspn(*text, "0123456789");
	unsigned long value;

	if (digits == 0 || digits > 4)
		return false;
	value = strtoul(*text, NULL, 10);
	if (value >= most)
		return false;
	*number = (unsigned int)value;
	*text += digits;
	return true;
}

bool placement_parse_nodes(const char *text, uint64_t *nodes)
{
	uint64_t found = 0;
	unsigned int node;

	do {
		if (!take_number(&text, NUMA_MOST_NODES, &node))
			return false;
		found |= NUMA_NODE(node);
	} while (*text++ == ',');
	if (text[-1] != '\0')
		return false;
	*nodes = found;
	return true;
}

#define GPU       "gpu:"
#define MOST_GPUS 1024u

bool placement_parse(const char *text, struct placement_choice *choice)
{
	struct placement_choice found = { .mode = PLACEMENT_NODES };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(text, names[i].name) == 0) {
			*choice = (struct placement_choice){ .mode = names[i].mode };
			return true;
		}
	}
	if (strncmp(text, GPU, strlen(GPU)) == 0) {
		found.mode = PLACEMENT_GPU;
		text += strlen(GPU);
		if (!take_number(&text, MOST_GPUS, &found.gpu) || *text != '\0')
			return false;
	} else if (!placement_parse_nodes(text, &found.nodes)) {
		return false;
	}
	*choice = found;
	return true;
}

void placement_write_nodes(uint64_t nodes, struct strbuf *out)
{
	const char *comma = "";

	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++) {
		if (!(nodes & NUMA_NODE(i)))
			continue;
		strbuf_addf(out, "%s%u", comma, i);
		comma = ",";
	}
}

void placement_write_node_array(uint64_t nodes, struct jsonw *w)
{
	jsonw_begin_array(w);
	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++)
		if (nodes & NUMA_NODE(i))
			jsonw_u64(w, i);
	jsonw_end_array(w);
}

void placement_write_choice(const struct placement_choice *choice, struct strbuf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].mode == choice->mode)
			strbuf_add_str(out, names[i].name);
	if (choice->mode == PLACEMENT_GPU)
		strbuf_addf(out, GPU "%u", choice->gpu);
	if (choice->mode == PLACEMENT_NODES)
		placement_write_nodes(choice->nodes, out);
}
