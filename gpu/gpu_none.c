/* No GPU: every machine has this one. */
#include "gpu/gpu.h"

static unsigned int none_device_count(void)
{
	return 0;
}

static const struct gpu_ops gpu_none = {
	.name = "none",
	.device_count = none_device_count,
};

const struct gpu_ops *gpu_probe(void)
{
	return &gpu_none;
}
