#!/usr/bin/env python3
"""Ctrl-C leaves nothing behind, a kill leaves what the next run removes, and the user's own files stay as they are."""

import signal

import program
from program import SMALL, EndToEndTest

MANY_STEPS = 100_000


class InterruptTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.metrics = self.folder / "metrics.jsonl"

    def start_and_wait(self, *options):
        run = self.start(*self.offload("nvme", "nvme"), "--metrics", self.metrics, *options, steps=MANY_STEPS)
        self.wait_until(lambda: self.metrics.exists() and self.metrics.read_text(), "the first step")
        self.assertTrue([name for name in self.left_over() if name.endswith(".seg")], self.left_over())
        return run

    def test_ctrl_c_removes_the_swap_files(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                run = self.start_and_wait()
                run.send_signal(number)
                done = self.finish(run, timeout=30)
                self.assertEqual(done.returncode, 130, done.stderr)
                self.assertIn("interrupted", done.stderr)
                self.assertEqual(self.left_over(), [])
                self.metrics.unlink()

    def test_the_next_run_removes_what_a_killed_one_left(self):
        mine = {"notes.txt": "mine", "spillway-rank-0/notes.txt": "mine too"}
        (self.swap / "spillway-rank-0").mkdir()
        for name, text in mine.items():
            (self.swap / name).write_text(text)
        run = self.start_and_wait()
        run.kill()
        self.finish(run)
        left = [name for name in self.left_over() if name.endswith(".seg")]
        self.assertTrue(left, "a killed run leaves its files")
        done = self.finish(self.start(*self.offload("nvme", "nvme"), steps=2))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, f"removed {len(left)} .*left")
        self.assertEqual(self.left_over(), sorted([*mine, "spillway-rank-0"]))
        for name, text in mine.items():
            self.assertEqual((self.swap / name).read_text(), text)


class InterruptedStartTest(EndToEndTest):
    """While a larger model is still being written for the first time."""
    model = SMALL | {"n_layer": 24}

    def test_ctrl_c_while_the_model_is_made(self):
        run = self.start(*self.offload("nvme", "nvme"), steps=1)
        self.wait_until(lambda: any(name.endswith(".seg") for name in self.left_over()), "the first swap file")
        run.send_signal(signal.SIGINT)
        done = self.finish(run)
        self.assertEqual(done.returncode, 130, done.stderr)
        self.assertNotIn("a step:", done.stdout, "the whole model was made first")
        self.assertEqual(self.left_over(), [])


if __name__ == "__main__":
    program.main()
