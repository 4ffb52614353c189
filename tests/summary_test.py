#!/usr/bin/env python3
"""Feeds summary.py what CTest and GoogleTest write, and checks what it counts."""

import contextlib
import io
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from unittest import mock

import summary

SKIP = "[ RUN      ] A.Skip\na.cc:4: Skipped\nno GPU\n[  SKIPPED ] A.Skip (0 ms)\n"
RAN = "[==========] 4 tests from 1 test suite ran. (0 ms total)\n"


def testcase(output, **attributes):
    test = ElementTree.Element("testcase", attributes)
    ElementTree.SubElement(test, "system-out").text = output
    return test


def judge(status, output, skip_message=None):
    test = testcase(output, name="p/A", status=status)
    if skip_message is not None:
        ElementTree.SubElement(test, "skipped", message=skip_message)
    return summary.judge(test)


class SummaryTest(unittest.TestCase):
    def test_cases_of_one_program_count_one_by_one(self):
        output = SKIP + RAN + "[  PASSED  ] 3 tests.\n[  SKIPPED ] 1 test, listed below:\n"
        self.assertEqual(judge("run", output), (3, 0, [("p/A A.Skip", "no GPU")]))

    def test_failed_cases(self):
        output = RAN + "[  PASSED  ] 2 tests.\n[  FAILED  ] 2 tests, listed below:\n"
        self.assertEqual(judge("fail", output), (2, 2, []))

    def test_a_skipped_case(self):
        output = SKIP + RAN + "[  PASSED  ] 0 tests.\n"
        skipped = judge("notrun", output, "SKIP_REGULAR_EXPRESSION_MATCHED")
        self.assertEqual(skipped, (0, 0, [("p/A A.Skip", "no GPU")]))

    def test_a_skip_by_exit_code(self):
        skipped = judge("notrun", "skipped: no tool\n", "SKIP_RETURN_CODE=77")
        self.assertEqual(skipped, (0, 0, [("p/A", "no tool")]))

    def test_a_crash_is_a_failure(self):
        self.assertEqual(judge("fail", "[ RUN      ] A.B\n"), (0, 1, []))

    def test_a_bad_end_after_the_last_case_is_a_failure(self):
        self.assertEqual(judge("fail", RAN + "[  PASSED  ] 4 tests.\nleak\n"), (4, 1, []))

    def test_a_missing_program_is_a_failure(self):
        self.assertEqual(judge("notrun", "", "Unable to find executable"), (0, 1, []))

    def test_a_plain_program(self):
        self.assertEqual(judge("run", "fine\n"), (1, 0, []))

    def test_the_times_of_cases_of_one_program(self):
        output = "[       OK ] A.B (1500 ms)\n[  FAILED  ] I/A.C/0, where GetParam() = 7 (20 ms)\n"
        test = testcase(output, name="p", time="2.5")
        self.assertEqual(summary.cases_in(test), [(1.5, "p A.B"), (0.02, "p I/A.C/0")])

    def test_the_time_of_a_test_counts_with_the_start_of_its_program(self):
        test = testcase("[       OK ] A.B (1500 ms)\n", name="p/A.B", time="2.5")
        self.assertEqual(summary.cases_in(test), [(2.5, "p/A.B")])
        self.assertEqual(summary.cases_in(testcase("fine\n", name="q", time="0.5")), [(0.5, "q")])

    def test_failed_cases_are_named(self):
        output = "[  FAILED  ] A.B (5 ms)\n[       OK ] A.C (5 ms)\n[  FAILED  ] A.D, where GetParam() = 7 (5 ms)\n"
        self.assertEqual(summary.failures_in(testcase(output, name="p")), ["p A.B", "p A.D"])
        self.assertEqual(summary.failures_in(testcase("[  FAILED  ] A.B (5 ms)\n", name="p/A.B")), ["p/A.B"])
        self.assertEqual(summary.failures_in(testcase("Segmentation fault\n", name="p")), ["p"])

    def run_main(self, *files):
        with tempfile.TemporaryDirectory() as folder, mock.patch("sys.argv", ["summary.py", folder]):
            for name, text in files:
                (Path(folder) / name).write_text(text, encoding="utf-8")
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                code = summary.main()
            return code, said.getvalue().splitlines()

    def test_what_took_longest_is_said_and_the_count_comes_last(self):
        cases = "".join(f'<testcase name="t{i}" status="run" time="{i}"/>' for i in range(12))
        code, said = self.run_main(("release.xml", f"<testsuite>{cases}</testsuite>"),
                                   ("stages", "3 configure-release\n70 build-release\n"))
        self.assertEqual((code, said[-1]), (0, "12 passed, 0 failed, 0 skipped"))
        self.assertEqual(said[0], "longest stages: build-release 70 s, configure-release 3 s")
        self.assertEqual(said[2].split(), ["11.0", "s", "release:", "t11"])
        self.assertEqual(len(said), 1 + 1 + summary.SLOWEST + 1)

    def test_nothing_tested_is_a_failure(self):
        self.assertEqual(self.run_main(), (1, ["longest tests:", "0 passed, 0 failed, 0 skipped"]))


if __name__ == "__main__":
    unittest.main()
