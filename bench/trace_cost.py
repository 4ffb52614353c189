#!/usr/bin/env python3
"""trace_cost.py [--spillway PROGRAM] [--directory DIR] [--rounds N] [--steps N]

What `--trace` costs a training run, in CPU seconds. Two ways: the CPU time of whole runs with and without it, taken
in turn (others' work on the machine moves it by more than the trace does); and what a span costs by itself
(bench/trace_span) times the spans of a step, of the CPU seconds of a step. Prints Markdown. Exits with 1 when a run
fails, when the losses differ in a bit, or when the second is not below 1%."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from estimate_vs_train import LARGE as MODEL, write_inputs
from train_runs import SPILLWAY, describe

PROMISE = 0.01


def run(program, directory, steps, trace):
    """CPU seconds of one run, its losses, and what its trace holds."""
    metrics = directory / "run.jsonl"
    command = [program, "train", "--model", directory / "model.json", "--data", directory / "words.txt",
               "--config", directory / "config.json", "--steps", steps, "--metrics", metrics,
               "--set", "zero_optimization.offload_param.device=nvme",
               "--set", "zero_optimization.offload_optimizer.device=nvme",
               "--set", "zero_optimization.offload_param.max_in_cpu=0",
               "--set", "zero_optimization.offload_optimizer.max_in_cpu=0"]
    if trace:
        command += ["--trace", directory / "trace.json"]
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"trace_cost: {message.decode().strip()}")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return usage.ru_utime + usage.ru_stime, [(line["loss"], line["grad_norm"]) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spillway", default=SPILLWAY, type=Path)
    parser.add_argument("--trace-span", type=Path, help="bench/trace_span of the same build")
    parser.add_argument("--directory", default=".", help="on a disk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    span_program = arguments.trace_span or arguments.spillway.parent / "trace_span"
    cost = subprocess.run([span_program], capture_output=True, text=True, check=True).stdout.split()
    ns = dict(zip(cost[::2], map(float, cost[1::2])))
    without, with_trace, losses = [], [], []
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        directory = Path(scratch)
        states = directory / "states"
        states.mkdir()
        write_inputs(directory, states, MODEL)
        for _ in range(arguments.rounds):
            for trace, seconds in ((False, without), (True, with_trace)):
                cpu, bits = run(arguments.spillway, directory, arguments.steps, trace)
                seconds.append(cpu)
                losses.append(bits)
        told = subprocess.run([arguments.spillway, "trace", "--json", directory / "trace.json"], capture_output=True,
                              text=True, check=True)
    if any(bits != losses[0] for bits in losses):
        sys.exit("trace_cost: a trace changed the losses")
    summary = json.loads(told.stdout)
    spans = sum(lane["spans"] for name, lane in summary["lanes"].items() if name != "read or write") / arguments.steps
    a_step = statistics.median(without) / arguments.steps
    share = spans * ns["recording"] * 1e-9 / a_step
    print("# What a trace costs\n")
    print(f"- {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; "
          f"{describe(MODEL)}, all on NVMe (max_in_cpu 0), "
          f"{arguments.steps} steps a run, {arguments.rounds} rounds, in turn")
    print(f"- a span: {ns['off']:.1f} ns with no trace, {ns['waiting']:.1f} ns outside the steps asked for, "
          f"{ns['recording']:.1f} ns kept (CPU time, medians of 9)")
    print(f"- {spans:.0f} spans a step x {ns['recording']:.1f} ns = {spans * ns['recording'] / 1e6:.3f} ms of "
          f"{a_step:.2f} CPU s a step: **{share:.4%}** (promised: below {PROMISE:.0%})")
    ratios = [b / a for a, b in zip(without, with_trace)]
    print(f"- CPU seconds of whole runs, with / without: median {statistics.median(ratios):.4f} of the rounds'; "
          f"without {' '.join(f'{s:.2f}' for s in without)}; with {' '.join(f'{s:.2f}' for s in with_trace)}")
    print("- losses and gradient norms of all runs were the same to the last bit")
    return 0 if share < PROMISE else 1


if __name__ == "__main__":
    sys.exit(main())
