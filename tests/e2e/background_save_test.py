#!/usr/bin/env python3
"""Checkpoints on another filesystem than the swap files: copied while training goes on, through signals, kills, a full
disk and with several ranks. What is saved is of the step it began at, and the bits are those of a run without."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import program
from program import EndToEndTest, SMALL, bits, read_metrics

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from blkio_throttle import BlkioThrottle
from small_filesystem import SmallFilesystem

MANY_STEPS = 100_000


class BackgroundSaveTest(EndToEndTest):
    model = SMALL  # 97 MB of states

    def use(self, size_mib, bytes_per_second=0):
        """A filesystem for checkpoints; what the run writes there is limited."""
        self.disk = SmallFilesystem(self, self.folder, size_mib)
        self.saved = self.disk.path / "saved"
        self.metrics = self.folder / "metrics.jsonl"
        self.preexec = {}
        if bytes_per_second:
            self.limit(bytes_per_second)

    def limit(self, bytes_per_second):
        """What runs write there from here on; skips where that cannot be limited."""
        try:
            throttle = BlkioThrottle(self.disk.path)
            self.addCleanup(throttle.close)
            throttle.limit(bytes_per_second)
        except LookupError as reason:
            self.skipTest(str(reason))
        self.preexec = {"preexec_fn": throttle.enter}
        return throttle

    def begin(self, steps, every, *options, **popen):
        self.metrics.unlink(missing_ok=True)
        return self.start("--checkpoint-dir", self.saved, "--checkpoint-every", every, "--metrics", self.metrics,
                          *self.offload("nvme", "nvme"), *options, steps=steps, **self.preexec, **popen)

    def unfinished(self):
        return sorted(path.name for path in self.saved.glob("*.tmp"))

    def finished(self):
        return sorted(int(path.name[5:]) for path in self.saved.glob("step-????????"))

    def last_step(self):
        lines = self.metrics.read_text().splitlines(keepends=True) if self.metrics.exists() else []
        return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)

    def copied_step(self):
        """The step of a save that training goes on beside; 0: there is none now."""
        steps = [int(name[5:-4]) for name in self.unfinished()] if self.saved.exists() else []
        return steps[0] if steps and self.last_step() > steps[0] else 0

    def begin_and_wait_for_a_copy(self):
        """A run that has trained on beside a save that is still on its way, and that save's step."""
        run = self.begin(MANY_STEPS, 4)
        self.wait_until(self.copied_step, "a copy")
        return run, self.copied_step()

    def assert_goes_on(self, step):
        """From the checkpoint of that step, to the bits of a run that never stopped."""
        self.preexec = {}
        done = self.finish(self.begin(step + 2, 0))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"resumed {self.saved}/step-{step:08} ", done.stdout)
        self.assertEqual(self.unfinished(), [])
        resumed = read_metrics(self.metrics)
        never_stopped = self.train(steps=step + 2)
        self.assertEqual(bits(resumed)[-2:], bits(never_stopped)[step:])

    def test_training_goes_on_beside_a_copy(self):
        self.use(500, 60 << 20)
        done = self.finish(self.begin(7, 3))
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        saved = next(i for i, line in enumerate(lines) if "step-00000003 " in line)
        self.assertTrue([line for line in lines[:saved] if line.startswith("step 4/")], "it waited for the copy")
        waited = [float(seconds) for seconds in re.findall(r"training waited ([\d.]+) s", done.stdout)]
        took = [float(seconds) for seconds in re.findall(r"^saved .* in ([\d.]+) s", done.stdout, re.MULTILINE)]
        self.assertLess(waited[0], took[0])
        self.assertEqual(bits(read_metrics(self.metrics)), bits(self.train(steps=7)))
        self.assertTrue((self.saved / "step-00000006" / "rank-0000.bin").exists(), "it is no copy")
        self.assertEqual(self.finished(), [6, 7])
        self.assert_goes_on(7)

    def test_sigterm_beside_a_copy_completes_it_and_saves(self):
        self.use(500, 20 << 20)
        run, step = self.begin_and_wait_for_a_copy()
        run.send_signal(signal.SIGTERM)
        done = self.finish(run)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"step-{step:08} in", done.stdout)
        self.assertEqual(self.unfinished(), [])
        self.assertEqual(self.left_over(), [])
        last = self.finished()[-1]
        self.assertIn(f"stopped after step {last}", done.stdout)
        self.assert_goes_on(last)

    def test_a_second_signal_beside_a_copy_stops_now(self):
        self.use(500, 20 << 20)
        run, _ = self.begin_and_wait_for_a_copy()
        run.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # of two at once the kernel may make one
        run.send_signal(signal.SIGTERM)
        done = self.finish(run)
        self.assertEqual(done.returncode, 130, done.stderr)
        self.assertEqual((self.unfinished(), self.finished(), self.left_over()), ([], [], []))

    def test_kill_beside_a_copy(self):
        self.use(500)
        self.assertEqual(self.finish(self.begin(1, 1)).returncode, 0)
        throttle = self.limit(20 << 20)
        run, step = self.begin_and_wait_for_a_copy()
        run.kill()
        run.communicate()
        throttle.close()
        newest = self.finished()[-1]
        self.assertLess(newest, step)
        self.assert_goes_on(newest)

    def test_a_disk_that_fills_beside_a_copy_leaves_the_last_one(self):
        self.use(330, 60 << 20)
        run = self.begin(MANY_STEPS, 2, "--keep", 1)
        self.wait_until(lambda: self.saved.exists() and self.finished() and self.unfinished(), "a second copy")
        with open(self.disk.path / "others", "wb", buffering=0) as others:
            while run.poll() is None:
                self.disk.fill(others.fileno())
                time.sleep(0.01)
        done = self.finish(run)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stderr, "No space left|are free")
        self.assertEqual(self.unfinished(), [])
        self.assertEqual(len(self.finished()), 1)
        (self.disk.path / "others").unlink()
        self.assert_goes_on(self.finished()[0])

    def test_two_ranks(self):
        self.use(500, 60 << 20)
        runs = [self.begin(5, 2, environment=environment) for environment in program.two_ranks()]
        for done in [self.finish(run) for run in runs]:
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.finished(), [4, 5])
        for name in ("rank-0000.bin", "rank-0001.bin"):
            self.assertTrue((self.saved / "step-00000004" / name).exists())
        done = subprocess.run([program.PROGRAM, "verify", self.saved / "step-00000004"], capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    program.main()
