/*
 * The GPU side as one const struct of operations. The daemon asks gpu_probe() once and
 * then knows no more than these operations; the no-op implementation is always there, so
 * that the same program starts with and without a GPU.
 */
#ifndef GPU_GPU_H
#define GPU_GPU_H

struct gpu_ops {
	const char *name; /* "none", ... as shown in `mountctl status` */

	/* Number of devices that can be used; 0 when there are none. Any thread. */
	unsigned int (*device_count)(void);
};

/* The implementation that works on this machine; never NULL, never freed. */
const struct gpu_ops *gpu_probe(void);

#endif
