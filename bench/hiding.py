#!/usr/bin/env python3
"""How much of a step's I/O is hidden behind its computing, in each update order, on a drive of known speed.

hiding.py [--rounds N] [--steps N] [--ratios R,R,...] [--orders ORDER,...] [--states all|optimizer] [--directory DIR]
          [--quick]

The drive is a loop device whose speed the kernel limits (blkio), reads and writes alike: it takes no CPU from what
computes. First the model trains with all in memory: compute alone, the update included. Then the drive's rate is set
so that I/O alone (the bytes of a step at that rate, reads beside writes) takes 0.5, 1, 2, ... times as long, and each
update order trains with its states there, nothing cached. Perfect hiding gives max(compute, I/O). Prints Markdown.

Needs root and cgroup v1; about 4 minutes a round on 2 cores, --quick half a minute in all. Exit code 1: a run failed
or losses differ in a bit; 77: cannot be run here."""

import statistics
import sys

from throttled_training import WARM_UP, ZERO, options_of, parse, run_bench, seconds_of
from train_runs import (RunFailed, Training, describe, each_round, gpt, median, print_card, print_repetitions,
                        print_table, ratios, spread)

LARGE, SMALL = gpt(8, 512, 8, 256), gpt(2, 256, 4, 64)
ORDERS = ("after_backward", "forward", "backward")
STATES = {"all": ("nvme", "nvme"), "optimizer": ("none", "nvme")}


def busier_bytes(runs):
    """A step's bytes in the direction that moves more."""
    return max(median(runs, WARM_UP, lambda step, way=way: step[f"nvme_{way}_bytes"]) for way in ("read", "written"))


def settings_of(states, order=None):
    """`order`: None for all in memory."""
    devices = STATES[states] if order else ("none", "none")
    settings = {f"{ZERO}offload_{section}.device": device
                for section, device in zip(("param", "optimizer"), devices)}
    if order:
        settings |= {f"{ZERO}offload_optimizer.update_order": order, f"{ZERO}offload_optimizer.max_in_cpu": 0}
        if devices[0] == "nvme":
            settings[f"{ZERO}offload_param.max_in_cpu"] = 0
    return settings


class Hiding:
    def __init__(self, options, disks, folder):
        self.options, self.disks = options, disks
        self.model = SMALL if options.quick else LARGE
        directory = str(disks.disks[0].path)
        config = {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2, "bf16": {"enabled": True},
                  "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}, "gradient_clipping": options.clipping,
                  "zero_optimization": {"stage": 3, "offload_param": {"device": "none", "nvme_path": directory},
                                        "offload_optimizer": {"device": "none", "nvme_path": directory}}}
        self.training = Training(options.spillway, folder, self.model, config)
        self.alone = []  # runs with all in memory, one a round
        self.runs = {}  # (ratio, order): runs
        self.rates = {}  # ratio: MB/s

    def run(self, order=None):
        run = self.training.run(WARM_UP + self.options.steps, self.model["n_positions"],
                                settings_of(self.options.states, order), preexec_fn=self.disks.enter)
        bits = self.alone[0]["bits"] if self.alone else run["bits"]
        if run["bits"] != bits:
            raise RunFailed(f"{order or 'none'} trained with other bits than the first run")
        return run

    def io_seconds(self, ratio, order):
        """A step's I/O alone: its bytes at the rate of the drive, both directions at once."""
        return busier_bytes(self.runs[ratio, order]) / (self.rates[ratio] * 1e6)

    def measure(self):
        self.disks.limit([1e5])
        self.alone.append(self.run())
        self.alone[0] = self.run()  # the first of all: files and libraries came into memory
        unlimited = self.run(self.options.orders[0])
        compute = median(self.alone, WARM_UP, seconds_of)
        self.rates = {ratio: busier_bytes([unlimited]) / (ratio * compute) / 1e6 for ratio in self.options.ratios}
        for number in range(self.options.rounds):
            if number > 0:
                self.alone.append(self.run())
            for ratio, rate in self.rates.items():
                self.disks.limit([rate])
                turn = number % len(self.options.orders)
                for order in self.options.orders[turn:] + self.options.orders[:turn]:
                    self.runs.setdefault((ratio, order), []).append(self.run(order))
            print(f"hiding: round {number + 1} of {self.options.rounds}", file=sys.stderr, flush=True)

    def report(self):
        compute = each_round(self.alone, WARM_UP, seconds_of)
        print(f"Compute alone (all in memory, the update included): {spread(compute, 3)} s a step.\n")
        rows, best = [], []
        for ratio, rate in self.rates.items():
            medians = {}
            for order in self.options.orders:
                io_alone = self.io_seconds(ratio, order)
                each = each_round(self.runs[ratio, order], WARM_UP, seconds_of)
                medians[order] = statistics.median(each)
                bound = [max(alone, io_alone) for alone in compute]
                both = [alone + io_alone for alone in compute]
                waited = median(self.runs[ratio, order], WARM_UP, lambda step: step["io_wait_seconds"])
                of_both, of_compute = (statistics.median(ratios(each, base)) for base in (both, compute))
                rows.append([f"{ratio:g} ({rate:.0f} MB/s)", f"{io_alone:.3f}", order, f"{medians[order]:.3f}",
                             f"{waited:.3f}", spread(ratios(each, bound)), f"{of_both:.2f}", f"{of_compute:.2f}"])
            best.append(f"{ratio:g}: {min(medians, key=medians.get)}")
        print_table(["I/O alone of compute alone", "I/O alone s", "update order", "s a step", "waiting s",
                     "of max(compute, I/O)", "of the sum", "of compute"], rows)
        print(f"Fastest order by that ratio: {'; '.join(best)}.\n")
        print("I/O alone: of the order's own bytes; the first column is of those of the first order. Aimed at: 1.05 of "
              "max(compute, I/O); 1.10 of compute where that is the longer one. In parentheses: smallest and largest "
              "round. Losses and gradient norms of all runs were the same to the last bit.\n\n"
              "Seconds of every counted step, a run between bars:\n")
        print_repetitions({"all in memory": self.alone} | {f"{ratio:g}, {order}": runs
                          for (ratio, order), runs in self.runs.items()}, WARM_UP, seconds_of)


def parse_options():
    parser = options_of(__doc__, rounds=3, steps=4)
    parser.add_argument("--ratios", default="0.5,0.75,1,1.5,2", help="I/O alone of compute alone (%(default)s)")
    parser.add_argument("--orders", default=",".join(ORDERS), help="update orders (default: %(default)s)")
    parser.add_argument("--clipping", default=0.0, type=float,
                        help="gradient_clipping; 0: never, so that nothing updated during backward is taken back")
    parser.add_argument("--states", choices=tuple(STATES), default="all", help="what lies on the drive")
    options = parse(parser)
    options.orders = options.orders.split(",")
    try:
        options.ratios = [float(ratio) for ratio in ("1" if options.quick else options.ratios).split(",")]
    except ValueError:
        parser.error(f"--ratios: '{options.ratios}' is no list of numbers")
    wrong = [order for order in options.orders if order not in ORDERS]
    if wrong:
        parser.error(f"--orders: '{wrong[0]}' is none of {', '.join(ORDERS)}")
    if min(options.ratios) <= 0:
        parser.error("--ratios are above 0")
    return options


def main():
    options = parse_options()
    model = SMALL if options.quick else LARGE

    def print_head():
        tokens = 8 * model["n_positions"]
        print_card("A step's I/O behind its computing",
                   f"{describe(model)}, bf16, AdamW; a step: micro-batch 4 x accumulation 2 x {model['n_positions']} "
                   f"= {tokens} tokens",
                   {"all": "Parameters and optimizer states", "optimizer": "Optimizer states"}[options.states]
                   + " on a loop device, slowed down by blkio.throttle; max_in_cpu 0",
                   f"gradient_clipping {options.clipping:g}",
                   f"{options.rounds} rounds, begun by the next order each time; {options.steps} steps a run counted "
                   f"after {WARM_UP} of warm-up")

    def measure(folder, disks):
        hiding = Hiding(options, disks, folder)
        hiding.measure()
        hiding.report()

    return run_bench("hiding", options, [model], print_head, measure)


if __name__ == "__main__":
    sys.exit(main())
