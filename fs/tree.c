#include "tree.h"

#include <errno.h>
#include <string.h>

#include "util/arena.h"
#include "util/hash.h"

/* Components of one name. Published names have about ten; PATH_MAX ends at 2,000. */
#define MOST_COMPONENTS 256

static const char self_name[] = "%self";

/* A tensor whose file name is cut in some view, found by the hash that the cut name ends
 * in. */
struct cut_name {
	uint64_t hash;
	uint32_t tensor;
};

struct tree {
	struct model *model;
	struct nametree *names;
	struct arena arena;    /* stems that are no slices of a tensor's name */
	struct cut_name *cuts; /* by hash */
	size_t cut_count;
	size_t cut_capacity;
};

static uint64_t name_hash(const struct tensor *t)
{
	return hash_stable(t->name, t->name_len);
}

/* ---- Building ---- */

/* One component of a name and what it is encoded as. */
struct component {
	const char *bytes;
	size_t len;
	const char *stem;
	size_t stem_len;
};

/* The stem is a slice of the tensor's name where nothing needs an escape, else a copy. */
static int make_stem(struct tree *tree, struct component *c, bool encode_slash)
{
	struct strbuf text;

	c->stem = c->bytes;
	c->stem_len = c->len;
	if (path_is_plain(c->bytes, c->len, encode_slash))
		return 0;
	strbuf_init(&text);
	path_encode(&text, c->bytes, c->len, encode_slash);
	c->stem = text.err ? NULL : arena_copy(&tree->arena, text.data, text.len);
	c->stem_len = text.len;
	strbuf_fini(&text);
	return c->stem ? 0 : -ENOMEM;
}

/* The name of the directory for a component. It has no suffix and no tensor of its own: a
 * long one is marked with the hash of the component's bytes. */
static size_t dir_name(const struct component *c, char name[static PATH_NAME_MAX + 1])
{
	uint64_t hash = 0;

	if (path_needs_cut(c->stem, c->stem_len, 0))
		hash = hash_stable(c->bytes, c->len);
	return path_file_name(c->stem, c->stem_len, "", hash, name);
}

static int add_component(struct tree *tree, uint32_t *dir, const char *bytes, size_t len,
			 bool keep_slashes)
{
	struct component c = { .bytes = bytes, .len = len };
	char name[PATH_NAME_MAX + 1];
	const char *kept;

	if (make_stem(tree, &c, keep_slashes) < 0)
		return -ENOMEM;
	if (!path_needs_cut(c.stem, c.stem_len, 0))
		return nametree_add_dir(tree->names, *dir, c.stem, c.stem_len, dir);
	len = dir_name(&c, name);
	if (nametree_find_dir(tree->names, *dir, name, len, dir))
		return 0;
	kept = arena_copy(&tree->arena, name, len);
	return kept ? nametree_add_dir(tree->names, *dir, kept, len, dir) : -ENOMEM;
}

/* Where the component at the start of `bytes` ends: at '.', at '/' unless those are kept,
 * or at the end. */
static size_t component_len(const char *bytes, size_t len, bool keep_slashes)
{
	size_t i = 0;

	while (i < len && bytes[i] != '.' && (bytes[i] != '/' || keep_slashes))
		i++;
	return i;
}

/* Adds the directories of a name; on success the last component starts at `*last`. */
static int add_dirs(struct tree *tree, const struct tensor *t, bool keep_slashes,
		    uint32_t *dir, size_t *last)
{
	unsigned int depth = 0;
	size_t at = 0;

	*dir = NAMETREE_ROOT;
	for (;;) {
		size_t len = component_len(t->name + at, t->name_len - at, keep_slashes);
		int r;

		if (at + len == t->name_len)
			break;
		if (++depth >= MOST_COMPONENTS)
			return -E2BIG;
		r = add_component(tree, dir, t->name + at, len, keep_slashes);
		if (r < 0)
			return r;
		at += len + 1;
	}
	*last = at;
	return 0;
}

static bool has_slash(const struct tensor *t)
{
	return memchr(t->name, '/', t->name_len) != NULL;
}

struct build {
	struct tree *tree;
	struct diag *diag;
	/* For each tensor, between the two passes: the directory of its last component
	 * and where that starts. */
	struct place {
		uint32_t dir;
		uint32_t last;
	} * places;
	/* Tensors whose path was taken and that keep their slashes. */
	uint32_t *kept;
	size_t kept_count;
};

static int fail_dirs(struct diag *diag, const struct tensor *t, int r)
{
	if (r == -ENOMEM)
		return diag_fail(diag, r, "out of memory");
	return diag_fail(
		diag, r,
		"tensor %s: its name has more than %d components, or the names of all "
		"tensors make too many directories",
		DIAG_QUOTED(t->name, t->name_len), MOST_COMPONENTS);
}

static int plan_dirs(struct build *b, uint32_t tensor, bool keep_slashes)
{
	const struct tensor *t = model_tensor(b->tree->model, tensor);
	size_t last;
	int r;

	r = add_dirs(b->tree, t, keep_slashes, &b->places[tensor].dir, &last);
	if (r < 0)
		return fail_dirs(b->diag, t, r);
	b->places[tensor].last = (uint32_t)last;
	return 0;
}

/* Two names share a path: the one that has a slash makes room. Of two names without a
 * slash the paths differ, so one of them has one; of two that kept theirs as well. Nobody
 * gets two directories with the same hash by chance. */
static int resolve_clash(struct build *b, uint32_t sitting, uint32_t coming,
			 bool keep_slashes)
{
	const struct tensor *t = model_tensor(b->tree->model, coming);

	if (!keep_slashes && has_slash(t)) {
		b->kept[b->kept_count++] = coming;
		return 0;
	}
	if (!keep_slashes && has_slash(model_tensor(b->tree->model, sitting))) {
		nametree_replace_leaf(b->tree->names, sitting, coming);
		b->kept[b->kept_count++] = sitting;
		return 0;
	}
	return diag_fail(b->diag, -EEXIST, "tensor %s: has the same path as another's",
			 DIAG_QUOTED(t->name, t->name_len));
}

/* Whether a directory stands where the raw file of this stem would: then also under a
 * name that is cut. */
static bool find_dir_of_file(const struct build *b, const struct tensor *t, uint32_t dir,
			     const struct component *c, uint32_t *found)
{
	char name[PATH_NAME_MAX + 1];
	size_t len;

	if (!path_needs_cut(c->stem, c->stem_len, 0))
		return nametree_find_dir(b->tree->names, dir, c->stem, c->stem_len,
					 found);
	len = path_file_name(c->stem, c->stem_len, "", name_hash(t), name);
	return nametree_find_dir(b->tree->names, dir, name, len, found);
}

static int place_tensor(struct build *b, uint32_t tensor, bool keep_slashes)
{
	const struct tensor *t = model_tensor(b->tree->model, tensor);
	struct nametree *names = b->tree->names;
	uint32_t dir = b->places[tensor].dir;
	uint32_t last = b->places[tensor].last;
	struct component c = { .bytes = t->name + last, .len = t->name_len - last };
	uint32_t other;

	if (make_stem(b->tree, &c, keep_slashes) < 0)
		return diag_fail(b->diag, -ENOMEM, "out of memory");
	if (find_dir_of_file(b, t, dir, &c, &dir)) {
		c.stem = self_name;
		c.stem_len = strlen(self_name);
	}
	if (nametree_find_leaf(names, dir, c.stem, c.stem_len, &other))
		return resolve_clash(b, other, tensor, keep_slashes);
	if (nametree_place_leaf(names, tensor, dir, c.stem, c.stem_len) < 0)
		return diag_fail(b->diag, -ENOMEM, "out of memory");
	return 0;
}

/* All directories first: only then is it known which file stands where a directory is. */
static int place_tensors(struct build *b, uint32_t count)
{
	size_t kept;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = plan_dirs(b, i, false);
	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = place_tensor(b, i, false);
	kept = b->kept_count;
	for (size_t i = 0; r == 0 && i < kept; i++)
		r = plan_dirs(b, b->kept[i], true);
	for (size_t i = 0; r == 0 && i < kept; i++)
		r = place_tensor(b, b->kept[i], true);
	return r;
}

static int add_cut(struct tree *tree, uint32_t tensor)
{
	if (tree->cut_count == tree->cut_capacity) {
		size_t capacity = tree->cut_capacity ? tree->cut_capacity * 2 : 16;
		struct cut_name *cuts = reallocarray(tree->cuts, capacity, sizeof(*cuts));

		if (!cuts)
			return -ENOMEM;
		tree->cuts = cuts;
		tree->cut_capacity = capacity;
	}
	tree->cuts[tree->cut_count++] = (struct cut_name){
		.hash = name_hash(model_tensor(tree->model, tensor)),
		.tensor = tensor,
	};
	return 0;
}

/* Bytes of the longest suffix of a view, ".safetensors". */
#define LONGEST_SUFFIX 12

/* No name shorter than this has a stem that needs cutting: an escape triples a byte. */
#define SHORTEST_CUT 60

static bool may_be_cut(const struct tree *tree, uint32_t tensor)
{
	const struct nametree_leaf *leaf = nametree_leaf(tree->names, tensor);
	const struct tensor *t = model_tensor(tree->model, tensor);
	struct strbuf flat;
	uint64_t ignored;

	if (t->name_len < SHORTEST_CUT)
		return false;
	if (path_needs_cut(leaf->name, leaf->name_len, LONGEST_SUFFIX))
		return true;
	strbuf_init_counting(&flat);
	path_encode(&flat, t->name, t->name_len, true);
	/* The mark that a flat name may pretend to have holds no escapes; the rest may.
	 */
	return flat.len > PATH_NAME_MAX - LONGEST_SUFFIX ||
	       path_cut_hash(t->name, t->name_len, &ignored);
}

static int compare_cuts(const void *left, const void *right)
{
	const struct cut_name *a = left;
	const struct cut_name *b = right;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return (a->tensor > b->tensor) - (a->tensor < b->tensor);
}

static int list_cuts(struct tree *tree, uint32_t count, struct diag *diag)
{
	for (uint32_t i = 0; i < count; i++)
		if (may_be_cut(tree, i) && add_cut(tree, i) < 0)
			return diag_fail(diag, -ENOMEM, "out of memory");
	if (tree->cut_count > 1)
		qsort(tree->cuts, tree->cut_count, sizeof(*tree->cuts), compare_cuts);
	for (size_t i = 1; i < tree->cut_count; i++) {
		const struct tensor *t = model_tensor(tree->model, tree->cuts[i].tensor);

		/* Nobody hits this by chance: a hash collision was made on purpose. */
		if (tree->cuts[i].hash == tree->cuts[i - 1].hash)
			return diag_fail(
				diag, -EEXIST,
				"tensor %s: its long name has the same hash as another's",
				DIAG_QUOTED(t->name, t->name_len));
	}
	return 0;
}

static int build_tree(struct tree *tree, struct diag *diag)
{
	uint32_t count = (uint32_t)model_tensor_count(tree->model);
	struct build b = { .tree = tree, .diag = diag };
	int r;

	if (nametree_new(count, &tree->names) < 0)
		return diag_fail(diag, -ENOMEM, "out of memory");
	b.places = calloc(count ? count : 1, sizeof(*b.places));
	b.kept = calloc(count ? count : 1, sizeof(*b.kept));
	if (b.places && b.kept)
		r = place_tensors(&b, count);
	else
		r = diag_fail(diag, -ENOMEM, "out of memory");
	free(b.places);
	free(b.kept);
	if (r == 0 && nametree_seal(tree->names) < 0)
		r = diag_fail(diag, -ENOMEM, "out of memory");
	return r < 0 ? r : list_cuts(tree, count, diag);
}

int tree_new(struct model *model, struct tree **tree, struct diag *diag)
{
	struct tree *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return diag_fail(diag, -ENOMEM, "out of memory");
	t->model = model_ref(model);
	r = build_tree(t, diag);
	if (r < 0) {
		tree_free(t);
		return r;
	}
	*tree = t;
	return 0;
}

void tree_free(struct tree *tree)
{
	if (!tree)
		return;
	nametree_free(tree->names);
	arena_fini(&tree->arena);
	free(tree->cuts);
	model_unref(tree->model);
	free(tree);
}

/* ---- Reading ---- */

const struct nametree *tree_names(const struct tree *tree)
{
	return tree->names;
}

size_t tree_file_name(const struct tree *tree, uint32_t tensor, const char *suffix,
		      char out[static PATH_NAME_MAX + 1])
{
	const struct nametree_leaf *leaf = nametree_leaf(tree->names, tensor);
	uint64_t hash = 0;

	if (path_needs_cut(leaf->name, leaf->name_len, strlen(suffix)))
		hash = name_hash(model_tensor(tree->model, tensor));
	return path_file_name(leaf->name, leaf->name_len, suffix, hash, out);
}

size_t tree_flat_name(const struct tree *tree, uint32_t tensor, const char *suffix,
		      char out[static PATH_NAME_MAX + 1])
{
	const struct tensor *t = model_tensor(tree->model, tensor);
	/* What is longer is cut, and the cut needs no more than this. */
	const size_t most = PATH_NAME_MAX + 1;
	char stem[3 * (PATH_NAME_MAX + 1) + 1];
	struct strbuf text;
	size_t len = t->name_len < most ? t->name_len : most;

	if (path_is_plain(t->name, t->name_len, true))
		return path_file_name(t->name, t->name_len, suffix, name_hash(t), out);
	strbuf_init_fixed(&text, stem, sizeof(stem));
	path_encode(&text, t->name, len, true);
	return path_file_name(stem, text.len, suffix, name_hash(t), out);
}

/* The tensor whose hash a cut file name ends in. */
static bool find_cut(const struct tree *tree, const char *name, size_t len,
		     uint32_t *tensor)
{
	const struct cut_name *found;
	struct cut_name key = { 0 };
	size_t low = 0;
	size_t high = tree->cut_count;

	if (tree->cut_count == 0 || !path_cut_hash(name, len, &key.hash))
		return false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (tree->cuts[middle].hash < key.hash)
			low = middle + 1;
		else
			high = middle;
	}
	found = &tree->cuts[low];
	if (low == tree->cut_count || found->hash != key.hash)
		return false;
	*tensor = found->tensor;
	return true;
}

/* Takes the suffix off a file name; false if the name does not end in it. */
static bool strip_suffix(const char *name, const char *suffix, size_t *stem_len)
{
	size_t len = strlen(name);
	size_t suffix_len = strlen(suffix);

	if (len <= suffix_len || strcmp(name + len - suffix_len, suffix) != 0)
		return false;
	*stem_len = len - suffix_len;
	return true;
}

/* Only the one spelling that the encoding gives is a name, and only in its own directory.
 */
static bool is_file_name(const struct tree *tree, uint32_t dir, const char *name,
			 const char *suffix, uint32_t tensor)
{
	char file_name[PATH_NAME_MAX + 1];

	(void)tree_file_name(tree, tensor, suffix, file_name);
	return nametree_leaf(tree->names, tensor)->parent == dir &&
	       strcmp(file_name, name) == 0;
}

bool tree_find_file(const struct tree *tree, uint32_t dir, const char *name,
		    const char *suffix, uint32_t *tensor)
{
	size_t len;

	if (!strip_suffix(name, suffix, &len))
		return false;
	if (nametree_find_leaf(tree->names, dir, name, len, tensor) &&
	    is_file_name(tree, dir, name, suffix, *tensor))
		return true;
	return find_cut(tree, name, len, tensor) &&
	       is_file_name(tree, dir, name, suffix, *tensor);
}

static bool find_decoded(const struct tree *tree, const char *stem, size_t len,
			 uint32_t *tensor)
{
	char bytes[PATH_NAME_MAX];
	const struct tensor *t;
	size_t n;

	if (len > sizeof(bytes) || !path_decode(stem, len, bytes, &n))
		return false;
	t = model_find_tensor(tree->model, bytes, n);
	if (!t)
		return false;
	*tensor = (uint32_t)model_tensor_index(tree->model, t);
	return true;
}

static bool is_flat_name(const struct tree *tree, const char *name, const char *suffix,
			 uint32_t tensor)
{
	char file_name[PATH_NAME_MAX + 1];

	(void)tree_flat_name(tree, tensor, suffix, file_name);
	return strcmp(file_name, name) == 0;
}

bool tree_find_flat(const struct tree *tree, const char *name, const char *suffix,
		    uint32_t *tensor)
{
	size_t len;

	if (!strip_suffix(name, suffix, &len))
		return false;
	if (find_decoded(tree, name, len, tensor) &&
	    is_flat_name(tree, name, suffix, *tensor))
		return true;
	return find_cut(tree, name, len, tensor) &&
	       is_flat_name(tree, name, suffix, *tensor);
}

static void add_dir_path(const struct nametree *names, uint32_t dir, struct strbuf *out)
{
	uint32_t chain[MOST_COMPONENTS];
	size_t depth = 0;

	for (; dir != NAMETREE_ROOT; dir = nametree_dir(names, dir)->parent)
		chain[depth++] = dir;
	while (depth > 0) {
		const struct nametree_dir *d = nametree_dir(names, chain[--depth]);

		strbuf_add(out, d->name, d->name_len);
		strbuf_add_char(out, '/');
	}
}

void tree_add_path(const struct tree *tree, uint32_t tensor, struct strbuf *out)
{
	char name[PATH_NAME_MAX + 1];
	size_t len = tree_file_name(tree, tensor, "", name);

	add_dir_path(tree->names, nametree_leaf(tree->names, tensor)->parent, out);
	strbuf_add(out, name, len);
}
