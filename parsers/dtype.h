/*
 * Element types of tensors: one table for all formats.
 *
 * A type is stored in blocks of `block_elems` elements and `block_bytes` bytes. Plain
 * types have blocks of one element. The packed types of safetensors (F4, F6) have the
 * smallest block that is whole bytes; it may span rows. The quantised types of ggml have
 * blocks that never span rows: the innermost dimension is a multiple of `block_elems`.
 *
 * Sources: safetensors 0.8 `Dtype::bitsize`; ggml `type_traits` and ggml-common.h
 * (2026-08).
 */
#ifndef PARSERS_DTYPE_H
#define PARSERS_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/macros.h"

enum dtype {
	/* Plain types. */
	DTYPE_BOOL,
	DTYPE_U8,
	DTYPE_I8,
	DTYPE_F8_E5M2,
	DTYPE_F8_E4M3,
	DTYPE_F8_E8M0,
	DTYPE_F8_E4M3FNUZ,
	DTYPE_F8_E5M2FNUZ,
	DTYPE_I16,
	DTYPE_U16,
	DTYPE_F16,
	DTYPE_BF16,
	DTYPE_I32,
	DTYPE_U32,
	DTYPE_F32,
	DTYPE_C64,
	DTYPE_F64,
	DTYPE_I64,
	DTYPE_U64,
	DTYPE_C128,
	/* Packed types of safetensors. */
	DTYPE_F4,
	DTYPE_F6_E2M3,
	DTYPE_F6_E3M2,
	/* Quantised types of ggml. */
	DTYPE_Q4_0,
	DTYPE_Q4_1,
	DTYPE_Q5_0,
	DTYPE_Q5_1,
	DTYPE_Q8_0,
	DTYPE_Q8_1,
	DTYPE_Q2_K,
	DTYPE_Q3_K,
	DTYPE_Q4_K,
	DTYPE_Q5_K,
	DTYPE_Q6_K,
	DTYPE_Q8_K,
	DTYPE_IQ2_XXS,
	DTYPE_IQ2_XS,
	DTYPE_IQ3_XXS,
	DTYPE_IQ1_S,
	DTYPE_IQ4_NL,
	DTYPE_IQ3_S,
	DTYPE_IQ2_S,
	DTYPE_IQ4_XS,
	DTYPE_IQ1_M,
	DTYPE_TQ1_0,
	DTYPE_TQ2_0,
	DTYPE_MXFP4,
	DTYPE_NVFP4,
	DTYPE_Q1_0,
	DTYPE_Q2_0,
	DTYPE_COUNT,
};

struct dtype_info {
	const char *name; /* as in model.json: the safetensors name, else the ggml name */
	const char
		*numpy; /* numpy's descr where one element is one numpy item, else NULL */
	const char
		*safetensors; /* name in a safetensors header, NULL where there is none */
	uint16_t block_elems;
	uint16_t block_bytes;
	bool rows_of_blocks; /* blocks never span rows (ggml) */
};

/* `dtype` must be below DTYPE_COUNT. */
const struct dtype_info *dtype_info(enum dtype dtype);

/* The type whose name in a safetensors header is `name` (case-sensitive), or DTYPE_COUNT.
 */
enum dtype dtype_from_safetensors(const char *name, size_t len);

/* The type with this number in `enum ggml_type`, or DTYPE_COUNT for removed and unknown
 * ones. */
enum dtype dtype_from_ggml(uint32_t id);

/*
 * Bytes of a tensor of this type and shape (`rank` entries, outermost first). The product
 * is taken in order, so that a zero dimension does not hide an overflow in front of it.
 * Returns 0, -EOVERFLOW when the number of elements or bytes does not fit 64 bits, or
 * -EINVAL when the elements do not fill whole blocks.
 */
MUST_CHECK int dtype_nbytes(enum dtype dtype, const uint64_t *shape, unsigned int rank,
			    uint64_t *nbytes);

#endif
