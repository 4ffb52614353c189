#!/usr/bin/env python3
"""A checkpoint of format version 1, made by two ranks of a program of that time (tests/trainer/data/README.md), is
still verified, inspected, exported and gone on from; one of a version to come is refused."""

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import program
from gpt2_reference import read_file, values
from program import EndToEndTest, bits, read_metrics
from verify_test import documented_reader

MADE = Path(__file__).resolve().parents[1] / "trainer" / "data" / "version-1"
NAME = "step-00000002"
NEAR = 5e-3  # of a loss: another processor, another number of ranks


def sealed(text, change):
    """The sealed JSON with its object changed, sealed again."""
    text = json.dumps(change(json.loads(text)), indent=1).encode()
    text = text[:text.rindex(b'"checksum": "') + len(b'"checksum": "')]
    xxhash = ctypes.CDLL("libxxhash.so.0")
    xxhash.XXH3_64bits.argtypes, xxhash.XXH3_64bits.restype = (ctypes.c_char_p, ctypes.c_size_t), ctypes.c_uint64
    return text + b'%016x"\n}\n' % xxhash.XXH3_64bits(text, len(text))


class VersionOneTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.saved = self.folder / "saved"
        shutil.copytree(MADE / NAME, self.saved / NAME)
        self.made = json.loads((MADE / "made.json").read_text())
        self.data = self.folder / "tokens"
        self.data.write_bytes(bytes(self.made["data"]))
        self.config = self.write("config.json", json.dumps(self.made["config"]))
        self.model_file = self.write("model.json", json.dumps(self.made["model"]))
        self.metrics = self.folder / "metrics.jsonl"

    def ask(self, *arguments):
        return subprocess.run([program.PROGRAM, *map(str, arguments)], capture_output=True, text=True,
                              timeout=program.TIMEOUT_S)

    def train_on(self, *options):
        self.metrics.unlink(missing_ok=True)
        return self.finish(self.start("--data", self.data, "--data-format", "text", "--seed", self.made["seed"],
                                      "--metrics", self.metrics, "--checkpoint-dir", self.saved, *options, steps=4))

    def test_it_is_of_version_one(self):
        manifest = json.loads((self.saved / NAME / "manifest.json").read_text())
        self.assertEqual(manifest["format_version"], 1)
        self.assertEqual(len(manifest["shards"]), 2)

    def test_it_is_verified_and_every_byte_counts(self):
        done = self.ask("verify", self.saved)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("every byte is what was written", done.stdout)
        for name in ("rank-0000.bin", "rank-0001.bin", "rank-0001.json", "manifest.json"):
            path = self.saved / NAME / name
            whole = path.read_bytes()
            for at in (len(whole) // 3, len(whole) - 1):
                path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1:])
                done = self.ask("verify", self.saved)
                self.assertEqual(done.returncode, 1, f"{name} byte {at}: {done.stdout}")
                self.assertIn(name, done.stderr)
            path.write_bytes(whole)
        self.assertEqual(self.ask("verify", self.saved).returncode, 0)

    def test_inspect_tells_what_is_in_it(self):
        done = self.ask("inspect", self.saved, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        told = json.loads(done.stdout)
        self.assertEqual((told["step"], told["samples_seen"], told["seed"], told["world_size"]),
                         (2, 2 * self.made["config"]["train_batch_size"], self.made["seed"], 2))
        self.assertEqual((told["optimizer"], told["dtype"], told["state_dtype"]), ("AdamW", "bf16", "fp32"))
        expected = read_file(MADE / "model.safetensors")
        self.assertEqual({parameter["name"]: parameter["shape"] for parameter in told["parameters"]},
                         {name: shape for name, (_, shape, _) in expected.items()})

    def test_its_weights_are_those_that_its_program_exported(self):
        done = self.ask("export", self.saved, "--out", self.folder / "model", "--layout", "names")
        self.assertEqual(done.returncode, 0, done.stderr)
        expected = read_file(MADE / "model.safetensors")
        self.assertEqual(read_file(self.folder / "model" / "model.safetensors"), expected)
        reader = {}
        exec(documented_reader(), reader)
        for name, tensor in expected.items():
            self.assertEqual(list(reader["load"](self.saved / NAME, name)), values(tensor), name)

    def test_training_goes_on_from_it(self):
        """To the losses of the program that made it, in every mode with the same bits."""
        found = []
        for mode in (("none", "none"), ("none", "nvme"), ("nvme", "nvme")):
            done = self.train_on(*self.offload(*mode))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(f"resumed {self.saved / NAME} of 2 ranks", done.stdout)
            lines = read_metrics(self.metrics)
            self.assertEqual([line["step"] for line in lines], [3, 4])
            for line, loss in zip(lines, self.made["losses"][2:]):
                print(f"step {line['step']}: {line['loss']:.5f}, its program {loss:.5f}")
                self.assertLess(abs(line["loss"] - loss), NEAR * loss)
            found.append(bits(lines))
            newest = self.saved / "step-00000004"
            self.assertEqual(json.loads((newest / "manifest.json").read_text())["format_version"], 2)
            self.assertEqual(self.ask("verify", newest).returncode, 0)
            self.assertEqual(self.ask("verify", self.saved / NAME).returncode, 0)
            shutil.rmtree(newest)
        self.assertEqual(found[1:], found[:1] * 2)

    def test_versions_that_are_not_known_are_refused(self):
        manifest = self.saved / NAME / "manifest.json"
        text = manifest.read_bytes()
        self.assertEqual(sealed(text, lambda same: same), text)
        for version in (0, 3):
            why = f"format version {version}; this program reads up to version 2"
            manifest.write_bytes(sealed(text, lambda old: old | {"format_version": version}))
            for command in (("verify", self.saved), ("inspect", self.saved),
                            ("export", self.saved, "--out", self.folder / "model")):
                done = self.ask(*command)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertRegex(done.stderr, f"manifest.json: .*{why}")
            self.assertFalse((self.folder / "model").exists())
            self.assert_refused(self.train_on(), why)
            self.assertFalse(self.metrics.exists())


if __name__ == "__main__":
    program.main()
