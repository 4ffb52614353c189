#!/usr/bin/env python3
"""What the documents name exists: tests, files of the project, links to other documents and their headings."""

import re
import sys
import unittest

from references import (ROOT, broken_links, commands, documents, missing_files, missing_tests, promises_without_test,
                        wrong_rooms)

sys.path.append(str(ROOT / "tests" / "style"))
from rooms import ROOMS


class NamedTestsTest(unittest.TestCase):
    def each(self, what):
        """Asserts that `what(text, folder)` finds nothing in any document."""
        self.assertGreaterEqual(len(documents()), 9)
        for document in documents():
            with self.subTest(document.relative_to(ROOT).as_posix()):
                self.assertEqual(what(document.read_text(encoding="utf-8"), document.parent), [])

    def test_all_tests_that_are_named_exist(self):
        self.each(lambda text, folder: missing_tests(text))

    def test_all_files_that_are_named_exist(self):
        self.each(missing_files)

    def test_all_links_lead_somewhere(self):
        self.each(broken_links)

    def test_every_promise_names_a_test(self):
        self.each(lambda text, folder: promises_without_test(text))
        for document in ("docs/promises.md", "docs/reliability.md"):
            self.assertIn("| promise | shown by |", (ROOT / document).read_text(encoding="utf-8"), document)

    def test_the_table_of_rooms_is_the_rules(self):
        self.assertEqual(wrong_rooms((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), ROOMS), [])

    def test_every_fault_has_a_row(self):
        text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
        self.assertEqual([int(row) for row in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)], list(range(1, 25)))


class WhatIsMissingIsFoundTest(unittest.TestCase):
    def test_tests(self):
        text = "`e2e/kill_test/test_none` `Pool.None` `none_test.py` `compile_failures/none`"
        self.assertEqual(len(missing_tests(text)), 4)
        self.assertEqual(missing_tests("`e2e/kill_test/test_kills` `data_test.cc` `not.a_test` `Config`"), [])

    def test_files(self):
        wrong = ["aio/none.h", "tests/none", "examples/none/main.cc", "tests/none/*_test.py", "some/where/none.md",
                 "spillway/aio/none.h", "<spillway/none/engine.h>"]
        text = " ".join(f"`{name}`" for name in wrong)
        self.assertEqual(missing_files(text, ROOT), [name.strip("<>") for name in wrong])
        right = ("`docs/format.md` `tests/trainer/<room>/` `tests/e2e/*_test.py` `<spillway/aio/engine.h>` "
                 "`tests/fuzz/` `read/write` `build/release/none.md` `spillway/spillway.h` `tests/soak --minutes 60`")
        self.assertEqual(missing_files(right, ROOT), [])
        self.assertEqual(missing_files("`data/none.md` `format.md`", ROOT / "docs"), ["data/none.md"])

    def test_files_in_commands(self):
        text = "    tools/demo.sh    # as tests/none says\n    X=tools/none.json bench/none.py --out build/x\n"
        self.assertEqual(commands(text), ["tools/demo.sh", "tools/none.json", "bench/none.py"])
        self.assertEqual(missing_files(text, ROOT), ["tools/none.json", "bench/none.py"])

    def test_links(self):
        text = ("# A heading: `x`\n[a](docs/format.md) [b](#a-heading-x) [c](https://example.org/none) ![d](none.svg)\n"
                "[e](none.md) [f](docs/format.md#none) [g](#none) [h](docs/format.md#planes)")
        self.assertEqual(broken_links(text, ROOT), ["none.svg", "none.md", "docs/format.md#none", "#none"])

    def test_rooms(self):
        table = "| room | holds | may include |\n|---|---|---|\n| `a` | x | |\n| `b` | x | a, c |\n| `c` | x | a |\n"
        self.assertEqual(wrong_rooms(table, {"a": [], "b": ["c", "a"], "c": ["a"]}), [])
        self.assertEqual(wrong_rooms(table, {"a": [], "b": ["a"], "d": []}),
                         ["c: not in both", "d: not in both", "b: ['c']"])

    def test_promises(self):
        table = "| promise | shown by |\n|---|---|\n| It works | `a_test.cc` |\n| So `does` this | nobody |\n"
        self.assertEqual(promises_without_test(table), ["| So `does` this | nobody |"])


if __name__ == "__main__":
    sys.exit(unittest.main())
