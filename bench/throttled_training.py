"""What the benches of training on a drive of known speed share: their options, and how they begin and end."""

import argparse
import shutil
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


def exit_code_of(name, bench):
    """Of a bench that is over when bench() is: 1 when it failed, which is said, or returned False."""
    try:
        return 1 if bench() is False else 0
    except (RunFailed, OSError) as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        return 1


def run_bench(name, options, models, print_head, measure, disk_count=1, bytes_a_parameter=30, programs=()):
    """measure(scratch folder, disks) on drives with room for so much of the largest model (30: two generations of its
    states), where the programs that it needs are; the exit code."""
    lacking = [f"{program} is not installed" for program in programs if shutil.which(program) is None]
    reason = why_not() or next(iter(lacking), None)
    if reason:
        print(f"skipped: {reason}")
        return 77
    print_head()
    size_mib = bytes_a_parameter * max(map(parameters, models)) // 10**6 + 200

    def bench():
        with tempfile.TemporaryDirectory() as scratch, Disks(options.directory, disk_count, size_mib) as disks:
            return measure(Path(scratch), disks)
    return exit_code_of(name, bench)
