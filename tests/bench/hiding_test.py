#!/usr/bin/env python3
"""hiding.py: what it refuses, and that it runs in every order."""

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where it is)
import hiding


class HidingTest(BenchTest):
    def test_arguments(self):
        self.assert_help("hiding.py")
        self.assert_refused("--rounds", "hiding.py", "--rounds", 0)
        self.assert_refused("'sideways' is none of", "hiding.py", "--orders", "forward,sideways")
        self.assert_refused("is no list of numbers", "hiding.py", "--ratios", "1,two")


class QuickTest(BenchTest):
    def test_it_runs(self):
        out = self.run_quick("hiding.py")
        for order in hiding.ORDERS:
            self.assertRegex(out, rf"\| 1 \(\d+ MB/s\) \| [\d.]+ \| {order} \|")


if __name__ == "__main__":
    bench_case.main()
