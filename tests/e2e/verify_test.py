#!/usr/bin/env python3
"""`spillway verify` and `spillway inspect` on checkpoints that are whole, and on those that are not."""

import json
import math
import statistics
import subprocess
from pathlib import Path

import program
from program import EndToEndTest


def documented_reader():
    text = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    return text.split("```python\n")[1].split("```")[0]


class VerifyTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.saved = self.folder / "saved"
        done = self.finish(self.start("--checkpoint-dir", self.saved, "--checkpoint-every", 1, steps=2))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.newest = self.saved / "step-00000002"

    @staticmethod
    def ask(*arguments):
        return subprocess.run([program.PROGRAM, *map(str, arguments)], capture_output=True, text=True,
                              timeout=program.TIMEOUT_S)

    def test_a_whole_one_is_verified(self):
        for path in (self.newest, self.saved):
            done = self.ask("verify", path)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("step-00000002: every byte is what was written", done.stdout)

    def test_one_that_shares_its_bytes_with_the_swap_files_is_verified_and_read(self):
        linked = self.folder / "linked"
        done = self.finish(self.start("--checkpoint-dir", linked, "--checkpoint-every", 1,
                                      *self.offload("nvme", "nvme"), steps=2))
        self.assertEqual(done.returncode, 0, done.stderr)
        newest = linked / "step-00000002"
        self.assertFalse((newest / "rank-0000.bin").exists(), "something was copied")
        self.assertEqual(self.ask("verify", newest).returncode, 0)
        names = {}
        exec(documented_reader(), names)
        name = json.loads((newest / "manifest.json").read_text())["parameters"][2]["name"]
        self.assertEqual(names["load"](newest, name), names["load"](self.newest, name))
        index = json.loads((newest / "rank-0000.json").read_text())
        file, place = index["extents"][-1]["planes"][1]
        with open(newest / index["files"][file]["name"], "r+b") as segment:
            segment.seek(place)
            byte = segment.read(1)[0]
            segment.seek(place)
            segment.write(bytes([byte ^ 16]))
        done = self.ask("verify", newest)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(index["files"][file]["name"], done.stderr)
        self.assertIn("1 bad block", done.stderr)
        self.assertEqual(self.ask("verify", linked / "step-00000001").returncode, 0)

    def test_a_changed_byte_is_named_with_what_it_belongs_to(self):
        index = json.loads((self.newest / "rank-0000.json").read_text())
        manifest = json.loads((self.newest / "manifest.json").read_text())
        for extent in (index["extents"][0], index["extents"][-1]):
            parameter, first, offset, count = extent["segments"][0]
            for plane, (_, place) in zip(manifest["planes"], extent["planes"]):
                at = place + offset * plane["bytes_per_block"]
                self.flip("rank-0000.bin", at)
                done = self.ask("verify", self.newest)
                self.flip("rank-0000.bin", at)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn("rank-0000.bin", done.stderr)
                self.assertIn(f"bytes at {at // index['block_bytes'] * index['block_bytes']} ", done.stderr)
                # A block may hold more parameters than are named.
                if " more" not in done.stderr:
                    self.assertIn(f"{plane['name']} of {manifest['parameters'][parameter]['name']}", done.stderr)
        self.assertEqual(self.ask("verify", self.newest).returncode, 0)
        for name in ("manifest.json", "rank-0000.json"):
            self.flip(name, 100)
            done = self.ask("verify", self.newest)
            self.flip(name, 100)
            self.assertEqual(done.returncode, 1)
            self.assertIn(name, done.stderr)

    def flip(self, name, at):
        with open(self.newest / name, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 16]))

    def test_what_is_no_checkpoint_is_refused(self):
        for path, text in ((self.folder / "none", "No such file"), (self.folder, "No such file"),
                           (self.text, "Not a directory")):
            for name in ("verify", "inspect"):
                done = self.ask(name, path)
                self.assertEqual(done.returncode, 1)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(text, done.stderr)

    def test_inspect_tells_what_is_in_it(self):
        done = self.ask("inspect", self.saved, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        told = json.loads(done.stdout)
        self.assertEqual((told["step"], told["samples_seen"], told["seed"], told["world_size"]), (2, 8, 1, 1))
        self.assertEqual((told["optimizer"], told["dtype"], told["state_dtype"]), ("AdamW", "bf16", "fp32"))
        width, vocabulary = self.model["n_embd"], self.model["vocab_size"]
        sizes = {parameter["name"]: (parameter["shape"], parameter["size_bytes"]) for parameter in told["parameters"]}
        shape, size = next(value for name, value in sizes.items() if name.endswith("wte.weight"))
        self.assertEqual((shape, size), ([vocabulary, width], vocabulary * width * 12))
        self.assertEqual(told["size_bytes"], sum(path.stat().st_size for path in self.newest.iterdir())
                         - (self.newest / "manifest.json").stat().st_size)
        text = self.ask("inspect", self.newest).stdout
        for name in sizes:
            self.assertIn(name, text)
        self.assertIn("step 2 (8 samples), seed 1, saved by 1 rank", text)

    def test_the_documented_reader_reads_it(self):
        """The weights by the Python of docs/format.md: the first draws of the seed, moved by two small steps."""
        names = {}
        exec(documented_reader(), names)
        told = json.loads(self.ask("inspect", self.saved, "--json").stdout)
        for parameter in told["parameters"]:
            values = names["load"](self.newest, parameter["name"])
            self.assertEqual(len(values), math.prod(parameter["shape"]))
            self.assertTrue(all(map(math.isfinite, values)))
            if parameter["name"].endswith("ln_1.weight"):
                self.assertTrue(all(0 < abs(value - 1) < 0.01 for value in values))
            if parameter["name"].endswith("wte.weight"):
                self.assertAlmostEqual(statistics.pstdev(values), 0.02, delta=0.002)


if __name__ == "__main__":
    program.main()
