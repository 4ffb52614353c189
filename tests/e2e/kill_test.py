#!/usr/bin/env python3
"""kill -9 at random moments and at named points. An outside ledger notes what was acknowledged: the next run must begin
there or later, and all losses are those of a run that was never killed."""

import json
import os
import random
import re
import shutil
import signal

import program
from program import bits, read_metrics
from resume_test import ResumeTest

MANY_STEPS = 100_000
# Calls at whose entry a run is killed, and how many of them one thread surely makes: of a run from its start, which
# recovers, saves and tidies; and of one that saves, where each save has threads of its own.
POINTS_OF_A_START = {"mkdir": 12, "unlink": 12, "openat": 400, "close": 400, "write": 400, "fdatasync": 1, "fsync": 1,
                     "renameat2": 1}
POINTS_OF_SAVES = {"mkdir": 4, "unlink": 4, "openat": 20, "close": 20, "write": 20, "link": 4, "fdatasync": 1,
                   "fsync": 2, "renameat2": 1}


class KillTest(ResumeTest):
    def setUp(self):
        super().setUp()
        seed = int(os.environ.get("SPILLWAY_TEST_SEED", "5"))
        print(f"seed: {seed} (SPILLWAY_TEST_SEED sets it)")
        self.draw = random.Random(seed)
        self.acknowledged, self.losses = 0, {}

    def begin(self, *around):
        """A run without end, in a session of its own: whoever watches it is killed with it."""
        command = self.command(*self.saving(1), "--metrics", self.metrics, *self.offload("nvme", "nvme"),
                               steps=MANY_STEPS)
        run = program.subprocess.Popen([*around, *command], stdout=program.subprocess.PIPE,
                                       stderr=program.subprocess.PIPE, text=True, env=program.ENVIRONMENT,
                                       start_new_session=True)
        self.addCleanup(self.kill, run)
        return run

    @staticmethod
    def kill(run):
        try:
            os.killpg(run.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        run.communicate()

    def note(self, line):
        """Into the ledger. True: one more is saved."""
        if "resumed" in line:
            begun = int(line.split("step-")[1].split()[0])
            self.assertGreaterEqual(begun, self.acknowledged, "an acknowledged checkpoint is lost")
        if "a fresh start" in line:
            self.assertEqual(self.acknowledged, 0, "it began anew")
        if not line.startswith("saved "):
            return False
        self.acknowledged = int(line.split("step-")[1].split()[0])
        return True

    def kill_at_a_moment(self):
        more = self.draw.randint(0, 4)
        wait = self.draw.random() * (0.05 if more else 0.6)  # soon after a save, or while it begins
        run = self.begin()
        for line in run.stdout if more else ():
            more -= self.note(line)
            if more == 0:
                break
        try:
            run.wait(wait)
        except program.subprocess.TimeoutExpired:
            pass
        self.kill(run)

    def kill_at_a_point(self):
        """Of any thread's calls the Nth; strace counts each thread's alone, from the run's start or from a save on."""
        saves = self.draw.randint(0, 4)
        point, most = self.draw.choice(sorted((POINTS_OF_SAVES if saves else POINTS_OF_A_START).items()))
        number = self.draw.randint(1, most)
        trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={point}",
                 "-e", f"inject={point}:signal=KILL:when={number}"]
        run = self.begin(*([] if saves else trace))
        begun = self.acknowledged
        for line in run.stdout:
            if self.note(line) and (saves := saves - 1) == 0:
                watch = program.subprocess.Popen([*trace, "-p", str(run.pid)], stdout=program.subprocess.DEVNULL,
                                                 stderr=program.subprocess.DEVNULL, start_new_session=True)
                self.addCleanup(self.kill, watch)
            if self.acknowledged > begun + 1000:
                self.fail(f"call {number} of {point} never comes")
        run.wait(program.TIMEOUT_S)
        self.assertEqual(run.returncode, -signal.SIGKILL, f"{point} {number}: {run.stderr.read()}")
        self.kill(run)

    def rounds(self, count):
        traced = shutil.which("strace") is not None
        if not traced:
            print("strace is not installed: no named points")
        for number in range(count):
            if traced and number % 2:
                self.kill_at_a_point()
            else:
                self.kill_at_a_moment()
            written = self.metrics.read_text() if self.metrics.exists() else ""
            for step in (json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")):
                loss = step["loss"].hex()
                self.assertEqual(self.losses.setdefault(step["step"], loss), loss)
        # The last run may have saved more than it came to say.
        saved = [int(name[5:]) for name in self.checkpoints() if re.fullmatch(r"step-\d+", name)]
        self.assertGreaterEqual(max(saved), self.acknowledged)
        steps = max(saved) + 6
        self.run_to(steps, *self.saving(1), *self.offload("nvme", "nvme"))
        self.assertEqual([name for name in self.checkpoints() if ".tmp" in name], [])
        expected = self.reference(steps)
        self.assertEqual(bits(read_metrics(self.metrics)), bits(expected))
        for step, loss in self.losses.items():
            if step <= len(expected):
                self.assertEqual(loss, expected[step - 1]["loss"].hex())

    def test_kills(self):
        self.rounds(int(os.environ.get("SPILLWAY_KILLS", "10")))

    def test_by_hand_two_hundred_kills(self):
        self.rounds(200)


if __name__ == "__main__":
    program.main()
