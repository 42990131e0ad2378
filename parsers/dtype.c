#include "parsers/dtype.h"

#include <errno.h>
#include <string.h>

#define PLAIN(TYPE, DESCR, BYTES)                \
	[DTYPE_##TYPE] = { .name = #TYPE,        \
			   .numpy = (DESCR),     \
			   .safetensors = #TYPE, \
			   .block_elems = 1,     \
			   .block_bytes = (BYTES) }
#define PACKED(TYPE, ELEMS, BYTES)                 \
	[DTYPE_##TYPE] = { .name = #TYPE,          \
			   .safetensors = #TYPE,   \
			   .block_elems = (ELEMS), \
			   .block_bytes = (BYTES) }
#define GGML(TYPE, ELEMS, BYTES)                   \
	[DTYPE_##TYPE] = { .name = #TYPE,          \
			   .block_elems = (ELEMS), \
			   .block_bytes = (BYTES), \
			   .rows_of_blocks = true }

/* numpy has no bfloat16 and no float8: their bits are shown as unsigned integers. */
static const struct dtype_info infos[DTYPE_COUNT] = {
	PLAIN(BOOL, "|b1", 1),
	PLAIN(U8, "|u1", 1),
	PLAIN(I8, "|i1", 1),
	PLAIN(F8_E5M2, "|u1", 1),
	PLAIN(F8_E4M3, "|u1", 1),
	PLAIN(F8_E8M0, "|u1", 1),
	PLAIN(F8_E4M3FNUZ, "|u1", 1),
	PLAIN(F8_E5M2FNUZ, "|u1", 1),
	PLAIN(I16, "<i2", 2),
	PLAIN(U16, "<u2", 2),
	PLAIN(F16, "<f2", 2),
	PLAIN(BF16, "<u2", 2),
	PLAIN(I32, "<i4", 4),
	PLAIN(U32, "<u4", 4),
	PLAIN(F32, "<f4", 4),
	PLAIN(C64, "<c8", 8),
	PLAIN(F64, "<f8", 8),
	PLAIN(I64, "<i8", 8),
	PLAIN(U64, "<u8", 8),
	/* safetensors has no complex of two doubles. */
	[DTYPE_C128] = { .name = "C128",
			 .numpy = "<c16",
			 .block_elems = 1,
			 .block_bytes = 16 },
	PACKED(F4, 2, 1),
	PACKED(F6_E2M3, 4, 3),
	PACKED(F6_E3M2, 4, 3),
	GGML(Q4_0, 32, 18),
	GGML(Q4_1, 32, 20),
	GGML(Q5_0, 32, 22),
	GGML(Q5_1, 32, 24),
	GGML(Q8_0, 32, 34),
	GGML(Q8_1, 32, 36),
	GGML(Q2_K, 256, 84),
	GGML(Q3_K, 256, 110),
	GGML(Q4_K, 256, 144),
	GGML(Q5_K, 256, 176),
	GGML(Q6_K, 256, 210),
	GGML(Q8_K, 256, 292),
	GGML(IQ2_XXS, 256, 66),
	GGML(IQ2_XS, 256, 74),
	GGML(IQ3_XXS, 256, 98),
	GGML(IQ1_S, 256, 50),
	GGML(IQ4_NL, 32, 18),
	GGML(IQ3_S, 256, 110),
	GGML(IQ2_S, 256, 82),
	GGML(IQ4_XS, 256, 136),
	GGML(IQ1_M, 256, 56),
	GGML(TQ1_0, 256, 54),
	GGML(TQ2_0, 256, 66),
	GGML(MXFP4, 32, 17),
	GGML(NVFP4, 64, 36),
	GGML(Q1_0, 128, 18),
	GGML(Q2_0, 64, 18),
};

/* Numbers of enum ggml_type, plus one so that an absent entry is 0. */
static const uint8_t from_ggml[] = {
	[0] = DTYPE_F32 + 1,     [1] = DTYPE_F16 + 1,      [2] = DTYPE_Q4_0 + 1,
	[3] = DTYPE_Q4_1 + 1,    [6] = DTYPE_Q5_0 + 1,     [7] = DTYPE_Q5_1 + 1,
	[8] = DTYPE_Q8_0 + 1,    [9] = DTYPE_Q8_1 + 1,     [10] = DTYPE_Q2_K + 1,
	[11] = DTYPE_Q3_K + 1,   [12] = DTYPE_Q4_K + 1,    [13] = DTYPE_Q5_K + 1,
	[14] = DTYPE_Q6_K + 1,   [15] = DTYPE_Q8_K + 1,    [16] = DTYPE_IQ2_XXS + 1,
	[17] = DTYPE_IQ2_XS + 1, [18] = DTYPE_IQ3_XXS + 1, [19] = DTYPE_IQ1_S + 1,
	[20] = DTYPE_IQ4_NL + 1, [21] = DTYPE_IQ3_S + 1,   [22] = DTYPE_IQ2_S + 1,
	[23] = DTYPE_IQ4_XS + 1, [24] = DTYPE_I8 + 1,      [25] = DTYPE_I16 + 1,
	[26] = DTYPE_I32 + 1,    [27] = DTYPE_I64 + 1,     [28] = DTYPE_F64 + 1,
	[29] = DTYPE_IQ1_M + 1,  [30] = DTYPE_BF16 + 1,    [34] = DTYPE_TQ1_0 + 1,
	[35] = DTYPE_TQ2_0 + 1,  [39] = DTYPE_MXFP4 + 1,   [40] = DTYPE_NVFP4 + 1,
	[41] = DTYPE_Q1_0 + 1,   [42] = DTYPE_Q2_0 + 1,
};

const struct dtype_info *dtype_info(enum dtype dtype)
{
	return &infos[dtype];
}

enum dtype dtype_from_safetensors(const char *name, size_t len)
{
	for (unsigned int i = 0; i < DTYPE_COUNT; i++) {
		const char *known = infos[i].safetensors;

		if (known && strlen(known) == len && memcmp(known, name, len) == 0)
			return (enum dtype)i;
	}
	return DTYPE_COUNT;
}

enum dtype dtype_from_ggml(uint32_t id)
{
	if (id >= ARRAY_LEN(from_ggml) || from_ggml[id] == 0)
		return DTYPE_COUNT;
	return (enum dtype)(from_ggml[id] - 1);
}

int dtype_nbytes(enum dtype dtype, const uint64_t *shape, unsigned int rank,
		 uint64_t *nbytes)
{
	const struct dtype_info *info = dtype_info(dtype);
	uint64_t elems = 1;
	uint64_t bytes;

	for (unsigned int i = 0; i < rank; i++)
		if (__builtin_mul_overflow(elems, shape[i], &elems))
			return -EOVERFLOW;
	if (elems % info->block_elems != 0)
		return -EINVAL;
	if (info->rows_of_blocks &&
	    (rank == 0 || shape[rank - 1] % info->block_elems != 0))
		return -EINVAL;
	if (__builtin_mul_overflow(elems / info->block_elems, info->block_bytes, &bytes))
		return -EOVERFLOW;
	*nbytes = bytes;
	return 0;
}
