#!/usr/bin/env python3
"""Feeds summary.py what CTest and GoogleTest write, and checks what it counts."""

import unittest
import xml.etree.ElementTree as ElementTree

import summary

SKIP = "[ RUN      ] A.Skip\na.cc:4: Skipped\nno GPU\n[  SKIPPED ] A.Skip (0 ms)\n"
RAN = "[==========] 4 tests from 1 test suite ran. (0 ms total)\n"


def judge(status, output, skip_message=None):
    test = ElementTree.Element("testcase", name="p/A", status=status)
    if skip_message is not None:
        ElementTree.SubElement(test, "skipped", message=skip_message)
    ElementTree.SubElement(test, "system-out").text = output
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


if __name__ == "__main__":
    unittest.main()
