#!/usr/bin/env python3
"""A train step with the states in memory against the same step with them on NVMe.

train_step.py [--spillway PROGRAM] [--directory DIR] [--rounds N] [--steps N]

Runs `spillway train` in each mode in turn, round after round, so that what disturbs the machine disturbs all of them;
takes the steps after the warm-up from the metrics and prints Markdown. Nothing is cached. About 4 minutes on 2 cores.
Exit code 1: a run fails, or two modes' losses differ in a bit."""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from train_runs import (SPILLWAY, RunFailed, Training, describe, disk_of, each_round, gpt, median, parameters,
                        print_card, print_repetitions, print_table, ratios)

MODEL = gpt(8, 512, 8, 256)
MICRO_BATCH, ACCUMULATION, CONTEXT = 4, 2, 256
WARM_UP = 2  # steps of each run that are not counted: files are written the first time, memory is touched
WEIGHT, MOMENTS = 2, 10  # bytes a parameter in bf16 training: weight; its low half and two moments
# name: (device of the parameters, device of the optimizer states)
MODES = {"none": ("none", "none"), "cpu": ("cpu", "cpu"), "parameters on NVMe": ("nvme", "none"),
         "optimizer on NVMe": ("none", "nvme"), "all on NVMe": ("nvme", "nvme")}


def theory(mode):
    """Bytes read and written per step, without padding."""
    weights, states = (device == "nvme" for device in MODES[mode])
    moved = WEIGHT * weights + MOMENTS * states
    return parameters(MODEL) * (moved + 2 * WEIGHT * weights), parameters(MODEL) * moved


def settings_of(mode):
    settings = {}
    for section, device in zip(("offload_param", "offload_optimizer"), MODES[mode]):
        settings[f"zero_optimization.{section}.device"] = device
        if device == "nvme":
            settings[f"zero_optimization.{section}.max_in_cpu"] = 0
    return settings


def of(key):
    return lambda step: step[key]


def report(results):
    none = each_round(results["none"], WARM_UP, of("seconds"))
    rows = []
    for mode, runs in results.items():
        seconds = median(runs, WARM_UP, of("seconds"))
        of_none = statistics.median(ratios(each_round(runs, WARM_UP, of("seconds")), none))
        moved = [median(runs, WARM_UP, of(f"nvme_{way}_bytes")) for way in ("read", "written")]
        rows.append([mode, f"{seconds:.3f}", f"{of_none:.2f}", f"{median(runs, WARM_UP, of('compute_seconds')):.3f}",
                     f"{median(runs, WARM_UP, of('io_wait_seconds')):.3f}",
                     *(f"{really / 1e6:.1f} ({wanted / 1e6:.1f})" for really, wanted in zip(moved, theory(mode))),
                     f"{sum(moved) / seconds / 1e9:.2f}", f"{max(run['peak_bytes'] for run in runs) / 1e6:.0f}"])
    print_table(["states", "s a step", "of none", "computing s", "I/O wait s", "NVMe read MB (theory)",
                 "written MB (theory)", "moved GB/s", "peak memory MB"], rows)
    print(f"Load average after the run: {os.getloadavg()[0]:.1f} (the bench's own two threads included).")
    print("\nSeconds, waiting, computing, bytes: medians of all counted steps; \"of none\": median of the rounds' own "
          "ratios. Theory has no padding, and counts a read for forward and one for backward of every unit; the head's "
          "serves both. Losses and gradient norms of all modes and rounds were the same to the last bit.\n\n"
          "Seconds of each counted step, a run between bars:\n")
    print_repetitions(results, WARM_UP, of("seconds"))


def measure(options, folder):
    states = folder / "states"
    states.mkdir()
    offload = {"device": "none", "nvme_path": str(states)}
    training = Training(options.spillway, folder, MODEL, {
        "gradient_clipping": 0,
        "train_micro_batch_size_per_gpu": MICRO_BATCH, "gradient_accumulation_steps": ACCUMULATION,
        "bf16": {"enabled": True}, "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
        "zero_optimization": {"stage": 3, "offload_param": offload, "offload_optimizer": offload}})
    results = {mode: [] for mode in MODES}
    for _ in range(options.rounds):
        for mode, runs in results.items():
            runs.append(training.run(WARM_UP + options.steps, CONTEXT, settings_of(mode)))
            if runs[-1]["bits"] != results["none"][0]["bits"]:
                raise RunFailed(f"{mode} trained with other bits than none")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage=argparse.SUPPRESS)
    parser.add_argument("--spillway", default=SPILLWAY, type=Path, help="the program (default: build/release's)")
    parser.add_argument("--directory", default=".", help="on the disk to measure (default: here)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="counted steps of a run (default: %(default)s)")
    options = parser.parse_args()
    if min(options.rounds, options.steps) < 1:
        parser.error("--rounds and --steps are at least 1")
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        print_card("A train step, states in memory and on NVMe",
                   f"Directory: {disk_of(scratch)}",
                   f"{describe(MODEL)}, bf16, AdamW; a step: micro-batch {MICRO_BATCH} x accumulation {ACCUMULATION} x "
                   f"{CONTEXT} tokens = {MICRO_BATCH * ACCUMULATION * CONTEXT} tokens",
                   f"{options.rounds} rounds, in each the modes in turn; {options.steps} steps a run counted after "
                   f"{WARM_UP} of warm-up; nothing cached or clipped; GB are 10^9 bytes")
        try:
            report(measure(options, Path(scratch)))
        except RunFailed as reason:
            print(f"train_step: {reason}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
