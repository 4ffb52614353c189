#!/usr/bin/env python3
"""train_your_own_test.py PROGRAM: the example learns, and its frozen parameters cost no optimizer traffic."""

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

STEP = re.compile(r"step +(\d+)  loss ([\d.]+) .* NVMe read (\d+) written (\d+)")
WIDTH, HIDDEN = 512, 1024
FROZEN = 3 * WIDTH  # Linear(2, WIDTH)
BLOCK = 2 * WIDTH * HIDDEN + WIDTH + HIDDEN
HEAD = 2 * WIDTH + 2


def run(*arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=250, check=False)


class TrainYourOwnTest(unittest.TestCase):
    def test_learns_from_nvme(self):
        with tempfile.TemporaryDirectory() as directory:
            result = run(directory, 60)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(list(Path(directory).iterdir()), [])
        trainable = 2 * BLOCK + HEAD
        self.assertIn(f"{FROZEN + trainable} parameters, {trainable} of them train", result.stdout)
        steps = [tuple(map(float, found)) for found in STEP.findall(result.stdout)]
        self.assertLess(steps[-1][1], 0.5 * steps[0][1])

        # Update: weight and states, 12 bytes, which hands the weights to forward; backward reads 2, but the head's are
        # still there. What is frozen is read in forward alone. Nothing was updated before the first forward, which
        # reads all weights, and nobody takes those of the last update.
        read = 60 * ((12 + 2) * 2 * BLOCK + 12 * HEAD + 2 * FROZEN) + 2 * (2 * BLOCK + HEAD)
        written = 60 * 12 * trainable
        self.assertEqual([int(number) for number, *_ in steps], [1, 11, 21, 31, 41, 51, 60])
        in_all = re.search(r"^in all: NVMe read (\d+) written (\d+)$", result.stdout, re.MULTILINE)
        for moved, expected in zip(map(int, in_all.groups()), (read, written)):
            self.assertGreater(moved, 0.99 * expected, result.stdout)
            self.assertLess(moved, 1.02 * expected, result.stdout)

    def test_says_what_is_wrong_with_the_directory(self):
        result = run("/nowhere/at/all", 1)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"^train_your_own: .*/nowhere/at/all.*\n$")


if __name__ == "__main__":
    program = str(Path(sys.argv.pop(1)).resolve())
    unittest.main()
