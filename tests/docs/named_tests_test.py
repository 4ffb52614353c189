#!/usr/bin/env python3
"""Every test that README.md and docs/reliability.md name exists: files, cases of GoogleTest, and end-to-end cases."""

import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"


def missing(text):
    """Of the names in `text` that are a test's: those that no test has."""
    cases = {match for path in TESTS.rglob("*.cc") for match in
             re.findall(r"^TEST(?:_[FP])?\((\w+,\s*\w+)\)", path.read_text(encoding="utf-8"), re.MULTILINE)}
    cases = {re.sub(r",\s*", ".", case) for case in cases}
    found = []
    for name in re.findall(r"`([^`\n]+)`", text):
        last = name.split("/")[-1]
        if re.fullmatch(r"e2e/\w+/test_\w+", name):
            _, file, case = name.split("/")
            path = TESTS / "e2e" / f"{file}.py"
            if not path.exists() or f"def {case}(self)" not in path.read_text(encoding="utf-8"):
                found.append(name)
        elif re.fullmatch(r"[A-Z]\w+\.[A-Z]\w+", last):
            if last not in cases:
                found.append(name)
        elif name.startswith("compile_failures/"):
            if not (TESTS / f"{name}.cc").exists():
                found.append(name)
        elif name.startswith("tests/"):
            if not (ROOT / name.split()[0]).exists():
                found.append(name)
        elif re.fullmatch(r"\w+_test\.(cc|py)", name):
            if not list(TESTS.rglob(name)):
                found.append(name)
    return found


class NamedTestsTest(unittest.TestCase):
    def test_all_that_are_named_exist(self):
        for document in ("README.md", "docs/reliability.md"):
            self.assertEqual(missing((ROOT / document).read_text(encoding="utf-8")), [], document)

    def test_every_promise_names_one(self):
        for document in ("README.md", "docs/reliability.md"):
            text = (ROOT / document).read_text(encoding="utf-8")
            rows = re.search(r"^\| promise \| shown by \|\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
            for row in rows.splitlines():
                self.assertIn("`", row.split(" | ")[-1], f"{document}: nothing shows: {row}")

    def test_every_fault_has_a_row(self):
        text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
        self.assertEqual([int(row) for row in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)], list(range(1, 25)))

    def test_what_is_missing_is_found(self):
        text = "`e2e/kill_test/test_none` `Pool.None` `tests/none.cc` `none_test.py` `compile_failures/none`"
        self.assertEqual(len(missing(text)), 5)


if __name__ == "__main__":
    sys.exit(unittest.main())
