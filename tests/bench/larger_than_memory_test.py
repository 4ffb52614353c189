#!/usr/bin/env python3
"""larger_than_memory.py: its verdict, what it refuses, and 101 M parameters in a quarter of their states' memory."""

import contextlib
import io
from types import SimpleNamespace

import bench_case
from bench_case import BenchTest

# pylint: disable=wrong-import-order (bench_case says where it is)
import larger_than_memory

MIB = 1 << 20


def run(loss, peak_mib, oom_kills=0):
    step = {"loss": loss, "seconds": 1.0, "io_wait_seconds": 0.5, "nvme_read_bytes": 20, "nvme_written_bytes": 16}
    return {"steps": [step, step], "bits": [loss.hex()], "peak_bytes": peak_mib * MIB, "run_seconds": 3.0,
            "peak_anonymous_bytes": peak_mib * MIB, "cgroup_peak_bytes": peak_mib * MIB, "oom_kills": oom_kills,
            "storage": {"busy_seconds": 2.0, "hidden_seconds": 1.5}}


class LargerThanMemoryTest(BenchTest):
    def verdict(self, limited, unlimited):
        """Whether it passes, and what it prints."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            good = larger_than_memory.report({"limited": limited, "no limit": unlimited},
                                             SimpleNamespace(limit_mib=100), count=10)
        return good, out.getvalue()

    def test_same_losses_within_the_limit_pass(self):
        good, out = self.verdict(run(2.5, 99), run(2.5, 500))
        self.assertTrue(good)
        self.assertIn("the same to the last bit in 2 runs", out)
        self.assertIn("| limited | 1.00 | 0.50 | 0.00 (2.0) | 0.00 (1.6) |", out)
        self.assertIn("| 75% |", out)

    def test_another_bit_fails(self):
        good, out = self.verdict(run(2.5, 99), run(2.5000000000000004, 500))
        self.assertFalse(good)
        self.assertIn("DIFFERENT", out)

    def test_more_than_the_limit_fails(self):
        self.assertFalse(self.verdict(run(2.5, 101), run(2.5, 500))[0])

    def test_the_oom_killer_fails(self):
        self.assertFalse(self.verdict(run(2.5, 99, oom_kills=1), run(2.5, 500))[0])

    def test_arguments(self):
        self.assert_help("larger_than_memory.py")
        self.assert_refused("--steps", "larger_than_memory.py", "--steps", 0)
        self.assert_refused("--context", "larger_than_memory.py", "--context", 4096)
        self.assert_refused("invalid choice", "larger_than_memory.py", "--reference", "cloud")


class QuickTest(BenchTest):
    def test_it_trains_in_its_limit_with_the_same_losses(self):
        out = self.run_quick("larger_than_memory.py", "--steps", 2)
        self.assertIn("the same to the last bit in 2 runs", out)
        self.assertIn("the OOM killer came 0 times", out)


if __name__ == "__main__":
    bench_case.main()
