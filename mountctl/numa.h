/* What the status says about NUMA nodes, for people. */
#ifndef MOUNTCTL_NUMA_H
#define MOUNTCTL_NUMA_H

#include "mountctl/json.h"

/* Adds "'*.layers.0.*' on node 0, 12 tensors". */
void numa_add_rule(struct strbuf *out, struct json rule);

/* Prints lines for `mountctl status`: what was chosen, and rules. */
void numa_print_choice(struct json numa);

/* Prints what `mountctl status --numa` shows besides. */
void numa_print_nodes(struct json numa);

#endif
