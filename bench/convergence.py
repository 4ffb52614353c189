#!/usr/bin/env python3
"""Does training converge as well with smaller optimizer states? A GPT learns Shakespeare's plays, the demo's data and
model, with exact states, bf16 and int8 ones, from the same seeds: the loss on text that was held out, side by side.
What two seeds differ by with exact states is the noise that a difference is to be read against.

    bench/convergence.py --plays "$SPILLWAY_PLAYS" > bench/results/convergence.md     (tools/setup.sh names the plays)

All states are in memory: where they live changes no bit (tests/trainer/stream/optimizers_test.cc)."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import train_runs

STATES = ["fp32", "bf16", "int8"]
# What is trained with each; Lion as its authors advise, a third to a tenth of AdamW's rate and more decay.
OPTIMIZERS = {"AdamW": {"lr": 0.0015, "betas": [0.9, 0.95], "weight_decay": 0.1},
              "AdamW, beta2 0.999": {"lr": 0.0015, "betas": [0.9, 0.999], "weight_decay": 0.1},
              "Lion": {"lr": 0.0003, "betas": [0.9, 0.99], "weight_decay": 0.3}}
LAST = 50  # steps that the training loss is averaged over


def config_of(optimizer, states, steps):
    return {
        "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2, "bf16": {"enabled": True},
        "gradient_clipping": 1.0,
        "optimizer": {"type": optimizer.split(",")[0], "params": OPTIMIZERS[optimizer] | {"state_dtype": states}},
        "scheduler": {"type": "WarmupCosineLR", "params": {
            "warmup_type": "linear", "warmup_num_steps": max(2, steps * 8 // 100), "total_num_steps": steps}},
        "zero_optimization": {"stage": 3}}


def train(options, folder, optimizer, states, seed):
    """The run's steps, as --metrics has them."""
    config, metrics = folder / "config.json", folder / "run.jsonl"
    config.write_text(json.dumps(config_of(optimizer, states, options.steps)), encoding="utf-8")
    metrics.unlink(missing_ok=True)
    train_runs.run_watched(
        [options.program, "train", "--model", options.model, "--config", config, "--data", folder / "train.txt",
         "--eval-data", folder / "held-out.txt", "--eval-every", max(1, options.steps // 20), "--steps", options.steps,
         "--seed", seed, "--device", "cpu", "--metrics", metrics], environment=train_runs.quiet_threads())
    return train_runs.read_lines(metrics)


def held_out(steps):
    return [step["eval_loss"] for step in steps if "eval_loss" in step]


def figures(steps):
    """Held-out loss at the end, training loss of the last steps."""
    return held_out(steps)[-1], statistics.fmean(step["loss"] for step in steps[-LAST:])


def farthest(steps, exact):
    """The largest difference of held-out losses after the first quarter of the run."""
    pairs = list(zip(held_out(steps), held_out(exact)))
    return max((a - b for a, b in pairs[len(pairs) // 4:]), key=abs)


def rows_of(optimizer, runs, seeds):
    rows = []
    for states in STATES:
        ends = [figures(runs[optimizer, states, seed]) for seed in seeds]
        exact = [figures(runs[optimizer, "fp32", seed]) for seed in seeds]
        difference = [a[0] - b[0] for a, b in zip(ends, exact)]
        apart = [farthest(runs[optimizer, states, seed], runs[optimizer, "fp32", seed]) for seed in seeds]
        rows.append([optimizer, states, " ".join(f"{end[0]:.4f}" for end in ends),
                     " ".join(f"{end[1]:.4f}" for end in ends),
                     *(["-", "-"] if states == "fp32" else [" ".join(f"{d:+.4f}" for d in difference),
                                                            " ".join(f"{d:+.4f}" for d in apart)])])
    return rows


def noise(optimizer, runs, seeds):
    ends = [figures(runs[optimizer, "fp32", seed])[0] for seed in seeds]
    return max(ends) - min(ends)


def print_report(options, runs):
    train_runs.print_table(
        ["optimizer", "states", "held-out loss at the end", f"training loss, last {LAST} steps",
         "held-out: difference to fp32", "farthest apart on the way"],
        [row for optimizer in options.optimizers for row in rows_of(optimizer, runs, options.seeds)])
    print("A figure for each seed. With fp32 the seeds' held-out losses at the end lie apart by: " +
          ", ".join(f"{optimizer} {noise(optimizer, runs, options.seeds):.4f}" for optimizer in options.optimizers) +
          ".\n\nHeld-out losses on the way, first seed:\n")
    for optimizer in options.optimizers:
        for states in STATES:
            losses = held_out(runs[optimizer, states, options.seeds[0]])
            print(f"- {optimizer}, {states}: " + " ".join(f"{loss:.3f}" for loss in losses))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=train_runs.SPILLWAY)
    parser.add_argument("--plays", type=Path, default=os.environ.get("SPILLWAY_PLAYS"),
                        help="folder of the plays; default: $SPILLWAY_PLAYS, as build/environment sets it")
    parser.add_argument("--model", default="gpt-lite-small")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--optimizers", nargs="+", choices=list(OPTIMIZERS), default=list(OPTIMIZERS))
    options = parser.parse_args()
    if options.plays is None:
        parser.error("--plays is missing, and SPILLWAY_PLAYS is not set (see build/environment)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, train_runs.ROOT / "tools/demo/plays_text.py", options.plays,
                        folder / "train.txt", folder / "held-out.txt"], check=True)
        train_runs.print_card(
            "Convergence with smaller optimizer states",
            f"{options.model} on Shakespeare's plays, bf16, {options.steps} steps of 8 x 128 tokens, clipped to 1, "
            f"linear warm-up and cosine, all states in memory, seeds {' '.join(map(str, options.seeds))}")
        runs = {}
        for seed in options.seeds:
            for optimizer in options.optimizers:
                for states in STATES:
                    runs[optimizer, states, seed] = train(options, folder, optimizer, states, seed)
                    print(f"{optimizer}, {states}, seed {seed}: "
                          f"{figures(runs[optimizer, states, seed])[0]:.4f}", file=sys.stderr, flush=True)
        print_report(options, runs)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except train_runs.RunFailed as failure:
        sys.exit(f"convergence.py: {failure}")
