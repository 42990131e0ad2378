/*
 * SOURCE: the files that a mount serves from, opened once and mapped.
 *
 * A file is what its open descriptor says it is. Its identity (size and mtime, besides
 * the inode that the descriptor holds on to) is taken at open; a file that no longer has
 * it is "changed", for good, and nothing of it is served any more.
 */
#ifndef FS_SOURCE_H
#define FS_SOURCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "nametree.h"
#include "parsers/diag.h"

struct source_file {
	const char *name;     /* relative to the model's directory */
	const char *path;     /* absolute, links resolved */
	const uint8_t *bytes; /* the mapping; NULL when empty. Reading it may raise
				 SIGBUS: only pass it to the kernel. */
	uint64_t size;
	struct timespec mtime;
	dev_t dev;
	ino_t ino;
	int fd;
	int changed_event; /* the source's, so that a file alone can signal it */
	atomic_bool changed;
};

struct source {
	const char *path; /* absolute */
	const char *name; /* of the model, for people */
	bool is_dir;
	struct source_file *files;
	uint32_t file_count;
	struct nametree *names; /* files/ of the mount; leaves are positions in `files`;
				   NULL before source_seal() */
	int changed_event;    /* eventfd: readable once a file was seen to have changed */
	char **skipped_links; /* names of links that lead out of the model's directory */
	uint32_t skipped_link_count;
	uint32_t broken_link_count; /* links to what does not exist */
	uint32_t forbidden_count;   /* files that this process may not read */

	/* Private. */
	char *root; /* links may lead to anywhere below it */
	int dir_fd; /* of the model's directory, until source_seal() */
	uint32_t file_capacity;
	uint32_t sorted_count; /* files at the start that are sorted by name */
};

/* Opens SOURCE, a regular file or a directory with all regular files below it (but not
 * below hidden directories). 0 or a negative errno with words. */
MUST_CHECK int source_open(const char *path, struct source **source, struct diag *diag);

/*
 * Finds the file of that name, relative to the model's directory, and opens it if it is
 * not open yet. The name comes from a model file: the caller has seen to it that it does
 * not climb; a link that leads out of the model's directory is refused here. 0 or a
 * negative errno with words, to which the caller adds the name.
 */
MUST_CHECK int source_need_file(struct source *source, const char *name, uint32_t *index,
				struct diag *diag);

/* No more files: makes `names`. 0 or -ENOMEM. */
MUST_CHECK int source_seal(struct source *source, struct diag *diag);
void source_close(struct source *source); /* NULL is fine */

/* Whether the file is still what was opened. Any thread, no lock; one system call. The
 * first one to see a change logs it. */
bool source_file_unchanged(struct source_file *file);

/* Declares the file changed, as seen by other means. */
void source_file_set_changed(struct source_file *file);

#endif
