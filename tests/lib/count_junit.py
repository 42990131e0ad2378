#!/usr/bin/env python3
"""count_junit.py FILE STATUS: prints "PASSED FAILED SKIPPED" of a JUnit file.

A program of check is one test case for ctest but says how many it ran; those are counted
instead. One of them that cannot run here prints a line with "not tested" and returns: it is
counted as skipped, and the line is shown. STATUS is the runner's exit status: one that is not 0 without a failed case is one.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree

CHECK_TOTALS = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.M)


NOT_TESTED = re.compile(r"^.*: not tested.*$", re.M)


def is_failed(case):
    return case.find("failure") is not None or case.find("error") is not None \
        or case.get("status") == "fail"


def count_case(case):
    """(passed, failed, skipped) of one <testcase>."""
    if case.find("skipped") is not None:
        return 0, 0, 1
    output = case.findtext("system-out") or ""
    totals = CHECK_TOTALS.findall(output)
    if not totals:
        return (0, 1, 0) if is_failed(case) else (1, 0, 0)
    checks = sum(int(t[0]) for t in totals)
    failed = sum(int(t[1]) + int(t[2]) for t in totals)
    not_run = NOT_TESTED.findall(output)
    for line in not_run:
        print(f"skip  {line}", file=sys.stderr)
    passed = checks - failed - len(not_run)
    if is_failed(case) and failed == 0:
        failed = 1
    return passed, failed, len(not_run)


def count(path):
    try:
        cases = ElementTree.parse(path).iter("testcase")
    except (OSError, ElementTree.ParseError) as error:
        print(f"count_junit: {path}: {error}", file=sys.stderr)
        return 0, 0, 0
    counts = [count_case(case) for case in cases]
    return tuple(map(sum, zip(*counts))) if counts else (0, 0, 0)


def main():
    passed, failed, skipped = count(sys.argv[1])
    if int(sys.argv[2]) != 0 and failed == 0:
        failed = 1
    if passed + failed + skipped == 0:
        failed = 1
    print(passed, failed, skipped)


main()
