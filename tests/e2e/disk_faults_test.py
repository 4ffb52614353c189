#!/usr/bin/env python3
"""Disks that fill up, fail at a sync, die, crawl or stand still while checkpoints are written. What was acknowledged
("saved ...") is read back from the device, not from the page cache, and training goes on from it with the same bits."""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import program
from program import EndToEndTest, bits, read_metrics

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from blkio_throttle import BlkioThrottle
from small_filesystem import SmallFilesystem

MANY_STEPS = 100_000


class DiskTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.metrics = self.folder / "metrics.jsonl"

    def use(self, *size, **options):
        self.disk = SmallFilesystem(self, self.folder, *size, **options)
        self.saved = self.disk.path / "saved"

    def saving(self, *options):
        return ("--checkpoint-dir", self.saved, "--checkpoint-every", 1, "--metrics", self.metrics, *options)

    def start_saving(self, *options, **popen):
        """A run without end that has saved twice."""
        self.metrics.unlink(missing_ok=True)
        run = self.start(*self.saving("--keep", 1), *options, steps=MANY_STEPS, **popen)
        self.wait_until(lambda: self.metrics.exists() and len(self.metrics.read_text().splitlines()) > 2, "steps")
        return run

    def unfinished(self):
        return sorted(path.name for path in self.saved.glob("*.tmp"))

    def stop_in_a_checkpoint(self, run):
        deadline = time.monotonic() + program.TIMEOUT_S
        while time.monotonic() < deadline and run.poll() is None:
            self.wait_until(lambda: self.unfinished() or run.poll() is not None, "a checkpoint")
            run.send_signal(signal.SIGSTOP)
            time.sleep(0.02)
            if self.unfinished():
                return
            run.send_signal(signal.SIGCONT)
        self.fail("never met a checkpoint that was not finished")

    def failed(self, run, *reasons):
        """It ended with a reason; the steps it acknowledged as saved."""
        done = self.finish(run)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertRegex(done.stderr, "|".join(reasons))
        print(done.stderr.strip())
        return [int(step) for step in re.findall(r"^saved .*/step-(\d+) ", done.stdout, re.MULTILINE)]

    def assert_goes_on(self, acknowledged):
        """The newest acknowledged checkpoint, or a later one, is whole; three steps later all bits are as ever."""
        done = subprocess.run([program.PROGRAM, "verify", self.saved], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        newest = max(int(path.name.removeprefix("step-")) for path in self.saved.glob("step-????????"))
        self.assertGreaterEqual(newest, acknowledged)
        self.metrics.unlink()
        done = self.finish(self.start(*self.saving("--keep", 1), steps=newest + 3))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"step-{newest:08}", done.stdout)
        self.assertEqual(self.unfinished(), [])
        resumed = read_metrics(self.metrics)
        self.metrics.unlink()
        never_stopped = self.train(steps=newest + 3)[resumed[0]["step"] - 1:]
        self.assertEqual(bits(resumed), bits(never_stopped))


class SyncTest(DiskTest):
    def test_fsyncgate(self):
        """A device that promises more than it has: writes succeed, a sync fails once, and the next would say OK with
        the data lost. The run ends at the first, and nothing that was lost is called saved."""
        self.use(64, journal=False, backing_mib=20)
        calls = self.folder / "calls"
        if shutil.which("strace") is None:
            self.skipTest("strace is not installed")
        command = ["strace", "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync,sync_file_range", "-o", calls]
        run = subprocess.Popen([*map(str, command), *self.command(*self.saving("--keep", 0), steps=30)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=program.ENVIRONMENT)
        self.addCleanup(self.end, run)
        saved = self.failed(run, "No space left on device", "Input/output error")
        self.assertGreater(len(saved), 2)
        self.assertEqual(self.unfinished(), [])
        syncs = [line for line in calls.read_text().splitlines() if "sync(" in line]
        failed = [number for number, line in enumerate(syncs) if " = -1 " in line]
        self.assertTrue(failed, "the device has not failed")
        path = re.search(r"<(.*)>", syncs[failed[0]])[1]
        self.assertEqual([line for line in syncs[failed[0] + 1:] if path in line], [], "a failed sync was tried again")
        # What the device holds: the cache goes with the mount.
        self.disk.unmount()
        self.disk.mount()
        for step in saved:
            done = subprocess.run([program.PROGRAM, "verify", self.saved / f"step-{step:08}"], capture_output=True,
                                  text=True)
            self.assertEqual(done.returncode, 0, f"acknowledged, and lost: {done.stderr}")


class FullTest(DiskTest):
    def test_full_at_random_points(self):
        """Others take the space at a random moment, or in the middle of a checkpoint, and leave a random rest."""
        seed = int(os.environ.get("SPILLWAY_TEST_SEED", "3"))
        print(f"seed: {seed} (SPILLWAY_TEST_SEED sets it)")
        draw = random.Random(seed)
        self.use(24)
        acknowledged = 0
        for number in range(4):
            run = self.start_saving()
            if number % 2 == 0:
                self.stop_in_a_checkpoint(run)
            else:
                time.sleep(draw.random() * 0.1)
            rest = draw.choice((0, draw.randrange(1 << 20)))
            others = os.open(self.disk.path / "others", os.O_CREAT | os.O_WRONLY)
            try:
                self.disk.fill(others, rest)
                run.send_signal(signal.SIGCONT)
                deadline = time.monotonic() + program.TIMEOUT_S
                while run.poll() is None and time.monotonic() < deadline:  # what it frees is taken, too
                    self.disk.fill(others, rest)
                    time.sleep(0.005)
            finally:
                os.close(others)
            saved = self.failed(run, "No space left on device", "are free")
            acknowledged = max([acknowledged, *saved])
            self.assertEqual(self.unfinished(), [])
            (self.disk.path / "others").unlink()
        self.assert_goes_on(acknowledged)


class DyingTest(DiskTest):
    def test_the_filesystem_dies_in_a_checkpoint(self):
        self.use(48)
        acknowledged = 0
        for _ in range(3):
            run = self.start_saving()
            self.stop_in_a_checkpoint(run)
            self.disk.shut_down()
            run.send_signal(signal.SIGCONT)
            saved = self.failed(run, "Input/output error", "Read-only file system", "is not there")
            acknowledged = max([acknowledged, *saved])
            self.disk.unmount()
            self.disk.mount()
        self.assert_goes_on(acknowledged)

    def test_the_filesystem_of_the_tiles_dies(self):
        """What trains ends with a reason; the checkpoints, which lie elsewhere, are as they were."""
        self.use(48)
        self.saved = self.folder / "saved"
        run = self.start_saving(*self.offload("nvme", "nvme", self.disk.path))
        self.disk.shut_down()
        acknowledged = max(self.failed(run, "Input/output error"))
        self.assert_goes_on(acknowledged)


class SlowTest(DiskTest):
    STEPS = 3

    def throttle(self):
        try:
            throttle = BlkioThrottle(self.disk.path)
            self.addCleanup(throttle.close)
            throttle.limit(1 << 30)  # not yet
        except LookupError as reason:
            self.skipTest(str(reason))
        return throttle

    def timed(self, **popen):
        """Three steps, each saved, with tiles and checkpoints on the disk: seconds, and the children's peak memory."""
        shutil.rmtree(self.saved, ignore_errors=True)
        start = time.monotonic()
        done = self.finish(self.start(*self.saving(), *self.offload("nvme", "nvme", self.disk.path),
                                      steps=self.STEPS, **popen))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(re.findall("^saved ", done.stdout, re.MULTILINE)), self.STEPS)
        seconds = time.monotonic() - start
        return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10, read_metrics(self.metrics)

    def test_a_disk_fifty_times_slower(self):
        """Four megabytes a second, of at least two hundred."""
        self.use(96)
        throttle = self.throttle()
        fast, fast_peak, expected = self.timed()
        throttle.limit(4 << 20)
        seconds, slow_peak, slow = self.timed(preexec_fn=throttle.enter)
        print(f"{seconds:.1f} s instead of {fast:.1f}, peak memory {slow_peak / fast_peak:.2f} times")
        self.assertGreater(seconds, 2, "the disk was not slow")
        self.assertEqual(bits(slow), bits(expected))
        self.assertLess(slow_peak, 1.25 * fast_peak + (32 << 20))
        done = subprocess.run([program.PROGRAM, "verify", self.saved], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_by_hand_a_disk_that_stands_still(self):
        """Nothing is moved any more, while it trains and while it saves: the run ends, for all its waits end. By hand,
        as a transfer is given two minutes."""
        self.use(96)
        throttle = self.throttle()
        self.saved = self.folder / "saved"
        for moment in ("training", "saving"):
            with self.subTest(moment=moment):
                run = self.start_saving(*self.offload("nvme", "nvme", self.disk.path), preexec_fn=throttle.enter)
                if moment == "saving":
                    self.stop_in_a_checkpoint(run)
                throttle.limit(1)
                run.send_signal(signal.SIGCONT)
                start = time.monotonic()
                run.wait(timeout=400)
                print(f"ended {time.monotonic() - start:.0f} s later")
                acknowledged = self.failed(run, "deadline|in time")
                throttle.limit(1 << 30)
                self.assert_goes_on(max(acknowledged))


if __name__ == "__main__":
    program.main()
