#include "readers.h"

/* A slot between two files. No inode has this number. */
#define CLAIMED UINT64_MAX

/* So many in a row, and the reader has moved: more than one touch of a mapping makes the
 * kernel send, which is all that a random reader does in one place. */
#define STRAYS_MAX 16u

static uint64_t get(const atomic_uint_fast64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static void set(atomic_uint_fast64_t *value, uint64_t to)
{
	atomic_store_explicit(value, to, memory_order_relaxed);
}

void readers_tune(struct readers *readers, uint64_t slack, uint64_t wanted)
{
	set(&readers->slack, slack);
	set(&readers->wanted, wanted);
}

static void begin_run(struct reader_slot *slot, uint64_t at)
{
	set(&slot->ahead, 0);
	set(&slot->bytes, 0);
	set(&slot->start, at);
	set(&slot->next, at);
	atomic_store_explicit(&slot->strays, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->passed_over, false, memory_order_relaxed);
}

static bool is_kept(const struct readers *readers, unsigned int slot)
{
	return atomic_load_explicit(&readers->kept, memory_order_relaxed) >> slot & 1;
}

static int find(const struct readers *readers, uint64_t ino)
{
	for (unsigned int i = 0; i < READERS_MAX; i++)
		if (atomic_load_explicit(&readers->inos[i], memory_order_acquire) == ino)
			return (int)i;
	return -1;
}

/* A slot that is not kept, each in its turn; -1 where there is none. Two threads may give
 * a file a slot each: the second is not found any more, and given away in its turn. */
static int claim(struct readers *readers, uint64_t ino, uint64_t at)
{
	unsigned int hand =
		atomic_fetch_add_explicit(&readers->hand, 1, memory_order_relaxed);

	for (unsigned int k = 0; k < READERS_MAX; k++) {
		unsigned int i = (hand + k) % READERS_MAX;
		uint_fast64_t old = get(&readers->inos[i]);

		if (is_kept(readers, i) || old == CLAIMED ||
		    !atomic_compare_exchange_strong(&readers->inos[i], &old, CLAIMED))
			continue;
		begin_run(&readers->slots[i], at);
		atomic_store_explicit(&readers->inos[i], ino, memory_order_release);
		return (int)i;
	}
	return -1;
}

static bool continues(const struct reader_slot *slot, uint64_t offset, uint64_t slack)
{
	uint64_t next = get(&slot->next);
	uint64_t ahead = get(&slot->ahead);

	if (ahead < next)
		ahead = next;
	return offset <= ahead + slack && offset + slack >= next;
}

/* Whether the READ belongs to the slot's run, which may be a new one. */
static bool take_in(struct reader_slot *slot, uint64_t offset, uint64_t slack)
{
	if (continues(slot, offset, slack)) {
		if (atomic_load_explicit(&slot->strays, memory_order_relaxed) > 0)
			atomic_store_explicit(&slot->strays, 0, memory_order_relaxed);
		return true;
	}
	if (atomic_fetch_add_explicit(&slot->strays, 1, memory_order_relaxed) <
	    STRAYS_MAX)
		return false;
	begin_run(slot, offset);
	return true;
}

static void come_forward(struct reader_slot *slot, uint64_t to)
{
	uint_fast64_t next = get(&slot->next);

	while (next < to && !atomic_compare_exchange_weak_explicit(&slot->next, &next, to,
								   memory_order_relaxed,
								   memory_order_relaxed))
		;
}

bool readers_note(struct readers *readers, uint64_t ino, uint64_t offset, uint64_t size)
{
	int found = find(readers, ino);
	struct reader_slot *slot;
	uint64_t start;
	uint64_t next;

	if (found < 0)
		found = claim(readers, ino, offset);
	if (found < 0)
		return false;
	slot = &readers->slots[found];
	if (!take_in(slot, offset, get(&readers->slack)))
		return false;
	(void)atomic_fetch_add_explicit(&slot->bytes, size, memory_order_relaxed);
	come_forward(slot, offset + size);
	if (atomic_load_explicit(&slot->passed_over, memory_order_relaxed))
		return false;
	start = get(&slot->start);
	next = get(&slot->next);
	return is_kept(readers, (unsigned int)found) ||
	       (next > start && next - start >= get(&readers->wanted));
}

struct reader_run readers_look(const struct readers *readers, unsigned int slot)
{
	const struct reader_slot *s = &readers->slots[slot];
	struct reader_run run = {
		.ino = atomic_load_explicit(&readers->inos[slot], memory_order_acquire),
		.start = get(&s->start),
		.next = get(&s->next),
		.bytes = get(&s->bytes),
	};

	if (run.ino == CLAIMED ||
	    atomic_load_explicit(&s->passed_over, memory_order_relaxed))
		run.ino = 0;
	/* Seen in the middle of begin_run(). */
	if (run.next < run.start)
		run.next = run.start;
	return run;
}

bool reader_run_is_dense(const struct reader_run *run)
{
	return run->bytes >= (run->next - run->start) / 4 * 3;
}

int readers_expect(struct readers *readers, uint64_t ino)
{
	int slot = find(readers, ino);

	if (slot < 0)
		slot = claim(readers, ino, 0);
	if (slot >= 0)
		readers_keep(readers, (unsigned int)slot, 0);
	return slot;
}

void readers_keep(struct readers *readers, unsigned int slot, uint64_t ahead)
{
	if (!is_kept(readers, slot))
		(void)atomic_fetch_or(&readers->kept, 1u << slot);
	set(&readers->slots[slot].ahead, ahead);
}

static void release(struct readers *readers, unsigned int slot)
{
	(void)atomic_fetch_and(&readers->kept, ~(1u << slot));
}

void readers_restart(struct readers *readers, unsigned int slot)
{
	begin_run(&readers->slots[slot], get(&readers->slots[slot].next));
	release(readers, slot);
}

void readers_pass_over(struct readers *readers, unsigned int slot)
{
	atomic_store_explicit(&readers->slots[slot].passed_over, true,
			      memory_order_relaxed);
	release(readers, slot);
}
