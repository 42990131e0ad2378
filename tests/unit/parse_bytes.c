#include "parse_bytes.h"

/* A copy with nothing behind it; NULL for no bytes. */
static void *exact_copy(const void *bytes, size_t len)
{
	void *copy;

	if (len == 0)
		return NULL;
	copy = malloc(len);
	if (!copy)
		abort();
	memcpy(copy, bytes, len);
	return copy;
}

static int parse_model(const struct parser_ops *ops, struct reader *r,
		       struct model *model)
{
	uint16_t shard;
	int err;

	err = model_add_shard(model, "model", r->size, &shard, r->diag);
	if (err < 0)
		return err;
	err = ops->parse(r, model, shard);
	if (err < 0)
		return err;
	return model_seal(model);
}

void parse_bytes(const struct parser_ops *ops, const void *bytes, size_t len,
		 struct parsed *parsed)
{
	void *copy = exact_copy(bytes, len);
	struct reader r;

	*parsed = (struct parsed){ 0 };
	reader_init_memory(&r, copy, len, &parsed->diag);
	parsed->err = model_new(ops->name, &parsed->model);
	if (parsed->err == 0)
		parsed->err = parse_model(ops, &r, parsed->model);
	if (parsed->err < 0) {
		model_unref(parsed->model);
		parsed->model = NULL;
	}
	reader_fini(&r);
	free(copy);
}

void parsed_fini(struct parsed *parsed)
{
	model_unref(parsed->model);
	parsed->model = NULL;
}

char *metadata_of_bytes(const struct parser_ops *ops, const void *bytes, size_t len,
			struct diag *diag)
{
	void *copy = exact_copy(bytes, len);
	CLEANUP(strbuf_fini) struct strbuf text;
	struct jsonw json;
	struct reader r;
	int err;

	strbuf_init(&text);
	jsonw_init(&json, &text);
	reader_init_memory(&r, copy, len, diag);
	err = ops->write_metadata(&r, &json);
	reader_fini(&r);
	free(copy);
	return err < 0 ? NULL : strbuf_steal(&text);
}
