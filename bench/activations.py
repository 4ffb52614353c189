#!/usr/bin/env python3
"""What it costs to let activations and gradients wait in page-locked RAM or on NVMe, and what memory it saves.

activations.py [--rounds N] [--steps N] [--mb-per-second N] [--batch N] [--directory DIR] [--quick]

The states are in memory; activations between units (activation_checkpointing.device none, cpu, nvme) and gradients
(offload_gradients.device cpu, nvme) wait elsewhere, on a loop device whose speed the kernel limits. Bytes are set
against theory: every boundary but the last one's is written once and read once a step, and so is every gradient.
Perfect streaming gives max(computing, I/O). Losses must be the same to the last bit. Prints Markdown.

Needs root and cgroup v1; about 6 minutes a round on 2 cores, --quick half a minute in all. Exit code 1: a run failed,
losses differ in a bit or bytes are more than 5% off theory; 77: cannot be run here."""

import statistics
import sys

from throttled_training import WARM_UP, ZERO, options_of, parse, run_bench, seconds_of
from train_runs import (MIB, RunFailed, Training, describe, each_round, gpt, median, parameters, print_card,
                        print_repetitions, print_table, ratios, spread)

LARGE, SMALL = gpt(8, 512, 8, 256), gpt(3, 256, 4, 64)
MICRO_BATCH = 4
NEAR = 0.05
# name: (where activations wait, where gradients do)
MODES = {"in memory": ("none", "cpu"), "activations in RAM": ("cpu", "cpu"), "activations on NVMe": ("nvme", "cpu"),
         "gradients on NVMe": ("none", "nvme"), "both on NVMe": ("nvme", "nvme")}


def settings_of(mode, batch):
    activations, gradients = MODES[mode]
    return {"activation_checkpointing.device": activations, f"{ZERO}offload_gradients.device": gradients,
            "gradient_accumulation_steps": batch // MICRO_BATCH}


def boundary_bytes(model, batch):
    """Of one boundary between two units."""
    return batch * model["n_positions"] * model["n_embd"] * 2


def theory(mode, model, batch):
    """Bytes each way in a step: the boundaries behind all units but the last two, in bf16, and gradients in fp32."""
    activations, gradients = MODES[mode]
    return ((activations == "nvme") * model["n_layer"] * boundary_bytes(model, batch)
            + (gradients == "nvme") * 4 * parameters(model))


def moved(runs, way):
    return median(runs, WARM_UP, lambda step: step[f"nvme_{way}_bytes"])


class Streaming:
    def __init__(self, options, disks, folder):
        self.options, self.disks = options, disks
        path = {"nvme_path": str(disks.disks[0].path)}
        config = {"train_micro_batch_size_per_gpu": MICRO_BATCH, "bf16": {"enabled": True},
                  "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}, "activation_checkpointing": path,
                  "zero_optimization": {"stage": 3, "offload_gradients": path}}
        self.training = Training(options.spillway, folder, options.model, config)
        self.runs = {mode: [] for mode in MODES}

    def measure(self):
        self.disks.limit([self.options.mb_per_second])
        for number in range(self.options.rounds):
            for mode, runs in self.runs.items():
                runs.append(self.training.run(WARM_UP + self.options.steps, self.options.model["n_positions"],
                                              settings_of(mode, self.options.batch), preexec_fn=self.disks.enter))
                if runs[-1]["bits"] != self.runs["in memory"][0]["bits"]:
                    raise RunFailed(f"{mode}: trained with other bits than in memory")
            print(f"activations: round {number + 1} of {self.options.rounds}", file=sys.stderr, flush=True)

    def row(self, mode):
        runs, model = self.runs[mode], self.options.model
        alone = each_round(self.runs["in memory"], WARM_UP, seconds_of)
        each = each_round(runs, WARM_UP, seconds_of)
        ways = [moved(runs, way) for way in ("read", "written")]
        wanted = theory(mode, model, self.options.batch)
        if any(abs(way - wanted) > NEAR * wanted for way in ways):
            raise RunFailed(f"{mode}: {ways[0]:.0f} bytes read and {ways[1]:.0f} written, {wanted} expected each way")
        io_alone = max(ways) / (self.options.mb_per_second * 1e6)
        peaks = [statistics.median(run["peak_bytes"] for run in self.runs[name]) for name in (mode, "in memory")]
        boundary = boundary_bytes(model, self.options.batch)
        return [mode, f"{statistics.median(each):.3f}", f"{io_alone:.3f}", spread(ratios(each, alone)),
                spread(ratios(each, [max(seconds, io_alone) for seconds in alone])),
                f"{median(runs, WARM_UP, lambda step: step['io_wait_seconds']):.3f}",
                *(f"{way / 1e6:.1f} ({wanted / 1e6:.1f})" for way in ways), f"{peaks[0] / MIB:.0f}",
                f"{(peaks[0] - peaks[1]) / boundary:+.1f}"]

    def report(self):
        print_table(["gradients and activations", "s a step", "I/O alone s", "of in memory", "of max(computing, I/O)",
                     "waiting s", "read MB (theory)", "written MB (theory)", "peak memory MiB", "in boundaries"],
                    [self.row(mode) for mode in MODES])
        model = self.options.model
        print("Computing: the step with all in memory. I/O alone: the busier direction's bytes at the drive's rate. In "
              "boundaries: the peak against in memory's, in activations of "
              f"{boundary_bytes(model, self.options.batch) / MIB:.1f} MiB between two units, of which "
              f"{model['n_layer'] + 1} wait; gradients are {4 * parameters(model) / MIB:.0f} MiB. In parentheses: "
              "smallest and largest round. Losses and gradient norms of all runs were the same to the last bit.\n\n"
              "Seconds of every counted step, a run between bars:\n")
        print_repetitions(self.runs, WARM_UP, seconds_of)


def parse_options():
    parser = options_of(__doc__, rounds=3, steps=3)
    parser.add_argument("--mb-per-second", default=100.0, type=float,
                        help="of the drive, reads and writes alike (default: %(default)g)")
    parser.add_argument("--batch", default=32, type=int, help=f"samples a step, in micro-batches of {MICRO_BATCH}")
    options = parse(parser)
    if options.mb_per_second <= 0:
        parser.error("--mb-per-second is above 0")
    if options.batch < MICRO_BATCH or options.batch % MICRO_BATCH != 0:
        parser.error(f"--batch is a multiple of {MICRO_BATCH}")
    options.model = SMALL if options.quick else LARGE
    return options


def main():
    options = parse_options()

    def print_head():
        tokens = options.batch * options.model["n_positions"]
        print_card("Activations and gradients that wait elsewhere",
                   f"{describe(options.model)}, bf16, AdamW; a step: {options.batch} samples in micro-batches of "
                   f"{MICRO_BATCH}, {tokens} tokens; the states in memory",
                   f"A drive of {options.mb_per_second:g} MB/s, reads and writes alike (loop device, blkio.throttle)",
                   f"{options.rounds} rounds; {options.steps} steps a run counted after {WARM_UP} of warm-up")

    def measure(folder, disks):
        streaming = Streaming(options, disks, folder)
        streaming.measure()
        streaming.report()

    return run_bench("activations", options, [options.model], print_head, measure)


if __name__ == "__main__":
    sys.exit(main())
