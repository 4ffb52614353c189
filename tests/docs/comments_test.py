#!/usr/bin/env python3
"""What Doxygen is given of a header in the house style."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"

HEADER = """\
// Thing: what a <thing> is.
//
// It costs 100%.
#pragma once

namespace spillway {

struct Options {
  int count = 0;  // how many,
                  // of what
  int rest = 1;
};

class Thing {
 public:
  Thing(Thing&& other) noexcept;
  Thing& operator=(Thing&& other) noexcept {
    return *this;
  }
  ~Thing();
  // Waits.
  ~Thing();

  // Moves bytes. REQUIRES: a `<file>`.
  int read(int from,
           int to);
  int write(int from);
  bool done() const;
  // Not about what follows it.

  void silent() {
    // about the code
    if (true) return;
  }
};

}  // namespace spillway
"""

FILTERED = """\
/** @file */ /// Thing: what a \\<thing\\> is.
///{0}
/// It costs 100\\%.
#pragma once

namespace spillway {{

struct Options {{
  int count = 0;  ///< how many,
                  ///< of what
  int rest = 1;
}};

/** Thing: what a \\<thing\\> is.  It costs 100\\%. */ class Thing {{
 public:





  /// Waits.
  ~Thing();

  /// Moves bytes. @pre a `<file>`.
  int read(int from,
           int to);
/** Moves bytes. @pre a `<file>`. */   int write(int from);
  bool done() const;
  /// Not about what follows it.

  void silent() {{
    // about the code
    if (true) return;
  }}
}};

}}  // namespace spillway
""".format(" ")


class CommentsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_the_filter(self):
        header = self.folder / "thing.h"
        header.write_text(HEADER)
        done = subprocess.run([sys.executable, "-B", DOCS / "doxygen_comments.py", header],
                              capture_output=True, text=True)
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout.rstrip("\n").splitlines(), FILTERED.rstrip("\n").splitlines())

    def test_silence_is_named(self):
        xml = """<doxygen><compounddef kind="class" prot="public"><compoundname>Thing</compoundname>
          <briefdescription><para>A thing.</para></briefdescription><location file="thing.h" line="1"/>
          <memberdef kind="function" prot="{prot}"><type>int</type><name>move</name><argsstring>{arguments}</argsstring>
            <briefdescription>{words}</briefdescription><location file="thing.h" line="7"/></memberdef>
          </compounddef></doxygen>"""
        for prot, arguments, words, silent in (
                ("public", "(int from)", "", True), ("public", "()", "", True),
                ("public", "() const noexcept", "", False), ("private", "(int from)", "", False),
                ("public", "(int from)", "<para>Moves.</para>", False)):
            with self.subTest(prot=prot, arguments=arguments, words=words):
                (self.folder / "thing.xml").write_text(xml.format(prot=prot, arguments=arguments, words=words))
                done = subprocess.run([sys.executable, "-B", DOCS / "undocumented.py", self.folder],
                                      capture_output=True, text=True)
                self.assertEqual(done.returncode, 1 if silent else 0, done.stdout + done.stderr)
                self.assertEqual("thing.h:7: Thing::move: no comment" in done.stdout, silent)


if __name__ == "__main__":
    unittest.main()
