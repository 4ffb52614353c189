"""What the end-to-end tests share: a scratch folder with a tiny model and a text, and the real program run on them.

Each file of tests is run as FILE PROGRAM [CASE ...] (CTest runs one case at a time); a skip prints its reason and
ends with 77."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from cases import main
from free_port import free_port

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else ""
TIMEOUT_S = 120
ZERO = "zero_optimization."
TINY = {"n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 256}
# About 6.9 M parameters in four units: tiles of the largest are well above 1 MiB.
SMALL = {"n_layer": 2, "n_embd": 512, "n_head": 8, "n_positions": 64, "vocab_size": 1024}
CONFIG = {
    "train_batch_size": 4,
    "train_micro_batch_size_per_gpu": 2,
    "bf16": {"enabled": True},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "weight_decay": 0.1}},
}
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in RANKS}


def words(count, seed=7):
    """A text with something to learn: words of a small vocabulary, drawn with a fixed seed."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 7))) for _ in range(50)]
    return " ".join(draw.choices(vocabulary, k=count)) + "\n"


def environments_of_ranks(count):
    """One for each rank on this machine."""
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(free_port())}
    return [ENVIRONMENT | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def two_ranks():
    return environments_of_ranks(2)


class EndToEndTest(unittest.TestCase):
    model = TINY

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="spillway-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.swap = self.folder / "swap"
        self.swap.mkdir()
        self.config = self.write("config.json", json.dumps(CONFIG))
        self.model_file = self.write("model.json", json.dumps(self.model))
        self.text = self.write("text.txt", words(5000))

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def offload(self, param, optimizer, path=None):
        """The options that put the states there."""
        options = []
        for section, device in (("offload_param", param), ("offload_optimizer", optimizer)):
            options += ["--set", f"{ZERO}{section}.device={device}"]
            if device == "nvme":
                options += ["--set", f"{ZERO}{section}.nvme_path={path or self.swap}",
                            "--set", f"{ZERO}{section}.max_in_cpu=0"]
        return options

    def command(self, *options, steps=4):
        """A run of `train`; options given twice: the test's come last and hold."""
        given = {option for option in options if str(option).startswith("--")}
        standard = {"--model": self.model_file, "--data": self.text, "--config": self.config, "--seed": 1}
        command = [PROGRAM, "train", "--steps", str(steps)]
        for name, value in standard.items():
            if name not in given:
                command += [name, str(value)]
        return command + [str(option) for option in options]

    def start(self, *options, steps=4, environment=None, **popen):
        """Starts a run; it is ended with the test."""
        run = subprocess.Popen(self.command(*options, steps=steps), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               encoding="latin-1", env=environment or ENVIRONMENT, **popen)
        self.addCleanup(self.end, run)
        return run

    @staticmethod
    def end(run):
        if run.poll() is None:
            run.send_signal(signal.SIGCONT)
            run.kill()
        run.communicate()

    def finish(self, run, timeout=TIMEOUT_S):
        """Waits for it: what subprocess.run() would have returned."""
        out, err = run.communicate(timeout=timeout)
        return subprocess.CompletedProcess(run.args, run.returncode, out, err)

    def wait_until(self, condition, what, timeout=TIMEOUT_S):
        deadline = time.monotonic() + timeout
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"waited too long for {what}")
            time.sleep(0.01)

    def train(self, *options, steps=4, **popen):
        """Runs to the end, which must be good; the steps' metrics."""
        metrics = self.folder / "metrics.jsonl"
        done = self.finish(self.start(*options, "--metrics", metrics, steps=steps, **popen))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.left_over(), [])
        lines = read_metrics(metrics)
        self.assertEqual([line["step"] for line in lines], list(range(1, steps + 1)))
        return lines

    def left_over(self):
        return sorted(str(path.relative_to(self.swap)) for path in self.swap.rglob("*"))

    def assert_refused(self, done, *texts, code=1):
        """Ended by itself with a reason: one line (and one more a problem), nothing left in the swap directory."""
        self.assertEqual(done.returncode, code, f"stdout: {done.stdout}\nstderr: {done.stderr}")
        lines = done.stderr.splitlines()
        self.assertTrue(lines, "no reason is given")
        self.assertTrue(lines[0].startswith("spillway train: "), done.stderr)
        self.assertTrue(all(line.startswith("  ") for line in lines[1:]), done.stderr)
        for text in texts:
            self.assertIn(text, done.stderr)
        self.assertEqual(self.left_over(), [])


def read_metrics(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def bits(metrics):
    """What must not depend on where the states live. Printed floats read back to the same bits."""
    return [(line["loss"].hex(), line["grad_norm"].hex(), line["lr"].hex()) for line in metrics]
