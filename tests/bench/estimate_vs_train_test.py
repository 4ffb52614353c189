#!/usr/bin/env python3
"""estimate_vs_train.py: what it reads of a run, what it refuses, and that what was foretold comes true."""

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where it is)
import estimate_vs_train

OUTPUT = """
  held by this rank where                       memory     storage
  parameters        nvme                       1.3 KiB     6.5 MiB
  gradients         cpu                       12.7 MiB           -
  activations       nvme                         512 B     1.5 GiB

  NVMe per step            moved   a parameter      theory   a parameter
  read                  44.6 MiB       14.06 B    44.4 MiB       14.00 B
"""


class EstimateVsTrainTest(BenchTest):
    def test_space_is_the_sum_of_the_last_column(self):
        self.assertEqual(estimate_vs_train.space_of(OUTPUT), 6.5 * 2**20 + 1.5 * 2**30)

    def test_what_is_off_is_a_share_of_what_was_done(self):
        self.assertAlmostEqual(estimate_vs_train.off(110, 100), 0.1)
        self.assertAlmostEqual(estimate_vs_train.off(90, 100), 0.1)
        self.assertEqual(estimate_vs_train.off(0, 0), 0)
        self.assertEqual(estimate_vs_train.off(1, 0), 1)

    def test_arguments(self):
        self.assert_help("estimate_vs_train.py")
        self.assert_refused("at least 1", "estimate_vs_train.py", "--rounds", 0)
        self.assert_refused("at least 1", "estimate_vs_train.py", "--mb-s", "400,0")


class QuickTest(BenchTest):
    def test_it_runs(self):
        out = self.run_quick("estimate_vs_train.py")
        for figure, target in estimate_vs_train.TARGETS.items():
            self.assertRegex(out, rf"\| {figure} \| [\d.]+%.* \| {target:.0%} \|")


if __name__ == "__main__":
    bench_case.main()
