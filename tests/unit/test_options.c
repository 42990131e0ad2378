#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "memory.h"
#include "options.h"
#include "unit.h"

#define DEFAULT_FLAGS ((unsigned long)(MS_RDONLY | MS_NOSUID | MS_NODEV))

static struct options parse(const char *text)
{
	struct options options;
	struct diag diag;

	options_init(&options);
	ck_assert_msg(options_parse(&options, text, &diag) == 0, "%s: %s", text,
		      diag.text);
	return options;
}

static void expect_refused(const char *text, const char *words)
{
	struct options options;
	struct diag diag;

	options_init(&options);
	ck_assert_msg(options_parse(&options, text, &diag) == -EINVAL, "%s", text);
	ck_assert_str_eq(diag.text, words);
}

static void expect_unknown(const char *text, const char *begin)
{
	struct options options;
	struct diag diag;

	options_init(&options);
	ck_assert_int_eq(options_parse(&options, text, &diag), -EINVAL);
	diag.text[strlen(begin)] = '\0';
	ck_assert_str_eq(diag.text, begin);
}

static void expect_defaults(const struct options *o)
{
	ck_assert(!o->allow_other);
	ck_assert_uint_eq(o->uid, getuid());
	ck_assert_uint_eq(o->gid, getgid());
	ck_assert_uint_ge(o->threads, 1);
	ck_assert_uint_gt(o->readahead_bytes, 0);
	ck_assert_int_eq((int)o->backing, BACKING_AUTO);
	ck_assert_ptr_null(o->format);
	ck_assert_uint_eq(o->ms_flags, DEFAULT_FLAGS);
}

/* ---- Options and their values ---- */

START_TEST(without_options_there_are_defaults)
{
	struct options o;

	options_init(&o);
	expect_defaults(&o);
	o = parse("");
	expect_defaults(&o);
}
END_TEST

START_TEST(ro_and_rw_change_nothing)
{
	static const char *const texts[] = { "ro",
					     "rw",
					     "defaults",
					     "rw,ro,rw",
					     "_netdev,nofail,auto,noauto,nouser",
					     "default_permissions",
					     ",",
					     ",,ro,," };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct options o = parse(texts[i]);

		expect_defaults(&o);
	}
}
END_TEST

START_TEST(each_option_sets_its_value)
{
	struct options o = parse("allow_other,uid=0,gid=4294967294,threads=3,"
				 "readahead=128K,backing=stream,format=gguf");

	ck_assert(o.allow_other);
	ck_assert_uint_eq(o.uid, 0);
	ck_assert_uint_eq(o.gid, 4294967294);
	ck_assert_uint_eq(o.threads, 3);
	ck_assert_uint_eq(o.readahead_bytes, 131072);
	ck_assert_int_eq((int)o.backing, BACKING_STREAM);
	ck_assert_str_eq(o.format, "gguf");
	ck_assert_uint_eq(o.ms_flags, DEFAULT_FLAGS);
}
END_TEST

START_TEST(the_last_of_two_counts)
{
	struct options o = parse("threads=3,backing=stream,threads=5,backing=auto");

	ck_assert_uint_eq(o.threads, 5);
	ck_assert_int_eq((int)o.backing, BACKING_AUTO);
}
END_TEST

START_TEST(several_arguments_add_up)
{
	struct options o = parse("threads=3");
	struct diag diag;

	ck_assert_int_eq(options_parse(&o, "uid=7", &diag), 0);
	ck_assert_uint_eq(o.threads, 3);
	ck_assert_uint_eq(o.uid, 7);
}
END_TEST

START_TEST(sizes_have_units)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = {
		{ "readahead=0", 0 },
		{ "readahead=4096", 4096 },
		{ "readahead=64k", 64 << 10 },
		{ "readahead=64K", 64 << 10 },
		{ "readahead=64KiB", 64 << 10 },
		{ "readahead=4M", 4 << 20 },
		{ "readahead=1024M", 1 << 30 },
		{ "readahead=1G", 1 << 30 },
	};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		ck_assert_uint_eq(parse(sizes[i].text).readahead_bytes, sizes[i].bytes);
}
END_TEST

START_TEST(threads_are_from_1_to_1024)
{
	ck_assert_uint_eq(parse("threads=1").threads, 1);
	ck_assert_uint_eq(parse("threads=1024").threads, 1024);
	expect_refused("threads=0",
		       "option threads: value '0': must be a number from 1 to 1024");
	expect_refused("threads=1025",
		       "option threads: value '1025': must be a number from 1 to 1024");
}
END_TEST

START_TEST(formats_are_named)
{
	ck_assert_str_eq(parse("format=safetensors").format, "safetensors");
	ck_assert_str_eq(parse("format=gguf").format, "gguf");
}
END_TEST

START_TEST(flags_of_mount_are_passed_on)
{
	ck_assert_uint_eq(parse("noexec").ms_flags, DEFAULT_FLAGS | MS_NOEXEC);
	ck_assert_uint_eq(parse("noexec,exec").ms_flags, DEFAULT_FLAGS);
	ck_assert_uint_eq(parse("suid").ms_flags, MS_RDONLY | MS_NODEV);
	ck_assert_uint_eq(parse("dev,suid").ms_flags, MS_RDONLY);
	ck_assert_uint_eq(parse("suid,nosuid,dev,nodev").ms_flags, DEFAULT_FLAGS);
	ck_assert_uint_eq(parse("noatime").ms_flags, DEFAULT_FLAGS | MS_NOATIME);
	ck_assert_uint_eq(parse("noatime,atime").ms_flags, DEFAULT_FLAGS);
	ck_assert_uint_eq(parse("nodiratime").ms_flags, DEFAULT_FLAGS | MS_NODIRATIME);
	ck_assert_uint_eq(parse("relatime").ms_flags, DEFAULT_FLAGS | MS_RELATIME);
	ck_assert_uint_eq(parse("user").ms_flags, DEFAULT_FLAGS | MS_NOEXEC);
	ck_assert_uint_eq(parse("users,exec").ms_flags, DEFAULT_FLAGS);
}
END_TEST

START_TEST(notes_to_other_programs_are_let_pass)
{
	static const char *const texts[] = { "x-systemd.automount",
					     "x-systemd.idle-timeout=60", "X-mount.mkdir",
					     "X-mount.mkdir=0755" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct options o = parse(texts[i]);

		expect_defaults(&o);
	}
}
END_TEST

/* ---- Refusals ---- */

START_TEST(an_unknown_option_is_refused_with_the_known_ones)
{
	static const char known[] =
		"allow_other, ro, uid=N, gid=N, threads=N, readahead=SIZE, "
		"backing=auto|stream|clone|resident, resident_limit=SIZE|PERCENT%, "
		"hugepages=auto|always|never, "
		"numa=local|auto|N[,N...]|interleave|gpu:N|mirror, source_cache=keep|drop, "
		"prediction=on|off, profile=FILE, push=on|off, format=NAME";
	static const char *const names[] = { "frobnicate", "Threads",     "thread",
					     "threadss",   "allow-other", " ro" };
	char words[512];
	char list[512];

	options_list(list, sizeof(list));
	ck_assert_str_eq(list, known);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		(void)snprintf(words, sizeof(words),
			       "unknown option '%s': the options are: %s", names[i],
			       known);
		expect_refused(names[i], words);
	}
	(void)snprintf(words, sizeof(words), "unknown option '': the options are: %s",
		       known);
	expect_refused("=5", words);
	(void)snprintf(words, sizeof(words),
		       "unknown option 'noexec': the options are: %s", known);
	expect_refused("noexec=1", words);
	(void)snprintf(words, sizeof(words),
		       "unknown option '\\x1b[31m': the options are: %s", known);
	expect_refused("\x1b[31m", words);
}
END_TEST

START_TEST(a_missing_value_is_refused)
{
	expect_refused("uid", "option uid: needs a value: uid=N");
	expect_refused("uid=", "option uid: needs a value: uid=N");
	expect_refused("gid", "option gid: needs a value: gid=N");
	expect_refused("threads=", "option threads: needs a value: threads=N");
	expect_refused("readahead", "option readahead: needs a value: readahead=SIZE");
	expect_refused(
		"backing",
		"option backing: needs a value: backing=auto|stream|clone|resident");
	expect_refused("format=", "option format: needs a value: format=NAME");
}
END_TEST

START_TEST(a_value_that_is_not_taken_is_refused)
{
	expect_refused("allow_other=1", "option allow_other: takes no value");
	expect_refused("ro=", "option ro: takes no value");
}
END_TEST

START_TEST(what_is_no_number_is_refused)
{
	static const char *const values[] = {
		"-1", "+1",   "1K", "0x10",       "1.5",
		" 1", "root", "1 ", "4294967295", "18446744073709551616"
	};
	char text[64];
	char words[128];

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		(void)snprintf(text, sizeof(text), "uid=%s", values[i]);
		(void)snprintf(words, sizeof(words),
			       "option uid: value '%s': must be a number from 0 to "
			       "4294967294",
			       values[i]);
		expect_refused(text, words);
	}
}
END_TEST

START_TEST(what_is_no_size_is_refused)
{
	static const char *const values[] = { "-1",
					      "K",
					      "1.5M",
					      "1X",
					      "1KK",
					      "1025M",
					      "2G",
					      "1T",
					      "4 M",
					      "1073741825",
					      "99999999999999999999" };
	char text[64];
	char words[128];

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		(void)snprintf(text, sizeof(text), "readahead=%s", values[i]);
		(void)snprintf(words, sizeof(words),
			       "option readahead: value '%s': must be a size up to 1G, "
			       "such as 128K or 4M",
			       values[i]);
		expect_refused(text, words);
	}
}
END_TEST

START_TEST(what_is_no_backing_or_format_is_refused_with_those_there_are)
{
	expect_refused(
		"backing=fast",
		"option backing: value 'fast': must be auto, stream, clone or resident");
	expect_refused(
		"backing=AUTO",
		"option backing: value 'AUTO': must be auto, stream, clone or resident");
	expect_refused(
		"backing=auto=x",
		"option backing: value 'auto=x': must be auto, stream, clone or resident");
	expect_refused("format=exe", "option format: value 'exe': must be one of: gguf, "
				     "safetensors");
}
END_TEST

START_TEST(what_follows_a_refusal_does_not_hide_it)
{
	expect_refused("threads=2,uid=x,ro",
		       "option uid: value 'x': must be a number from 0 to 4294967294");
	expect_refused("uid=x,nonsense",
		       "option uid: value 'x': must be a number from 0 to 4294967294");
}
END_TEST

static void expect_limit_refused(const char *value)
{
	char option[64];
	char words[256];

	(void)snprintf(option, sizeof(option), "resident_limit=%s", value);
	(void)snprintf(
		words, sizeof(words),
		"option resident_limit: value '%s': must be a size such as 16G, or a share "
		"of all memory such as 40%%",
		value);
	expect_refused(option, words);
}

START_TEST(the_limit_of_resident_tensors_is_a_size_or_a_share_of_all_memory)
{
	struct options o = parse("resident_limit=16M");
	struct memory_room room;

	memory_look(&room);
	ck_assert_uint_eq(o.resident_limit, (uint64_t)16 << 20);
	o = parse("resident_limit=0");
	ck_assert_uint_eq(o.resident_limit, 0);
	o = parse("resident_limit=100%");
	ck_assert_uint_le(o.resident_limit, room.total);
	ck_assert_uint_gt(o.resident_limit, room.total / 100 * 99);
	/* What is available changes while this is tested. */
	o = parse("backing=resident");
	ck_assert_uint_le(o.resident_limit, room.total / 2);
	ck_assert_uint_gt(o.resident_limit, room.available / 100 * 30);
	ck_assert_uint_lt(o.resident_limit, room.available / 100 * 70);
	expect_limit_refused("101%");
	expect_limit_refused("%");
	expect_limit_refused("much");
}
END_TEST

START_TEST(huge_pages_are_auto_always_or_never)
{
	struct options o = parse("hugepages=always");

	ck_assert_int_eq((int)o.huge_pages, HUGE_ALWAYS);
	o = parse("hugepages=never");
	ck_assert_int_eq((int)o.huge_pages, HUGE_NEVER);
	o = parse("backing=auto");
	ck_assert_int_eq((int)o.huge_pages, HUGE_AUTO);
	expect_refused("hugepages=some",
		       "option hugepages: value 'some': must be auto, always or never");
}
END_TEST

/* The value of "numa=" as it was understood. */
static const char *numa_of(const char *text, char out[static 64])
{
	const struct options o = parse(text);
	struct strbuf written;

	strbuf_init_fixed(&written, out, 64);
	placement_write_choice(&o.numa, &written);
	return out;
}

START_TEST(numbers_of_nodes_may_be_several)
{
	char out[64];

	ck_assert_str_eq(numa_of("threads=3", out), "local");
	ck_assert_str_eq(numa_of("numa=0,1,threads=3", out), "0,1");
	ck_assert_uint_eq(parse("numa=0,1,threads=3").threads, 3);
	ck_assert_str_eq(numa_of("threads=3,numa=2", out), "2");
	ck_assert_str_eq(numa_of("numa=2,", out), "2");
	ck_assert_str_eq(numa_of("numa=1,numa=0", out), "0");
	ck_assert_str_eq(numa_of("numa=gpu:1,ro", out), "gpu:1");
	expect_unknown("numa=3,1x", "unknown option '1x': ");
	expect_unknown("numa=auto,1", "unknown option '1': ");
	expect_unknown("numa=gpu:0,1", "unknown option '1': ");
	expect_refused("numa=0,60",
		       "option numa: value '0,60': must be local, auto, interleave, "
		       "mirror, numbers of nodes such as 0 or 0,1, or a GPU such as "
		       "gpu:0");
}
END_TEST

START_TEST(the_cache_of_the_source_is_kept_or_dropped)
{
	ck_assert(!parse("backing=auto").drop_source_cache);
	ck_assert(!parse("source_cache=keep").drop_source_cache);
	ck_assert(parse("source_cache=drop").drop_source_cache);
	ck_assert(parse("source_cache=keep").prediction);
	ck_assert(parse("prediction=off,prediction=on").prediction);
	ck_assert(!parse("prediction=off").prediction);
	expect_refused("prediction=1", "option prediction: value '1': must be on or off");
	expect_refused("source_cache=yes",
		       "option source_cache: value 'yes': must be keep or drop");
}
END_TEST

START_TEST(pages_are_pushed_unless_told_otherwise)
{
	ck_assert(parse("backing=auto").push);
	ck_assert(parse("push=on").push);
	ck_assert(!parse("push=off").push);
	expect_refused("push=auto", "option push: value 'auto': must be on or off");
}
END_TEST

START_TEST(backings_have_names)
{
	ck_assert_str_eq(options_backing_name(BACKING_AUTO), "auto");
	ck_assert_str_eq(options_backing_name(BACKING_STREAM), "stream");
	ck_assert_str_eq(options_backing_name(BACKING_CLONE), "clone");
	ck_assert_str_eq(options_backing_name(BACKING_RESIDENT), "resident");
}
END_TEST

START_TEST(the_list_ends_where_the_room_does)
{
	char list[8] = "";

	options_list(list, sizeof(list));
	ck_assert_uint_lt(strnlen(list, sizeof(list)), sizeof(list));
}
END_TEST

static TCase *values_case(void)
{
	TCase *tcase = tcase_create("values");

	tcase_add_test(tcase, without_options_there_are_defaults);
	tcase_add_test(tcase, ro_and_rw_change_nothing);
	tcase_add_test(tcase, each_option_sets_its_value);
	tcase_add_test(tcase, the_last_of_two_counts);
	tcase_add_test(tcase, several_arguments_add_up);
	tcase_add_test(tcase, sizes_have_units);
	tcase_add_test(tcase, threads_are_from_1_to_1024);
	tcase_add_test(tcase, formats_are_named);
	tcase_add_test(tcase, flags_of_mount_are_passed_on);
	tcase_add_test(tcase, notes_to_other_programs_are_let_pass);
	tcase_add_test(tcase, pages_are_pushed_unless_told_otherwise);
	tcase_add_test(tcase, backings_have_names);
	tcase_add_test(tcase, huge_pages_are_auto_always_or_never);
	tcase_add_test(tcase, numbers_of_nodes_may_be_several);
	tcase_add_test(tcase, the_cache_of_the_source_is_kept_or_dropped);
	tcase_add_test(tcase,
		       the_limit_of_resident_tensors_is_a_size_or_a_share_of_all_memory);
	tcase_add_test(tcase, the_list_ends_where_the_room_does);
	return tcase;
}

static TCase *refusals_case(void)
{
	TCase *tcase = tcase_create("refusals");

	tcase_add_test(tcase, an_unknown_option_is_refused_with_the_known_ones);
	tcase_add_test(tcase, a_missing_value_is_refused);
	tcase_add_test(tcase, a_value_that_is_not_taken_is_refused);
	tcase_add_test(tcase, what_is_no_number_is_refused);
	tcase_add_test(tcase, what_is_no_size_is_refused);
	tcase_add_test(tcase,
		       what_is_no_backing_or_format_is_refused_with_those_there_are);
	tcase_add_test(tcase, what_follows_a_refusal_does_not_hide_it);
	return tcase;
}

UNIT_MAIN("options", values_case, refusals_case)
