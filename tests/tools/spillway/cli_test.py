#!/usr/bin/env python3
"""Runs the real program: doctor and estimate, their JSON, and what they say to mistakes."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=120)


class DoctorTest(unittest.TestCase):
    def test_every_capability_has_a_verdict_and_a_reason(self):
        done = run("doctor", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        capabilities = json.loads(done.stdout)["capabilities"]
        names = {one["name"] for one in capabilities}
        for name in ("io_uring", "registered buffers", "O_DIRECT", "real disk", "free space",
                     "page-locked memory", "memory of the cgroup", "huge pages", "NUMA placement",
                     "CUDA device", "libtorch", "fio"):
            self.assertIn(name, names)
        for one in capabilities:
            self.assertIsInstance(one["ok"], bool)
            self.assertTrue(one["reason"], one)

    def test_the_text_says_the_same(self):
        verdicts = {one["name"]: one["ok"]
                    for one in json.loads(run("doctor", "--json").stdout)["capabilities"]}
        for line in run("doctor").stdout.splitlines():
            if line[2:4] in ("OK", "NO"):
                self.assertEqual(verdicts[line[6:40].strip()], line[2:4] == "OK", line)

    def test_a_missing_directory_is_a_verdict_and_no_failure(self):
        done = run("doctor", "--json", "--path", "/nonexistent/swap")
        self.assertEqual(done.returncode, 0)
        writable = [one for one in json.loads(done.stdout)["capabilities"]
                    if one["name"] == "directory writable"]
        self.assertEqual([one["ok"] for one in writable], [False])
        self.assertTrue(writable[0]["fix"])


class EstimateTest(unittest.TestCase):
    def config(self, text):
        path = os.path.join(self.directory.name, "config.json")
        with open(path, "w") as file:
            file.write(text)
        return path

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.nvme = json.dumps({
            "bf16": {"enabled": True},
            "zero_optimization": {
                section: {"device": "nvme", "nvme_path": self.directory.name, "max_in_cpu": 0}
                for section in ("offload_param", "offload_optimizer")}})

    def test_bytes_of_gpt_lite_on_nvme(self):
        config = json.loads(self.nvme)
        config["zero_optimization"]["offload_optimizer"]["update_order"] = "forward"
        path = self.config(json.dumps(config))
        done = run("estimate", "--model", "gpt-lite", "--config", path, "--json", "--no-times")
        self.assertEqual(done.returncode, 0, done.stderr)
        estimate = json.loads(done.stdout)
        count = estimate["parameters"]
        self.assertEqual(count, 87022080)
        step = estimate["nvme_per_step"]
        self.assertEqual(step["forward_read_bytes"], 0)  # this order hands the weights over
        for key, bytes_each in (("update_read_bytes", 12), ("update_written_bytes", 12)):
            self.assertGreaterEqual(step[key], bytes_each * count)
            self.assertLess(step[key], 1.02 * bytes_each * count)
        self.assertGreaterEqual(estimate["held"]["total"]["nvme_bytes"], 12 * count)
        self.assertEqual(estimate["held"]["total"]["device_bytes"], 0)

    def test_set_moves_the_parameters_to_ram(self):
        done = run("estimate", "--model", "gpt-lite", "--config", self.config(self.nvme), "--json", "--no-times",
                   "--set", "zero_optimization.offload_param.device=none",
                   "--set", "train_batch_size=8")
        estimate = json.loads(done.stdout)
        self.assertEqual(estimate["tokens_per_step"], 8 * 2048)
        self.assertEqual(estimate["nvme_per_step"]["forward_read_bytes"], 0)
        self.assertGreaterEqual(estimate["held"]["parameters"]["ram_bytes"], 2 * 87022080)

    def test_the_table_names_the_tiers(self):
        done = run("estimate", "--model", "gpt-lite-small", "--device", "cuda", "--no-times")
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("device", "pinned RAM", "NVMe", "parameters", "moments", "gradients",
                     "activations", "buffers", "total"):
            self.assertIn(word, done.stdout)

    def test_a_wrong_configuration_is_told_a_line_each(self):
        config = self.config('{"aoi": 1,\n "seed": "x"}')
        done = run("estimate", "--model", "gpt-lite", "--config", config)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, "")
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 3, done.stderr)
        self.assertIn(config, lines[0])
        self.assertIn("did you mean 'aio'? (line 1, column 2)", lines[1])
        self.assertIn("seed: a whole number is expected", lines[2])

    def test_a_wrong_model_is_told(self):
        done = run("estimate", "--model", "gpt-lit")
        self.assertEqual(done.returncode, 1)
        self.assertIn("did you mean 'gpt-lite'?", done.stderr)

    def test_a_file_in_the_place_of_a_directory(self):
        done = run("estimate", "--model", "gpt-lite", "--config", self.directory.name)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


class TrainTest(unittest.TestCase):
    def test_a_step_is_measured_by_the_tuned_speed(self):
        with tempfile.TemporaryDirectory() as folder:
            def write(name, text):
                path = os.path.join(folder, name)
                with open(path, "w") as file:
                    file.write(text)
                return path

            data = write("text", "to be or not to be " * 100)
            model = write("model.json", json.dumps(
                {"n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 32, "vocab_size": 256}))
            config = write("config.json", json.dumps({
                "bf16": {"enabled": True},
                "zero_optimization": {"stage": 3,
                                      "offload_param": {"device": "nvme", "nvme_path": folder, "max_in_cpu": 0},
                                      "offload_optimizer": {"device": "nvme", "nvme_path": folder,
                                                            "max_in_cpu": 0}},
                "aio": {"block_size": 131072, "queue_depth": 4, "intra_op_parallelism": 1,
                        "tuned": {"device": "/dev/elsewhere", "filesystem": "ext4", "read_gb_per_second": 2e-3,
                                  "write_gb_per_second": 2e-3, "mix_gb_per_second": 2e-3}}}))
            done = run("train", "--model", model, "--data", data, "--config", config, "--steps", "2")
            self.assertEqual(done.returncode, 0, done.stderr)
            notes = [line for line in done.stdout.splitlines() if line.startswith("note:")]
            self.assertEqual(len(notes), 1, done.stdout)
            self.assertIn(f"tuned on /dev/elsewhere, but {folder} is on", notes[0])
            steps = [line for line in done.stdout.splitlines() if line.startswith("step ")]
            self.assertEqual(len(steps), 2)
            for line in steps:
                self.assertRegex(line, r" nvme r \d\.\d\d w \d\.\d\d GB/s \([1-9]\d*% of tuned\) ")


class ProgramTest(unittest.TestCase):
    def test_version(self):
        done = run("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^spillway \d+\.\d+\.\d+\n$")

    def test_help_has_examples(self):
        for arguments in ((), ("doctor",), ("estimate",)):
            done = run(*arguments, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("xample", done.stdout)

    def test_usage_errors_are_not_zero(self):
        for arguments in ((), ("trian",), ("estimate",), ("doctor", "--pth", "/")):
            done = run(*arguments)
            self.assertNotEqual(done.returncode, 0, arguments)
            self.assertTrue(done.stderr, arguments)


if __name__ == "__main__":
    unittest.main()
