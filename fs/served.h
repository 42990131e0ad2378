/*
 * One model as it is served: its files, its tensors, their names, and the documents made
 * from them. Immutable after served_load() but for documents, which are made when first
 * read.
 */
#ifndef FS_SERVED_H
#define FS_SERVED_H

#include <pthread.h>
#include <stdatomic.h>

#include "parsers/parser.h"
#include "source.h"
#include "tree.h"

enum document_kind {
	DOCUMENT_MODEL,    /* model.json */
	DOCUMENT_METADATA, /* metadata.json */
	DOCUMENT_COUNT,
};

/* A generated file: text in a memfd that is mapped for single reads only, so that the
 * text of a large model is no private memory of the daemon. */
struct document {
	size_t len;
	int fd;
};

struct served {
	struct source *source;
	struct model *model;
	struct tree *tree;
	const struct parser_ops *format;
	uint32_t *shard_files; /* position in source->files of each shard */
	uint64_t *
		file_tensor_bytes; /* bytes of each file of the source that are tensors */

	pthread_mutex_t document_lock; /* while a document is made */
	_Atomic(struct document *) documents[DOCUMENT_COUNT];
	atomic_int
		document_errors[DOCUMENT_COUNT]; /* 0, or why there never will be one */
};

/* Opens SOURCE and parses the model in it. `format` names a parser or is NULL: by
 * content. 0, or a negative errno with words that start with the file to blame. */
MUST_CHECK int served_load(const char *path, const char *format, struct served **served,
			   struct diag *diag);
void served_free(struct served *served); /* NULL is fine */

/* The file that holds a tensor. */
struct source_file *served_tensor_file(const struct served *served,
				       const struct tensor *tensor);

/* The document, which stays valid as long as `served`. The first call makes it and may
 * take a while; later ones take no lock. 0, -EIO (the source changed) or -ENOMEM. */
MUST_CHECK int served_document(struct served *served, enum document_kind kind,
			       const struct document **document);

void document_free(struct document *document); /* NULL is fine */

/* Writes a document as JSON text. 0 or a negative errno, logged. */
MUST_CHECK int served_write_document(struct served *served, enum document_kind kind,
				     struct strbuf *out);

#endif
