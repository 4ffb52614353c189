#!/usr/bin/env python3
"""train_step.py [--spillway PROGRAM] [--directory DIR] [--rounds N] [--steps N]

A train step with the states in memory against the same step with them on NVMe. Runs `spillway train` in each mode in
turn, round after round, so that what disturbs the machine disturbs all of them; takes the steps after the warm-up
from the metrics and prints Markdown. Exits with 1 when a run fails or when two modes' losses differ in a bit."""

import argparse
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = {"n_layer": 8, "n_embd": 512, "n_head": 8, "n_positions": 256, "vocab_size": 256}
MICRO_BATCH, ACCUMULATION, CONTEXT = 4, 2, 256
WARM_UP = 2  # steps of each run that are not counted: files are written the first time, memory is touched
WEIGHT, MOMENTS = 2, 10  # bytes a parameter in bf16 training: weight; its low half and two moments
# name: (device of the parameters, device of the optimizer states)
MODES = {"none": ("none", "none"), "cpu": ("cpu", "cpu"), "parameters on NVMe": ("nvme", "none"),
         "optimizer on NVMe": ("none", "nvme"), "all on NVMe": ("nvme", "nvme")}


def parameters():
    width = MODEL["n_embd"]
    block = 12 * width * width + 13 * width
    return (MODEL["vocab_size"] + MODEL["n_positions"]) * width + MODEL["n_layer"] * block + 2 * width


def theory(mode):
    """Bytes read and written per step, without padding."""
    weights, states = (device == "nvme" for device in MODES[mode])
    moved = WEIGHT * weights + MOMENTS * states
    return parameters() * (moved + 2 * WEIGHT * weights), parameters() * moved


def write_inputs(directory):
    words = [bytes(random.Random(i).choices(b"abcdefghijklmnopqrstuvwxyz", k=2 + i % 7)) for i in range(500)]
    text = b" ".join(random.Random(1).choices(words, k=100_000))
    (directory / "words.txt").write_bytes(text)
    (directory / "model.json").write_text(json.dumps(MODEL))
    config = {
        "train_micro_batch_size_per_gpu": MICRO_BATCH,
        "gradient_accumulation_steps": ACCUMULATION,
        "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
        "zero_optimization": {
            "stage": 3,
            "offload_param": {"device": "none", "nvme_path": str(directory / "states"), "max_in_cpu": 0},
            "offload_optimizer": {"device": "none", "nvme_path": str(directory / "states"), "max_in_cpu": 0}}}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "states").mkdir()


def run(program, directory, mode, steps):
    """One run: its counted steps, its peak memory in bytes, seconds a step of computing."""
    metrics = directory / "run.jsonl"
    command = [program, "train", "--model", directory / "model.json", "--data", directory / "words.txt",
               "--config", directory / "config.json", "--steps", steps + WARM_UP, "--metrics", metrics]
    for key, device in zip(("param", "optimizer"), MODES[mode]):
        command += ["--set", f"zero_optimization.offload_{key}.device={device}"]
    child = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if child.returncode != 0:
        sys.exit(f"train_step: {mode}: {child.stderr.strip()}")
    peak = re.search(r"peak memory +([\d.]+) (\w+)", child.stdout)
    computing = re.search(r"computing ([\d.]+) s", child.stdout)
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {"steps": lines[WARM_UP:], "bits": [(line["loss"], line["grad_norm"]) for line in lines],
            "peak": float(peak[1]) * units[peak[2]], "computing": float(computing[1])}


def output_of(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip().split("\n")[0] if result.returncode == 0 else "unknown"


def card(directory, rounds, steps):
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    disk = output_of("findmnt", "-no", "FSTYPE,SOURCE", "-T", str(directory))
    load = os.getloadavg()[0]
    print("# A train step, states in memory and on NVMe\n")
    print(f"- CPU: {cpu[1] if cpu else 'unknown'}, {os.cpu_count()} cores; {int(memory[1]) >> 20} GiB of memory; "
          f"Linux {platform.release()}")
    commit = output_of("git", "-C", str(ROOT), "describe", "--always")
    print(f"- Directory: {' on '.join(disk.split())}; Spillway {commit}")
    print(f"- Load average before the run: {load:.1f} on {os.cpu_count()} cores"
          + ("; **the machine was busy with other work: read the ratios**" if load > 1 else ""))
    print(f"- GPT of {parameters() / 1e6:.1f} M parameters ({MODEL['n_layer']} layers, width {MODEL['n_embd']}), bf16, "
          f"AdamW; a step: micro-batch {MICRO_BATCH} x accumulation {ACCUMULATION} x {CONTEXT} tokens = "
          f"{MICRO_BATCH * ACCUMULATION * CONTEXT} tokens")
    print(f"- {rounds} rounds, in each the modes in turn; {steps} steps a run counted after {WARM_UP} of warm-up; "
          "nothing cached; GB are 10^9 bytes\n", flush=True)


def median(runs, key):
    return statistics.median(step[key] for run_ in runs for step in run_["steps"])


def ratio(runs, base):
    """Median over rounds of the ratio of the two runs' median steps."""
    pairs = zip(runs, base)
    return statistics.median(median([a], "seconds") / median([b], "seconds") for a, b in pairs)


def table(results):
    print("| states | s a step | of none | computing s | I/O wait s | NVMe read MB (theory) | written MB (theory) | "
          "moved GB/s | peak memory MB |\n|---|---|---|---|---|---|---|---|---|")
    for mode, runs in results.items():
        seconds, waiting = median(runs, "seconds"), median(runs, "io_wait_seconds")
        computing = statistics.median(run_["computing"] for run_ in runs)
        moved = [runs[0]["steps"][-1][f"nvme_{way}_bytes"] for way in ("read", "written")]
        cells = [mode, f"{seconds:.3f}", f"{ratio(runs, results['none']):.2f}", f"{computing:.3f}", f"{waiting:.3f}",
                 *(f"{really / 1e6:.1f} ({wanted / 1e6:.1f})" for really, wanted in zip(moved, theory(mode))),
                 f"{sum(moved) / seconds / 1e9:.2f}", f"{max(run_['peak'] for run_ in runs) / 1e6:.0f}"]
        print(f"| {' | '.join(cells)} |")
    print(f"\nLoad average after the run: {os.getloadavg()[0]:.1f} (the bench's own two threads included).")
    print("\nSeconds, waiting, bytes: medians of all counted steps; \"of none\": median of the rounds' own ratios. "
          "Computing: of a run's mean step, warm-up included. Theory has no padding, and counts a read for forward and "
          "one for backward of every unit; the head's serves both. Losses and gradient norms of all modes and rounds "
          "were the same to the last bit.\n\nSeconds of each counted step, a run between bars:\n")
    for mode, runs in results.items():
        print(f"- {mode}: " + " | ".join(" ".join(f"{s['seconds']:.3f}" for s in run_["steps"]) for run_ in runs))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spillway", default=ROOT / "build/release/bin/spillway", type=Path)
    parser.add_argument("--directory", default=".", help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    results = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        directory = Path(scratch)
        write_inputs(directory)
        card(directory, arguments.rounds, arguments.steps)
        for _ in range(arguments.rounds):
            for mode, runs in results.items():
                runs.append(run(arguments.spillway, directory, mode, arguments.steps))
                if runs[-1]["bits"] != results["none"][0]["bits"]:
                    sys.exit(f"train_step: {mode} trained with other bits than none")
    table(results)


if __name__ == "__main__":
    main()
