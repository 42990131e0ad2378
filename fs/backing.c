#include "backing.h"

const struct backing_ops *const backing_table[BACKING_CHOICE_COUNT] = {
	[BACKING_STREAM] = &backing_stream,
	[BACKING_CLONE] = &backing_clone,
	[BACKING_RESIDENT] = &backing_resident,
};
