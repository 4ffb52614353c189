#!/usr/bin/env python3
"""train_step.py: what it takes for theory, and what it refuses."""

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where it is)
import train_step


class TrainStepTest(BenchTest):
    def test_theory_is_bytes_a_parameter(self):
        count = train_step.parameters(train_step.MODEL)
        moved = {"none": (0, 0), "cpu": (0, 0), "parameters on NVMe": (6, 2), "optimizer on NVMe": (10, 10),
                 "all on NVMe": (16, 12)}
        for mode, (read, written) in moved.items():
            self.assertEqual(train_step.theory(mode), (read * count, written * count), mode)

    def test_nothing_is_cached_on_nvme(self):
        for mode, devices in train_step.MODES.items():
            cached = [value for key, value in train_step.settings_of(mode).items() if key.endswith("max_in_cpu")]
            self.assertEqual(cached, [0] * devices.count("nvme"), mode)

    def test_arguments(self):
        self.assertEqual(self.bench("train_step.py", "--help").returncode, 0)
        self.assert_refused("--rounds", "train_step.py", "--rounds", 0)


if __name__ == "__main__":
    bench_case.main()
