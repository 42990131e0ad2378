#include "content.h"

#include <errno.h>
#include <sys/mman.h>

#include "live.h"

#define PAGE 4096u

/* One piece: bytes of [start, start + len) from `offset` on, at most `size`. */
static int one_piece(const uint8_t *start, uint64_t len, uint64_t offset, size_t size,
		     struct iovec *piece)
{
	if (offset >= len)
		return 0;
	if (size > len - offset)
		size = (size_t)(len - offset);
	/* The kernel only reads what an answer points to. */
	piece->iov_base = discard_const(start + offset);
	piece->iov_len = size;
	return size > 0;
}

static int render_header(const struct node node, const struct tensor *t, uint64_t len,
			 struct content_scratch *scratch, const char **header)
{
	struct strbuf out;

	if (len < sizeof(scratch->header)) {
		strbuf_init_fixed(&out, scratch->header, sizeof(scratch->header));
	} else {
		scratch->heap = malloc(len + 1);
		if (!scratch->heap)
			return -ENOMEM;
		strbuf_init_fixed(&out, scratch->heap, len + 1);
	}
	view_write_header(node.view, t, &out);
	*header = out.data;
	return out.err ? -ENOMEM : 0;
}

/* A range of a source file. */
struct span {
	const struct source_file *file;
	uint64_t start;
	uint64_t len;
};

/* Bytes of the range from `offset` on, at most `size`. */
static int file_piece(const struct span *span, uint64_t offset, size_t size,
		      struct content_scratch *scratch, struct iovec *piece)
{
	int count;

	/* An empty file has no mapping to point into. */
	if (offset >= span->len)
		return 0;
	count = one_piece(span->file->bytes + span->start, span->len, offset, size,
			  piece);
	if (count > 0) {
		scratch->file = span->file;
		scratch->file_offset = span->start + offset;
	}
	return count;
}

/* A header that is made up, then the tensor's bytes in the source. */
static int read_tensor(const struct weightfs *fs, struct node node, uint64_t offset,
		       size_t size, struct content_scratch *scratch,
		       struct iovec pieces[static 2])
{
	const struct tensor *t = model_tensor(fs->served->model, node.index);
	struct source_file *file = served_tensor_file(fs->served, t);
	const struct span data = { file, t->offset, t->nbytes };
	uint64_t header_len = view_header_len(node.view, t);
	const char *header;
	int count;
	int r;

	if (!source_file_unchanged(file))
		return -EIO;
	if (offset >= header_len)
		return file_piece(&data, offset - header_len, size, scratch, pieces);
	r = render_header(node, t, header_len, scratch, &header);
	if (r < 0)
		return r;
	count = one_piece((const uint8_t *)header, header_len, offset, size, &pieces[0]);
	size -= count ? pieces[0].iov_len : 0;
	return count + file_piece(&data, 0, size, scratch, &pieces[count]);
}

static int read_file(const struct weightfs *fs, struct node node, uint64_t offset,
		     size_t size, struct content_scratch *scratch, struct iovec *piece)
{
	struct source_file *file = &fs->served->source->files[node.index];
	const struct span all = { file, 0, file->size };

	if (!source_file_unchanged(file))
		return -EIO;
	return file_piece(&all, offset, size, scratch, piece);
}

/* Maps what is asked for; nobody reads a document in small pieces. */
static int read_document(struct weightfs *fs, struct node node, uint64_t offset,
			 size_t size, struct content_scratch *scratch,
			 struct iovec *piece)
{
	const struct document *document;
	uint64_t into = offset % PAGE;
	void *window;
	int r;

	r = served_document(fs->served, (enum document_kind)node.index, &document);
	if (r < 0)
		return r;
	if (offset >= document->len || size == 0)
		return 0;
	if (size > document->len - offset)
		size = document->len - (size_t)offset;
	window = mmap(NULL, size + into, PROT_READ, MAP_SHARED, document->fd,
		      (off_t)(offset - into));
	if (window == MAP_FAILED)
		return -errno;
	scratch->window = window;
	scratch->window_len = size + into;
	piece->iov_base = (char *)window + into;
	piece->iov_len = size;
	return 1;
}

static int read_live(struct weightfs *fs, struct node node, uint64_t offset, size_t size,
		     struct content_scratch *scratch, struct iovec *piece)
{
	char *buffer = scratch->header;

	/* Fewer bytes than asked for would mean the end of the file. */
	if (size > sizeof(scratch->header)) {
		scratch->heap = malloc(size);
		buffer = scratch->heap;
		if (!buffer)
			return -ENOMEM;
	}
	piece->iov_base = buffer;
	piece->iov_len = live_read(fs, (enum live_kind)node.index, offset, buffer, size);
	return piece->iov_len > 0;
}

bool content_place(const struct weightfs *fs, struct node node,
		   struct content_place *place)
{
	const struct tensor *t;

	if (node.kind == NODE_FILE) {
		struct source_file *file = &fs->served->source->files[node.index];

		*place = (struct content_place){ .file = file, .len = file->size };
		return true;
	}
	if (node.kind != NODE_TENSOR)
		return false;
	t = model_tensor(fs->served->model, node.index);
	*place = (struct content_place){
		.file = served_tensor_file(fs->served, t),
		.header_len = view_header_len(node.view, t),
		.start = t->offset,
		.len = t->nbytes,
	};
	return true;
}

int content_read(struct weightfs *fs, struct node node, uint64_t offset, size_t size,
		 struct content_scratch *scratch, struct iovec pieces[static 2])
{
	scratch->heap = NULL;
	scratch->window = NULL;
	scratch->file = NULL;
	if (node.kind == NODE_TENSOR)
		return read_tensor(fs, node, offset, size, scratch, pieces);
	if (node.kind == NODE_FILE)
		return read_file(fs, node, offset, size, scratch, pieces);
	if (node.kind == NODE_DOCUMENT)
		return read_document(fs, node, offset, size, scratch, pieces);
	if (node.kind == NODE_LIVE)
		return read_live(fs, node, offset, size, scratch, pieces);
	return -EINVAL;
}

void content_fini(struct content_scratch *scratch)
{
	if (scratch->window)
		(void)munmap(scratch->window, scratch->window_len);
	free(scratch->heap);
}
