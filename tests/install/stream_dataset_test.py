#!/usr/bin/env python3
"""examples/stream_dataset in a cgroup that holds an eighth of its data."""

import re

import example
from cgroup import Cgroup
from example import ExampleTest

MIB = 1 << 20
LIMIT = 256 * MIB


class StreamDatasetTest(ExampleTest):
    def test_eight_times_the_memory_there_is(self):
        try:
            cgroup = Cgroup("spillway-stream", LIMIT)
        except LookupError as reason:
            self.skipTest(str(reason))
        self.addCleanup(cgroup.close)
        output = self.assert_runs(self.folder, 2048, 64, preexec_fn=cgroup.enter)
        print(output)
        self.check(output, size="2.0 GiB")
        peak = cgroup.peak_bytes()
        if peak:
            self.assertGreater(peak, 64 * MIB, "the program was not in the cgroup")
            self.assertLessEqual(peak, LIMIT)

    def test_the_result_does_not_depend_on_the_memory(self):
        summaries = {self.check(self.assert_runs(self.folder, 100, mib), size="100.0 MiB") for mib in (1, 9)}
        self.assertEqual(len(summaries), 1)

    def check(self, output, size):
        self.assertTrue(output.startswith(f"{size} through "), output)
        summary = output.splitlines()[1]
        mean, deviation, wrong = map(float, re.findall(r"\d+\.?\d*", summary))
        self.assertAlmostEqual(mean, 5, delta=0.01)
        self.assertAlmostEqual(deviation, 16 / 12**0.5, delta=0.01)  # of a uniform distribution 16 wide
        self.assertEqual(wrong, 0)
        self.assertEqual(self.names(), [])
        return summary

    def test_what_cannot_be_done(self):
        self.assert_refused(text="^usage:", code=2)
        self.assert_refused(self.folder, "much", text="^usage:", code=2)
        self.assert_refused(self.folder / "none", text="none: No such file")
        self.assert_refused(self.folder, 1 << 30, text="no space .* short")
        self.assert_refused(self.folder, 100, 1 << 30, text="not enough memory")
        self.assertEqual(self.names(), [])


if __name__ == "__main__":
    example.main()
