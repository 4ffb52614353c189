#!/usr/bin/env python3
"""estimate_vs_train.py [--spillway PROGRAM] [--directory DIR] [--rounds N] [--steps N] [--mb-s N,N] [--quick]

What `spillway estimate` foretells against what `spillway train` then does: seconds, bytes read and written, memory and
space on NVMe, for several places of the states and batches. The drive is a loop device whose speed the kernel limits
(blkio, cgroup v1), so that its speed is known; `estimate` measures this CPU itself, right before each run. Prints
Markdown. Needs root; about 12 minutes a round on 2 cores, --quick one minute in all. Exits with 1 when a run fails or a
target is missed: bytes, memory and space within 5%, seconds within 15% (not with --quick, nor where something else uses
the machine: a load above 1 at the start); 77: cannot be run here."""

import json
import os
import re
import statistics
import subprocess
import sys

from throttled_training import WARM_UP, ZERO, options_of, parse, run_bench
from train_runs import describe, gpt, parameters, print_card, write_text

LARGE, SMALL = gpt(8, 512, 8, 256), gpt(2, 256, 4, 64)
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# How far off what is foretold may be.
TARGETS = {"seconds": 0.15, "read": 0.05, "written": 0.05, "memory": 0.05, "NVMe space": 0.05}
PHASES = ("forward", "backward", "update")


def write_inputs(folder, states, model):
    """The model, a text, and a configuration whose swap files go to `states`."""
    write_text(folder / "words.txt")
    (folder / "model.json").write_text(json.dumps(model), encoding="utf-8")
    offload = {"device": "none", "nvme_path": str(states)}
    spilled = {"nvme_path": str(states)}
    config = {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2, "bf16": {"enabled": True},
              "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}, "gradient_clipping": 0,
              "activation_checkpointing": spilled,
              "zero_optimization": {"stage": 3, "offload_param": offload, "offload_optimizer": offload,
                                    "offload_gradients": spilled}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def settings(param, optimizer, micro, accumulation, cached=0.0, spilled="cpu"):
    """`cached`: share of the optimizer states; `spilled`: where gradients and activations wait."""
    order = "backward" if (param, optimizer, spilled) == ("nvme", "nvme", "cpu") else "auto"
    return {"cached": cached, f"{ZERO}offload_optimizer.update_order": order,
            f"{ZERO}offload_param.device": param, f"{ZERO}offload_optimizer.device": optimizer,
            f"{ZERO}offload_param.max_in_cpu": 0, f"{ZERO}offload_gradients.device": spilled,
            "activation_checkpointing.device": "nvme" if spilled == "nvme" else "none",
            "train_micro_batch_size_per_gpu": micro, "gradient_accumulation_steps": accumulation}


CASES = {"none": settings("none", "none", 4, 2),
         "cpu": settings("cpu", "cpu", 4, 2),
         "optimizer on NVMe": settings("none", "nvme", 4, 2),
         "all on NVMe": settings("nvme", "nvme", 4, 2),
         "all on NVMe, half cached": settings("nvme", "nvme", 4, 2, cached=0.5),
         "all on NVMe, batch of 32": settings("nvme", "nvme", 4, 8),
         "gradients and activations too, batch of 32": settings("nvme", "nvme", 4, 8, spilled="nvme")}
QUICK = ("cpu", "gradients and activations too, batch of 32")


def size_of(text):
    """"1.5 MiB" in bytes; "-" is none."""
    number, unit = (text + " B").split()[:2]
    return 0 if number == "-" else float(number) * UNITS[unit]


def space_of(text):
    """Bytes on NVMe of the table that `train` prints at its end, whose last column is storage."""
    table = text[text.index("held by this rank"):].split("\n\n")[0]
    return sum(size_of(re.split(r"  +", line.strip())[-1]) for line in table.splitlines()[1:])


def off(told, done):
    """By which share of what was done."""
    return abs(told - done) / done if done else float(told > 0)


class Bench:
    def __init__(self, options, disks, folder):
        self.options, self.disks, self.folder = options, disks, folder
        self.model = SMALL if options.quick else LARGE
        write_inputs(folder, disks.disks[0].path, self.model)

    def command(self, name, case, *more):
        case = dict(case)
        case[f"{ZERO}offload_optimizer.max_in_cpu"] = int(case.pop("cached") * parameters(self.model))
        chosen = [word for key, value in case.items() for word in ("--set", f"{key}={value}")]
        return [str(word) for word in (self.options.spillway, name, "--model", self.folder / "model.json",
                                       "--config", self.folder / "config.json", *chosen, *more)]

    def estimate(self, case, mb_s):
        """Figures by the names of TARGETS, and which resource is the limit."""
        # The kernel limits each direction by itself: a mix moves twice as much.
        speeds = ("--read-gb-s", mb_s / 1e3, "--write-gb-s", mb_s / 1e3, "--mix-gb-s", 2 * mb_s / 1e3)
        told = subprocess.run(self.command("estimate", case, "--json", *speeds), capture_output=True, text=True,
                              check=False)
        if told.returncode != 0:
            raise OSError(told.stderr.strip())
        told = json.loads(told.stdout)
        held, traffic = told["held"]["total"], told["nvme_per_step"]
        return {"seconds": told["time_per_step"]["seconds"], "limit": told["time_per_step"]["limit"],
                "read": sum(traffic[f"{phase}_read_bytes"] for phase in PHASES),
                "written": sum(traffic[f"{phase}_written_bytes"] for phase in PHASES),
                "memory": held["pinned_bytes"] + held["ram_bytes"] + told["program_bytes"],
                "NVMe space": held["nvme_bytes"]}

    def train(self, case):
        metrics = self.folder / "run.jsonl"
        text = self.disks.run(self.command("train", case, "--data", self.folder / "words.txt", "--steps",
                                           WARM_UP + self.options.steps, "--metrics", metrics))
        peak = re.search(r"peak memory +([\d.]+ \w+)", text)
        steps = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()][WARM_UP:]
        # A tile may be told with the step after the one that moved it: the mean has them all.
        return {"each": [step["seconds"] for step in steps],
                "seconds": statistics.median(step["seconds"] for step in steps),
                "read": statistics.mean(step["nvme_read_bytes"] for step in steps),
                "written": statistics.mean(step["nvme_written_bytes"] for step in steps),
                "memory": size_of(peak[1]), "NVMe space": space_of(text)}

    def compare(self, name, mb_s):
        """Measures a case, prints its line; how far each figure is off, and the repetitions."""
        told, done = [], []
        for _ in range(self.options.rounds):
            told.append(self.estimate(CASES[name], mb_s))
            done.append(self.train(CASES[name]))
        medians = {figure: [statistics.median(run[figure] for run in runs) for runs in (told, done)]
                   for figure in TARGETS}
        foretold, seconds = medians["seconds"]
        cells = [name, str(mb_s), f"{seconds:.3f} ({foretold:.3f})", f"{foretold / seconds:.2f}", told[0]["limit"],
                 *(f"{b / 2**20:.1f} ({a / 2**20:.1f})" for a, b in list(medians.values())[1:])]
        print(f"| {' | '.join(cells)} |", flush=True)
        repetitions = f"- {name} at {mb_s} MB/s: " + " | ".join(
            " ".join(f"{s:.3f}" for s in run["each"]) + f" ({one['seconds']:.3f})" for one, run in zip(told, done))
        return {figure: off(*pair) for figure, pair in medians.items()}, repetitions


def measure(options, folder, disks):
    """Prints the table and what came of the targets; whether all that count were met."""
    bench = Bench(options, disks, folder)
    load = os.getloadavg()[0]
    print_card("Estimated and trained",
               f"{describe(bench.model)}, bf16, AdamW, context {bench.model['n_positions']}",
               f"{options.rounds} rounds, {options.steps} steps a run after {WARM_UP} of warm-up; max_in_cpu 0 unless "
               "half; gradient_clipping 0; all on NVMe: update_order backward; measured (foretold), MiB but for "
               "seconds")
    print("| states | drive MB/s each way | s a step | foretold / measured | foretold limit | read a step | written | "
          "peak memory | NVMe space |\n|---|---|---|---|---|---|---|---|---|")
    worst, repetitions = dict.fromkeys(TARGETS, 0.0), []
    for mb_s in options.mb_s:
        disks.limit([mb_s])
        for name in QUICK if options.quick else CASES:
            if "NVMe" not in name and mb_s != options.mb_s[0]:
                continue
            how_far, line = bench.compare(name, mb_s)
            worst = {figure: max(worst[figure], how_far[figure]) for figure in TARGETS}
            repetitions.append(line)
    print("\n| figure | off by at most | target |\n|---|---|---|")
    for figure, target in TARGETS.items():
        missed = " **missed**" if worst[figure] > target else ""
        print(f"| {figure} | {worst[figure]:.1%}{missed} | {target:.0%} |")
    print(f"\nLoad average before and after: {load:.1f} and {os.getloadavg()[0]:.1f}.\n\n"
          "Seconds of each counted step (foretold right before), a run between bars:\n")
    print("\n".join(repetitions))
    counts = [figure for figure in TARGETS if figure != "seconds" or (load <= 1 and not options.quick)]
    # A small model's memory is the program's own, of which nothing is promised.
    return all(worst[figure] <= TARGETS[figure] for figure in counts if figure != "memory" or not options.quick)


def parse_options():
    parser = options_of(__doc__, rounds=3, steps=3)
    parser.add_argument("--mb-s", type=lambda text: [int(one) for one in text.split(",")], default=[400, 150],
                        help="the drive's rates (default: 400,150)")
    options = parse(parser)
    if min(options.mb_s) < 1:
        parser.error("--mb-s is at least 1")
    if options.quick:
        options.mb_s = [400]
    return options


def main():
    options = parse_options()
    return run_bench("estimate_vs_train", options, [SMALL if options.quick else LARGE], lambda: None,
                     lambda folder, disks: measure(options, folder, disks), bytes_a_parameter=35)


if __name__ == "__main__":
    sys.exit(main())
