#include "placement_status.h"

#include "placement.h"
#include "util/errtext.h"

static void member_u64(struct jsonw *w, const char *key, uint64_t value)
{
	jsonw_key(w, key);
	jsonw_u64(w, value);
}

static void write_choice(const struct placement_choice *choice, struct jsonw *w)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	placement_write_choice(choice, &text);
	jsonw_key(w, "choice");
	jsonw_string(w, text.data ? text.data : "");
}

static void write_node_list(uint64_t nodes, struct jsonw *w)
{
	jsonw_begin_array(w);
	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++)
		if (nodes & NUMA_NODE(i))
			jsonw_u64(w, i);
	jsonw_end_array(w);
}

static void write_nodes(const struct placement *placement, uint64_t nodes,
			struct jsonw *w)
{
	jsonw_key(w, "nodes");
	jsonw_begin_array(w);
	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++) {
		struct placement_memory memory;

		if (!(nodes & NUMA_NODE(i)))
			continue;
		jsonw_begin_object(w);
		member_u64(w, "node", i);
		if (placement_memory(placement, i, &memory) == 0) {
			member_u64(w, "total", memory.total);
			member_u64(w, "free", memory.free);
			member_u64(w, "file_cache", memory.file_cache);
		}
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void write_files(const struct placement_summary *summary, struct jsonw *w)
{
	jsonw_key(w, "files");
	jsonw_begin_object(w);
	member_u64(w, "bound", summary->bound);
	member_u64(w, "no_room", summary->no_room);
	member_u64(w, "failed", summary->failed);
	if (summary->failed > 0) {
		jsonw_key(w, "error");
		jsonw_string(w, errtext(-summary->error));
	}
	jsonw_end_object(w);
}

void placement_write_status(const struct weightfs *fs, struct jsonw *w)
{
	struct placement_summary summary;

	if (!fs->placement)
		return;
	placement_summarise(fs->placement, &summary);
	jsonw_key(w, "numa");
	jsonw_begin_object(w);
	write_choice(&summary.choice, w);
	jsonw_key(w, "effective");
	jsonw_bool(w, !summary.no_effect);
	if (summary.no_effect) {
		jsonw_key(w, "reason");
		jsonw_string(w, summary.no_effect);
	}
	jsonw_key(w, "placed_on");
	write_node_list(summary.policy.nodes, w);
	jsonw_key(w, "interleave");
	jsonw_bool(w, summary.policy.interleave);
	if (fs->mirror.count > 0) {
		jsonw_key(w, "mirror");
		jsonw_begin_array(w);
		for (unsigned int i = 0; i < fs->mirror.count; i++)
			jsonw_u64(w, fs->mirror.nodes[i]);
		jsonw_end_array(w);
	}
	if (summary.origin[0]) {
		jsonw_key(w, "origin");
		jsonw_string(w, summary.origin);
	}
	write_nodes(fs->placement, summary.nodes, w);
	write_files(&summary, w);
	jsonw_end_object(w);
}
