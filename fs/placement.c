#include "placement.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "layout.h"
#include "placement_rules.h"
#include "util/errtext.h"
#include "util/log.h"

/* What a file may leave of a node's memory: a twentieth, within these. Beyond that the
 * kernel would look for a process to kill, as it does for whoever may use one node only.
 */
#define LEAST_RESERVE ((uint64_t)64 << 20)

#define NO_NUMA   "this kernel has no NUMA"
#define ONE_NODE  "this machine has one NUMA node"
#define FORBIDDEN "this process may not place its memory"

struct placement {
	struct placement_setup setup;
	uint64_t nodes;
	struct placement_policy policy;
	struct placement_rules *rules;
	const char *no_effect;
	char origin[NUMA_DEVICE_MAX];
	cpu_set_t cpus;               /* of the nodes of `policy`; empty: of any */
	int meminfo[NUMA_MOST_NODES]; /* -1 for none */

	/* How the process was told to allocate when it was started, as by numactl(8). */
	int given_mode;
	unsigned long given_nodes;

	/* Bytes of files that are being filled and bound to a node, in which they do not
	 * show yet. */
	atomic_uint_fast64_t claimed;
	atomic_uint_fast64_t bound;
	atomic_uint_fast64_t no_room;
	atomic_uint_fast64_t failed;
	atomic_int error;
};

/* ---- What there is ---- */

uint64_t placement_allowed(int *unavailable)
{
	struct bitmask *mask;
	uint64_t nodes = 0;

	*unavailable = get_mempolicy(NULL, NULL, 0, NULL, 0) < 0 ? -errno : 0;
	if (*unavailable == 0 && numa_available() < 0)
		*unavailable = -ENOSYS;
	if (*unavailable < 0)
		return 0;
	mask = numa_get_mems_allowed();
	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++)
		if (numa_bitmask_isbitset(mask, i))
			nodes |= NUMA_NODE(i);
	numa_bitmask_free(mask);
	return nodes;
}

static bool is_one_node(uint64_t nodes)
{
	return (nodes & (nodes - 1)) == 0;
}

static const char *why_no_effect(const struct placement *p)
{
	if (p->setup.unavailable == -ENOSYS)
		return NO_NUMA;
	if (p->setup.unavailable < 0)
		return FORBIDDEN;
	return is_one_node(p->nodes) ? ONE_NODE : NULL;
}

/* ---- What the choice means ---- */

/* Where files are bound to a node of their own, threads need not run anywhere. */
static int use_nodes(struct placement *p, uint64_t wanted, struct diag *diag)
{
	struct strbuf missing = { 0 };
	struct strbuf found = { 0 };

	p->policy.nodes = wanted & p->nodes;
	if (p->policy.nodes == wanted)
		return 0;
	placement_write_nodes(wanted & ~p->nodes, &missing);
	placement_write_nodes(p->nodes, &found);
	(void)diag_fail(diag, -EINVAL, "option numa: no memory on node %s: there are %s",
			missing.data ? missing.data : "?", found.data ? found.data : "?");
	strbuf_fini(&missing);
	strbuf_fini(&found);
	return -EINVAL;
}

static int use_gpu(struct placement *p, struct diag *diag)
{
	unsigned int index = p->setup.choice.gpu;
	unsigned int count;
	char there[16];
	int node = numa_node_of_gpu(p->setup.sysfs, index, &count);

	if (index >= count) {
		(void)snprintf(there, sizeof(there), "%u", count);
		return diag_fail(diag, -EINVAL,
				 "option numa: gpu:%u: no such NVIDIA GPU: there %s %s",
				 index, count == 1 ? "is" : "are",
				 count > 0 ? there : "none");
	}
	if (node < 0 || !(p->nodes & NUMA_NODE(node)))
		return diag_fail(diag, -EINVAL,
				 "option numa: gpu:%u: it is at no node with memory",
				 index);
	(void)snprintf(p->origin, sizeof(p->origin), "gpu:%u", index);
	p->policy.nodes = NUMA_NODE(node);
	return 0;
}

/* A source that is on no disk, or on one that is at no node, has no better node than the
 * thread's own. */
static void use_disk(struct placement *p)
{
	int node = numa_node_of_disk(p->setup.sysfs, p->setup.source, p->origin);

	if (node >= 0 && p->nodes & NUMA_NODE(node))
		p->policy.nodes = NUMA_NODE(node);
	else
		p->origin[0] = '\0';
}

static int choose_policy(struct placement *p, struct diag *diag)
{
	switch (p->setup.choice.mode) {
	case PLACEMENT_AUTO:
		use_disk(p);
		return 0;
	case PLACEMENT_NODES:
		return use_nodes(p, p->setup.choice.nodes, diag);
	case PLACEMENT_INTERLEAVE:
		p->policy = (struct placement_policy){ p->nodes, true };
		return 0;
	case PLACEMENT_GPU:
		return use_gpu(p, diag);
	case PLACEMENT_LOCAL:
	case PLACEMENT_MIRROR:
		break;
	}
	return 0;
}

/* ---- Beginning and end ---- */

/* Nodes as the kernel's calls take them: the bits and their number, which they count one
 * too low. */
#define MASK_BITS (sizeof(unsigned long) * 8 + 1)

static void take_given(struct placement *p)
{
	if (get_mempolicy(&p->given_mode, &p->given_nodes, MASK_BITS, NULL, 0) == 0)
		return;
	p->given_mode = MPOL_DEFAULT;
	p->given_nodes = 0;
}

/* Memory is looked at, and threads are moved, when no file can be opened any more. */
static void open_nodes(struct placement *p)
{
	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++) {
		cpu_set_t cpus;

		if (!(p->nodes & NUMA_NODE(i)))
			continue;
		p->meminfo[i] = numa_open_meminfo(p->setup.sysfs, i);
		if (!(p->policy.nodes & NUMA_NODE(i)))
			continue;
		numa_node_cpus(p->setup.sysfs, i, &cpus);
		CPU_OR(&p->cpus, &p->cpus, &cpus);
	}
}

int placement_new(const struct placement_setup *setup, struct placement **placement,
		  struct diag *diag)
{
	struct placement *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return diag_fail(diag, -ENOMEM, "out of memory");
	p->setup = *setup;
	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++)
		p->meminfo[i] = -1;
	p->nodes = numa_nodes_with_memory(setup->sysfs) & setup->allowed;
	p->no_effect = why_no_effect(p);
	take_given(p);
	if (!p->no_effect)
		r = choose_policy(p, diag);
	if (r == 0 && setup->model && placement_rules_new(setup->model, &p->rules) < 0)
		r = diag_fail(diag, -ENOMEM, "out of memory");
	if (r < 0) {
		placement_free(p);
		return r;
	}
	open_nodes(p);
	*placement = p;
	return 0;
}

void placement_free(struct placement *placement)
{
	if (!placement)
		return;
	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++)
		close_fd(&placement->meminfo[i]);
	placement_rules_free(placement->rules);
	free(placement);
}

void placement_say(const struct placement *placement)
{
	CLEANUP(strbuf_fini) struct strbuf text = { 0 };

	if (!placement->no_effect || placement->setup.choice.mode == PLACEMENT_LOCAL)
		return;
	placement_write_choice(&placement->setup.choice, &text);
	log_warning("%s: option numa=%s has no effect: %s", placement->setup.subject,
		    text.data ? text.data : "?", placement->no_effect);
}

bool placement_has_nodes(const struct placement *placement)
{
	return placement && !placement->no_effect;
}

uint64_t placement_nodes(const struct placement *placement)
{
	return placement && placement->nodes ? placement->nodes : 1;
}

/* ---- Threads ---- */

static int set_thread_policy(struct placement_policy policy)
{
	unsigned long mask = policy.nodes;

	if (mask == 0)
		return set_mempolicy(MPOL_DEFAULT, NULL, 0) < 0 ? -errno : 0;
	if (policy.interleave)
		return set_mempolicy(MPOL_INTERLEAVE, &mask, MASK_BITS) < 0 ? -errno : 0;
	/* Not bound: a page on another node beats one that is read from the disk again,
	 * and one that is not to be had. */
	if (set_mempolicy(MPOL_PREFERRED_MANY, &mask, MASK_BITS) == 0)
		return 0;
	mask &= ~mask + 1; /* before Linux 5.15: the first one */
	return set_mempolicy(MPOL_PREFERRED, &mask, MASK_BITS) < 0 ? -errno : 0;
}

/* Where the option says nothing, what the process was started with stands. */
static int set_usual_policy(const struct placement *p)
{
	if (p->policy.nodes != 0)
		return set_thread_policy(p->policy);
	return set_mempolicy(p->given_mode, &p->given_nodes, MASK_BITS) < 0 ? -errno : 0;
}

/* Where a cpuset leaves none of these processors, the thread stays where it is. */
static void run_on(const cpu_set_t *wanted)
{
	cpu_set_t cpus;

	if (CPU_COUNT(wanted) == 0 || sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return;
	CPU_AND(&cpus, &cpus, wanted);
	if (CPU_COUNT(&cpus) > 0)
		(void)sched_setaffinity(0, sizeof(cpus), &cpus);
}

void placement_enter_thread(const struct placement *placement)
{
	int r;

	if (!placement_has_nodes(placement))
		return;
	r = set_usual_policy(placement);
	if (r < 0)
		log_warning("%s: place the page cache of the source: %s",
			    placement->setup.subject, errtext(-r));
	run_on(&placement->cpus);
}

/* What the calling thread has been told besides the mount's policy. Not known at first:
 * it inherits what the thread was told that started it. */
struct deviation {
	bool is_known;
	bool is_one;
	struct placement_policy policy;
};

static _Thread_local struct deviation thread_deviation;

static void deviate(const struct placement *placement, struct deviation next)
{
	struct deviation *now = &thread_deviation;

	next.is_known = true;
	if (now->is_known && next.is_one == now->is_one &&
	    next.policy.nodes == now->policy.nodes &&
	    next.policy.interleave == now->policy.interleave)
		return;
	*now = next;
	if (next.is_one)
		(void)set_thread_policy(next.policy);
	else
		(void)set_usual_policy(placement);
}

void placement_enter_tensor(const struct placement *placement, uint32_t tensor)
{
	struct deviation next = { .is_one = false };

	if (!placement_has_nodes(placement))
		return;
	next.is_one = placement_rules_find(placement->rules, tensor, &next.policy);
	deviate(placement, next);
}

void placement_enter_node(const struct placement *placement, struct node node)
{
	struct deviation next = { .is_one = true };

	if (!placement_has_nodes(placement))
		return;
	if (placement->setup.choice.mode != PLACEMENT_MIRROR) {
		placement_enter_tensor(placement, node.kind == NODE_TENSOR
							  ? node.index
							  : PLACEMENT_NO_TENSOR);
		return;
	}
	next.policy = placement_policy_of(placement, node);
	deviate(placement, next);
}

/* ---- Memory of nodes ---- */

/* The number of KiB in a line "Node 0 KEY:   123 kB". */
static uint64_t find_kib(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

int placement_memory(const struct placement *placement, unsigned int node,
		     struct placement_memory *memory)
{
	char text[4096];
	ssize_t n;

	if (node >= NUMA_MOST_NODES || placement->meminfo[node] < 0)
		return -ENODEV;
	n = pread(placement->meminfo[node], text, sizeof(text) - 1, 0);
	if (n <= 0)
		return n < 0 ? -errno : -EIO;
	text[n] = '\0';
	*memory = (struct placement_memory){
		.total = find_kib(text, "MemTotal:") << 10,
		.free = find_kib(text, "MemFree:") << 10,
		.file_cache = (find_kib(text, "Active(file):") +
			       find_kib(text, "Inactive(file):"))
			      << 10,
	};
	return 0;
}

static uint64_t reserve_of(uint64_t total)
{
	uint64_t reserve = total / 20;

	if (reserve < LEAST_RESERVE)
		reserve = LEAST_RESERVE;
	return reserve < total / 4 ? reserve : total / 4;
}

/* What the nodes have above their reserves. */
static uint64_t room_on(const struct placement *p, uint64_t nodes)
{
	uint64_t room = 0;

	for (unsigned int i = 0; i < NUMA_MOST_NODES; i++) {
		struct placement_memory m = { .total = 0 };
		uint64_t there;

		if (!(nodes & NUMA_NODE(i)) || placement_memory(p, i, &m) < 0)
			continue;
		there = m.free + m.file_cache;
		if (there > reserve_of(m.total))
			room += there - reserve_of(m.total);
	}
	return room;
}

/* Sets `size` bytes aside on the nodes. False if there is no room. */
static bool claim(struct placement *p, uint64_t nodes, uint64_t size)
{
	uint64_t before = atomic_fetch_add(&p->claimed, size);

	if (before + size <= room_on(p, nodes))
		return true;
	atomic_fetch_sub(&p->claimed, size);
	return false;
}

/* ---- Files ---- */

/* The policy of a file of a tmpfs is set through a mapping of it, and stays with it. */
static int set_file_policy(int fd, uint64_t size, int mode, uint64_t nodes)
{
	unsigned long mask = nodes;
	void *map;
	int r = 0;

	map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	if (mbind(map, size, mode, &mask, MASK_BITS, 0) < 0)
		r = -errno;
	(void)munmap(map, size);
	return r;
}

/* Any of the nodes; others where those are full. */
static int prefer(int fd, uint64_t size, uint64_t nodes)
{
	if (set_file_policy(fd, size, MPOL_PREFERRED_MANY, nodes) == 0)
		return 0;
	return set_file_policy(fd, size, MPOL_PREFERRED, nodes & (~nodes + 1));
}

/* Copies have a node each, and the files of the main tree are those of the first. */
static uint64_t node_of_copy(const struct placement *p, uint16_t copy)
{
	return copy > 0 ? NUMA_NODE(copy - 1) & p->nodes : p->nodes & (~p->nodes + 1);
}

struct placement_policy placement_policy_of(const struct placement *p, struct node node)
{
	struct placement_policy policy = p->policy;

	if (p->setup.choice.mode == PLACEMENT_MIRROR)
		return (struct placement_policy){ node_of_copy(p, node.copy), false };
	(void)placement_rules_find(p->rules, node.index, &policy);
	return policy;
}

bool placement_may_choose(const struct placement *placement,
			  const struct placement_choice *choice,
			  struct placement_policy *policy)
{
	bool interleave = choice->mode == PLACEMENT_INTERLEAVE;
	uint64_t nodes = interleave ? placement->nodes : choice->nodes;

	if (!interleave && choice->mode != PLACEMENT_NODES &&
	    choice->mode != PLACEMENT_LOCAL)
		return false;
	if (nodes & ~placement->nodes && placement_has_nodes(placement))
		return false;
	*policy = (struct placement_policy){ nodes, interleave };
	return true;
}

struct placement_rules *placement_rules_of(const struct placement *placement)
{
	return placement->rules;
}

void placement_prefer(int fd, uint64_t size, struct placement_policy policy)
{
	if (size == 0)
		return;
	if (policy.nodes == 0)
		(void)set_file_policy(fd, size, MPOL_DEFAULT, 0);
	else if (policy.interleave)
		(void)set_file_policy(fd, size, MPOL_INTERLEAVE, policy.nodes);
	else
		(void)prefer(fd, size, policy.nodes);
}

static void note_failure(struct placement *p, int error)
{
	if (atomic_fetch_add(&p->failed, 1) == 0)
		log_warning("%s: place a resident tensor: %s", p->setup.subject,
			    errtext(-error));
	atomic_store(&p->error, error);
}

/* Bound where there is room: else the kernel prefers to take memory of another node
 * rather than page cache of this one. */
static int bind_to(struct placement *p, int fd, uint64_t size, uint64_t nodes,
		   uint64_t *claimed)
{
	int r;

	*claimed = 0;
	if (!claim(p, nodes, size)) {
		atomic_fetch_add(&p->no_room, 1);
		return prefer(fd, size, nodes);
	}
	r = set_file_policy(fd, size, MPOL_BIND, nodes);
	if (r == 0)
		*claimed = size;
	else
		atomic_fetch_sub(&p->claimed, size);
	return r;
}

uint64_t placement_bind_file(struct placement *placement, int fd, uint64_t size,
			     struct node node)
{
	struct placement_policy policy;
	uint64_t claimed = 0;
	int r;

	if (!placement_has_nodes(placement) || size == 0)
		return 0;
	policy = placement_policy_of(placement, node);
	if (policy.nodes == 0)
		return 0;
	/* What is to be spread takes other nodes by itself. */
	if (policy.interleave)
		r = set_file_policy(fd, size, MPOL_INTERLEAVE, policy.nodes);
	else
		r = bind_to(placement, fd, size, policy.nodes, &claimed);
	if (r < 0)
		note_failure(placement, r);
	else
		atomic_fetch_add(&placement->bound, 1);
	return claimed;
}

/* From now on only what was swapped out is allocated anew, and that must not fail for
 * want of room on one node. */
void placement_settle_file(struct placement *placement, int fd, uint64_t size,
			   struct node node, uint64_t claim)
{
	if (claim == 0)
		return;
	placement_prefer(fd, size, placement_policy_of(placement, node));
	atomic_fetch_sub(&placement->claimed, claim);
}

/* ---- For the status ---- */

void placement_summarise(const struct placement *placement,
			 struct placement_summary *summary)
{
	*summary = (struct placement_summary){
		.choice = placement->setup.choice,
		.policy = placement->policy,
		.no_effect = placement->no_effect,
		.origin = placement->origin,
		.nodes = placement_nodes(placement),
		.bound = atomic_load(&placement->bound),
		.no_room = atomic_load(&placement->no_room),
		.failed = atomic_load(&placement->failed),
		.error = atomic_load(&placement->error),
	};
}
