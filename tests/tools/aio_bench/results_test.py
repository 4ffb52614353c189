#!/usr/bin/env python3
"""What aio_bench writes: a picture, a document, a configuration, and what `compare` says of two documents."""

import json
import math
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

PROGRAM = sys.argv.pop(1)
SVG = "{http://www.w3.org/2000/svg}"
SMALL = ["--block-sizes", "128K,1M", "--queue-depths", "1,4", "--threads", "1", "--file-size", "64M", "--time", "3"]


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)


class Results(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = Path(cls.folder.name)
        # A name that means something in XML, and bytes that are no UTF-8.
        cls.directory = os.fsencode(cls.root) + b'/a<b>&"c\xff'
        os.mkdir(cls.directory)
        cls.config = cls.root / "ds_config.json"
        cls.config.write_text('{\n    "train_batch_size":   8,\n    "aio": {"num_threads": 4, "use_gds": false}\n}\n')
        cls.ended = subprocess.run(
            [PROGRAM, cls.directory, *SMALL, "--json", cls.root / "a.json", "--svg", cls.root / "a.svg",
             "--write-config", cls.config], capture_output=True, check=False)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        self.assertEqual(self.ended.returncode, 0, self.ended.stderr)
        self.document = json.loads((self.root / "a.json").read_text(encoding="utf-8"))
        self.target = self.document["targets"][0]

    def test_the_picture_is_xml_and_shows_every_cell(self):
        root = ElementTree.parse(self.root / "a.svg").getroot()
        self.assertEqual(root.tag, SVG + "svg")
        texts = [one.text for one in root.iter(SVG + "text")]
        for cell in self.target["cells"]:
            rate = cell["gb_per_second"]
            digits = 2 - math.floor(math.log10(rate))  # three digits in all
            self.assertIn(f"{rate:.{max(0, digits)}f}", texts)
        self.assertTrue('a<b>&"c' in "".join(texts))
        framed = [one for one in root.iter(SVG + "rect") if one.get("stroke") == "#d01010"]
        self.assertEqual(len(framed), 3)  # in each workload

    def test_the_picture_holds_its_texts(self):
        root = ElementTree.parse(self.root / "a.svg").getroot()
        for one in root.iter(SVG + "text"):
            size = float(one.get("font-size", root.get("font-size")))
            # Half of the size is what a character takes on average; the frame leaves more.
            length = len(one.text) * size * (0.65 if one.get("font-weight") else 0.56)
            if one.get("text-anchor") is None:
                self.assertLess(float(one.get("x")) + length, float(root.get("width")), one.text)
            self.assertLess(float(one.get("y")), float(root.get("height")), one.text)

    def test_the_table_fits_into_80_columns(self):
        text = self.ended.stdout.decode(errors="replace")
        table = text[text.index("\n  load "):text.index("\nRecommended: ")].splitlines()
        reason = text[text.index("\nRecommended: "):text.index('\n"aio": ')].splitlines()
        self.assertGreater(len(table), 12)
        for line in table + reason:
            self.assertLessEqual(len(line), 80, line)

    def test_the_configuration_has_the_block_and_is_otherwise_as_it_was(self):
        text = self.config.read_text(encoding="utf-8")
        self.assertTrue(text.startswith('{\n    "train_batch_size":   8,\n    "aio": {\n'))
        aio = json.loads(text)["aio"]
        self.assertEqual(aio.pop("use_gds"), False)
        self.assertEqual(aio, self.target["aio"])
        self.assertNotIn("num_threads", aio)
        self.assertIn(b"aio.num_threads is now aio.intra_op_parallelism", self.ended.stdout)

    def test_the_block_says_what_it_was_tuned_on(self):
        tuned = self.target["aio"]["tuned"]
        self.assertEqual(tuned["device"], self.target["device"])
        self.assertEqual(tuned["filesystem"], self.target["drives"][0]["filesystem"])
        mix = next(c for c in self.target["cells"] if c["workload"] == "mix" and all(
            c[key] == self.target["recommendation"][key] for key in ("block_size", "queue_depth", "threads")))
        rates = [one["gb_per_second"] for one in mix["repetitions"]]
        self.assertAlmostEqual(tuned["spread"], (max(rates) - min(rates)) / mix["gb_per_second"], delta=0.001)
        for workload, key in (("read", "read"), ("write", "write"), ("mix", "mix")):
            cell = next(c for c in self.target["cells"] if c["workload"] == workload and all(
                c[a] == self.target["aio"][b] for a, b in
                (("block_size", "block_size"), ("queue_depth", "queue_depth"), ("threads", "intra_op_parallelism"))))
            self.assertAlmostEqual(tuned[key + "_gb_per_second"] / cell["gb_per_second"], 1, delta=0.006)

    def test_compare_finds_what_got_slower(self):
        same = run("compare", self.root / "a.json", self.root / "a.json")
        self.assertEqual(same.returncode, 0, same.stderr)
        self.assertIn("0 slower, 0 faster", same.stdout)
        self.assertNotIn("before", same.stdout, "a head without rows")
        # Without the noise of so short a run.
        for cell in self.target["cells"]:
            cell["repetitions"] = [dict(cell["repetitions"][0]) for _ in range(3)]
        (self.root / "calm.json").write_text(json.dumps(self.document), encoding="utf-8")
        self.document["kernel"] = "Other 1.0"
        for cell in self.target["cells"]:
            for one in cell["repetitions"]:
                one["seconds"] *= 1.1
        (self.root / "slow.json").write_text(json.dumps(self.document), encoding="utf-8")
        slower = run("compare", self.root / "calm.json", self.root / "slow.json")
        self.assertEqual(slower.returncode, 1, slower.stdout + slower.stderr)
        self.assertIn("-> Other 1.0", slower.stdout)
        self.assertIn(f"{len(self.target['cells'])} slower, 0 faster, 0 within noise", slower.stdout)
        self.assertEqual(run("compare", self.root / "slow.json", self.root / "calm.json").returncode, 0)

    def test_compare_refuses_what_is_no_result(self):
        refused = run("compare", self.config, self.root / "a.json")
        self.assertEqual(refused.returncode, 2)
        self.assertEqual(refused.stderr.count("\n"), 1)
        self.assertIn("it is no result of aio_bench --json", refused.stderr)
        self.assertEqual(run("compare", self.root / "a.json").returncode, 2)

    def test_without_fio_one_line_says_so(self):
        self.directory_of_its_own = self.root / "plain"
        self.directory_of_its_own.mkdir()
        ended = subprocess.run(
            [PROGRAM, self.directory_of_its_own, *SMALL, "--fio"], capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": str(self.root)})
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn("there is no fio on this machine", ended.stderr)


if __name__ == "__main__":
    unittest.main()
