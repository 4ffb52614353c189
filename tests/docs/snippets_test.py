#!/usr/bin/env python3
"""Code of a document that does not compile is found, and code that does is not."""

import sys
import tempfile
import unittest
from pathlib import Path

import snippets

COMPILER, FLAGS = sys.argv[1], sys.argv[2:]
GOOD = "Text.\n\n```cpp good.cc\nint one() { return 1; }\n```\n\n```cpp\nfile.fd();\n```\n"


class SnippetsTest(unittest.TestCase):
    def check(self, text):
        with tempfile.TemporaryDirectory() as folder:
            document = Path(folder) / "guide.md"
            document.write_text(text, encoding="utf-8")
            return snippets.check(Path(folder) / "out", COMPILER, *FLAGS, documents=[document])

    def test_broken_code_is_found(self):
        self.assertEqual(self.check(GOOD), 0)
        self.assertEqual(self.check(GOOD.replace("return 1", "return none")), 1)
        self.assertEqual(self.check(GOOD.replace("fd()", "none()")), 1)

    def test_every_document_has_code(self):
        for document in snippets.DOCUMENTS:
            with self.subTest(document.name):
                self.assertTrue(list(snippets.sources(document)))


if __name__ == "__main__":
    sys.exit(unittest.main(argv=sys.argv[:1]))
