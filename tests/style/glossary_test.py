#!/usr/bin/env python3
"""Plants words that the glossary has a better one for, and checks that the rule sees them, and sees nothing else."""

import tempfile
import unittest
from pathlib import Path

import glossary

CLEAN = {
    "aio/src/a.h": "// Rolls back what is predicted, on their own wayside; Wishbone untold.\n",
    "README.md": "Takes backups, and totals.\n",
    "tests/a_test.cc": "// what was told\n",
    "bench/results/a.md": "foretold\n",
    "aio/src/a.json": '{"told": 1}\n',
}
BREACHES = [  # file, its text, line, the word, part of the better one
    ("aio/src/x.h", "// It is taken back.\n", 1, "taken back", "rolled back"),
    ("aio/src/x.cc", "int x;\nint taken_back = 0;\n", 2, "taken_back", "rolled back"),
    ("aio/src/x.cc", "enum { kTakeBack };\n", 1, "TakeBack", "rolled back"),
    ("aio/src/x.h", "// a\n// what is\n// foretold\n", 3, "foretold", "predicted"),
    ("swapper/x.h", "// computed ahead of\n// the norm\n", 1, "ahead of the norm", "speculative"),
    ("swapper/x.cc", 'fail("the kernel lets go of it");\n', 1, "lets go of", "releases"),
    ("pinned_pool/x.h", "enum class Wish {};\n", 1, "Wish", "Policy"),
    ("docs/x.md", "What it was told.\n", 1, "told", "reported"),
    ("aio/src/x.h", "// Turned round. A matrix is turned round.\n", 1, "turned round", "transposed"),
    ("aio/src/x.h", "constexpr int kToCome = 1;  // values to come\n", 1, "values to come", "loaded later"),
    ("aio/src/x.h", "// Has the unit's weights put into `incoming`.\n", 1, "Has the unit's weights put into", "copy"),
    ("README.md", "It is under\nway.\n", 1, "under way", "in flight"),
]


class GlossaryTest(unittest.TestCase):
    def check(self, tree, **options):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in tree.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return glossary.glossary(Path(folder), **{"exceptions": {}, **options})

    def test_a_clean_tree_passes(self):
        self.assertEqual(self.check(CLEAN), [])

    def test_every_word_is_seen(self):
        for name, text, line, word, better in BREACHES:
            with self.subTest(f"{name} {text}"):
                found = self.check({**CLEAN, name: text})
                self.assertTrue(any(breach.startswith(f"{name}:{line}: '{word}': ") and better in breach
                                    for breach in found), found)

    def test_each_term_has_a_breach(self):
        found = "\n".join(self.check({f"aio/{i}.h": f"// {text}\n" for i, text in enumerate((
            "took back", "foretells", "ahead of its norm", "Wish", "told", "read_turned", "let go of", "yet to come",
            "has it put into", "on its way", "under way", "cannot be had", "stood still", "took by themselves",
            "given up for lost", "found out"))}))
        for term, better in glossary.TERMS:
            self.assertIn(better, found, term)

    def test_exceptions(self):
        tree = {"aio/src/x.cc": 'print("told");\n'}
        self.assertEqual(self.check(tree, exceptions={"aio/src/x.cc told": "printed"}), [])
        self.assertIn("that nothing needs", self.check(CLEAN, exceptions={"aio/src/x.cc told": "printed"})[0])


if __name__ == "__main__":
    unittest.main()
