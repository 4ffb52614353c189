#!/usr/bin/env python3
"""activations.py: its theory, what it refuses, and that it runs in every mode."""

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where it is)
import activations
from train_runs import gpt, parameters


class ActivationsTest(BenchTest):
    def test_theory_counts_what_leaves(self):
        model = gpt(8, 512, 8, 256)
        self.assertEqual(activations.boundary_bytes(model, 32), 8 << 20)
        self.assertEqual(activations.theory("in memory", model, 32), 0)
        self.assertEqual(activations.theory("activations in RAM", model, 32), 0)
        self.assertEqual(activations.theory("activations on NVMe", model, 32), 64 << 20)
        self.assertEqual(activations.theory("both on NVMe", model, 32), (64 << 20) + 4 * parameters(model))

    def test_arguments(self):
        self.assert_help("activations.py")
        self.assert_refused("--rounds", "activations.py", "--rounds", 0)
        self.assert_refused("--mb-per-second", "activations.py", "--mb-per-second", -1)
        self.assert_refused("a multiple of 4", "activations.py", "--batch", 6)


class QuickTest(BenchTest):
    def test_it_runs(self):
        out = self.run_quick("activations.py")
        for mode in activations.MODES:
            self.assertIn(f"| {mode} |", out)


if __name__ == "__main__":
    bench_case.main()
