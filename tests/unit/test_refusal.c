#include <errno.h>

#include "passthrough.h"
#include "refusal.h"
#include "unit.h"
#include "util/kernel.h"

static const struct privilege root = {
	.admin = true,
	.initial_userns = true,
	.kernel = KERNEL(6, 12),
};

static const struct privilege user = { .initial_userns = true, .kernel = KERNEL(6, 12) };

static char text[REFUSAL_MAX];

START_TEST(a_tmpfs_without_the_capability_takes_root)
{
	refusal_of_tmpfs(&user, -EPERM, text);
	ck_assert_str_eq(text, "it takes root (CAP_SYS_ADMIN)");
}
END_TEST

START_TEST(a_tmpfs_that_root_is_refused_is_a_filters_doing)
{
	struct privilege filtered = root;

	filtered.filtered = true;
	refusal_of_tmpfs(&filtered, -EPERM, text);
	ck_assert_ptr_nonnull(strstr(text, "seccomp"));
	refusal_of_tmpfs(&filtered, -ENOSYS, text);
	ck_assert_ptr_nonnull(strstr(text, "seccomp"));
}
END_TEST

START_TEST(a_user_without_the_capability_is_told_so_under_a_filter_too)
{
	struct privilege filtered = user;

	filtered.filtered = true;
	refusal_of_tmpfs(&filtered, -EPERM, text);
	ck_assert_str_eq(text, "it takes root (CAP_SYS_ADMIN)");
}
END_TEST

START_TEST(a_kernel_without_the_call_is_too_old)
{
	refusal_of_tmpfs(&root, -ENOSYS, text);
	ck_assert_str_eq(text, "this kernel has no fsopen(2): Linux 5.2 has");
}
END_TEST

START_TEST(other_errors_are_told_as_they_are)
{
	refusal_of_tmpfs(&root, -ENOMEM, text);
	ck_assert_str_eq(text, "a tmpfs cannot be made: cannot allocate memory");
	refusal_of_registration(&root, -ENOMEM, text);
	ck_assert_str_eq(text, "the kernel refuses the file: cannot allocate memory");
}
END_TEST

START_TEST(a_registration_needs_the_first_user_namespace)
{
	struct privilege contained = root;

	contained.initial_userns = false;
	refusal_of_registration(&contained, -EPERM, text);
	ck_assert_str_eq(text, "it takes root outside of a user namespace");
	refusal_of_registration(&user, -EPERM, text);
	ck_assert_str_eq(text, "it takes root (CAP_SYS_ADMIN)");
}
END_TEST

START_TEST(a_registration_tells_stacked_from_unsuited_file_systems)
{
	refusal_of_registration(&root, -ELOOP, text);
	ck_assert_ptr_nonnull(strstr(text, "stacked"));
	refusal_of_registration(&root, -EOPNOTSUPP, text);
	ck_assert_str_eq(text, "the kernel refuses files of this file system");
}
END_TEST

START_TEST(an_old_kernel_is_told_from_one_built_without)
{
	struct privilege old = root;

	old.kernel = KERNEL(6, 8);
	refusal_of_offer(&old, text);
	ck_assert_str_eq(text, "this kernel is Linux 6.8, which has none: 6.9 has");
	old.kernel = KERNEL(5, 15);
	refusal_of_offer(&old, text);
	ck_assert_str_eq(text, "this kernel is Linux 5.15, which has none: 6.9 has");
	refusal_of_offer(&root, text);
	ck_assert_str_eq(text, "this kernel was built without it "
			       "(CONFIG_FUSE_PASSTHROUGH)");
}
END_TEST

START_TEST(reasons_for_having_no_clones_are_told_apart)
{
	static const struct {
		int err;
		const char *text;
	} reasons[] = {
		{ -EROFS, "the model's file system is mounted read-only" },
		{ -EACCES, "no file can be made beside the model" },
		{ -EPERM, "no file can be made beside the model" },
		{ -ENOSPC, "the model's file system is full" },
		{ -EDQUOT, "the model's file system is full" },
		{ -ENOTTY,
		  "the model's file system cannot share blocks (XFS and btrfs can)" },
		{ -EMFILE, "a clone cannot be made: too many open files" },
	};

	for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
		refusal_of_clone(reasons[i].err, text);
		ck_assert_str_eq(text, reasons[i].text);
	}
}
END_TEST

static TCase *words_case(void)
{
	TCase *tcase = tcase_create("words");

	tcase_add_test(tcase, a_tmpfs_without_the_capability_takes_root);
	tcase_add_test(tcase, a_tmpfs_that_root_is_refused_is_a_filters_doing);
	tcase_add_test(tcase,
		       a_user_without_the_capability_is_told_so_under_a_filter_too);
	tcase_add_test(tcase, a_kernel_without_the_call_is_too_old);
	tcase_add_test(tcase, other_errors_are_told_as_they_are);
	tcase_add_test(tcase, a_registration_needs_the_first_user_namespace);
	tcase_add_test(tcase, a_registration_tells_stacked_from_unsuited_file_systems);
	tcase_add_test(tcase, an_old_kernel_is_told_from_one_built_without);
	tcase_add_test(tcase, reasons_for_having_no_clones_are_told_apart);
	return tcase;
}

START_TEST(nothing_is_known_before_it_was_tried)
{
	struct passthrough p = { .wanted = false };

	passthrough_prepare(&p, NULL);
	ck_assert(!passthrough_is_enabled(&p));
	ck_assert_ptr_nonnull(strstr(passthrough_refusal(&p), "not known yet"));
}
END_TEST

START_TEST(what_the_kernel_does_not_offer_is_not_tried)
{
	struct passthrough p = { .wanted = false };

	passthrough_prepare(&p, NULL);
	ck_assert(!passthrough_settle(&p));
	refusal_of_offer(&p.privilege, text);
	ck_assert_str_eq(passthrough_refusal(&p), text);
}
END_TEST

START_TEST(an_answer_that_could_not_be_amended_is_libfuses)
{
	struct passthrough p = { .wanted = false };

	passthrough_prepare(&p, NULL);
	atomic_store(&p.offered, true);
	ck_assert(!passthrough_settle(&p));
	ck_assert_ptr_nonnull(strstr(passthrough_refusal(&p), fuse_pkgversion()));
}
END_TEST

static TCase *settle_case(void)
{
	TCase *tcase = tcase_create("settle");

	tcase_add_test(tcase, nothing_is_known_before_it_was_tried);
	tcase_add_test(tcase, what_the_kernel_does_not_offer_is_not_tried);
	tcase_add_test(tcase, an_answer_that_could_not_be_amended_is_libfuses);
	return tcase;
}

UNIT_MAIN("refusal", words_case, settle_case)
