/* Shell patterns on names that may be any bytes. */
#include <stdint.h>
#include <time.h>

#include "unit.h"
#include "util/pattern.h"

static bool matches(const char *pattern, const char *name, size_t len)
{
	CLEANUP(strbuf_fini) struct strbuf scratch = { 0 };
	const char *subject = pattern_subject(&scratch, name, len);

	ck_assert_ptr_nonnull(subject);
	return pattern_matches(pattern, subject);
}

static bool matches_text(const char *pattern, const char *name)
{
	return matches(pattern, name, strlen(name));
}

START_TEST(stars_match_dots_and_slashes)
{
	ck_assert(matches_text("*.weight", "layers.0/attn.weight"));
	ck_assert(matches_text("layers.?.*", "layers.7.attn"));
	ck_assert(!matches_text("layers.?.*", "layers.17.attn"));
	ck_assert(matches_text("*", ".hidden"));
}
END_TEST

START_TEST(sets_and_escapes_are_those_of_a_shell)
{
	ck_assert(matches_text("l[0-1]", "l1"));
	ck_assert(!matches_text("l[!0-1]", "l1"));
	ck_assert(matches_text("a\\*b", "a*b"));
	ck_assert(!matches_text("a\\*b", "axb"));
	ck_assert(!matches_text("a[", "a"));
}
END_TEST

START_TEST(a_pattern_matches_the_whole_name)
{
	ck_assert(!matches_text("layers", "layers.0"));
	ck_assert(!matches_text("", "a"));
	ck_assert(matches_text("", ""));
}
END_TEST

START_TEST(bytes_that_are_no_utf8_match_themselves)
{
	ck_assert(matches("a\xff*", "a\xff\x80", 3));
	ck_assert(matches("a??", "a\xff\x80", 3));
	ck_assert(!matches("a\xfe?", "a\xff\x80", 3));
}
END_TEST

START_TEST(a_nul_in_a_name_does_not_end_it)
{
	ck_assert(!matches("a", "a\0b", 3));
	ck_assert(matches("a?b", "a\0b", 3));
	ck_assert(matches("a\1b", "a\0b", 3));
}
END_TEST

START_TEST(scratch_is_used_again)
{
	CLEANUP(strbuf_fini) struct strbuf scratch = { 0 };

	ck_assert_str_eq(pattern_subject(&scratch, "a long one", 10), "a long one");
	ck_assert_str_eq(pattern_subject(&scratch, "b", 1), "b");
	ck_assert_str_eq(pattern_subject(&scratch, "", 0), "");
}
END_TEST

/* A matcher that tries all ways would need 2^64 steps here. */
START_TEST(many_stars_take_no_time)
{
	char name[2001];
	char pattern[401];
	clock_t begin = clock();

	memset(name, 'a', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	for (size_t i = 0; i < 400; i += 2)
		memcpy(pattern + i, "*a", 2);
	pattern[399] = 'b';
	pattern[400] = '\0';
	ck_assert(!matches_text(pattern, name));
	ck_assert_int_lt(clock() - begin, 10 * CLOCKS_PER_SEC);
}
END_TEST

static TCase *pattern_case(void)
{
	TCase *t = tcase_create("pattern");

	tcase_add_test(t, stars_match_dots_and_slashes);
	tcase_add_test(t, sets_and_escapes_are_those_of_a_shell);
	tcase_add_test(t, a_pattern_matches_the_whole_name);
	tcase_add_test(t, bytes_that_are_no_utf8_match_themselves);
	tcase_add_test(t, a_nul_in_a_name_does_not_end_it);
	tcase_add_test(t, scratch_is_used_again);
	tcase_add_test(t, many_stars_take_no_time);
	return t;
}

UNIT_MAIN("pattern", pattern_case)
