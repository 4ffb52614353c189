#!/usr/bin/env python3
"""summary.py [--broken "STAGE ..."] FOLDER: adds up the JUnit files that CTest left in FOLDER.

Prints what took longest (FOLDER/stages: lines "seconds stage"), every skip with its reason and every failure, then
"N passed, N failed, N skipped". A GoogleTest program that CTest ran as one test counts with each of its cases. Exit
code 1 when anything failed, or when nothing was tested."""

import argparse
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SLOWEST = 10
TIMED_CASE = re.compile(r"^\[ +(?:OK|FAILED) +\] (\S+?)(?:,.*)? \((\d+) ms\)$", re.M)
FAILED_CASE = re.compile(r"^\[  FAILED  \] (\S+?)(?:,.*)? \(\d+ ms\)$", re.M)
SKIPPED_CASE = re.compile(r"^.*: Skipped\n(.*?)^\[  SKIPPED \] (\S+) \(", re.M | re.S)


def count(pattern, output):
    match = re.search(pattern, output, re.M)
    return int(match[1]) if match else 0


def judge(test):
    """(passed, failed, [(what, reason) of skips]) of one <testcase>."""
    name, status = test.get("name"), test.get("status")
    output = test.findtext("system-out") or ""
    skips = [(f"{name} {case}" if case not in name else name, " ".join(reason.split()))
             for reason, case in SKIPPED_CASE.findall(output)]
    message = test.find("skipped").get("message") if test.find("skipped") is not None else ""
    ran_to_the_end = re.search(r"^\[==========\] \d+ tests? from .* ran\.", output, re.M)
    if status == "disabled":
        return 0, 0, [(name, "disabled")]
    if status == "notrun" and "SKIP" not in message:
        return 0, 1, []  # CTest found no program to run
    if ran_to_the_end:
        failed = count(r"^\[  FAILED  \] (\d+) tests?, listed below", output)
        # A case that passed may still end badly: a sanitizer reports when the process exits.
        failed = max(failed, 1 if status == "fail" else 0)
        return count(r"^\[  PASSED  \] (\d+) tests?\.", output), failed, skips
    if status == "notrun":
        reason = re.search(r"skipped: (.*)", output)
        return 0, 0, [(name, reason[1] if reason else message)]
    return (0, 1, []) if status == "fail" else (1, 0, [])


def cases_in(test):
    """[(seconds, name)] of one <testcase>: of the GoogleTest cases in it, if it has several."""
    timed = TIMED_CASE.findall(test.findtext("system-out") or "")
    if len(timed) > 1:
        return [(int(ms) / 1000, f"{test.get('name')} {case}") for case, ms in timed]
    return [(float(test.get("time") or 0), test.get("name"))]


def failures_in(test):
    """Names of what failed in one <testcase>."""
    cases = FAILED_CASE.findall(test.findtext("system-out") or "")
    return [f"{test.get('name')} {case}" for case in cases if case not in test.get("name")] or [test.get("name")]


def print_slowest(folder, tests):
    """`tests`: [(seconds, name)]."""
    stages = folder / "stages"
    lines = stages.read_text(encoding="utf-8").splitlines() if stages.exists() else []
    took = sorted(((int(seconds), stage) for seconds, stage in map(str.split, lines)), reverse=True)
    if took:
        print("longest stages: " + ", ".join(f"{stage} {seconds} s" for seconds, stage in took))
    print("longest tests:")
    for seconds, name in sorted(tests, reverse=True)[:SLOWEST]:
        print(f"{seconds:8.1f} s  {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broken", default="", help="stages that failed before their tests could run")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    passed, failures, skips = 0, [f"{stage} (no tests run)" for stage in arguments.broken.split()], []
    failed, times = len(failures), []
    for path in sorted(arguments.folder.glob("*.xml")):
        for test in ElementTree.parse(path).getroot().iter("testcase"):
            more_passed, more_failed, more_skips = judge(test)
            passed += more_passed
            failed += more_failed
            skips += [f"{path.stem}: {what}: {reason}" for what, reason in more_skips]
            times += [(seconds, f"{path.stem}: {name}") for seconds, name in cases_in(test)]
            if more_failed:
                failures += [f"{path.stem}: {name}" for name in failures_in(test)]
    print_slowest(arguments.folder, times)
    for what in skips:
        print(f"skipped: {what}")
    for what in failures:
        print(f"FAILED: {what}")
    print(f"{passed} passed, {failed} failed, {len(skips)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
