#!/usr/bin/env python3
"""Where a step stops being limited by the drive and begins to be limited by computing, over model and batch sizes.

crossover.py [--rounds N] [--steps N] [--mb-per-second N] [--directory DIR] [--quick]

Each model trains with all in memory and with all on NVMe (a loop device of known speed, nothing cached) at several
batch sizes. Bytes a step do not grow with the batch (every unit is fetched once for all micro-batches), computing
does, so the step's time is flat and then rises. Found: the tokens at which computing alone takes as long as the flat
part. Predicted, for any model: T* = FLOPS / 8 x max(r/R, w/W), with FLOPS of the largest batch in memory (8 per
parameter and token, with recomputation), r and w bytes a parameter and step as counted, R and W the drive's rates. The
two should agree within 10%. Prints Markdown.

Needs root and cgroup v1; about 12 minutes a round on 2 cores, --quick one minute in all. Exit code 1: a run failed;
77: cannot be run here."""

import sys

from throttled_training import WARM_UP, ZERO, options_of, parse, run_bench, seconds_of
from train_runs import RunFailed, Training, gpt, median, parameters, print_card, print_repetitions, print_table

MODELS = [gpt(6, 384, 6, 256), gpt(8, 512, 8, 256), gpt(8, 768, 12, 256)]
SMALL = [gpt(2, 256, 4, 64)]
BATCHES = (1, 2, 4, 8, 16)  # micro-batches of one sample a step


def settings_of(device, directory):
    settings = {}
    for section in ("offload_param", "offload_optimizer"):
        settings |= {f"{ZERO}{section}.device": device, f"{ZERO}{section}.nvme_path": directory}
        if device == "nvme":
            settings[f"{ZERO}{section}.max_in_cpu"] = 0
    if device == "nvme":
        settings[f"{ZERO}offload_optimizer.update_order"] = "backward"
    return settings


def crossing(tokens, alone, level):
    """Where `alone`, seconds at `tokens`, passes `level`: between two of them by a straight line, beyond the last one
    by the last two; None below the first."""
    if alone[0] >= level:
        return None
    for i in range(1, len(tokens)):
        if alone[i] >= level or i == len(tokens) - 1:
            share = (level - alone[i - 1]) / (alone[i] - alone[i - 1])
            return tokens[i - 1] + share * (tokens[i] - tokens[i - 1])
    return None


class Model:
    """A model's runs: in memory and on NVMe at each batch size."""

    def __init__(self, options, model, folder, directory):
        self.options, self.model, self.directory = options, model, directory
        self.name = f"{parameters(model) / 1e6:.1f} M"
        folder.mkdir()
        self.training = Training(options.spillway, folder, model, {
            "bf16": {"enabled": True}, "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}, "gradient_clipping": 0,
            "train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}})
        self.runs = {(device, batch): [] for device in ("none", "nvme") for batch in options.batches}

    def measure(self, disks):
        for batch in self.options.batches:
            for device in ("none", "nvme"):
                settings = settings_of(device, self.directory) | {"gradient_accumulation_steps": batch}
                self.runs[device, batch].append(self.training.run(
                    WARM_UP + self.options.steps, self.model["n_positions"], settings, preexec_fn=disks.enter))
            one, other = self.runs["none", batch], self.runs["nvme", batch]
            if other[-1]["bits"] != one[0]["bits"]:
                raise RunFailed(f"{self.name}, {batch} micro-batches: other bits on NVMe than in memory")

    def seconds(self, device, batch):
        return median(self.runs[device, batch], WARM_UP, seconds_of)

    def moved(self, batch):
        """Bytes a parameter and step, read and written."""
        return [median(self.runs["nvme", batch], WARM_UP, lambda step, way=way: step[f"nvme_{way}_bytes"])
                / parameters(self.model) for way in ("read", "written")]

    def rows(self, rate):
        for batch in self.options.batches:
            alone, step, moved = self.seconds("none", batch), self.seconds("nvme", batch), self.moved(batch)
            io_alone = max(moved) * parameters(self.model) / rate
            yield [self.name, batch * self.model["n_positions"], f"{alone:.3f}", f"{io_alone:.3f}",
                   " + ".join(f"{way:.1f}" for way in moved), f"{step:.3f}", f"{step / max(alone, io_alone):.2f}",
                   "computing" if alone > io_alone else "the drive"]

    def crossover(self, rate):
        """Tokens predicted and found, FLOPS, and the seconds of the flat part: of the smallest batch."""
        tokens = [batch * self.model["n_positions"] for batch in self.options.batches]
        alone = [self.seconds("none", batch) for batch in self.options.batches]
        flops = 8 * parameters(self.model) * tokens[-1] / alone[-1]
        predicted = flops / 8 * max(self.moved(self.options.batches[0])) / rate
        level = self.seconds("nvme", self.options.batches[0])
        found = crossing(tokens, alone, level)
        cells = [f"{found:.0f}", f"{found / predicted:.2f}"] if found else ["below the smallest batch", "-"]
        return [self.name, f"{flops / 1e9:.0f}", f"{level:.3f}", f"{predicted:.0f}", *cells]


def parse_options():
    parser = options_of(__doc__, rounds=2, steps=3)
    parser.add_argument("--mb-per-second", default=400.0, type=float,
                        help="of the drive, reads and writes alike (default: %(default)g)")
    options = parse(parser)
    if options.mb_per_second <= 0:
        parser.error("--mb-per-second is above 0")
    options.models, options.batches = (SMALL, (1, 16)) if options.quick else (MODELS, BATCHES)
    return options


def measure(options, folder, disks):
    disks.limit([options.mb_per_second])
    models = [Model(options, model, folder / str(index), disks.disks[0].path)
              for index, model in enumerate(options.models)]
    for number in range(options.rounds):
        for model in models:
            model.measure(disks)
        print(f"crossover: round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    rate = options.mb_per_second * 1e6
    print_table(["parameters", "GFLOPS", "smallest batch s", "T* predicted", "found", "found / predicted"],
                [model.crossover(rate) for model in models])
    print_table(["parameters", "tokens a step", "computing alone s", "I/O alone s", "bytes a parameter",
                 "step on NVMe s", "of the longer", "limited by"],
                [row for model in models for row in model.rows(rate)])
    print("I/O alone: the bytes of the busier direction at the drive's rate. Losses on NVMe and in memory were the "
          "same to the last bit.\n\nSeconds of every counted step, a run between bars:\n")
    for model in models:
        print_repetitions({f"{model.name}, {batch * model.model['n_positions']} tokens, {device}": runs
                           for (device, batch), runs in model.runs.items()}, WARM_UP, seconds_of)


def main():
    options = parse_options()

    def print_head():
        print_card("From limited by the drive to limited by computing",
                   f"A drive of {options.mb_per_second:g} MB/s, reads and writes alike (loop device, blkio.throttle); "
                   "all states on it; max_in_cpu 0, update_order backward, gradient_clipping 0",
                   "GPT, bf16, AdamW; micro-batches of one sample of n_positions tokens, fetched units serve all of a "
                   "step",
                   f"{options.rounds} rounds; {options.steps} steps a run counted after {WARM_UP} of warm-up")

    return run_bench("crossover", options, options.models, print_head,
                     lambda folder, disks: measure(options, folder, disks))


if __name__ == "__main__":
    sys.exit(main())
