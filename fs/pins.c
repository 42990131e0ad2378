#include "pins.h"

#include <assert.h>
#include <errno.h>

#include "inodes.h"
#include "jobs.h"

struct pin {
	uint8_t holds; /* one for each job at most */
	bool set;
};

_Static_assert(JOBS_RUNNING_MAX <= UINT8_MAX, "jobs that hold one file");

struct pins {
	struct weightfs *fs;
	pthread_mutex_t lock; /* protects the rest; inodes.lock may be taken inside */
	struct pin *table; /* by tensor, view and copy; NULL until something is pinned */
	uint64_t count;
};

int pins_new(struct weightfs *fs, struct pins **pins)
{
	struct pins *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->fs = fs;
	(void)pthread_mutex_init(&p->lock, NULL);
	*pins = p;
	return 0;
}

void pins_free(struct pins *pins)
{
	if (!pins)
		return;
	free(pins->table);
	(void)pthread_mutex_destroy(&pins->lock);
	free(pins);
}

static size_t place_of(const struct pins *pins, struct node node)
{
	const struct numa_mirror *mirror = &pins->fs->mirror;
	size_t of_main_tree = (size_t)node.index * VIEW_COUNT + node.view;

	return of_main_tree * numa_mirror_file_count(mirror) +
	       numa_mirror_place(mirror, node.copy);
}

/* NULL where nothing was ever pinned. */
static struct pin *find(const struct pins *pins, struct node node)
{
	return pins->table ? &pins->table[place_of(pins, node)] : NULL;
}

static struct pin *find_or_add(struct pins *pins, struct node node)
{
	if (!pins->table)
		pins->table = calloc(model_tensor_count(pins->fs->served->model),
				     VIEW_COUNT * sizeof(struct pin) *
					     numa_mirror_file_count(&pins->fs->mirror));
	return find(pins, node);
}

/* Sets the pin as it should be. Where the inode cannot be noted it stays as it was. */
static int change(struct pins *pins, struct node node, struct pin *pin, struct pin wanted)
{
	bool before = pin->set || pin->holds > 0;
	bool after = wanted.set || wanted.holds > 0;
	int r = 0;

	if (before != after && pins->fs->inodes)
		r = inodes_pin(pins->fs->inodes, node, after);
	if (r < 0)
		return r;
	pins->count += (uint64_t)wanted.set - (uint64_t)pin->set;
	*pin = wanted;
	return 0;
}

int pins_set(struct pins *pins, struct node node, bool pinned, bool *changed)
{
	struct pin *pin;
	int r = 0;

	(void)pthread_mutex_lock(&pins->lock);
	pin = pinned ? find_or_add(pins, node) : find(pins, node);
	*changed = pin && pin->set != pinned;
	if (pinned && !pin)
		r = -ENOMEM;
	if (*changed)
		r = change(pins, node, pin,
			   (struct pin){ .holds = pin->holds, .set = pinned });
	(void)pthread_mutex_unlock(&pins->lock);
	return r;
}

int pins_hold(struct pins *pins, struct node node)
{
	struct pin *pin;
	int r = -ENOMEM;

	(void)pthread_mutex_lock(&pins->lock);
	pin = find_or_add(pins, node);
	if (pin)
		r = change(pins, node, pin,
			   (struct pin){ .holds = (uint8_t)(pin->holds + 1),
					 .set = pin->set });
	(void)pthread_mutex_unlock(&pins->lock);
	return r;
}

void pins_release(struct pins *pins, struct node node)
{
	struct pin *pin;
	int r = -EINVAL;

	(void)pthread_mutex_lock(&pins->lock);
	pin = find(pins, node);
	if (pin && pin->holds > 0)
		r = change(pins, node, pin,
			   (struct pin){ .holds = (uint8_t)(pin->holds - 1),
					 .set = pin->set });
	assert(r == 0); /* it was held, and taking a pin away needs no memory */
	(void)r;
	(void)pthread_mutex_unlock(&pins->lock);
}

static struct pin get(struct pins *pins, struct node node)
{
	struct pin pin = { 0 };

	(void)pthread_mutex_lock(&pins->lock);
	if (pins->table)
		pin = pins->table[place_of(pins, node)];
	(void)pthread_mutex_unlock(&pins->lock);
	return pin;
}

bool pins_is_set(struct pins *pins, struct node node)
{
	return get(pins, node).set;
}

bool pins_is_held(struct pins *pins, struct node node)
{
	return get(pins, node).holds > 0;
}

uint64_t pins_count(struct pins *pins)
{
	uint64_t count;

	(void)pthread_mutex_lock(&pins->lock);
	count = pins->count;
	(void)pthread_mutex_unlock(&pins->lock);
	return count;
}
