#!/usr/bin/env python3
"""A run that goes on from a checkpoint has the bits of one that never stopped: in every mode, across modes and ranks,
after signals and a full disk."""

import json
import signal
import sys
import time
from pathlib import Path

import program
from program import EndToEndTest, SMALL, bits, read_metrics

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from small_filesystem import small_filesystem

STEPS = 6
MANY_STEPS = 100_000
MODES = {"none": ("none", "none"), "cpu": ("cpu", "cpu"), "nvme": ("nvme", "nvme")}


def evaluations(metrics):
    return [line["eval_loss"].hex() for line in metrics if "eval_loss" in line]


class ResumeTest(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.saved = self.folder / "saved"
        self.metrics = self.folder / "metrics.jsonl"
        self.evaluating = ("--eval-data", self.text, "--eval-every", 4, "--eval-samples", 4)

    def saving(self, every=0, *options, directory=None):
        return ("--checkpoint-dir", directory or self.saved, "--checkpoint-every", every, *options)

    def checkpoints(self, directory=None):
        return sorted(path.name for path in (directory or self.saved).iterdir())

    def run_to(self, steps, *options, code=0, **popen):
        """A run, its metrics file kept; what it printed."""
        done = self.finish(self.start(*self.evaluating, "--metrics", self.metrics, *options, steps=steps, **popen))
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(self.left_over(), [])
        return done

    def reference(self, steps=STEPS, *options):
        metrics = self.folder / "reference.jsonl"
        done = self.finish(self.start(*self.evaluating, "--metrics", metrics, *options, steps=steps))
        self.assertEqual(done.returncode, 0, done.stderr)
        return read_metrics(metrics)

    def assert_equals(self, expected):
        metrics = read_metrics(self.metrics)
        self.assertEqual([line["step"] for line in metrics], [line["step"] for line in expected])
        self.assertEqual(bits(metrics), bits(expected))
        self.assertEqual(evaluations(metrics), evaluations(expected))

    def stop_after_a_step(self, number, *options, steps=MANY_STEPS):
        """Sends the signal when a step is done; the run saves and ends with 0. The steps it has done."""
        run = self.start(*self.evaluating, "--metrics", self.metrics, *options, steps=steps)
        self.wait_until(lambda: self.metrics.exists() and self.metrics.read_text(), "the first step")
        run.send_signal(number)
        done = self.finish(run)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.left_over(), [])
        return len(read_metrics(self.metrics)), done


class ModesTest(ResumeTest):
    def test_resume_is_bitwise_in_every_mode_and_across(self):
        expected = self.reference()
        for saved_by, resumed_by in (("none", "nvme"), ("nvme", "cpu"), ("cpu", "none"), ("nvme", "nvme")):
            with self.subTest(saved_by=saved_by, resumed_by=resumed_by):
                directory = self.folder / f"{saved_by}-{resumed_by}"
                out = self.run_to(STEPS, *self.saving(3, "--keep", 0, directory=directory),
                                  *self.offload(*MODES[saved_by])).stdout
                self.assertIn("a fresh start", out)
                self.assert_equals(expected)
                self.assertEqual(self.checkpoints(directory), ["step-00000003", "step-00000006"])
                # As if it had been killed after step 3 was saved.
                for path in (directory / "step-00000006").iterdir():
                    path.unlink()
                (directory / "step-00000006").rmdir()
                out = self.run_to(STEPS, *self.saving(3, directory=directory), *self.offload(*MODES[resumed_by]),
                                  "--set", "zero_optimization.sub_group_size=5000").stdout
                self.assertIn("resumed", out)
                self.assertNotIn("note:", out)
                self.assert_equals(expected)

    def test_a_finished_run_has_nothing_to_train(self):
        self.run_to(2, *self.saving())
        self.assertIn("nothing to train", self.run_to(2, *self.saving()).stdout)
        self.assertEqual(self.checkpoints(), ["step-00000002"])

    def test_what_a_save_costs_is_told(self):
        in_memory, links = "states in memory: training waits", "checkpoints are links of the swap files"
        for number, (places, told) in enumerate(((("cpu", "none"), in_memory), (("none", "nvme"), links),
                                                 (("nvme", "none"), links), (("nvme", "nvme"), links))):
            saving = self.saving(directory=self.folder / f"saved-{number}")
            self.assertIn(told, self.run_to(1, *saving, *self.offload(*places)).stdout)

    def test_what_stays_follows_keep_and_keep_every(self):
        self.run_to(7, *self.saving(1, "--keep", 2, "--keep-every", 3))
        self.assertEqual(self.checkpoints(), [f"step-0000000{step}" for step in (3, 6, 7)])

    def test_an_old_one_is_an_explicit_choice(self):
        expected = self.reference()
        self.run_to(STEPS, *self.saving(2, "--keep", 0))
        shard = self.saved / "step-00000006" / "rank-0000.bin"
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        done = self.finish(self.start(*self.saving(), steps=8))
        self.assert_refused(done, "step-00000006", "rank-0000.bin", f"--resume {self.saved}/step-00000004")
        done = self.finish(self.start(*self.saving(), "--resume", "no", steps=8))
        self.assert_refused(done, "--resume no", "step-00000006")
        out = self.run_to(STEPS, *self.saving(0, "--keep", 0), "--resume", self.saved / "step-00000004").stdout
        self.assertIn("set aside", out)
        self.assert_equals(expected)
        self.assertEqual(self.checkpoints(), ["step-00000002", "step-00000004", "step-00000006",
                                              "step-00000006.set-aside"])

    def test_what_differs_is_told_or_refused(self):
        self.run_to(2, *self.saving())
        out = self.run_to(3, *self.saving(), "--set", "optimizer.params.lr=0.002").stdout
        self.assertIn("note: learning rate is 0.002, the checkpoint was made with 0.001", out)
        for options, text in ((("--seed", 2), "seed"), (("--set", "bf16.enabled=false"), "bf16"),
                              (("--set", "optimizer.type=Lion"), "Lion")):
            self.assert_refused(self.finish(self.start(*self.saving(), *options, steps=4)), text)
        model = self.write("wide.json", json.dumps(program.TINY | {"n_embd": 128}))
        self.assert_refused(self.finish(self.start(*self.saving(), "--model", model, steps=4)), "another shape")
        self.assert_refused(self.finish(self.start("--resume", "auto", steps=4)), "--checkpoint-dir")
        self.assert_refused(self.finish(self.start("--resume", self.folder / "none", steps=4)), "No such file")

    def test_two_runs_do_not_write_to_one_directory(self):
        first = self.start(*self.saving(), "--metrics", self.metrics, steps=MANY_STEPS)
        self.wait_until(lambda: self.metrics.exists() and self.metrics.read_text(), "the first step")
        second = self.finish(self.start(*self.saving(), steps=2))
        self.assert_refused(second, f"in use by process {first.pid}")


class RanksTest(ResumeTest):
    def run_ranks(self, steps, *options):
        runs = [self.start(*self.evaluating, "--metrics", self.metrics, "--set", "train_micro_batch_size_per_gpu=2",
                           *options, steps=steps, environment=environment) for environment in program.two_ranks()]
        for done in [self.finish(run) for run in runs]:
            self.assertEqual(done.returncode, 0, done.stderr)
        return read_metrics(self.metrics)

    def test_two_ranks_go_on_as_one_and_one_as_two(self):
        shards = lambda step: sorted(path.name for path in (self.saved / f"step-0000000{step}").glob("rank-*.json"))
        nvme = self.offload("nvme", "nvme")
        uninterrupted = self.run_ranks(4)
        self.run_ranks(2, *self.saving(), *nvme)
        self.assertEqual(shards(2), ["rank-0000.json", "rank-0001.json"])
        self.assertEqual(bits(self.run_ranks(4, *self.saving())), bits(uninterrupted))
        # 2 -> 1: the next loss is of the same weights, summed in another order.
        for path in (self.saved / "step-00000004").iterdir():
            path.unlink()
        (self.saved / "step-00000004").rmdir()
        self.run_to(3, *self.saving())
        self.assertEqual(shards(3), ["rank-0000.json"])
        alone = read_metrics(self.metrics)
        for one, two in zip(alone, uninterrupted):
            self.assertLess(abs(one["loss"] - two["loss"]), 1e-3 * two["loss"])
        # 1 -> 2.
        together = self.run_ranks(4, *self.saving(), *nvme)
        self.assertEqual(len(together), 4)
        self.assertLess(abs(together[3]["loss"] - uninterrupted[3]["loss"]), 1e-3 * uninterrupted[3]["loss"])


class SignalTest(ResumeTest):
    def test_sigterm_and_sigusr1_save_and_end_well(self):
        for number in (signal.SIGTERM, signal.SIGUSR1):
            with self.subTest(signal=number):
                directory = self.folder / str(int(number))
                nvme = (*self.saving(directory=directory), *self.offload("nvme", "nvme"))
                steps, done = self.stop_after_a_step(number, *nvme)
                self.assertIn(f"stopped after step {steps}", done.stdout)
                self.assertEqual(self.checkpoints(directory), [f"step-{steps:08}"])
                self.run_to(steps + 2, *self.saving(directory=directory))
                self.assertEqual(bits(read_metrics(self.metrics)), bits(self.reference(steps + 2)))
                self.metrics.unlink()

    def test_a_second_signal_stops_now(self):
        run = self.start(*self.saving(1), "--metrics", self.metrics, *self.offload("nvme", "nvme"), steps=MANY_STEPS)
        self.wait_until(lambda: self.metrics.exists() and len(self.metrics.read_text().splitlines()) > 2, "three steps")
        for _ in range(2):
            run.send_signal(signal.SIGTERM)
        done = self.finish(run)
        # The first may have done all its work before the second came.
        self.assertIn(done.returncode, (0, 130), done.stderr)
        self.assertEqual(self.left_over(), [])
        newest = max(name for name in self.checkpoints() if not name.endswith(".tmp"))
        steps = int(newest.removeprefix("step-"))
        self.run_to(steps + 1, *self.saving())
        self.assertEqual(bits(read_metrics(self.metrics)), bits(self.reference(steps + 1))[:steps + 1])


class FullDiskTest(ResumeTest):
    model = SMALL

    def test_a_disk_that_fills_leaves_the_last_checkpoint(self):
        mount = small_filesystem(self, self.folder, 260)
        directory = mount / "saved"
        run = self.start(*self.saving(1, "--keep", 1, directory=directory), "--metrics", self.metrics,
                         steps=MANY_STEPS)
        self.wait_until(lambda: directory.exists() and "step-00000001" in self.checkpoints(directory), "a checkpoint")
        # What the run frees by removing an old one is taken, too.
        with open(mount / "others", "wb", buffering=0) as others:
            deadline = time.monotonic() + program.TIMEOUT_S
            while run.poll() is None and time.monotonic() < deadline:
                try:
                    others.write(bytes(1 << 20))
                except OSError:
                    time.sleep(0.01)
        done = self.finish(run)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("space" if "No space" in done.stderr else "free", done.stderr)
        left = self.checkpoints(directory)
        self.assertEqual(len(left), 1, left)
        step = int(left[0].removeprefix("step-"))
        (mount / "others").unlink()
        self.assertIn("resumed", self.run_to(step + 1, *self.saving(directory=directory)).stdout)

    def test_too_little_space_is_told_before_training(self):
        mount = small_filesystem(self, self.folder, 150)
        done = self.finish(self.start(*self.saving(1, directory=mount / "saved"), "--metrics", self.metrics, steps=9))
        self.assert_refused(done, "3 checkpoints of", "are free")
        self.assertFalse(self.metrics.exists(), "it trained first")


if __name__ == "__main__":
    program.main()
