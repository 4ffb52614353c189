#!/usr/bin/env python3
"""Spillway against DeepSpeed: the optimizer step on NVMe, the CPU's side of a step, the train step, and peak memory.

against_deepspeed.py [--rounds N] [--steps N] [--disk memory|own|both|slow] [--mb-per-s N] [--quick] [--install-only]

Both train the same GPT on the same text: bf16, AdamW, clipping, one rank on the CPU, the same micro-batch and
accumulation, each block checkpointed, parameters in RAM, optimizer states on the same drive. Contenders take turns,
round after round, each in a process of its own, so that what disturbs the machine disturbs all of them. Prints
Markdown: medians, ratios of each round, every repetition.

The first run installs DeepSpeed into a cache folder and compiles its operators there (4 to 15 minutes; needs pip, a
compiler and libaio-dev, which it installs when it is root). The default model has 236 M parameters and takes about
5 minutes a round and disk on 2 cores; --quick has 7 M and takes one minute a round. Memory: 20 GB with --disk memory (a
loop device over memory: a fast disk whose speed does not swing; needs root), 10 GB with --disk own (the file system of
--directory, 6 GB on it). --disk slow is a loop device on it that the kernel slows down to --mb-per-s each way, so that
storage takes most of a step (needs root). Exit code 1: something failed."""

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from deepspeed_environment import DEEPSPEED, DeepSpeed, default_folder
from throttled_disks import Disks, why_not
from throttled_training import exit_code_of
from train_runs import (SPILLWAY, RunFailed, Training, describe, disk_of, each_round, gpt, median, parameters,
                        print_card, print_repetitions, print_table, ratios)

LARGE, SMALL = gpt(12, 1280, 20, 256), gpt(2, 512, 8, 256)
OPTIMIZER = {"type": "AdamW", "params": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}}
WARM_UP = 2  # steps of a run that are not counted: moments and files come into being
OFFLOAD = "zero_optimization.offload_optimizer."
AFTER_BACKWARD = {f"{OFFLOAD}update_order": "after_backward"}
NVME = {f"{OFFLOAD}device": "nvme"}


def contenders(count, sub_group):
    """name: (whose, settings). `count`: of parameters. A pipelined swapper wants buffers for the
    states and gradients of two sub-groups while a third is written, and for new moments in the first step."""
    pipelined = {"pipeline_read": True, "pipeline_write": True, "buffer_count": 14}
    nothing = NVME | {f"{OFFLOAD}max_in_cpu": 0}
    half = NVME | {f"{OFFLOAD}max_in_cpu": count // 2}
    return {
        "DeepSpeed, plain": ("theirs", {"device": "nvme"}, {"sub_group_size": sub_group}),
        "exact": ("ours", nothing | AFTER_BACKWARD),
        "DeepSpeed, pipelined": ("theirs", {"device": "nvme"} | pipelined, {"sub_group_size": sub_group}),
        "half cached": ("ours", half | AFTER_BACKWARD),
        "DeepSpeed, cpu": ("theirs", {"device": "cpu"}, {}),
        "cpu": ("ours", {f"{OFFLOAD}device": "cpu"} | AFTER_BACKWARD),
        "8-bit moments": ("ours", nothing | AFTER_BACKWARD | {"optimizer.params.state_dtype": "int8"}),
        "exact, hidden": ("ours", nothing),
    }


def optimizer_seconds(step):
    """What comes after backward: norm, clipping, update, their I/O; ours with the norms taken during backward, the
    peer's engine.step() without its gradients' way to the drive during backward."""
    return step["parts"]["step"] if "parts" in step else step["optimizer_seconds"]


def whole_seconds(step):
    return step["seconds"]


# What is shown: figure, whose is divided by whose, and what was aimed at.
RATIOS = [(what, figure, f"DeepSpeed, {peer}", ours, target) for what, figure, peers, ours, target in (
    ("optimizer step", optimizer_seconds, ("plain", "pipelined"), "exact", "1.15"),
    ("optimizer step", optimizer_seconds, ("plain", "pipelined"), "half cached", "2.2"),
    ("optimizer step", optimizer_seconds, ("plain", "pipelined"), "8-bit moments", "2.2"),
    ("the CPU's side of a step", optimizer_seconds, ("cpu",), "cpu", "1.3"),
    ("train step", whole_seconds, ("plain", "pipelined"), "exact", ""),
    ("train step", whole_seconds, ("plain", "pipelined"), "exact, hidden", "1.5"),
    ("train step", whole_seconds, ("cpu",), "cpu", "")) for peer in peers]


class Comparison:
    """All contenders on one directory."""

    def __init__(self, options, deepspeed, directory, how):
        """`how`: what starts a run there, for run_watched()."""
        self.options, self.deepspeed, self.folder, self.how = options, deepspeed, Path(directory), how
        self.model = SMALL if options.quick else LARGE
        common = {"train_micro_batch_size_per_gpu": options.micro_batch,
                  "gradient_accumulation_steps": options.accumulation,
                  "gradient_clipping": 1.0, "bf16": {"enabled": True}, "optimizer": OPTIMIZER}
        states = {"offload_optimizer": {"device": "none", "nvme_path": str(self.folder / "states")}}
        self.training = Training(options.spillway, self.folder, self.model,
                                 common | {"zero_optimization": {"stage": 3} | states})
        (self.folder / "states").mkdir()
        self.theirs = common | {"aio": {"block_size": 1 << 20, "queue_depth": 32, "intra_op_parallelism": 1,
                                        "single_submit": False, "overlap_events": True}}
        sub_group = options.sub_group or parameters(self.model) // 4
        self.contenders = {name: contender for name, contender in
                           contenders(parameters(self.model), sub_group).items() if self.wanted(name)}
        self.runs = {name: [] for name in self.contenders}

    def wanted(self, name):
        return not self.options.only or any(part in name for part in self.options.only)

    def run_one(self, whose, *settings):
        steps = WARM_UP + self.options.steps
        if whose == "ours":
            return self.training.run(steps, self.options.context, settings[0], **self.how)
        offload, zero = settings
        config = self.theirs | {"zero_optimization": {"stage": 3} | zero | {
            "offload_optimizer": {"nvme_path": str(self.folder / "theirs")} | offload}}
        run = self.deepspeed.twin(self.folder, config, steps, self.options.context, **self.how)
        shutil.rmtree(self.folder / "theirs", ignore_errors=True)
        return run

    def measure(self):
        names = list(self.contenders)
        for number in range(self.options.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                begin = time.monotonic()
                self.runs[name].append(self.run_one(*self.contenders[name]))
                print(f"round {number + 1}: {name}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        exact = [self.runs[name] for name in ("exact", "half cached", "cpu", "exact, hidden") if self.runs.get(name)]
        if len({str(run["bits"]) for runs in exact for run in runs}) > 1:
            raise RunFailed("losses differ between runs that are to be the same to the last bit")

    def report(self):
        rows = []
        count = parameters(self.model)
        for name, runs in self.runs.items():
            moved = [median(runs, WARM_UP, lambda step, way=way: step[f"nvme_{way}_bytes"]) for way in
                     ("read", "written")]
            seconds = median(runs, WARM_UP, optimizer_seconds)
            own = [f"{seconds:.3f}", f"{sum(moved) / seconds / 1e9:.2f}"] if "hidden" not in name else ["-", "-"]
            rows.append([name, own[0], f"{median(runs, WARM_UP, whole_seconds):.3f}",
                         *(f"{way / count:.1f}" for way in moved), own[1],
                         *(f"{max(run[key] for run in runs) / 1e9:.2f}" for key in
                           ("peak_bytes", "peak_anonymous_bytes"))])
        print_table(["contender", "optimizer step s", "train step s", "read B/param", "written B/param",
                     "moved GB/s of optimizer step", "peak GB", "without files GB"], rows)
        self.report_ratios()
        print("Hidden: the update runs in the background, beside forward and backward, and has no time of its own.\n")
        for title, figure in (("optimizer step", optimizer_seconds), ("train step", whole_seconds)):
            print(f"Seconds of every counted {title}, a run between bars:\n")
            print_repetitions({name: runs for name, runs in self.runs.items()
                               if figure is whole_seconds or "hidden" not in name}, WARM_UP, figure)

    def report_ratios(self):
        rows = []
        for what, figure, top, bottom, target in RATIOS:
            if self.runs.get(top) and self.runs.get(bottom):
                each = ratios(each_round(self.runs[top], WARM_UP, figure),
                              each_round(self.runs[bottom], WARM_UP, figure))
                rows.append([what, f"{top} / {bottom}", f"**{statistics.median(each):.2f}**",
                             " ".join(f"{ratio:.2f}" for ratio in each), target])
        for top, bottom in (("DeepSpeed, plain", "exact"), ("DeepSpeed, pipelined", "exact"),
                            ("DeepSpeed, pipelined", "exact, hidden"), ("DeepSpeed, cpu", "cpu")):
            if self.runs.get(top) and self.runs.get(bottom):
                most = [max(run["peak_bytes"] for run in self.runs[name]) for name in (top, bottom)]
                rows.append(["peak memory", f"{bottom} / {top}", f"**{most[1] / most[0]:.2f}**", "", "at most 0.33"])
        print_table(["what", "ratio", "median", "each round", "target"], rows)
        self.report_share()

    def report_share(self):
        """How much of the peer's step is I/O: what its step has more than with the states in RAM."""
        base = self.runs.get("DeepSpeed, cpu")
        for name in ("DeepSpeed, plain", "DeepSpeed, pipelined"):
            if base and self.runs.get(name):
                share = 1 - median(base, WARM_UP, whole_seconds) / median(self.runs[name], WARM_UP, whole_seconds)
                print(f"- {name}: {100 * share:.0f}% of its train step is I/O (what it takes longer than with the "
                      "states in RAM)")
        print()


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage=argparse.SUPPRESS)
    parser.add_argument("--spillway", default=SPILLWAY, type=Path, help="the program (default: build/release's)")
    parser.add_argument("--environment", default=default_folder(), type=Path,
                        help="where DeepSpeed is or gets installed (default: %(default)s)")
    parser.add_argument("--directory", default=".", type=Path, help="on the disk of --disk own (default: here)")
    parser.add_argument("--disk", choices=("memory", "own", "both", "slow"), default="both")
    parser.add_argument("--mb-per-s", type=positive, default=1000, help="of --disk slow (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--steps", type=positive, default=4, help="counted steps of a run (default: %(default)s)")
    parser.add_argument("--micro-batch", type=positive, default=1)
    parser.add_argument("--accumulation", type=positive, default=1)
    parser.add_argument("--context", type=positive, default=32, help="tokens of a sample (default: %(default)s)")
    parser.add_argument("--sub-group", type=positive,
                        help="elements DeepSpeed swaps at a time (default: a quarter of the model)")
    parser.add_argument("--only", action="append", help="contenders whose name has this in it; may repeat")
    parser.add_argument("--quick", action="store_true", help="a model of 7 M parameters: to see that it works")
    parser.add_argument("--install-only", action="store_true", help="install DeepSpeed, and that is all")
    return parser.parse_args()


@contextlib.contextmanager
def places(options):
    """What --disk names: a title, an empty folder and how to start what runs there, one at a time."""
    def folders():
        reason = why_not() if options.disk != "own" else None
        if reason:
            raise RunFailed(f"--disk {options.disk}: {reason}; --disk own needs none of it")
        size = 600 if options.quick else 6400
        if options.disk in ("memory", "both"):
            with Disks(Path("/dev/shm"), 1, size) as disks:
                yield "A loop device over memory", disks.disks[0].path, {}
        if options.disk in ("own", "both"):
            with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
                yield f"The own disk: {disk_of(scratch)}", Path(scratch), {}
        if options.disk == "slow":
            with Disks(options.directory, 1, size) as disks:
                disks.limit([options.mb_per_s])
                yield f"A disk of {options.mb_per_s} MB/s each way", disks.disks[0].path, {"preexec_fn": disks.enter}
    generator = folders()
    try:
        yield generator
    finally:
        generator.close()


def compare(options):
    deepspeed = DeepSpeed(options.environment)
    deepspeed.install()
    if options.install_only:
        return
    model = SMALL if options.quick else LARGE
    print_card(
        f"Spillway against DeepSpeed {DEEPSPEED}",
        f"{describe(model)}, bf16, AdamW, clipping at 1; states: {16 * parameters(model) / 1e9:.1f} GB",
        f"A step, of both: micro-batch {options.micro_batch} x accumulation {options.accumulation} x "
        f"{options.context} tokens, blocks checkpointed, parameters in RAM; one rank, CPU, all cores",
        f"{options.rounds} rounds, begun by the next contender each time; {options.steps} steps a run counted after "
        f"{WARM_UP} of warm-up; nothing cached but where it says so (half: max_in_cpu of half the parameters)",
        "Optimizer step: DeepSpeed's engine.step(); ours: from the end of backward to the end of the step, and the "
        "norms taken during backward. GB are 10^9 bytes. Peak: resident memory with huge pages; the libraries of "
        "DeepSpeed's torch with CUDA in it")
    with places(options) as todo:
        for title, folder, how in todo:
            print(f"## {title}\n", flush=True)
            comparison = Comparison(options, deepspeed, folder, how)
            comparison.measure()
            comparison.report()


def main():
    options = parse()
    return exit_code_of("against_deepspeed", lambda: compare(options))


if __name__ == "__main__":
    sys.exit(main())
