#!/usr/bin/env python3
"""estimate_vs_train.py [--spillway PROGRAM] [--directory DIR] [--rounds N] [--steps N] [--mb-s N,N]

What `spillway estimate` foretells against what `spillway train` then does: seconds, bytes and memory, for several
places of the states and batches. The drive is a loop device whose speed the kernel limits (blkio, cgroup v1), so that
its speed is known; `estimate` measures this CPU itself, right before each run. Prints Markdown. Needs root. Exits with
1 when a run fails or bytes or memory are off by more than 5%; seconds are reported (promised: 15%, where nothing else
uses the machine); 77: cannot be run here."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from throttled_disks import Disks, why_not
from train_runs import SPILLWAY, describe, gpt, parameters, print_card, write_text

MODEL = gpt(8, 512, 8, 256)
WARM_UP = 2
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
ZERO = "zero_optimization."
SIZE_MIB = 1024


def write_inputs(folder, states):
    """The model, a text, and a configuration whose swap files go to `states`."""
    write_text(folder / "words.txt")
    (folder / "model.json").write_text(json.dumps(MODEL), encoding="utf-8")
    offload = {"device": "none", "nvme_path": str(states)}
    config = {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2, "bf16": {"enabled": True},
              "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
              "zero_optimization": {"stage": 3, "offload_param": offload, "offload_optimizer": offload}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def settings(param, optimizer, micro, accumulation, cached=0):
    return {f"{ZERO}offload_param.device": param, f"{ZERO}offload_optimizer.device": optimizer,
            f"{ZERO}offload_optimizer.max_in_cpu": int(cached * parameters(MODEL)),
            f"{ZERO}offload_param.max_in_cpu": 0,
            "train_micro_batch_size_per_gpu": micro, "gradient_accumulation_steps": accumulation}


CASES = {"none": settings("none", "none", 4, 2),
         "cpu": settings("cpu", "cpu", 4, 2),
         "optimizer on NVMe": settings("none", "nvme", 4, 2),
         "all on NVMe": settings("nvme", "nvme", 4, 2),
         "all on NVMe, half cached": settings("nvme", "nvme", 4, 2, cached=0.5),
         "all on NVMe, batch of 32": settings("nvme", "nvme", 4, 8)}


class Bench:
    def __init__(self, options, disks, folder):
        self.options, self.disks, self.folder = options, disks, folder
        write_inputs(folder, disks.disks[0].path)

    def command(self, name, case, *more):
        chosen = [word for key, value in case.items() for word in ("--set", f"{key}={value}")]
        return [str(word) for word in (self.options.spillway, name, "--model", self.folder / "model.json",
                                       "--config", self.folder / "config.json", *chosen, *more)]

    def estimate(self, case, mb_s):
        # The kernel limits each direction by itself: a mix moves twice as much.
        speeds = ("--read-gb-s", mb_s / 1e3, "--write-gb-s", mb_s / 1e3, "--mix-gb-s", 2 * mb_s / 1e3)
        told = subprocess.run(self.command("estimate", case, "--json", *speeds), capture_output=True, text=True,
                              check=False)
        if told.returncode != 0:
            sys.exit(f"estimate_vs_train: {told.stderr.strip()}")
        return json.loads(told.stdout)

    def train(self, case):
        metrics = self.folder / "run.jsonl"
        text = self.disks.run(self.command("train", case, "--data", self.folder / "words.txt", "--steps",
                                           WARM_UP + self.options.steps, "--metrics", metrics))
        peak = re.search(r"peak memory +([\d.]+) (\w+)", text)
        steps = [json.loads(line) for line in metrics.read_text().splitlines()][WARM_UP:]
        return {"seconds": [step["seconds"] for step in steps], "peak": float(peak[1]) * UNITS[peak[2]],
                "read": steps[-1]["nvme_read_bytes"], "written": steps[-1]["nvme_written_bytes"]}


def foretold_bytes(told):
    traffic = told["nvme_per_step"]
    read = sum(traffic[f"{phase}_read_bytes"] for phase in ("forward", "backward", "update"))
    return read, traffic["update_written_bytes"]


def row(name, mb_s, told, done):
    """The table's line, and how far bytes and memory are off."""
    seconds = statistics.median(s for run in done for s in run["seconds"])
    foretold = statistics.median(one["time_per_step"]["seconds"] for one in told)
    held = told[0]["held"]["total"]
    memory = held["pinned_bytes"] + held["ram_bytes"] + statistics.median(one["program_bytes"] for one in told)
    peak = statistics.median(run["peak"] for run in done)
    pairs = list(zip(foretold_bytes(told[0]), (done[0]["read"], done[0]["written"])))
    off = [abs(a - b) / max(b, 1) for a, b in pairs if a or b] + [abs(memory - peak) / peak]
    cells = [name, str(mb_s), f"{seconds:.3f}", f"{foretold:.3f}", f"{foretold / seconds:.2f}",
             told[0]["time_per_step"]["limit"],
             *(f"{b / 1e6:.1f} ({a / 1e6:.1f})" for a, b in pairs), f"{peak / 2**20:.0f} ({memory / 2**20:.0f})"]
    print(f"| {' | '.join(cells)} |", flush=True)
    return max(off)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spillway", default=SPILLWAY, type=Path)
    parser.add_argument("--directory", default=".", help="for the disk's image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--mb-s", type=lambda text: [int(one) for one in text.split(",")], default=[400, 150])
    options = parser.parse_args()
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        return 77
    worst, repetitions = 0, []
    with Disks(options.directory, 1, SIZE_MIB) as disks, tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        bench = Bench(options, disks, Path(scratch))
        print_card("Estimated and trained",
                   f"{describe(MODEL)}, bf16, AdamW, context {MODEL['n_positions']}",
                   f"{options.rounds} rounds, {options.steps} steps a run after {WARM_UP} of warm-up; max_in_cpu 0 "
                   "unless half; measured (foretold)")
        print("| states | drive MB/s each way | s a step | foretold s | foretold / measured | foretold limit | "
              "read MB a step | written MB | peak memory MiB |\n|---|---|---|---|---|---|---|---|---|")
        for mb_s in options.mb_s:
            disks.limit([mb_s])
            for name, case in CASES.items():
                if "NVMe" not in name and mb_s != options.mb_s[0]:
                    continue
                told, done = [], []
                for _ in range(options.rounds):
                    told.append(bench.estimate(case, mb_s))
                    done.append(bench.train(case))
                worst = max(worst, row(name, mb_s, told, done))
                repetitions.append(f"- {name} at {mb_s} MB/s: " + " | ".join(
                    " ".join(f"{s:.3f}" for s in run["seconds"]) + f" ({one['time_per_step']['seconds']:.3f})"
                    for one, run in zip(told, done)))
    print(f"\nBytes and memory are off by {worst:.1%} at most. Load average after the run: {os.getloadavg()[0]:.1f}.\n")
    print("Seconds of each counted step (foretold right before), a run between bars:\n")
    print("\n".join(repetitions))
    return 0 if worst <= 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
