/* model.json and metadata.json: made when first read, then kept in a memfd. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "served.h"
#include "util/log.h"

static void write_shape(struct jsonw *w, const struct tensor *t)
{
	jsonw_key(w, "shape");
	jsonw_begin_array(w);
	for (unsigned int i = 0; i < t->rank; i++)
		jsonw_u64(w, t->shape[i]);
	jsonw_end_array(w);
}

/* `path` is scratch that one document's tensors share. */
static void write_tensor(const struct served *served, uint32_t index, struct strbuf *path,
			 struct jsonw *w)
{
	const struct tensor *t = model_tensor(served->model, index);

	path->len = 0;
	tree_add_path(served->tree, index, path);
	jsonw_begin_object(w);
	jsonw_key(w, "name");
	jsonw_string_bytes(w, t->name, t->name_len);
	jsonw_key(w, "path");
	jsonw_string_bytes(w, path->data, path->len);
	jsonw_key(w, "dtype");
	jsonw_string(w, dtype_info((enum dtype)t->dtype)->name);
	write_shape(w, t);
	jsonw_key(w, "nbytes");
	jsonw_u64(w, t->nbytes);
	jsonw_key(w, "file");
	jsonw_string(w, model_shard(served->model, t->shard)->name);
	jsonw_key(w, "offset");
	jsonw_u64(w, t->offset);
	jsonw_end_object(w);
}

/* One tensor a line: the file of a large model can be read with line tools. */
static void new_line(struct strbuf *out, struct jsonw *w)
{
	if (w->need_comma) {
		strbuf_add_char(out, ',');
		w->need_comma = false;
	}
	strbuf_add_char(out, '\n');
}

static void write_skipped(const struct served *served, struct jsonw *w)
{
	jsonw_key(w, "skipped");
	jsonw_begin_array(w);
	for (size_t i = 0; i < model_skipped_count(served->model); i++) {
		const struct skipped_tensor *skipped = model_skipped(served->model, i);

		new_line(w->out, w);
		jsonw_begin_object(w);
		jsonw_key(w, "name");
		jsonw_string_bytes(w, skipped->name, skipped->name_len);
		jsonw_key(w, "reason");
		jsonw_string(w, skipped->reason);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static int write_model(const struct served *served, struct strbuf *out)
{
	uint32_t count = (uint32_t)model_tensor_count(served->model);
	struct strbuf path;
	struct jsonw w;

	strbuf_init(&path);
	jsonw_init(&w, out);
	jsonw_begin_object(&w);
	jsonw_key(&w, "weightfs");
	jsonw_u64(&w, 1);
	jsonw_key(&w, "name");
	jsonw_string(&w, served->source->name);
	jsonw_key(&w, "format");
	jsonw_string(&w, model_format(served->model));
	jsonw_key(&w, "tensor_count");
	jsonw_u64(&w, count);
	jsonw_key(&w, "total_bytes");
	jsonw_u64(&w, model_total_bytes(served->model));
	jsonw_key(&w, "tensors");
	jsonw_begin_array(&w);
	for (uint32_t i = 0; i < count && !path.err; i++) {
		new_line(out, &w);
		write_tensor(served, i, &path, &w);
	}
	jsonw_end_array(&w);
	write_skipped(served, &w);
	jsonw_end_object(&w);
	strbuf_add_char(out, '\n');
	if (path.err)
		out->err = path.err;
	strbuf_fini(&path);
	return out->err;
}

/* The parser reads the file again, which must still be what it was. */
static int write_metadata(const struct served *served, struct strbuf *out)
{
	struct source_file *file = &served->source->files[served->shard_files[0]];
	struct reader reader;
	struct diag diag;
	struct jsonw w;
	int r;

	jsonw_init(&w, out);
	if (!source_file_unchanged(file))
		return -EIO;
	reader_init_fd(&reader, file->fd, file->size, &diag);
	r = served->format->write_metadata(&reader, &w);
	reader_fini(&reader);
	if (r < 0) {
		log_error("%s: metadata: %s", file->path, diag.text);
		return r == -ENOMEM ? r : -EIO;
	}
	if (!source_file_unchanged(file))
		return -EIO;
	strbuf_add_char(out, '\n');
	return out->err;
}

int served_write_document(struct served *served, enum document_kind kind,
			  struct strbuf *out)
{
	return kind == DOCUMENT_MODEL ? write_model(served, out)
				      : write_metadata(served, out);
}

/* Moves the text into a memfd. */
static int store(struct document *document, const struct strbuf *text)
{
	size_t done = 0;

	document->fd = memfd_create("weightfs document", MFD_CLOEXEC);
	if (document->fd < 0)
		return -errno;
	while (done < text->len) {
		ssize_t n = write(document->fd, text->data + done, text->len - done);

		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	document->len = text->len;
	return 0;
}

static int make(struct served *served, enum document_kind kind, struct document **made)
{
	struct document *document = calloc(1, sizeof(*document));
	struct strbuf text;
	int r;

	if (!document)
		return -ENOMEM;
	document->fd = -1;
	strbuf_init(&text);
	r = served_write_document(served, kind, &text);
	if (r == 0)
		r = store(document, &text);
	strbuf_fini(&text);
	if (r < 0) {
		document_free(document);
		return r;
	}
	*made = document;
	return 0;
}

/* Makes the document unless another thread has, or unless it failed for good before. */
static int make_once(struct served *served, enum document_kind kind,
		     struct document **document)
{
	int r = atomic_load_explicit(&served->document_errors[kind],
				     memory_order_relaxed);

	*document = atomic_load_explicit(&served->documents[kind], memory_order_relaxed);
	if (*document || r < 0)
		return *document ? 0 : r;
	r = make(served, kind, document);
	if (r == 0)
		atomic_store_explicit(&served->documents[kind], *document,
				      memory_order_release);
	else if (r != -ENOMEM)
		atomic_store_explicit(&served->document_errors[kind], r,
				      memory_order_relaxed);
	return r;
}

int served_document(struct served *served, enum document_kind kind,
		    const struct document **document)
{
	struct document *d =
		atomic_load_explicit(&served->documents[kind], memory_order_acquire);
	int r = 0;

	if (!d) {
		(void)pthread_mutex_lock(&served->document_lock);
		r = make_once(served, kind, &d);
		(void)pthread_mutex_unlock(&served->document_lock);
	}
	if (r == 0)
		*document = d;
	return r;
}

void document_free(struct document *document)
{
	if (!document)
		return;
	if (document->fd >= 0)
		(void)close(document->fd);
	free(document);
}
