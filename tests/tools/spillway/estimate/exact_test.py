#!/usr/bin/env python3
"""What estimate foretells is what train then moves, to the byte, and pins, to the page."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
MODEL = {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 32, "vocab_size": 256}


class EstimateExactTest(unittest.TestCase):
    def setUp(self):
        # Beside the build, on a real disk: /tmp may be memory.
        self.directory = tempfile.TemporaryDirectory(dir=os.getcwd())
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def compare(self, parameters, optimizer, tied=True, activations=None, **zero):
        arguments = ["--model", self.write("model.json",
                                           json.dumps({**MODEL, "tie_word_embeddings": tied})),
                     "--config", self.write("config.json", json.dumps({
                         "bf16": {"enabled": True},
                         "train_micro_batch_size_per_gpu": 2,
                         "gradient_accumulation_steps": 2,
                         "activation_checkpointing": activations or {},
                         "zero_optimization": {
                             **zero,
                             "offload_param": {"device": parameters,
                                               "nvme_path": self.directory.name,
                                               "max_in_cpu": 0},
                             "offload_optimizer": {"device": optimizer,
                                                   "nvme_path": self.directory.name,
                                                   "update_order": "after_backward",
                                                   "max_in_cpu": 30000}}}))]
        metrics = self.path("run.jsonl")
        subprocess.run([PROGRAM, "train", *arguments, "--steps", "2", "--metrics", metrics,
                        "--data", self.write("text.txt", "to be or not to be " * 50)],
                       check=True, capture_output=True, timeout=120)
        with open(metrics) as lines:
            step = json.loads(lines.readlines()[1])
        done = subprocess.run([PROGRAM, "estimate", *arguments, "--json", "--no-times"], check=True,
                              capture_output=True, text=True, timeout=60)
        estimate = json.loads(done.stdout)
        traffic = estimate["nvme_per_step"]
        read = sum(traffic[key] for key in ("forward_read_bytes", "backward_read_bytes",
                                            "update_read_bytes"))
        self.assertEqual(step["nvme_read_bytes"], read)
        written = sum(traffic[key] for key in ("forward_written_bytes", "backward_written_bytes",
                                               "update_written_bytes"))
        self.assertEqual(step["nvme_written_bytes"], written)
        # Memory that the limits forbade to lock is not counted by train; a slab is whole pages.
        foretold = estimate["held"]["total"]["pinned_bytes"]
        self.assertLess(step["pinned_bytes"], foretold + 2 * 4096)

    def test_everything_on_nvme(self):
        self.compare("nvme", "nvme")

    def test_untied(self):
        self.compare("nvme", "nvme", tied=False)

    def test_small_uneven_tiles(self):
        self.compare("nvme", "nvme", sub_group_size=7000)

    def test_gradients_and_activations_on_nvme(self):
        self.compare("cpu", "cpu", offload_gradients={"device": "nvme", "nvme_path": self.directory.name},
                     activations={"device": "nvme", "nvme_path": self.directory.name})

    def test_one_of_both_on_nvme(self):
        self.compare("nvme", "cpu")
        self.compare("none", "nvme")

    def test_nothing_on_nvme(self):
        self.compare("cpu", "cpu")
        self.compare("none", "none")


if __name__ == "__main__":
    unittest.main()
