#include "placement_status.h"

#include <errno.h>
#include <sys/stat.h>

#include "inodes.h"
#include "placement_pages.h"
#include "placement_rules.h"
#include "util/errtext.h"

/* So much is looked at, of resident files and of the source each: some 60 ms, where pages
 * are small. The thread that does it answers one client at a time. */
#define LOOKED_AT_MOST ((uint64_t)1 << 30)

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

static void write_rules(const struct placement *placement, struct jsonw *w)
{
	struct placement_rules *rules = placement_rules_of(placement);

	jsonw_key(w, "rules");
	if (rules) {
		placement_rules_write(rules, w);
		return;
	}
	jsonw_begin_array(w);
	jsonw_end_array(w);
}

/* ---- What lies where ---- */

/* Files whose pages are counted, one behind the other. */
struct look {
	uint64_t cached;     /* bytes of all of them that may be in memory */
	uint64_t stride;     /* one chunk of so many is looked at */
	uint64_t next_chunk; /* number of the next one, over all files */
	struct placement_tally tally;
	int error; /* why it is not known; 0 where it is */
};

/* One of each `stride` chunks, but not always the same one: what is spread over nodes may
 * repeat itself as often. */
static bool is_in_sample(const struct look *look, uint64_t chunk)
{
	uint64_t group = chunk / look->stride;
	uint64_t mixed = (group + 1) * 0x9e3779b97f4a7c15u;

	return chunk % look->stride == (mixed >> 32) % look->stride;
}

/* Whether none of so many chunks from this one on is in memory. */
#define SPAN_CHUNKS 64u

static bool is_absent(int fd, uint64_t chunk)
{
	uint64_t cached;

	return placement_cached(fd, chunk * PLACEMENT_CHUNK,
				SPAN_CHUNKS * PLACEMENT_CHUNK, &cached) == 0 &&
	       cached == 0;
}

static void look_at_file(struct look *look, int fd, uint64_t size)
{
	uint64_t count = (size + PLACEMENT_CHUNK - 1) / PLACEMENT_CHUNK;

	for (uint64_t i = 0; i < count && look->error == 0; i++) {
		if (i % SPAN_CHUNKS == 0 && is_absent(fd, i)) {
			i += SPAN_CHUNKS - 1;
			continue;
		}
		if (is_in_sample(look, look->next_chunk++))
			look->error = placement_count_chunk(fd, size, i, &look->tally);
	}
}

static void expect(struct look *look, uint64_t bytes)
{
	look->cached = bytes;
	look->stride = bytes / LOOKED_AT_MOST + 1;
}

static void look_at_resident(const struct weightfs *fs, struct look *look)
{
	uint32_t count = (uint32_t)model_tensor_count(fs->served->model);
	struct inodes_summary sums;

	if (!fs->inodes)
		return;
	inodes_summarise(fs->inodes, &sums);
	expect(look, sums.used);
	for (uint32_t i = 0; i < count * VIEW_COUNT && sums.used > 0; i++) {
		struct node node =
			layout_tensor((enum view)(i % VIEW_COUNT), i / VIEW_COUNT);

		for (unsigned int j = 0; j < numa_mirror_file_count(&fs->mirror); j++) {
			CLEANUP(close_fd) int fd = -1;
			struct stat st;

			node.copy = numa_mirror_file_at(&fs->mirror, j);
			fd = inodes_borrow(fs->inodes, node, BACKING_RESIDENT);
			if (fd >= 0 && fstat(fd, &st) == 0)
				look_at_file(look, fd, (uint64_t)st.st_size);
		}
	}
}

static uint64_t cached_of_source(const struct served *served)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < model_shard_count(served->model); i++) {
		const struct source_file *file =
			&served->source->files[served->shard_files[i]];
		uint64_t cached;

		/* Where it is not known, it may be all. */
		if (placement_cached(file->fd, 0, file->size, &cached) < 0)
			cached = file->size;
		sum += cached;
	}
	return sum;
}

static void look_at_source(const struct weightfs *fs, struct look *look)
{
	const struct served *served = fs->served;

	expect(look, cached_of_source(served));
	for (size_t i = 0; i < model_shard_count(served->model); i++) {
		const struct source_file *file =
			&served->source->files[served->shard_files[i]];

		look_at_file(look, file->fd, file->size);
	}
}

static uint64_t sum_of(const struct placement_tally *tally)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++)
		sum += tally->bytes[i];
	return sum;
}

static const char *reason_of(int error)
{
	if (error == -EPERM)
		return "the kernel tells only the owner of the file";
	if (error == -EACCES)
		return "this process may not ask where its pages are";
	return errtext(-error);
}

/* A sample stands for all of it. */
static uint64_t scale(const struct look *look, uint64_t bytes)
{
	double part = (double)bytes / (double)sum_of(&look->tally);

	return look->stride > 1 ? (uint64_t)(part * (double)look->cached) : bytes;
}

static void write_bytes(const struct look *look, struct jsonw *w)
{
	jsonw_key(w, "nodes");
	jsonw_begin_array(w);
	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++) {
		if (look->tally.bytes[i] == 0)
			continue;
		jsonw_begin_object(w);
		member_u64(w, "node", i);
		member_u64(w, "bytes", scale(look, look->tally.bytes[i]));
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void write_look(const struct look *look, const char *key, struct jsonw *w)
{
	jsonw_key(w, key);
	jsonw_begin_object(w);
	if (look->error < 0) {
		jsonw_key(w, "reason");
		jsonw_string(w, reason_of(look->error));
	} else {
		member_u64(w, "looked_at", sum_of(&look->tally));
		jsonw_key(w, "sample");
		jsonw_bool(w, look->stride > 1);
		write_bytes(look, w);
	}
	jsonw_end_object(w);
}

static void write_pages(const struct weightfs *fs, struct jsonw *w)
{
	struct look resident = { .stride = 1 };
	struct look source = { .stride = 1 };

	look_at_resident(fs, &resident);
	look_at_source(fs, &source);
	jsonw_key(w, "pages");
	jsonw_begin_object(w);
	write_look(&resident, "resident", w);
	write_look(&source, "source_cache", w);
	jsonw_end_object(w);
}

void placement_write_status(const struct weightfs *fs, bool pages, struct jsonw *w)
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
	placement_write_node_array(summary.policy.nodes, w);
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
	write_rules(fs->placement, w);
	if (pages)
		write_pages(fs, w);
	jsonw_end_object(w);
}
