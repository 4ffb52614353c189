#!/usr/bin/env python3
"""What a checkpoint of states on NVMe costs: how long training waits, how fast it is meanwhile, how fast it resumes.

checkpoint_cost.py [--rounds N] [--steps N] [--every N] [--directory DIR] [--quick]

The drives are loop devices whose speed the kernel limits (blkio): one with the swap files, at the rate at which I/O
alone takes as long as computing alone, and one beside it, as fast. The same model trains without checkpoints; with
checkpoints on the drive of the swap files (links); and with checkpoints on the other drive (copies, made beside
training). Then a run resumes, and fio reads the checkpoint's bytes. Prints Markdown.

Needs root, cgroup v1 and fio; about 6 minutes a round on 2 cores, --quick one minute in all. Exit code 1: a run failed
or losses differ in a bit; 77: cannot be run here."""

import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from throttled_training import WARM_UP, options_of, parse, run_bench, seconds_of
from train_runs import (RunFailed, Training, describe, each_round, gpt, median, print_card, print_repetitions,
                        print_table, ratios, spread)

LARGE, SMALL = gpt(8, 512, 8, 256), gpt(2, 256, 4, 64)
BATCHES = {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2}
PLACES = {"links": 0, "copies": 1}  # the drive with the checkpoints
SAVED = re.compile(r"saved \S*step-0*(\d+) in ([\d.]+) s \(training waited ([\d.]+) s\)")
STEP = re.compile(r"step (\d+)/")


def saves_of(output):
    """Of a run's output, for each save: its step, its seconds, those training waited, and the last step before its
    end."""
    saves, step = [], 0
    for line in output.splitlines():
        if match := STEP.search(line):
            step = int(match[1])
        if match := SAVED.search(line):
            saves.append({"step": int(match[1]), "seconds": float(match[2]), "waited": float(match[3]), "until": step})
    return saves


def steps_beside(run):
    """Seconds of the steps during which a save was on its way; the save after the last step has none."""
    during = {step for save in saves_of(run["output"]) for step in range(save["step"] + 1, save["until"] + 1)}
    return [step["seconds"] for step in run["steps"] if step["step"] in during]


def sync_seconds(directory):
    """Of one fdatasync after 4 KiB, the median of 9."""
    times = []
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        for _ in range(9):
            file.write(os.urandom(4096))
            file.flush()
            begin = time.monotonic()
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - begin)
    return statistics.median(times)


class CheckpointCost:
    def __init__(self, options, disks, folder):
        self.options, self.disks = options, disks
        self.model = SMALL if options.quick else LARGE
        nvme = {"device": "nvme", "nvme_path": str(disks.disks[0].path), "max_in_cpu": 0}
        config = BATCHES | {"bf16": {"enabled": True}, "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
                            "gradient_clipping": 0.0, "steps_per_print": 1,
                            "zero_optimization": {"stage": 3, "offload_param": nvme, "offload_optimizer": nvme}}
        self.training = Training(options.spillway, folder, self.model, config)
        self.runs = {"no checkpoints": []} | {form: [] for form in PLACES}
        self.resumed, self.read = {form: [] for form in PLACES}, {form: [] for form in PLACES}
        self.size_bytes, self.rate, self.bits = 0, 0.0, None

    def run(self, steps, form=None, every=0):
        directory = self.disks.disks[PLACES[form]].path / "saved" if form else None
        saving = ("--checkpoint-dir", directory, "--checkpoint-every", every, "--keep", 1) if form else ()
        return self.training.run(steps, self.model["n_positions"], options=saving, preexec_fn=self.disks.enter)

    def check(self, run):
        self.bits = self.bits or run["bits"]
        if run["bits"] != self.bits[:len(run["bits"])]:
            raise RunFailed("a run trained with other bits than the first")

    def resume(self, form):
        """Seconds of fio reading what a run saved, and of loading it, by a run that goes on for a step."""
        steps = WARM_UP + self.options.steps
        directory = self.disks.disks[PLACES[form]].path / "saved" / f"step-{steps:08}"
        files = sorted(directory.glob("*.bin"))
        self.size_bytes = sum(path.stat().st_blocks * 512 for path in files)
        drop_caches()
        job = self.disks.run(["fio", "--name=read", "--filename=" + ":".join(map(str, files)), "--rw=read", "--bs=1M",
                              "--direct=1", "--ioengine=io_uring", "--iodepth=16", "--readonly",
                              "--file_service_type=sequential", "--output-format=json"])
        self.read[form].append(json.loads(job)["jobs"][0]["read"]["runtime"] / 1000)
        drop_caches()
        output = self.run(steps + 1, form)["output"]
        self.resumed[form].append(float(re.search(r"resumed \S+ of 1 ranks in ([\d.]+) s", output)[1]))

    def measure(self):
        steps = WARM_UP + self.options.steps
        self.disks.limit([1e5, 1e5])
        free = self.run(steps)
        self.check(free)
        moved = max(median([free], WARM_UP, lambda step, way=way: step[f"nvme_{way}_bytes"])
                    for way in ("read", "written"))
        self.rate = moved / (median([free], WARM_UP, lambda step: step["compute_seconds"])) / 1e6
        self.disks.limit([self.rate] * 2)
        for number in range(self.options.rounds):
            for form in self.runs:
                saving = form if form in PLACES else None
                run = self.run(steps, saving, self.options.every)
                self.check(run)
                self.runs[form].append(run)
                if saving:
                    self.resume(form)
                    shutil.rmtree(self.disks.disks[PLACES[form]].path / "saved")
            print(f"checkpoint_cost: round {number + 1} of {self.options.rounds}", file=sys.stderr, flush=True)

    def report(self):
        step = each_round(self.runs["no checkpoints"], WARM_UP, seconds_of)
        sync = [sync_seconds(disk.path) for disk in self.disks.disks]
        print(f"A step without checkpoints: {spread(step, 3)} s, on drives of {self.rate:.0f} MB/s; a checkpoint's "
              f"bytes: {self.size_bytes / 1e6:.0f} MB. An fdatasync alone: {1000 * sync[0]:.1f} ms.\n")
        rows = []
        for form in PLACES:
            # The last save has no step beside it: training waits for all of it.
            saves = [save for run in self.runs[form] for save in saves_of(run["output"])[:-1]]
            beside = [seconds for run in self.runs[form] for seconds in steps_beside(run)]
            waited = [save["waited"] for save in saves]
            base = statistics.median(step)
            rows.append([form, spread(waited, 3), f"{100 * statistics.median(waited) / base:.1f} %",
                         spread([save["seconds"] for save in saves]),
                         f"{statistics.median(beside) / base:.2f}" if beside else "none",
                         f"{len(beside)}", f"{spread(self.resumed[form])}", f"{spread(self.read[form])}",
                         spread(ratios(self.resumed[form], self.read[form]))])
        print_table(["checkpoints", "training waited s", "of a step", "until it is complete s",
                     "a step beside it, of one without", "such steps", "resume s", "fio reads it in s", "ratio"], rows)
        print("Training waited: between forward and backward of the next step, for what moved to end and the save to "
              "begin, and for its end where the next one was due. Aimed at: under 1 % of a step plus an "
              "fdatasync; a step beside a save at most 1.10 of one without. Losses of all runs were the same to the "
              "last bit.\n\n"
              "Seconds of every counted step, a run between bars:\n")
        print_repetitions(self.runs, WARM_UP, seconds_of)
        for form in PLACES:
            print(f"- {form}, seconds waited at each save: " + " | ".join(
                " ".join(f"{save['waited']:.3f}" for save in saves_of(run["output"])) for run in self.runs[form]))


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1", encoding="utf-8")


def parse_options():
    parser = options_of(__doc__, rounds=3, steps=28)
    parser.add_argument("--every", default=10, type=int, help="steps from one save to the next (default: %(default)s)")
    options = parse(parser)
    if options.every < 1:
        parser.error("--every is at least 1")
    if options.quick:
        options.every = 2
    return options


def main():
    options = parse_options()
    model = SMALL if options.quick else LARGE

    def print_head():
        print_card("What a checkpoint costs",
                   f"{describe(model)}, bf16, AdamW, all states on a loop device slowed down by blkio.throttle; "
                   "max_in_cpu 0",
                   f"{options.rounds} rounds; {options.steps} steps a run counted after {WARM_UP} of warm-up; a save "
                   f"each {options.every} steps, --keep 1")

    def measure(folder, disks):
        cost = CheckpointCost(options, disks, folder)
        cost.measure()
        cost.report()

    return run_bench("checkpoint_cost", options, [model], print_head, measure, disk_count=2, bytes_a_parameter=100,
                     programs=["fio"])


if __name__ == "__main__":
    sys.exit(main())
