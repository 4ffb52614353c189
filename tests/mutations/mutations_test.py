#!/usr/bin/env python3
"""Every row of the fault list has a mutation, each still fits the sources, and the test it names exists.

That the test turns red is shown by run.py, which builds and takes long."""

import re
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import mutations


class MutationsTest(unittest.TestCase):
    def test_every_row_has_one(self):
        self.assertEqual({mutation["row"] for mutation in mutations.read_mutations()},
                         set(range(1, mutations.ROWS + 1)))

    def test_each_fits_and_changes_something(self):
        for mutation in mutations.read_mutations():
            with self.subTest(row=mutation["row"], what=mutation["what"]), tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / mutation["file"]
                copy.parent.mkdir(parents=True)
                shutil.copy(mutations.ROOT / mutation["file"], copy)
                before = mutations.apply(mutation, Path(folder))
                self.assertNotEqual(copy.read_text(encoding="utf-8"), before)

    def test_each_test_exists(self):
        tests = mutations.ROOT / "tests"
        cmake = "\n".join(path.read_text(encoding="utf-8") for path in tests.rglob("*.c*ake*"))
        cmake += "\n".join(path.read_text(encoding="utf-8") for path in tests.rglob("CMakeLists.txt"))
        cases = "\n".join(path.read_text(encoding="utf-8") for path in tests.rglob("*_test.cc"))
        for mutation in mutations.read_mutations():
            with self.subTest(row=mutation["row"], test=mutation["test"]):
                folder, _, name = mutation["test"].partition("/")
                if folder == "e2e":
                    file, case = name.split("/")
                    self.assertIn(f"def {case}(self)", (tests / "e2e" / f"{file}.py").read_text(encoding="utf-8"))
                elif folder == "compile_failures":
                    self.assertTrue((tests / folder / f"{name}.cc").exists())
                else:
                    self.assertIn(folder, mutation["build"])
                    self.assertRegex(cmake, rf"\b{folder}\b(?!\.cc)")
                    if name:
                        self.assertRegex(cases, rf",\s*{re.split(r'[.*]+', name)[-1]}\)")


if __name__ == "__main__":
    sys.exit(unittest.main())
