/* What the pusher does for one reader: when it is believed, and what is stored ahead of
 * it. */
#include <errno.h>
#include <string.h>

#include "advice.h"
#include "channel.h"
#include "pagecache.h"
#include "placement.h"
#include "predict.h"
#include "prefetcher.h"
#include "push_state.h"
#include "source_cache.h"
#include "watch.h"

#define PAGE ((uint64_t)4096)
#define MIB  ((uint64_t)1 << 20)

/* One store: what fits a pipe. */
#define STEP ((uint64_t)CHANNEL_READ_MAX)

/* For one reader, until the others have their turn. */
#define TURN_BYTES (4 * MIB)

/* The READ of a hole tells how far the client is. A reply of one page is copied, which is
 * the fastest way to get one. */
#define HOLE_EACH (16 * MIB)
#define HOLE      PAGE

/* Ahead of one reader, and of all readers together, as far as holes tell; or of those and
 * who is expected. */
#define MOST_WINDOW (64 * MIB)
#define MOST_AHEAD  (256 * MIB)

/* A run is longer than what two touches make the kernel read. */
#define TOUCHES        2
#define LEAST_EVIDENCE (1 * MIB)

/* The kernel reads ahead of the client by itself. Where the pusher meets pages that are
 * being read it waits for them, and so does the client behind it. */
#define MARGINS      2
#define LEAST_MARGIN (8 * MIB)

/* Each reader that leaves most of it unused doubles the evidence that is wanted of the
 * next ones. */
#define MOST_DOUBT 6u

/* Without news for so long a reader has left, or an expected one does not come. */
#define PATIENCE_NS          ((uint64_t)2000000000)
#define EXPECTED_PATIENCE_NS ((uint64_t)30000000000)

/* Memory is looked at each so many bytes. */
#define MEMORY_EACH (64 * MIB)

/* Files that are expected to be read, of READERS_MAX. */
#define EXPECTED_MAX (READERS_MAX / 2)

/* Where a reader came forward so recently it is looked at again in a moment. */
#define RECENT_NS ((uint64_t)50000000)

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void add(atomic_uint_fast64_t *counter, uint64_t amount)
{
	(void)atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

/* ---- Sizes ---- */

static uint64_t readahead_of(const struct push *p)
{
	return atomic_load_explicit(&p->fs->readahead_bytes, memory_order_relaxed);
}

uint64_t push_margin(const struct push *p)
{
	return larger(MARGINS * readahead_of(p), LEAST_MARGIN);
}

uint64_t push_evidence(const struct push *p)
{
	return (TOUCHES * readahead_of(p) + LEAST_EVIDENCE) << p->doubt;
}

/* Bytes in front of `at` that are no holes. */
static uint64_t solid(uint64_t at)
{
	return at - at / HOLE_EACH * HOLE - smaller(at % HOLE_EACH, HOLE);
}

/* ---- Storing ---- */

/* Above the reserve there is to be room for twice what one reader may have ahead. */
static bool is_short(const struct push *p, bool event)
{
	struct memory_room room;

	if (memory_measure(p->memory, &room) < 0)
		return false;
	return room.spare - (event ? (int64_t)room.reserve : 0) <=
	       (int64_t)(2 * MOST_WINDOW);
}

static bool has_memory(struct push *p)
{
	if (p->unmeasured < MEMORY_EACH)
		return true;
	if (is_short(p, false)) {
		push_pause(p);
		return false;
	}
	p->unmeasured = 0;
	return true;
}

/* Tasks that wait for memory need not be ours to help, as those of another container at
 * its own limit. So that only asks for more to be left. */
void push_heed_memory(struct push *p)
{
	if (is_short(p, true))
		push_pause(p);
}

/*
 * The source is looked at before and after. Where it changed in between the pages may
 * hold other bytes than were mounted, and the watch may have made the kernel forget all
 * pages before these came: so they are forgotten here.
 */
static int store_unchanged(struct push *p, const struct lane *lane, uint64_t from,
			   uint64_t len)
{
	int r;

	if (!source_file_unchanged(lane->place.file))
		return -ESTALE;
	r = channel_store(fuse_session_fd(p->session), lane->ino, lane->pushed,
			  lane->place.file, from, len);
	if (source_file_unchanged(lane->place.file))
		return r;
	(void)fuse_lowlevel_notify_inval_inode(p->session, lane->ino, 0, 0);
	return -ESTALE;
}

static int store(struct push *p, struct lane *lane, uint64_t len)
{
	uint64_t from = lane->place.start + lane->pushed - lane->place.header_len;
	int r = -ESHUTDOWN;

	if (atomic_load(&p->halted) || !watch_begin(p->watch))
		return r;
	r = store_unchanged(p, lane, from, len);
	watch_end(p->watch);
	if (r < 0)
		return r;
	if (p->fs->source_cache)
		source_cache_note(p->fs->source_cache, lane->place.file, from, len);
	if (lane->stored == 0)
		add(&p->reader_count, 1);
	lane->pushed += len;
	lane->stored += len;
	p->unmeasured += len;
	add(&p->pushed_bytes, len);
	return 0;
}

/* Whether a store would not wait for the disk, where the client's own READs keep more
 * requests going. Where the kernel does not tell, it may. */
static bool is_cached(const struct lane *lane, uint64_t len)
{
	uint64_t from = lane->place.start + lane->pushed - lane->place.header_len;
	uint64_t cached;

	return pagecache_count(lane->place.file, from, len, &cached) < 0 || cached >= len;
}

/* Up to the next hole. 0, -EAGAIN where the source is not there yet, or another negative
 * errno. */
static int store_step(struct push *p, struct lane *lane, uint64_t limit)
{
	uint64_t into = lane->pushed % HOLE_EACH;
	uint64_t len;

	if (into < HOLE) {
		lane->pushed += HOLE - into;
		return 0;
	}
	len = smaller(smaller(STEP, limit - lane->pushed), HOLE_EACH - into);
	return is_cached(lane, len) ? store(p, lane, len) : -EAGAIN;
}

/* ---- One reader ---- */

/* Whether it is expected, and has not come. */
static bool is_awaited(const struct lane *lane)
{
	return lane->expected && lane->known == 0;
}

/* Who has left most of it unused makes others less credible. Predictions are judged by
 * who makes them. */
static void judge(struct push *p, const struct lane *lane, uint64_t unused)
{
	if (lane->stored == 0 || is_awaited(lane))
		return;
	if (unused > lane->stored / 2)
		p->doubt += p->doubt < MOST_DOUBT;
	else
		p->doubt -= p->doubt > 0;
}

/* A reader leaves: at the end of the file it has used all. */
static void leave(struct push *p, struct lane *lane, bool finished)
{
	uint64_t rest = lane->stored - lane->used;

	add(finished ? &p->used_bytes : &p->unused_bytes, rest);
	judge(p, lane, finished ? 0 : rest);
	*lane = (struct lane){ .ino = 0 };
}

static void drop(struct push *p, unsigned int slot)
{
	leave(p, &p->lanes[slot], false);
	readers_restart(&p->readers, slot);
}

/* Takes note of how far the reader has come: nobody else sees READs of that. */
static void follow(struct push *p, struct lane *lane, uint64_t next)
{
	uint64_t from = larger(lane->known, lane->base);
	uint64_t to = smaller(next, lane->pushed);
	uint64_t used = to > from ? solid(to) - solid(from) : 0;

	if (next <= lane->known)
		return;
	lane->known = next;
	lane->news_ns = push_now_ns();
	lane->unknown = false;
	lane->used += used;
	add(&p->used_bytes, used);
	if (lane->node.kind != NODE_TENSOR || used == 0)
		return;
	advices_note_read(p->fs->advices, lane->node.index, from, to - from);
	prefetcher_note_use(p->fs->prefetcher, lane->node.index, used);
	if (p->fs->predict)
		predict_note_read(p->fs->predict, lane->node, used);
}

/* What was pushed, and not reached as far as is known. Who is only expected must not take
 * the room of who reads. */
static uint64_t bytes_ahead(const struct push *p, bool with_awaited)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < READERS_MAX; i++) {
		const struct lane *lane = &p->lanes[i];

		if (lane->pushed > lane->known && (with_awaited || !is_awaited(lane)))
			sum += lane->pushed - lane->known;
	}
	return sum;
}

/* Where pushing has to stop for now: no more lies unread than the reader has read, and no
 * more than the window. */
static uint64_t limit_of(const struct lane *lane)
{
	uint64_t come = lane->expected ? MOST_WINDOW : lane->known - lane->start;

	return smaller(larger(lane->known, lane->base) + smaller(come, MOST_WINDOW),
		       lane->end);
}

/* Who has come to the end of what was pushed reads on by itself, and the kernel ahead of
 * it: the next stretch begins behind that. */
static void keep_off(const struct push *p, struct lane *lane)
{
	if (lane->known == 0 || lane->known < lane->pushed)
		return;
	lane->base = larger((lane->known + push_margin(p)) / PAGE * PAGE, lane->begin);
	lane->pushed = lane->base;
}

static enum push_turn wait_for(const struct lane *lane)
{
	return push_now_ns() - lane->news_ns < RECENT_NS ? TURN_WAITS : TURN_DORMANT;
}

/* What becomes of a reader to whom nothing could be stored. */
static enum push_turn stop_for(struct push *p, unsigned int slot, int error)
{
	struct lane *lane = &p->lanes[slot];

	if (error == -EAGAIN)
		return wait_for(lane);
	if (error == -ENOMEM)
		push_pause(p);
	/* Nobody has looked it up, or the kernel has forgotten it with its pages. */
	else if (error == -ENOENT && lane->expected)
		lane->unknown = true;
	else
		drop(p, slot);
	return TURN_DORMANT;
}

static enum push_turn push_ahead(struct push *p, unsigned int slot)
{
	struct lane *lane = &p->lanes[slot];
	uint64_t limit;
	uint64_t until;
	int r = 0;

	keep_off(p, lane);
	limit = limit_of(lane);
	until = smaller(lane->pushed + TURN_BYTES, limit);
	if (lane->unknown || lane->pushed >= limit || push_now_ns() < p->paused_ns ||
	    bytes_ahead(p, is_awaited(lane)) > MOST_AHEAD || !has_memory(p))
		return wait_for(lane);
	/* Pages are stored by this thread, and else would be by the reader. */
	placement_enter_node(p->fs->placement, lane->node);
	while (r == 0 && lane->pushed < until) {
		r = store_step(p, lane, until);
		readers_keep(&p->readers, slot, lane->pushed);
	}
	return r < 0 ? stop_for(p, slot, r) : TURN_STORED;
}

static bool is_random(const struct push *p, struct node node)
{
	return node.kind == NODE_TENSOR && advices_is_random(p->fs->advices, node.index);
}

/* Whether there is something to be pushed to the reader of a run. */
static bool adopt(struct push *p, unsigned int slot, const struct reader_run *run)
{
	struct lane *lane = &p->lanes[slot];

	*lane = (struct lane){ .ino = run->ino,
			       .start = run->start,
			       .known = run->next,
			       .news_ns = push_now_ns() };
	if (layout_node(p->fs, run->ino, &lane->node) && !is_random(p, lane->node) &&
	    content_place(p->fs, lane->node, &lane->place) && lane->place.len > 0) {
		lane->begin = (lane->place.header_len + PAGE - 1) / PAGE * PAGE;
		/* The last page is a hole as well: it tells that the reader is through.
		 */
		lane->end = (lane->place.header_len + lane->place.len - 1) / PAGE * PAGE;
	}
	lane->base = lane->begin;
	lane->pushed = lane->begin;
	if (run->next + push_margin(p) < lane->end)
		return true;
	*lane = (struct lane){ .ino = 0 };
	readers_pass_over(&p->readers, slot);
	return false;
}

/* Finds out who reads in the slot. Whether that is somebody to push to. */
static bool meet(struct push *p, unsigned int slot)
{
	const struct reader_run run = readers_look(&p->readers, slot);
	struct lane *lane = &p->lanes[slot];

	if (lane->ino != 0 && (run.ino != lane->ino || run.start != lane->start))
		drop(p, slot);
	else if (lane->ino != 0)
		follow(p, lane, run.next);
	if (lane->ino != 0)
		return true;
	if (run.ino == 0 || run.next - run.start < push_evidence(p))
		return false;
	if (reader_run_is_dense(&run))
		return adopt(p, slot, &run);
	readers_restart(&p->readers, slot);
	return false;
}

static bool has_left(const struct lane *lane)
{
	uint64_t patience_ns = is_awaited(lane) ? EXPECTED_PATIENCE_NS : PATIENCE_NS;

	return push_now_ns() - lane->news_ns > patience_ns;
}

/* Who waits goes before who is only expected. */
enum push_turn push_take_turn(struct push *p, unsigned int slot, bool awaited)
{
	struct lane *lane = &p->lanes[slot];

	if (!meet(p, slot))
		return TURN_NOTHING;
	if (lane->known >= lane->end) {
		leave(p, lane, true);
		readers_pass_over(&p->readers, slot);
		return TURN_NOTHING;
	}
	if (has_left(lane)) {
		drop(p, slot);
		return TURN_NOTHING;
	}
	if (is_awaited(lane) != awaited)
		return TURN_DORMANT;
	return push_ahead(p, slot);
}

bool push_can_expect(const struct push *p)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < READERS_MAX; i++)
		count += is_awaited(&p->lanes[i]);
	return count < EXPECTED_MAX;
}

void push_expect(struct push *p, struct node node)
{
	struct reader_run run = { .ino = layout_ino(node) };
	int slot;

	slot = readers_expect(&p->readers, run.ino);
	if (slot < 0 || p->lanes[slot].ino != 0)
		return;
	run = readers_look(&p->readers, (unsigned int)slot);
	if (run.ino == 0) /* It was read to its end. */
		readers_pass_over(&p->readers, (unsigned int)slot);
	else if (adopt(p, (unsigned int)slot, &run))
		p->lanes[slot].expected = true;
}
