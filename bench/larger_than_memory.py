#!/usr/bin/env python3
"""A model trains in a tenth of its states' memory: about 1 B parameters, 16 GB of states, in a cgroup of 1.5 GiB.

larger_than_memory.py [--steps N] [--limit-mib N] [--reference auto|memory|nvme|none] [--directory DIR] [--quick]

Weights, optimizer states and gradients lie on NVMe, nothing is cached, one unit's weights and gradient are in memory
at a time. The same program then runs without a limit, with all in memory when that fits into this machine, and must
have the same losses and gradient norms to the last bit. Prints Markdown: peaks of memory (with huge pages, which no
cgroup of memory counts), seconds and bytes of a step, and the share of the I/O's time in which something computed.

Needs root or a cgroup that may be written, 17 GB free in --directory; about 6 minutes on 2 cores with a drive of
2 GB/s, 4 of them for the run in memory. --quick: 101 M parameters in 400 MiB, 1.7 GB of disk, under a minute, with
queue_depth 8, sub_group_size 1e6 and glibc's MALLOC_TRIM_THRESHOLD_=65536. Use a build without CUDA: its libraries
take some 450 MiB of memory, which --quick adds to its limit. Exit code 1: killed, above the limit, or other losses;
77: cannot be run here."""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from train_runs import (GIB, MIB, ROOT, SPILLWAY, RunFailed, Training, describe, disk_of, gpt, parameters,
                        print_card, print_table)

sys.path.append(str(ROOT / "tests/support"))
# pylint: disable=wrong-import-position
from cgroup import Cgroup

LARGE, SMALL = gpt(20, 2048, 16, 128), gpt(8, 1024, 8, 128)
LARGE_LIMIT_MIB, SMALL_LIMIT_MIB = 1536, 400
CUDA_MIB = 450  # that CUDA's libraries keep, a GPU or none
WARM_UP = 1
SECTIONS = ("offload_param", "offload_optimizer")


def places(count, where, directory):
    """Configuration keys: everything on NVMe, or the same with every state cached and the gradients in memory."""
    cached = count if where == "memory" else 0
    settings = {}
    for section in SECTIONS:
        settings |= {f"zero_optimization.{section}.{key}": value for key, value in (
            ("device", "nvme"), ("nvme_path", directory), ("max_in_cpu", cached))}
    if where == "limited":
        settings |= {"zero_optimization.offload_gradients.device": "nvme",
                     "zero_optimization.offload_gradients.nvme_path": directory}
    return settings


def available_bytes():
    text = Path("/proc/meminfo").read_text(encoding="utf-8")
    return int(re.search(r"MemAvailable: +(\d+)", text)[1]) * 1024


def reference_of(options, count):
    """Where the run without a limit has its states: in memory when they fit, with their gradients."""
    if options.reference != "auto":
        return options.reference
    return "memory" if available_bytes() > 18 * count + 2 * GIB else "nvme"


def limited_run(training, options, settings):
    """In a cgroup of its own: the run, its peak of all memory, and how often the OOM killer came."""
    cgroup = Cgroup("spillway-larger", options.limit_mib * MIB)
    try:
        run = training.run(options.steps + WARM_UP, options.context, settings, traced=True,
                           preexec_fn=cgroup.enter)
        return run | {"cgroup_peak_bytes": cgroup.peak_bytes(), "oom_kills": cgroup.oom_kills()}
    except RunFailed as reason:
        raise RunFailed(f"{reason}; the OOM killer came {cgroup.oom_kills()} times") from None
    finally:
        cgroup.close()


def row(name, run, count):
    steps = run["steps"][WARM_UP:]
    seconds = statistics.median(step["seconds"] for step in steps)
    waited = statistics.median(step["io_wait_seconds"] for step in steps)
    read, written = (statistics.median(step[f"nvme_{way}_bytes"] for step in steps) for way in ("read", "written"))
    hidden = run.get("storage", {"busy_seconds": 0})
    share = f"{100 * hidden['hidden_seconds'] / hidden['busy_seconds']:.0f}%" if hidden["busy_seconds"] else "-"
    return [name, f"{seconds:.2f}", f"{waited:.2f}", f"{read / 1e9:.2f} ({read / count:.1f})",
            f"{written / 1e9:.2f} ({written / count:.1f})", f"{(read + written) / seconds / 1e9:.2f}", share,
            f"{run['peak_anonymous_bytes'] / MIB:.0f}", f"{run['peak_bytes'] / MIB:.0f}",
            f"{run['run_seconds'] - sum(step['seconds'] for step in run['steps']):.0f}"]


def report(runs, options, count):
    limited = runs["limited"]
    print_table(["run", "s a step", "waiting s", "read GB (B/param)", "written GB (B/param)", "moved GB/s",
                 "I/O hidden", "peak MiB without files", "peak MiB resident", "start and end s"],
                [row(name, run, count) for name, run in runs.items()])
    print(f"- Limit {options.limit_mib} MiB; peak of the cgroup, pages of files included: "
          f"{limited['cgroup_peak_bytes'] / MIB:.0f} MiB; the OOM killer came {limited['oom_kills']} times")
    print("- Medians of the counted steps. I/O hidden: of the time in which a read or write was under way, the share "
          "in which forward, backward or the update computed (`spillway trace`, all steps). Peaks have huge pages in "
          "them; without files: memory that holds no file's pages")
    same = len({str(run["bits"]) for run in runs.values()}) == 1
    print(f"- Losses and gradient norms of {len(limited['bits'])} steps: "
          + (f"the same to the last bit in {len(runs)} runs" if same and len(runs) > 1 else
             "nothing to compare them with" if same else "**DIFFERENT**"))
    print("- Losses: " + " ".join(f"{step['loss']:.4f}" for step in limited["steps"]))
    for name, run in runs.items():
        print(f"- Seconds of each step, {name}, with the first: "
              + " ".join(f"{step['seconds']:.2f}" for step in run["steps"]))
    below = max(limited["cgroup_peak_bytes"], limited["peak_anonymous_bytes"]) <= options.limit_mib * MIB
    return same and below and limited["oom_kills"] == 0


def links_cuda(program):
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return "torch_cuda" in linked


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage=argparse.SUPPRESS)
    parser.add_argument("--spillway", default=SPILLWAY, type=Path, help="the program (default: build/release's)")
    parser.add_argument("--directory", default=".", type=Path, help="on the drive to use (default: here)")
    parser.add_argument("--steps", default=3, type=int, help="counted, after one of warm-up (default: %(default)s)")
    parser.add_argument("--context", default=64, type=int, help="tokens of a sample (default: %(default)s)")
    parser.add_argument("--limit-mib", type=int, help=f"default: {LARGE_LIMIT_MIB}; with --quick "
                        f"{SMALL_LIMIT_MIB}, and {CUDA_MIB} more for a build with CUDA")
    parser.add_argument("--reference", choices=("auto", "memory", "nvme", "none"), default="auto",
                        help="the run without a limit (default: memory if it fits, else nvme)")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.steps < 1 or options.context not in range(1, LARGE["n_positions"] + 1):
        parser.error(f"--steps is at least 1, --context 1 to {LARGE['n_positions']}")
    options.with_cuda = links_cuda(options.spillway)
    small = SMALL_LIMIT_MIB + (CUDA_MIB if options.with_cuda else 0)
    options.limit_mib = options.limit_mib or (small if options.quick else LARGE_LIMIT_MIB)
    return options


def measure(options, folder, model):
    count = parameters(model)
    config = {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "bf16": {"enabled": True},
              "optimizer": {"type": "AdamW", "params": {"lr": 1e-5}}, "zero_optimization": {"stage": 3}}
    if options.quick:  # so little memory: few buffers, and what is freed goes back to the system at once
        config["aio"] = {"queue_depth": 8}
        config["zero_optimization"]["sub_group_size"] = 1_000_000
        os.environ["MALLOC_TRIM_THRESHOLD_"] = "65536"
    training = Training(options.spillway, folder, model, config)
    runs = {"limited": limited_run(training, options, places(count, "limited", folder))}
    reference = reference_of(options, count)
    if reference != "none":
        where = {"memory": "no limit, all cached", "nvme": "no limit, on NVMe"}[reference]
        runs[where] = training.run(options.steps + WARM_UP, options.context, places(count, reference, folder),
                                   traced=True)
    return runs


def main():
    options = parse()
    try:
        Cgroup("spillway-larger", options.limit_mib * MIB).close()
    except LookupError as reason:
        print(f"skipped: {reason}")
        return 77
    model = SMALL if options.quick else LARGE
    count = parameters(model)
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        print_card("A model larger than memory",
                   f"Directory: {disk_of(scratch)}; build {'with' if options.with_cuda else 'without'} CUDA",
                   f"{describe(model)}, bf16, AdamW: states of {16 * count / 1e9:.1f} GB at 16 B a parameter",
                   f"A step: micro-batch 1 x accumulation 2 x {options.context} tokens; {options.steps} steps counted "
                   f"after {WARM_UP} of warm-up; max_in_cpu 0 but where all is cached")
        try:
            runs = measure(options, Path(scratch), model)
        except RunFailed as reason:
            print(f"larger_than_memory: {reason}", file=sys.stderr)
            return 1
        return 0 if report(runs, options, count) else 1


if __name__ == "__main__":
    sys.exit(main())
