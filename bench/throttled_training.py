"""What the benches of training on a drive of known speed share: their options, and how they begin and end."""

import argparse
import sys
import tempfile
from pathlib import Path

from throttled_disks import Disks, why_not
from train_runs import SPILLWAY, RunFailed, parameters

WARM_UP = 2  # steps of each run that are not counted: files are written the first time, memory is touched
ZERO = "zero_optimization."


def seconds_of(step):
    return step["seconds"]


def options_of(text, rounds, steps):
    """A parser with the options that all have. `text`: the program's, which is shown by --help."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage=argparse.SUPPRESS)
    parser.add_argument("--spillway", default=SPILLWAY, type=Path, help="the program (default: build/release's)")
    parser.add_argument("--directory", default=".", type=Path, help="for the loop device's file (default: here)")
    parser.add_argument("--rounds", default=rounds, type=int)
    parser.add_argument("--steps", default=steps, type=int, help="counted steps of a run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a small model, one round: shows that it works")
    return parser


def parse(parser):
    options = parser.parse_args()
    if min(options.rounds, options.steps) < 1:
        parser.error("--rounds and --steps are at least 1")
    if options.quick:
        options.rounds, options.steps = 1, 2
    return options


def run_bench(name, options, models, print_head, measure):
    """measure(scratch folder, disks) on a drive with room for two generations of the largest model's states; the exit
    code."""
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        return 77
    print_head()
    size_mib = 30 * max(map(parameters, models)) // 10**6 + 200
    try:
        with tempfile.TemporaryDirectory() as scratch, Disks(options.directory, 1, size_mib) as disks:
            measure(Path(scratch), disks)
    except (RunFailed, OSError) as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        return 1
    return 0
