#include <stdio.h>

#include "path.h"
#include "unit.h"
#include "util/utf8.h"

/* Longer than any file name, shorter than STEM_MAX. */
#define LONG_STEM 600
#define STEM_MAX  1024

/* "~" and the digits of this hash. */
#define HASH UINT64_C(0x0123456789abcdef)
#define MARK "~0123456789abcdef"

static const char *const suffixes[] = { "", ".npy", ".safetensors" };

static void expect_stem(const char *bytes, size_t len, bool encode_slash,
			const char *stem)
{
	char storage[STEM_MAX];
	char decoded[STEM_MAX];
	struct strbuf out;
	size_t n;

	strbuf_init_fixed(&out, storage, sizeof(storage));
	path_encode(&out, bytes, len, encode_slash);
	ck_assert_int_eq(out.err, 0);
	ck_assert_str_eq(storage, stem);
	ck_assert_int_eq(path_is_plain(bytes, len, encode_slash),
			 len == strlen(stem) && memcmp(bytes, stem, len) == 0);
	ck_assert(path_decode(storage, out.len, decoded, &n));
	ck_assert_mem_eq(decoded, bytes, len);
	ck_assert_uint_eq(n, len);
}

static void expect_both(const char *bytes, const char *stem)
{
	expect_stem(bytes, strlen(bytes), false, stem);
	expect_stem(bytes, strlen(bytes), true, stem);
}

/* ---- Encoding ---- */

START_TEST(a_plain_component_stays_as_it_is)
{
	expect_both("weight", "weight");
	expect_both("with space and ~tilde, \"quotes\" and \\", "with space and ~tilde, "
								"\"quotes\" and \\");
	expect_both("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
		    "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
}
END_TEST

START_TEST(control_characters_and_percent_are_escaped_in_upper_case)
{
	expect_both("\x01\x0a\x1f\x7f", "%01%0A%1F%7F");
	expect_both("100%", "100%25");
	expect_both("%41", "%2541");
	expect_both(" ", " ");
	expect_stem("a\0b", 3, true, "a%00b");
}
END_TEST

START_TEST(bytes_that_are_no_utf8_are_escaped)
{
	expect_both("\x80", "%80");
	expect_both("a\xff\xfe", "a%FF%FE");
	/* Cut off, overlong, a surrogate, above U+10FFFF. */
	expect_both("\xe2\x82", "%E2%82");
	expect_both("\xc0\xaf", "%C0%AF");
	expect_both("\xed\xa0\x80", "%ED%A0%80");
	expect_both("\xf4\x90\x80\x80", "%F4%90%80%80");
	/* A good character behind a bad byte stays. */
	expect_both("\xe2\xc3\xa4", "%E2\xc3\xa4");
}
END_TEST

START_TEST(an_empty_component_is_a_percent_sign)
{
	expect_both("", "%");
}
END_TEST

START_TEST(a_slash_is_escaped_where_names_are_not_split)
{
	expect_stem("a/b", 3, true, "a%2Fb");
	expect_stem("/", 1, true, "%2F");
	expect_stem("a/b", 3, false, "a/b");
}
END_TEST

START_TEST(only_one_and_two_dots_are_escaped)
{
	expect_both(".", "%2E");
	expect_both("..", "%2E%2E");
	expect_both("...", "...");
	expect_both(".a", ".a");
	expect_both("a..", "a..");
	expect_both("..a", "..a");
}
END_TEST

START_TEST(every_byte_comes_back)
{
	for (unsigned int i = 0; i < 0x10000; i++) {
		const char bytes[3] = { (char)(i >> 8), (char)i, 'x' };
		char storage[16];
		char decoded[16];
		struct strbuf out;
		size_t n;

		strbuf_init_fixed(&out, storage, sizeof(storage));
		path_encode(&out, bytes, sizeof(bytes), true);
		ck_assert_int_eq(out.err, 0);
		ck_assert(utf8_is_valid(storage, out.len));
		ck_assert_ptr_null(memchr(storage, '/', out.len));
		ck_assert_ptr_null(memchr(storage, '\0', out.len));
		ck_assert(path_decode(storage, out.len, decoded, &n));
		ck_assert_uint_eq(n, sizeof(bytes));
		ck_assert_mem_eq(decoded, bytes, sizeof(bytes));
	}
}
END_TEST

/* ---- Decoding ---- */

START_TEST(what_is_no_encoding_is_not_decoded)
{
	static const char *const bad[] = { "a%",  "%2",  "%zz", "%2g",
					   "%2f", "%c3", "%%",  "%self" };
	char out[16];
	size_t n;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!path_decode(bad[i], strlen(bad[i]), out, &n), "%s",
			      bad[i]);
	/* NUL is no hexadecimal digit. */
	ck_assert(!path_decode("%0\0", 3, out, &n));
	ck_assert(!path_decode("%\0"
			       "0",
			       3, out, &n));
}
END_TEST

START_TEST(decoding_reads_no_more_than_it_was_given)
{
	char *stem = malloc(2);
	char out[2];
	size_t n;

	ck_assert_ptr_nonnull(stem);
	stem[0] = '%';
	stem[1] = '4';
	ck_assert(!path_decode(stem, 2, out, &n));
	stem[0] = 'a';
	ck_assert(path_decode(stem, 2, out, &n));
	ck_assert_uint_eq(n, 2);
	free(stem);
}
END_TEST

/* ---- Cutting ---- */

static void fill(char *stem, size_t len)
{
	for (size_t i = 0; i < len; i++)
		stem[i] = (char)('a' + i % 26);
	stem[len] = '\0';
}

static void expect_name(const char *stem, const char *suffix, const char *name)
{
	char out[PATH_NAME_MAX + 1];
	size_t len = path_file_name(stem, strlen(stem), suffix, HASH, out);

	ck_assert_uint_eq(len, strlen(out));
	ck_assert_str_eq(out, name);
}

START_TEST(a_short_stem_gets_its_suffix)
{
	ck_assert(!path_needs_cut("weight", 6, 12));
	expect_name("weight", "", "weight");
	expect_name("weight", ".npy", "weight.npy");
	expect_name("%", ".safetensors", "%.safetensors");
}
END_TEST

START_TEST(a_name_of_255_bytes_with_its_suffix_is_not_cut)
{
	char stem[STEM_MAX];
	char want[STEM_MAX + 16];

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		size_t len = PATH_NAME_MAX - strlen(suffixes[i]);

		fill(stem, len);
		ck_assert(!path_needs_cut(stem, len, strlen(suffixes[i])));
		(void)snprintf(want, sizeof(want), "%s%s", stem, suffixes[i]);
		ck_assert_uint_eq(strlen(want), PATH_NAME_MAX);
		expect_name(stem, suffixes[i], want);
	}
}
END_TEST

START_TEST(a_longer_name_is_cut_to_255_bytes)
{
	char stem[STEM_MAX];
	char want[STEM_MAX + 32];

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		size_t suffix_len = strlen(suffixes[i]);

		for (size_t len = PATH_NAME_MAX - suffix_len + 1; len < LONG_STEM;
		     len++) {
			fill(stem, len);
			ck_assert(path_needs_cut(stem, len, suffix_len));
			(void)snprintf(want, sizeof(want), "%.*s" MARK "%s",
				       (int)(PATH_NAME_MAX - 17 - suffix_len), stem,
				       suffixes[i]);
			ck_assert_uint_eq(strlen(want), PATH_NAME_MAX);
			expect_name(stem, suffixes[i], want);
		}
	}
}
END_TEST

START_TEST(each_view_cuts_at_its_own_length)
{
	char stem[STEM_MAX];

	for (size_t len = 240; len <= 260; len++) {
		fill(stem, len);
		ck_assert_int_eq(path_needs_cut(stem, len, 0), len > 255);
		ck_assert_int_eq(path_needs_cut(stem, len, 4), len > 251);
		ck_assert_int_eq(path_needs_cut(stem, len, 12), len > 243);
	}
}
END_TEST

/* A stem that repeats `unit`, `shift` bytes late: each place of the cut is tried. What is
 * left is whole units. */
static void expect_whole_units(const char *unit, size_t shift, const char *suffix)
{
	size_t unit_len = strlen(unit);
	char stem[STEM_MAX];
	char out[PATH_NAME_MAX + 1];
	size_t len = shift;
	size_t kept;

	memset(stem, 'x', shift);
	for (; len < LONG_STEM || (len - shift) % unit_len > 0; len++)
		stem[len] = unit[(len - shift) % unit_len];
	kept = path_file_name(stem, len, suffix, HASH, out) - strlen(MARK) -
	       strlen(suffix);
	ck_assert_mem_eq(out, stem, kept);
	ck_assert_uint_eq((kept - shift) % unit_len, 0);
	/* No more is lost than must be. */
	ck_assert_uint_gt(kept + unit_len, PATH_NAME_MAX - strlen(MARK) - strlen(suffix));
	ck_assert_uint_le(kept, PATH_NAME_MAX - strlen(MARK) - strlen(suffix));
	ck_assert_mem_eq(out + kept, MARK, strlen(MARK));
	ck_assert_str_eq(out + kept + strlen(MARK), suffix);
}

START_TEST(the_cut_is_never_inside_a_character_or_an_escape)
{
	static const char *const units[] = { "x", "\xc3\xa4", "\xe2\x82\xac",
					     "\xf0\x9f\x98\x80", "%0A" };

	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		for (size_t k = 0; k < ARRAY_LEN(suffixes); k++)
			for (size_t shift = 0; shift < 8; shift++)
				expect_whole_units(units[i], shift, suffixes[k]);
}
END_TEST

START_TEST(the_hash_has_16_digits)
{
	char stem[STEM_MAX];
	char out[PATH_NAME_MAX + 1];
	uint64_t hash = 0;

	fill(stem, 300);
	ck_assert_uint_eq(path_file_name(stem, 300, ".npy", 0xf, out), 255);
	ck_assert_str_eq(out + 255 - 17 - 4, "~000000000000000f.npy");
	ck_assert(path_cut_hash(out, 255 - 4, &hash));
	ck_assert_uint_eq(hash, 0xf);
	(void)path_file_name(stem, 300, "", UINT64_MAX, out);
	ck_assert(path_cut_hash(out, 255, &hash));
	ck_assert_uint_eq(hash, UINT64_MAX);
}
END_TEST

START_TEST(only_a_tilde_and_16_lower_case_digits_are_a_hash)
{
	static const char *const bad[] = { "",
					   "~",
					   "0123456789abcdef",
					   "~0123456789abcde",
					   "~0123456789ABCDEF",
					   "~0123456789abcdeg",
					   "-0123456789abcdef",
					   "~0123456789abcdef0",
					   "~0123456789abcdef ",
					   "~ 123456789abcdef" };
	uint64_t hash = 1;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!path_cut_hash(bad[i], strlen(bad[i]), &hash), "%s",
			      bad[i]);
	ck_assert_uint_eq(hash, 1);
	ck_assert(path_cut_hash(MARK, strlen(MARK), &hash));
	ck_assert_uint_eq(hash, HASH);
	ck_assert(path_cut_hash("a~~" MARK, strlen(MARK) + 3, &hash));
}
END_TEST

/* ---- Names that pretend to be cut ---- */

/* The last 17 bytes look like a mark. */
static void fill_marked(char *stem, size_t len)
{
	fill(stem, len);
	memset(stem + len - 16, 'a', 16);
	stem[len - 17] = '~';
}

START_TEST(a_long_stem_that_ends_in_a_mark_gets_its_own)
{
	char stem[STEM_MAX];
	char want[STEM_MAX + 32];

	/* From here on it could be another one's cut form. */
	for (size_t len = 217; len <= PATH_NAME_MAX; len++) {
		fill_marked(stem, len);
		ck_assert(path_needs_cut(stem, len, 0));
		(void)snprintf(want, sizeof(want), "%.238s" MARK, stem);
		expect_name(stem, "", want);
	}
}
END_TEST

START_TEST(a_short_stem_that_ends_in_a_mark_stays)
{
	char stem[STEM_MAX];

	for (size_t len = 17; len < 200; len++) {
		fill_marked(stem, len);
		ck_assert(!path_needs_cut(stem, len, 12));
		expect_name(stem, "", stem);
	}
}
END_TEST

/* What makes the two tests above enough: no cut file name is shorter than 200 bytes,
 * whatever is cut away. */
START_TEST(a_cut_name_is_never_shorter_than_those_that_are_marked)
{
	static const char *const units[] = { "x", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
					     "%0A" };
	char stem[STEM_MAX];
	char out[PATH_NAME_MAX + 1];

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		for (size_t shift = 0; shift < 4; shift++) {
			size_t len = shift;

			memset(stem, 'x', shift);
			for (; len <= PATH_NAME_MAX; len += strlen(units[i]))
				memcpy(stem + len, units[i], strlen(units[i]));
			ck_assert_uint_ge(path_file_name(stem, len, "", HASH, out), 200);
			ck_assert_uint_ge(
				path_file_name(stem, len, ".safetensors", HASH, out) - 12,
				200);
		}
	}
}
END_TEST

static TCase *encoding_case(void)
{
	TCase *tcase = tcase_create("encoding");

	tcase_add_test(tcase, a_plain_component_stays_as_it_is);
	tcase_add_test(tcase, control_characters_and_percent_are_escaped_in_upper_case);
	tcase_add_test(tcase, bytes_that_are_no_utf8_are_escaped);
	tcase_add_test(tcase, an_empty_component_is_a_percent_sign);
	tcase_add_test(tcase, a_slash_is_escaped_where_names_are_not_split);
	tcase_add_test(tcase, only_one_and_two_dots_are_escaped);
	tcase_add_test(tcase, every_byte_comes_back);
	tcase_add_test(tcase, what_is_no_encoding_is_not_decoded);
	tcase_add_test(tcase, decoding_reads_no_more_than_it_was_given);
	return tcase;
}

static TCase *cutting_case(void)
{
	TCase *tcase = tcase_create("cutting");

	tcase_add_test(tcase, a_short_stem_gets_its_suffix);
	tcase_add_test(tcase, a_name_of_255_bytes_with_its_suffix_is_not_cut);
	tcase_add_test(tcase, a_longer_name_is_cut_to_255_bytes);
	tcase_add_test(tcase, each_view_cuts_at_its_own_length);
	tcase_add_test(tcase, the_cut_is_never_inside_a_character_or_an_escape);
	tcase_add_test(tcase, the_hash_has_16_digits);
	tcase_add_test(tcase, only_a_tilde_and_16_lower_case_digits_are_a_hash);
	tcase_add_test(tcase, a_long_stem_that_ends_in_a_mark_gets_its_own);
	tcase_add_test(tcase, a_short_stem_that_ends_in_a_mark_stays);
	tcase_add_test(tcase, a_cut_name_is_never_shorter_than_those_that_are_marked);
	return tcase;
}

UNIT_MAIN("path", encoding_case, cutting_case)
