/*
 * Gives files to a fuzz function without libFuzzer: each path is a file, or a directory
 * whose files are taken, also those of its directories. Fails when there is no file.
 */
#include <err.h>
#include <fts.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "util/macros.h"

/* The name is libFuzzer's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay(const char *path, size_t size)
{
	/* Exactly as long as the file, so that AddressSanitizer sees reads outside. */
	CLEANUP(free_ptr) uint8_t *bytes = malloc(size);
	FILE *file = fopen(path, "rb");

	if (!file || (size > 0 && !bytes) || fread(bytes, 1, size, file) != size)
		err(EXIT_FAILURE, "%s", path);
	(void)fclose(file);
	(void)LLVMFuzzerTestOneInput(bytes, size);
}

int main(int argc, char **argv)
{
	size_t count = 0;
	FTSENT *entry;
	FTS *tree;

	if (argc < 2)
		errx(2, "usage: %s FILE|DIRECTORY...", argv[0]);
	tree = fts_open(argv + 1, FTS_LOGICAL | FTS_NOCHDIR, NULL);
	if (!tree)
		err(EXIT_FAILURE, "fts_open");
	while ((entry = fts_read(tree)) != NULL) {
		if (entry->fts_info == FTS_NS || entry->fts_info == FTS_DNR)
			errx(EXIT_FAILURE, "%s: cannot be read", entry->fts_path);
		if (entry->fts_info != FTS_F)
			continue;
		/* Printed before: the last line tells which file made it crash. */
		(void)printf("%s\n", entry->fts_path);
		(void)fflush(stdout);
		replay(entry->fts_path, (size_t)entry->fts_statp->st_size);
		count++;
	}
	(void)fts_close(tree);
	if (count == 0)
		errx(EXIT_FAILURE, "no files in %s", argv[1]);
	return EXIT_SUCCESS;
}
