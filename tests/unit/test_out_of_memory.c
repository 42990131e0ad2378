/*
 * Each allocation of a parse fails once: the first in the first round, the second in the
 * second. The linker sends malloc and its family here (--wrap).
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include "parsers/formats.h"
#include "parsers/shard_index.h"
#include "unit.h"

/* Allocations left until one fails; below 0 none does. */
static long countdown = -1;
static bool has_failed;

static bool fails_now(void)
{
	if (countdown < 0 || countdown-- > 0)
		return false;
	has_failed = true;
	return true;
}

/* The linker's names.
 * NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,readability-identifier-naming) */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails_now() ? NULL : __real_realloc(old, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
	return fails_now() ? NULL : __real_reallocarray(old, count, size);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,readability-identifier-naming) */

/* A file that makes every table grow: many tensors out of order, escapes, metadata,
 * unknown fields. */
static int open_file(uint64_t *size)
{
	CLEANUP(strbuf_fini) struct strbuf file;
	int fd = memfd_create("model", 0);
	uint64_t len;

	ck_assert_int_ge(fd, 0);
	strbuf_init(&file);
	strbuf_add(&file, "\0\0\0\0\0\0\0\0", 8);
	strbuf_add_str(&file, "{\"__metadata__\":{");
	for (unsigned int i = 0; i < 20; i++)
		strbuf_addf(&file, "%s\"\\u0061%u\":\"\\n\"", i ? "," : "", i);
	strbuf_add_str(&file, "}");
	for (unsigned int i = 0; i < 200; i++)
		strbuf_addf(&file,
			    ",\"\\u0074%u\":{\"dtype\":\"U8\",\"shape\":[1,1,1],"
			    "\"data_offsets\":[%u,%u],\"x\":{\"y\":[]}}",
			    i, 199 - i, 200 - i);
	strbuf_add_str(&file, "}");
	len = file.len - 8;
	for (unsigned int i = 0; i < 8; i++)
		file.data[i] = (char)(len >> 8 * i & 0xff);
	for (unsigned int i = 0; i < 200; i++)
		strbuf_add_char(&file, 'x');
	*size = file.len;
	ck_assert_int_eq(write(fd, file.data, file.len), (ssize_t)file.len);
	return fd;
}

static int build(struct reader *r, struct model *model)
{
	uint16_t shard;
	int err;

	err = model_add_shard(model, "model", r->size, &shard, r->diag);
	if (err == 0)
		err = parser_safetensors.parse(r, model, shard);
	if (err == 0)
		err = model_skip_tensor(model, "s", 1, "sparse", r->diag);
	model_warn(model, "odd");
	return err < 0 ? err : model_seal(model);
}

static int parse(int fd, uint64_t size, struct diag *diag)
{
	struct model *model;
	struct reader r;
	int err;

	err = model_new("safetensors", &model);
	if (err < 0) {
		(void)diag_fail(diag, err, "out of memory");
		return err;
	}
	reader_init_fd(&r, fd, size, diag);
	err = build(&r, model);
	/* check allocates too. */
	countdown = -1;
	if (err == 0) {
		ck_assert_uint_eq(model_tensor_count(model), 200);
		ck_assert_ptr_nonnull(model_find_tensor(model, "t7", 2));
	}
	reader_fini(&r);
	model_unref(model);
	return err;
}

static int write_metadata(int fd, uint64_t size, struct diag *diag)
{
	CLEANUP(strbuf_fini) struct strbuf text;
	struct jsonw json;
	struct reader r;
	int err;

	strbuf_init(&text);
	jsonw_init(&json, &text);
	reader_init_fd(&r, fd, size, diag);
	err = parser_safetensors.write_metadata(&r, &json);
	reader_fini(&r);
	if (err == 0 && text.err < 0)
		return diag_fail(diag, text.err, "out of memory");
	return err;
}

/* Many files, escapes: every table grows. */
static int read_index(int fd, uint64_t size, struct diag *diag)
{
	static char text[20000];
	struct shard_index index;
	struct reader r;
	size_t len;
	int err;

	(void)fd;
	(void)size;
	len = (size_t)snprintf(text, sizeof(text), "{\"weight_map\":{");
	for (unsigned int i = 0; i < 300; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len,
					"%s\"\\u0074%u\":\"\\u0066%u\"", i ? "," : "", i,
					i % 40);
	len += (size_t)snprintf(text + len, sizeof(text) - len, "}}");
	reader_init_memory(&r, text, len, diag);
	err = shard_index_read(&r, "i", &index);
	shard_index_fini(&index);
	reader_fini(&r);
	return err;
}

/* Runs `what` until no allocation is left that could fail; returns the rounds. */
static unsigned int fail_each(int (*what)(int fd, uint64_t size, struct diag *diag))
{
	unsigned int rounds = 0;
	uint64_t size;
	CLEANUP(close_fd) int fd = open_file(&size);

	do {
		struct diag diag = { 0 };
		int err;

		has_failed = false;
		countdown = rounds++;
		err = what(fd, size, &diag);
		countdown = -1;
		/* A failed hint does not make the whole fail. */
		ck_assert_int_eq(err, err < 0 && has_failed ? -ENOMEM : 0);
	} while (has_failed);
	return rounds;
}

START_TEST(each_allocation_of_a_parse_may_fail)
{
	ck_assert_uint_gt(fail_each(parse), 20);
}
END_TEST

START_TEST(each_allocation_of_writing_metadata_may_fail)
{
	ck_assert_uint_gt(fail_each(write_metadata), 5);
}
END_TEST

START_TEST(each_allocation_of_reading_an_index_may_fail)
{
	ck_assert_uint_gt(fail_each(read_index), 20);
}
END_TEST

static TCase *out_of_memory_case(void)
{
	TCase *tcase = tcase_create("out_of_memory");

	tcase_add_test(tcase, each_allocation_of_a_parse_may_fail);
	tcase_add_test(tcase, each_allocation_of_writing_metadata_may_fail);
	tcase_add_test(tcase, each_allocation_of_reading_an_index_may_fail);
	return tcase;
}

UNIT_MAIN("out_of_memory", out_of_memory_case)
