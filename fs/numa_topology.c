#include "numa_topology.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Devices that are made of devices that are made of devices. */
#define MOST_LEVELS 8u

/* Longer than any list of processors. */
#define LINE_MAX_BYTES 8192u

#define NVIDIA        0x10deu
#define CLASS_DISPLAY 0x03u /* the upper byte of 24 bits */

/* ---- Small files ---- */

PRINTF_LIKE(2, 3)
static bool make_path(char path[static PATH_MAX], const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(path, PATH_MAX, format, args);
	va_end(args);
	return n > 0 && n < PATH_MAX;
}

/* The first line of a file, without its end. */
static bool read_line(const char *path, char *line, size_t size)
{
	CLEANUP(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, size - 1);

	if (n < 0)
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return true;
}

static bool read_number(const char *dir, const char *name, int base, long *number)
{
	char path[PATH_MAX];
	char line[32];
	char *end;

	if (!make_path(path, "%s/%s", dir, name) || !read_line(path, line, sizeof(line)))
		return false;
	errno = 0;
	*number = strtol(line, &end, base);
	return end != line && *end == '\0' && errno == 0;
}

/* ---- Lists ---- */

static bool take_number(const char **text, unsigned int *number)
{
	char *end;
	unsigned long value;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	value = strtoul(*text, &end, 10);
	if (errno != 0 || value > UINT_MAX)
		return false;
	*number = (unsigned int)value;
	*text = end;
	return true;
}

static bool take_range(const char **text, unsigned int *first, unsigned int *last)
{
	if (!take_number(text, first))
		return false;
	*last = *first;
	if (**text != '-')
		return true;
	(*text)++;
	return take_number(text, last) && *last >= *first;
}

bool numa_read_list(const char *text, unsigned int most,
		    void (*add)(unsigned int number, void *context), void *context)
{
	unsigned int first;
	unsigned int last;

	while (*text != '\0') {
		if (!take_range(&text, &first, &last))
			return false;
		for (unsigned int i = first; i <= last && i < most; i++)
			add(i, context);
		if (*text == ',')
			text++;
		else if (*text != '\0')
			return false;
	}
	return true;
}

static void add_node(unsigned int node, void *context)
{
	uint64_t *nodes = context;

	*nodes |= NUMA_NODE(node);
}

static void add_cpu(unsigned int cpu, void *context)
{
	cpu_set_t *cpus = context;

	CPU_SET(cpu, cpus);
}

/* ---- Nodes ---- */

uint64_t numa_nodes_with_memory(const char *sysfs)
{
	static const char *const names[] = { "has_memory", "online" };
	char line[LINE_MAX_BYTES];
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		uint64_t nodes = 0;

		if (make_path(path, "%s/devices/system/node/%s", sysfs, names[i]) &&
		    read_line(path, line, sizeof(line)) &&
		    numa_read_list(line, NUMA_MOST_NODES, add_node, &nodes) && nodes)
			return nodes;
	}
	return 0;
}

void numa_node_cpus(const char *sysfs, unsigned int node, cpu_set_t *cpus)
{
	char line[LINE_MAX_BYTES];
	char path[PATH_MAX];

	CPU_ZERO(cpus);
	if (make_path(path, "%s/devices/system/node/node%u/cpulist", sysfs, node) &&
	    read_line(path, line, sizeof(line)))
		(void)numa_read_list(line, CPU_SETSIZE, add_cpu, cpus);
}

int numa_open_meminfo(const char *sysfs, unsigned int node)
{
	char path[PATH_MAX];
	int fd;

	if (!make_path(path, "%s/devices/system/node/node%u/meminfo", sysfs, node))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* ---- Disks ---- */

/* A device that is still to be asked. */
struct question {
	const char *sysfs;
	char *name; /* of the device that answered */
	unsigned int level;
};

static int ask_device(const struct question *question, const char *device);

static int ask_number(const struct question *question, dev_t dev)
{
	const struct question next = { question->sysfs, question->name,
				       question->level + 1 };
	char path[PATH_MAX];
	char dir[PATH_MAX];

	if (next.level > MOST_LEVELS ||
	    !make_path(path, "%s/dev/block/%u:%u", question->sysfs, major(dev),
		       minor(dev)) ||
	    !realpath(path, dir))
		return -ENODEV;
	return ask_device(&next, dir);
}

/* A loop device is where its file is. */
static int ask_loop(const struct question *question, const char *dir)
{
	char path[PATH_MAX];
	char file[PATH_MAX];
	struct stat st;

	if (!make_path(path, "%s/loop/backing_file", dir) ||
	    !read_line(path, file, sizeof(file)) || stat(file, &st) < 0)
		return -ENODEV;
	return ask_number(question, st.st_dev);
}

/* What dm and md devices are made of. */
static int ask_slaves(const struct question *question, const char *dir)
{
	const struct question next = { question->sysfs, question->name,
				       question->level + 1 };
	const struct dirent *entry;
	char path[PATH_MAX];
	char slave[PATH_MAX];
	int node = -ENODEV;
	DIR *slaves;

	if (next.level > MOST_LEVELS || !make_path(path, "%s/slaves", dir))
		return -ENODEV;
	slaves = opendir(path);
	if (!slaves)
		return -ENODEV;
	/* The stream is this function's own. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (node < 0 && (entry = readdir(slaves))) {
		if (entry->d_name[0] != '.' &&
		    make_path(path, "%s/slaves/%s", dir, entry->d_name) &&
		    realpath(path, slave))
			node = ask_device(&next, slave);
	}
	(void)closedir(slaves);
	return node;
}

static int answer(const struct question *question, const char *device, long node)
{
	const char *base = strrchr(device, '/');

	(void)snprintf(question->name, NUMA_DEVICE_MAX, "%s", base ? base + 1 : device);
	return (int)node;
}

/* Goes up from a device, a partition for instance, to one that is at a node. */
static int ask_device(const struct question *question, const char *device)
{
	char dir[PATH_MAX];
	long number;
	char *slash;
	int node;

	if (!make_path(dir, "%s", device))
		return -ENODEV;
	while (strlen(dir) > strlen(question->sysfs)) {
		if (read_number(dir, "numa_node", 10, &number) && number >= 0 &&
		    number < (long)NUMA_MOST_NODES)
			return answer(question, device, number);
		node = ask_slaves(question, dir);
		if (node < 0)
			node = ask_loop(question, dir);
		if (node >= 0)
			return node;
		slash = strrchr(dir, '/');
		if (!slash)
			break;
		*slash = '\0';
	}
	return -ENODEV;
}

/* The name is written to. NOLINTNEXTLINE(readability-non-const-parameter) */
int numa_node_of_disk(const char *sysfs, dev_t dev, char name[static NUMA_DEVICE_MAX])
{
	char root[PATH_MAX];
	const struct question question = { root, name, 0 };

	if (!realpath(sysfs, root))
		return -ENODEV;
	return ask_number(&question, dev);
}

/* ---- GPUs ---- */

static bool is_gpu(const char *dir)
{
	long vendor;
	long class;

	return read_number(dir, "vendor", 16, &vendor) && vendor == NVIDIA &&
	       read_number(dir, "class", 16, &class) && class >> 16 == CLASS_DISPLAY;
}

int numa_node_of_gpu(const char *sysfs, unsigned int index, unsigned int *count)
{
	struct dirent **entries = NULL;
	char path[PATH_MAX];
	int node = -ENODEV;
	long number;
	int n = -1;

	*count = 0;
	if (make_path(path, "%s/bus/pci/devices", sysfs))
		n = scandir(path, &entries, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (entries[i]->d_name[0] != '.' &&
		    make_path(path, "%s/bus/pci/devices/%s", sysfs, entries[i]->d_name) &&
		    is_gpu(path) && (*count)++ == index &&
		    read_number(path, "numa_node", 10, &number) && number >= 0 &&
		    number < (long)NUMA_MOST_NODES)
			node = (int)number;
		free(entries[i]);
	}
	free(entries);
	return node;
}
