#!/usr/bin/env python3
"""train_and_resume_test.py SPILLWAY EXAMPLE: a program of the library trains, resumes and evaluates with the bits of
`spillway train`."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = str(Path(sys.argv.pop(2)).resolve())

import program
from program import EndToEndTest, ENVIRONMENT, TIMEOUT_S, words

STEPS = 5
LINE = re.compile(r"^(?:step (\d+)|held out:) loss (\S+)$", re.MULTILINE)
SETTINGS = ["train_batch_size=4", "train_micro_batch_size_per_gpu=2", "bf16.enabled=true", "optimizer.type=AdamW"]


class TrainAndResumeTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.held_out = self.write("held-out.txt", words(2000, seed=8))
        self.saved = self.folder / "saved"

    def example(self, steps):
        command = [EXAMPLE, self.text, self.held_out, self.saved, steps]
        return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=ENVIRONMENT)

    @staticmethod
    def losses(out):
        """By step, and of the evaluation at the end under None."""
        return {int(step) if step else None: float(loss).hex() for step, loss in LINE.findall(out)}

    def run_to(self, steps):
        done = self.finish(self.example(steps))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def expected(self):
        config = self.write("empty.json", "{}")
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        metrics = self.folder / "metrics.jsonl"
        done = self.finish(self.start("--model", "gpt-lite-small", "--config", config, "--seed", 42, *settings,
                                      "--eval-data", self.held_out, "--metrics", metrics, steps=STEPS))
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = program.read_metrics(metrics)
        return {line["step"]: line["loss"].hex() for line in lines} | {None: lines[-1]["eval_loss"].hex()}

    def test_has_the_losses_of_the_program_resumed_and_killed(self):
        expected = self.expected()
        first = self.run_to(3)
        self.assertNotIn("from ", first)
        self.assertEqual(sorted(step for step in self.losses(first) if step), [1, 2, 3])

        killed = self.example(STEPS)
        self.addCleanup(self.end, killed)
        out = next(line for line in killed.stdout if line.startswith("step 4 "))
        killed.kill()
        killed.communicate()

        rest = self.run_to(STEPS)
        self.assertRegex(rest, r"^from .*/saved/step-0000000[34]\n")
        self.assertEqual(self.losses(first) | self.losses(out) | self.losses(rest), expected)
        self.assertEqual(self.losses(self.run_to(STEPS)), {None: expected[None]})

    def test_says_what_is_wrong(self):
        self.held_out.unlink()
        done = self.finish(self.example(1))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^train_and_resume: .*held-out\.txt.*\n$")


if __name__ == "__main__":
    program.main()
