#!/usr/bin/env python3
"""Checkpoints of the program before dropout was drawn from a generator of our own (tests/trainer/data/README.md): their
weights are the same, training goes on from one without dropout as that program did, and from one with dropout with a
note that its masks differ."""

import json
import shutil
import subprocess
from pathlib import Path

import program
from gpt2_reference import read_file
from program import EndToEndTest, read_metrics

MADE = Path(__file__).resolve().parents[1] / "trainer" / "data" / "version-2"
NAME = "step-00000002"
NEAR = 5e-3  # of a loss, on another processor
FACT = "dropout"
NOTE = "dropout masks"


class VersionTwoTest(EndToEndTest):
    def begin(self, kind):
        """Copies the checkpoint and what it was made of."""
        self.made_folder = MADE / kind
        self.made = json.loads((self.made_folder / "made.json").read_text())
        self.saved = self.folder / "saved"
        shutil.copytree(self.made_folder / NAME, self.saved / NAME)
        self.data = self.folder / "tokens"
        self.data.write_bytes(bytes(self.made["data"]))
        self.config = self.write("config.json", json.dumps(self.made["config"]))
        self.model_file = self.write("model.json", json.dumps(self.made["model"]))

    def run_on(self, directory, *options, steps=4):
        """Trains, from the checkpoint in `directory` if there is one; what it printed and its metrics."""
        metrics = self.folder / "metrics.jsonl"
        metrics.unlink(missing_ok=True)
        done = self.finish(self.start("--data", self.data, "--data-format", "text", "--seed", self.made["seed"],
                                      "--threads", 1, "--metrics", metrics, "--checkpoint-dir", directory,
                                      *options, steps=steps))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, read_metrics(metrics)

    def facts(self, directory, step):
        return json.loads((directory / f"step-{step:08}" / "manifest.json").read_text())["training"]

    def assert_exported_as_made(self):
        done = subprocess.run([program.PROGRAM, "export", self.saved / NAME, "--out", self.folder / "model",
                               "--layout", "names"], capture_output=True, text=True, timeout=program.TIMEOUT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(read_file(self.folder / "model" / "model.safetensors"),
                         read_file(self.made_folder / "model.safetensors"))

    def computes_as_made(self):
        """Whether this processor gives the bits of the one that made it: whether a first forward does."""
        _, lines = self.run_on(self.folder / "fresh", steps=1)
        return lines[0]["loss"] == self.made["losses"][0]

    def test_without_dropout_training_goes_on_with_the_same_bits(self):
        self.begin("plain")
        self.assert_exported_as_made()
        exact = self.computes_as_made()
        print("this processor's bits are " + ("theirs" if exact else "others"))
        for mode in (("none", "none"), ("nvme", "nvme")):
            text, lines = self.run_on(self.saved, *self.offload(*mode))
            self.assertNotIn(NOTE, text)
            self.assertEqual([line["step"] for line in lines], [3, 4])
            for line, loss, norm in zip(lines, self.made["losses"][2:], self.made["grad_norms"][2:]):
                if exact:
                    self.assertEqual((line["loss"], line["grad_norm"]), (loss, norm))
                self.assertLess(abs(line["loss"] - loss), NEAR * loss)
            # And a checkpoint says no more than it did.
            self.assertEqual(self.facts(self.saved, 4), self.facts(self.saved, 2))
            shutil.rmtree(self.saved / "step-00000004")

    def test_with_dropout_it_is_loaded_and_the_change_of_masks_is_told(self):
        self.begin("dropout")
        self.assert_exported_as_made()
        text, lines = self.run_on(self.saved)
        self.assertEqual([line["step"] for line in lines], [3, 4])
        notes = [line for line in text.splitlines() if NOTE in line]
        self.assertEqual(len(notes), 1, text)
        self.assertRegex(notes[0], "philox4x32-10.*differ")
        self.assertNotIn(FACT, self.facts(self.saved, 2))
        self.assertEqual(self.facts(self.saved, 4)[FACT], "philox4x32-10")
        # What was saved by this program goes on without a word.
        text, lines = self.run_on(self.saved, steps=5)
        self.assertEqual([line["step"] for line in lines], [5])
        self.assertNotIn(NOTE, text)

    def test_dropout_resumes_with_the_bits_of_a_run_that_never_stopped(self):
        self.begin("dropout")
        _, whole = self.run_on(self.folder / "whole")
        stopped = self.folder / "stopped"
        self.run_on(stopped, steps=2)
        _, rest = self.run_on(stopped, *self.offload("nvme", "nvme"))
        self.assertEqual([(line["loss"], line["grad_norm"]) for line in rest],
                         [(line["loss"], line["grad_norm"]) for line in whole[2:]])


if __name__ == "__main__":
    program.main()
