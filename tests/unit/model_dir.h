/* A temporary directory with small files for tests that need real ones. */
#ifndef TESTS_MODEL_DIR_H
#define TESTS_MODEL_DIR_H

#include <stddef.h>

#include "util/strbuf.h"

/* Makes the directory, and removes it with all that is in it; for
 * tcase_add_checked_fixture(). One directory at a time. */
void model_dir_make(void);
void model_dir_remove(void);

#define MODEL_DIR_PATH_MAX 4096

/* The absolute path of a file in the directory; "" for the directory. Valid until the
 * next call but seven. */
const char *model_dir_path(const char *name);

/* Writes a file; the directories above it are made. */
void model_dir_write(const char *name, const void *bytes, size_t len);
void model_dir_write_text(const char *name, const char *text);

/* Makes a symbolic link; the directories above it are made. */
void model_dir_link(const char *name, const char *target);

/* Appends a .safetensors file: the header's JSON text, then `data_len` bytes, of which
 * each differs from its neighbours. */
void model_dir_add_safetensors(struct strbuf *file, const char *json, size_t data_len);

/* Writes such a file. */
void model_dir_write_safetensors(const char *name, const char *json, size_t data_len);

#endif
