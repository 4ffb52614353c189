#!/usr/bin/env python3
"""crossover.py: where lines cross, what it refuses, and that it runs."""

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where it is)
import crossover

LINE = ([100, 200, 400], [1.0, 2.0, 4.0])


class CrossoverTest(BenchTest):
    def test_crossing_lies_on_the_line_between_two_batches(self):
        self.assertAlmostEqual(crossover.crossing(*LINE, 3.0), 300)
        self.assertAlmostEqual(crossover.crossing(*LINE, 1.5), 150)

    def test_crossing_beyond_the_largest_batch_follows_the_last_line(self):
        self.assertAlmostEqual(crossover.crossing(*LINE, 6.0), 600)

    def test_there_is_no_crossing_below_the_smallest_batch(self):
        self.assertIsNone(crossover.crossing(*LINE, 0.9))

    def test_arguments(self):
        self.assert_help("crossover.py")
        self.assert_refused("--rounds", "crossover.py", "--rounds", 0)
        self.assert_refused("--mb-per-second", "crossover.py", "--mb-per-second", -1)


class QuickTest(BenchTest):
    def test_it_runs(self):
        out = self.run_quick("crossover.py")
        self.assertRegex(out, r"\| 1\.7 M \| 64 \|")
        self.assertIn("T* predicted", out)


if __name__ == "__main__":
    bench_case.main()
