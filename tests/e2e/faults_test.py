#!/usr/bin/env python3
"""The world's failures and the user's mistakes: a clear line, a bad exit code, no hang, nothing overwritten."""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

import program
from program import SMALL, ZERO, EndToEndTest, read_metrics

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from small_filesystem import small_filesystem

MANY_STEPS = 100_000


def obey_permissions():
    """Runs in the child: root, too, may then write only where the mode lets it (capabilities(7))."""
    set_drop, dac_override, dac_read_search = 24, 1, 2  # PR_CAPBSET_DROP and two capabilities
    libc = ctypes.CDLL(None)
    for capability in (dac_override, dac_read_search):
        libc.prctl(set_drop, capability, 0, 0, 0)


class FaultsTest(EndToEndTest):
    def refused(self, *options, steps=2, **popen):
        return self.finish(self.start(*options, steps=steps, **popen))

    def test_a_missing_directory(self):
        missing = self.folder / "missing"
        self.assert_refused(self.refused(*self.offload("nvme", "none", missing)), str(missing), "existing directory")

    def test_a_file_in_the_place_of_the_directory(self):
        self.assert_refused(self.refused(*self.offload("none", "nvme", self.text)), str(self.text))
        self.assertEqual(self.text.read_text(encoding="utf-8"), program.words(5000))

    def test_a_read_only_directory(self):
        self.swap.chmod(0o500)
        self.addCleanup(self.swap.chmod, 0o700)
        done = self.refused(*self.offload("nvme", "nvme"), preexec_fn=obey_permissions)
        self.assert_refused(done, "Permission denied", str(self.swap))

    def test_a_second_run_on_the_same_directory(self):
        metrics = self.folder / "first.jsonl"
        first = self.start(*self.offload("nvme", "nvme"), "--metrics", metrics, steps=MANY_STEPS)
        self.wait_until(lambda: metrics.exists() and metrics.read_text(), "the first step")
        before = self.left_over()
        second = self.refused(*self.offload("nvme", "nvme"))
        self.assertEqual(second.returncode, 1, second.stderr)
        self.assertEqual(len(second.stderr.splitlines()), 1, second.stderr)
        self.assertIn(f"in use by process {first.pid}", second.stderr)
        self.assertEqual(self.left_over(), before)
        count = len(metrics.read_text().splitlines())
        self.wait_until(lambda: len(metrics.read_text().splitlines()) > count + 2, "further steps of the first run")
        first.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(first).returncode, 130)
        self.assertEqual(self.left_over(), [])
        alone = self.train(steps=2)  # and its numbers were not disturbed
        self.assertEqual(program.bits(read_metrics(metrics)[:1]), program.bits(alone[:1]))

    def test_a_misspelt_key(self):
        config = self.write("bad.json", json.dumps(program.CONFIG | {"zero_optimisation": {"stage": 3}}))
        self.assert_refused(self.refused("--config", config), "did you mean 'zero_optimization'", "line 1")
        self.assert_refused(self.refused("--set", f"{ZERO}offload_params.device=cpu"), "did you mean", "offload_param")

    def test_a_trailing_comma(self):
        config = self.write("bad.json", '{\n  "train_batch_size": 4,\n}\n')
        self.assert_refused(self.refused("--config", config), str(config), "line 2", "column 24", "trailing comma")

    def test_a_block_that_is_no_page(self):
        self.assert_refused(self.refused("--set", "aio.block_size=1000"), "aio.block_size", "4096")

    def test_a_missing_config(self):
        self.assert_refused(self.refused("--config", self.folder / "none.json"), "none.json")

    def test_data_that_is_missing_empty_or_too_short(self):
        self.assert_refused(self.refused("--data", self.folder / "none.txt"), "none.txt", "No such file")
        self.assert_refused(self.refused("--data", self.write("empty.txt", "")), "empty.txt")
        # 64 tokens and the one after them are needed.
        self.assert_refused(self.refused("--data", self.write("short.txt", "x" * 64)), "short.txt", "64", "65")
        self.assertEqual(self.refused("--data", self.write("enough.txt", "x" * 65), steps=1).returncode, 0)
        self.assert_refused(self.refused("--eval-data", self.folder / "none.txt"), "none.txt")
        self.assert_refused(self.refused("--data", self.folder), str(self.folder))

    def test_a_token_outside_the_vocabulary(self):
        model = self.write("narrow.json", json.dumps(program.TINY | {"vocab_size": 100}))
        done = self.refused("--model", model, *self.offload("nvme", "nvme"))
        self.assert_refused(done, "token", "vocabulary of 100", str(self.text))

    def test_metrics_onto_a_foreign_file(self):
        foreign = self.write("thesis.txt", "chapter one\n")
        self.assert_refused(self.refused("--metrics", foreign, *self.offload("nvme", "nvme")), "thesis.txt")
        self.assertEqual(foreign.read_text(encoding="utf-8"), "chapter one\n")
        self.assert_refused(self.refused("--metrics", self.folder / "none" / "run.jsonl"), "No such file")
        self.assert_refused(self.refused("--metrics", "/dev/full"), "No space left on device")

    def test_cuda_where_there_is_none(self):
        done = self.refused("--device", "cuda")
        if done.returncode == 0:
            self.skipTest("this machine has CUDA")
        self.assert_refused(done, "cuda", "--device cpu")

    def test_an_unknown_model(self):
        self.assert_refused(self.refused("--model", "gpt-lit-small"), "did you mean 'gpt-lite-small'")
        model = self.write("bad.json", json.dumps(program.TINY | {"n_layers": 2}))
        self.assert_refused(self.refused("--model", model), "n_layers", "did you mean 'n_layer'")

    def test_more_context_than_positions(self):
        self.assert_refused(self.refused("--context", 65), "64 positions")

    def test_a_loss_that_is_not_finite(self):
        options = ("--set", "optimizer.params.lr=1e30", "--set", "gradient_clipping=0", *self.offload("nvme", "nvme"))
        self.assert_refused(self.refused(*options, steps=50), "not finite")


class FullDiskTest(EndToEndTest):
    model = SMALL

    def test_a_file_size_limit(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
        done = self.finish(self.start(*self.offload("nvme", "nvme"), preexec_fn=limit))
        self.assert_refused(done, "File too large", str(self.swap))

    def test_a_full_disk(self):
        mount = small_filesystem(self, self.folder, 40)
        done = self.finish(self.start(*self.offload("nvme", "nvme", mount)))
        self.assert_refused(done, str(mount))
        self.assertRegex(done.stderr, "No space left on device|free")
        self.assertEqual([path.name for path in mount.iterdir() if path.name != "lost+found"], [])


if __name__ == "__main__":
    program.main()
