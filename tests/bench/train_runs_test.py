#!/usr/bin/env python3
"""What the benches of train steps share: figures and watched runs."""

import sys
import unittest

import bench_case

# pylint: disable=wrong-import-order (bench_case says where it is)
import train_runs


class FiguresTest(unittest.TestCase):
    def test_parameters_are_those_of_a_known_model(self):
        gpt2 = train_runs.gpt(12, 768, 12, 1024, vocabulary=50257) | {"tie_word_embeddings": True}
        self.assertEqual(train_runs.parameters(gpt2), 124_439_808)
        untied = gpt2 | {"tie_word_embeddings": False}
        self.assertEqual(train_runs.parameters(untied) - train_runs.parameters(gpt2), 50257 * 768)

    def test_medians_leave_the_warm_up_out(self):
        runs = [{"steps": [{"s": value} for value in (90, 80, 1, 2, 3)]}, {"steps": [{"s": 70}, {"s": 60}, {"s": 9}]}]
        self.assertEqual(train_runs.median(runs, 2, lambda step: step["s"]), 2.5)
        self.assertEqual(train_runs.each_round(runs, 2, lambda step: step["s"]), [2, 9])


class RunsTest(unittest.TestCase):
    def test_peak_has_what_was_given_back_in_it(self):
        script = "import time; a = bytearray(b'x') * (200 << 20); del a; time.sleep(1)"
        _, watch = train_runs.run_watched([sys.executable, "-c", script])
        self.assertGreater(watch.peak_bytes, 200 << 20)
        self.assertLess(watch.peak_bytes, 400 << 20)

    def test_a_failed_run_tells_its_last_words(self):
        script = "import sys; print('first'); sys.stderr.write('the reason'); sys.exit(3)"
        with self.assertRaisesRegex(train_runs.RunFailed, "the reason"):
            train_runs.run_watched([sys.executable, "-c", script])

    def test_a_run_that_fails_in_silence_tells_its_code(self):
        with self.assertRaisesRegex(train_runs.RunFailed, "exit code 3"):
            train_runs.run_watched([sys.executable, "-c", "import sys; sys.exit(3)"])


if __name__ == "__main__":
    bench_case.main()
