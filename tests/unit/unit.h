/*
 * What each unit test program needs besides check: one line at the bottom of a test file
 * that makes its test cases a program.
 *
 *     UNIT_MAIN("reader", files_case, memory_case)
 *
 * where each name is a function `TCase *name(void)`.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>

#include "util/macros.h"

/* Seconds for one test; sanitizers on a busy machine are slow. */
#define UNIT_TIMEOUT 120

static inline int unit_run(const char *name, TCase *(*const *cases)(void), size_t count)
{
	Suite *suite = suite_create(name);
	SRunner *runner;
	int failed;

	for (size_t i = 0; i < count; i++) {
		TCase *tcase = cases[i]();

		tcase_set_timeout(tcase, UNIT_TIMEOUT);
		suite_add_tcase(suite, tcase);
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define UNIT_MAIN(name, ...)                                            \
	int main(void)                                                  \
	{                                                               \
		static TCase *(*const CASES[])(void) = { __VA_ARGS__ }; \
                                                                        \
		return unit_run((name), CASES, ARRAY_LEN(CASES));       \
	}

#endif
