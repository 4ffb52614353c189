#!/usr/bin/env python3
"""against_deepspeed.py: its figures, what it refuses, and that it leaves an installed environment alone. DeepSpeed is
not installed for a test: it fetches and compiles for minutes."""

import tempfile
from pathlib import Path

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where they are)
import against_deepspeed
import deepspeed_environment


class AgainstDeepSpeedTest(BenchTest):
    def test_the_optimizer_step_is_what_each_says_of_it(self):
        ours = {"seconds": 5.0, "compute_seconds": 3.5, "update_seconds": 1.0, "optimizer_seconds": 2.5}
        self.assertAlmostEqual(against_deepspeed.optimizer_seconds(ours), 2.5)
        theirs = {"seconds": 5.0, "parts": {"forward": 1.0, "backward": 2.0, "step": 2.0}}
        self.assertAlmostEqual(against_deepspeed.optimizer_seconds(theirs), 2.0)

    def test_half_cached_is_half_of_the_parameters(self):
        key = "zero_optimization.offload_optimizer.max_in_cpu"
        contenders = against_deepspeed.contenders(1000, 100)
        self.assertEqual(contenders["half cached"][1][key], 500)
        self.assertEqual(contenders["exact"][1][key], 0)

    def test_every_ratio_is_of_contenders(self):
        names = set(against_deepspeed.contenders(1000, 100))
        for _, _, top, bottom, _ in against_deepspeed.RATIOS:
            self.assertLessEqual({top, bottom}, names)

    def test_arguments(self):
        self.assert_help("against_deepspeed.py")
        self.assert_refused("--rounds", "against_deepspeed.py", "--rounds", 0)
        self.assert_refused("invalid choice", "against_deepspeed.py", "--disk", "floppy")

    def test_an_installed_environment_is_left_as_it_is(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "compiled").touch()
            deepspeed_environment.DeepSpeed(folder).install()
            self.assertEqual([path.name for path in Path(folder).iterdir()], ["compiled"])


if __name__ == "__main__":
    bench_case.main()
