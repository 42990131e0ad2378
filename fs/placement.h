/*
 * On which NUMA nodes memory lies: that of resident files, that of the page cache of the
 * source, and where the threads run that bring it in. docs/architecture.md says who
 * allocates what.
 *
 * placement*.c are the only files that include <numa.h> and <numaif.h>.
 */
#ifndef FS_PLACEMENT_H
#define FS_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "numa_topology.h"
#include "parsers/diag.h"
#include "util/jsonw.h"

struct model;
struct node;
struct placement;
struct placement_rules;

/* ---- What people say ---- */

enum placement_mode {
	PLACEMENT_LOCAL, /* where the thread that brings it in happens to run */
	PLACEMENT_AUTO,  /* the node of the disk */
	PLACEMENT_NODES,
	PLACEMENT_INTERLEAVE,
	PLACEMENT_GPU,
	PLACEMENT_MIRROR, /* a copy on each node */
};

/* The value of -o numa=. */
struct placement_choice {
	enum placement_mode mode;
	uint64_t nodes;   /* of PLACEMENT_NODES: bits */
	unsigned int gpu; /* of PLACEMENT_GPU: its number */
};

/* Reads "local", "auto", "0,1", "interleave", "gpu:0" or "mirror". Whether there are such
 * nodes is seen by placement_new(). False if it is none of these. */
MUST_CHECK bool placement_parse(const char *text, struct placement_choice *choice);

/* Reads "0,1". */
MUST_CHECK bool placement_parse_nodes(const char *text, uint64_t *nodes);

/* Writes them so. */
void placement_write_choice(const struct placement_choice *choice, struct strbuf *out);
void placement_write_nodes(uint64_t nodes, struct strbuf *out);
void placement_write_node_array(uint64_t nodes, struct jsonw *w);

/* ---- What is told to the kernel ---- */

struct placement_policy {
	uint64_t nodes;  /* bits; 0 for wherever the thread runs */
	bool interleave; /* page by page in turn, rather than on any of them */
};

/* ---- A mount's placement ---- */

struct placement_setup {
	const char *subject; /* of messages; outlives the placement */
	const char *sysfs;   /* SYSFS */
	uint64_t allowed;    /* nodes that this process may use: placement_allowed() */
	int unavailable;     /* why memory cannot be placed at all: -errno, or 0 */
	struct placement_choice choice;
	dev_t source;              /* the file system of the source */
	const struct model *model; /* outlives the placement */
};

/* Bits of the nodes that this process may use. `unavailable` becomes 0, -ENOSYS (the
 * kernel has no NUMA) or -EPERM (this process may not place its memory). */
uint64_t placement_allowed(int *unavailable);

/*
 * Finds the nodes that the choice means. 0; -EINVAL with words that name the nodes there
 * are, or say that there is no such GPU; or -ENOMEM. A machine with one node takes every
 * choice. Before the sandbox.
 */
MUST_CHECK int placement_new(const struct placement_setup *setup,
			     struct placement **placement, struct diag *diag);
void placement_free(struct placement *placement); /* NULL is fine */

/* Says so, in one line, where the choice has no effect on this machine. */
void placement_say(const struct placement *placement);

/* Whether there is more than one node: whether anything here has an effect. NULL: no. */
bool placement_has_nodes(const struct placement *placement);

/* The nodes that there are, and that may be used: bits. 1 for NULL. */
uint64_t placement_nodes(const struct placement *placement);

/* The calling thread, and those that it starts later, allocate by the mount's choice and
 * run on its nodes. */
void placement_enter_thread(const struct placement *placement);

/* The calling thread allocates for a tensor from now on, or for none of them: what it
 * reads of the source comes to lie where the tensor's rule says. To be called in front of
 * each read; costs nothing where there are no rules. NULL is fine. */
#define PLACEMENT_NO_TENSOR UINT32_MAX
void placement_enter_tensor(const struct placement *placement, uint32_t tensor);

/* The same for a file of the mounted tree: with numa=mirror that of its tree. */
void placement_enter_node(const struct placement *placement, struct node node);

/*
 * Binds the memory of a tmpfs file that is still empty to the nodes of the node's tensor.
 * Where they have the room, all of it will lie there. Where they have not, or the kernel
 * refuses, what is possible is done and noted: a fill never fails for that. Any thread.
 *
 * Returns the bytes that were set aside; pass them to placement_settle_file() when the
 * file is filled, or was given up.
 */
MUST_CHECK uint64_t placement_bind_file(struct placement *placement, int fd,
					uint64_t size, struct node node);
void placement_settle_file(struct placement *placement, int fd, uint64_t size,
			   struct node node, uint64_t claim);

/* ---- Rules ---- */

/* What people said about tensors; placement_rules.h. */
struct placement_rules *placement_rules_of(const struct placement *placement);

/* Where the memory of a node's tensor belongs: by its rule, else by the mount's choice.
 */
struct placement_policy placement_policy_of(const struct placement *placement,
					    struct node node);

/* What a choice of nodes, "interleave" or "local" comes to. False if some of the nodes
 * are not there; a machine with one node takes all. */
MUST_CHECK bool placement_may_choose(const struct placement *placement,
				     const struct placement_choice *choice,
				     struct placement_policy *policy);

/* What is allocated of a tmpfs file from now on prefers these nodes. */
void placement_prefer(int fd, uint64_t size, struct placement_policy policy);

/* ---- For the status ---- */

struct placement_summary {
	struct placement_choice choice;
	struct placement_policy policy; /* that it came to */
	const char *no_effect;          /* why it has none; NULL where it has */
	const char *origin;             /* the device that it was taken from; or empty */
	uint64_t nodes;                 /* that may be used */
	uint64_t bound;                 /* files that were bound, since the mount */
	uint64_t no_room;               /* of those: for which the nodes had no room */
	uint64_t failed;                /* files that could not be bound */
	int error;                      /* what the kernel said to the last of them */
};

void placement_summarise(const struct placement *placement,
			 struct placement_summary *summary);

/* Memory of a node, as the kernel counts it. */
struct placement_memory {
	uint64_t total;
	uint64_t free;
	uint64_t file_cache; /* which gives way when the memory is needed */
};

/* 0 or a negative errno. Any thread. */
MUST_CHECK int placement_memory(const struct placement *placement, unsigned int node,
				struct placement_memory *memory);

#endif
