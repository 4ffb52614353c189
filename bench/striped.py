#!/usr/bin/env python3
"""A striped file over two disks of known speed, against each disk alone.

striped.py [--program PATH] [--directory DIR] [--rounds N] [--mib N] [--equal-at-least R] [--uneven-at-least R]

Prints Markdown. Two loop devices are slowed down to given rates (throttled_disks.py); a round runs every contender
once, begun by the next one each time. --mib: what the faster half of a run moves. Exit code 1: a ratio is below what
was asked for; 77: cannot be run here. Needs root."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from throttled_disks import Disks, why_not

ROOT = Path(__file__).resolve().parents[1]
EQUAL = (200, 200)  # MB/s
UNEVEN = (100, 300)
# name: (rates of the disks, disks used, speeds handed to the file, share of --mib that is moved)
CONTENDERS = {
    "first of two equal": (EQUAL, (0,), "1", 1),
    "second of two equal": (EQUAL, (1,), "1", 1),
    "two equal, striped": (EQUAL, (0, 1), "measured", 2),
    "slow alone": (UNEVEN, (0,), "1", 0.5),
    "fast alone": (UNEVEN, (1,), "1", 1.5),
    "1:3, striped by measured speed": (UNEVEN, (0, 1), "measured", 2),
    "1:3, plain round robin": (UNEVEN, (0, 1), "1,1", 2),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "build/release/bin/striped_pass", type=Path)
    parser.add_argument("--directory", default=Path.cwd(), type=Path)
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--mib", default=240, type=int)
    parser.add_argument("--equal-at-least", default=0.0, type=float)
    parser.add_argument("--uneven-at-least", default=0.0, type=float)
    return parser.parse_args()


def one_run(disks, options, name):
    rates, used, speeds, share = CONTENDERS[name]
    disks.limit(rates)
    paths = [disks.disks[index].path for index in used]
    mib = int(options.mib * share) // 8 * 8
    result = json.loads(disks.run([options.program, str(mib), speeds, *paths]))
    for direction in ("write", "read"):
        result[direction] = result["bytes"] / 1e6 / result[f"{direction}_s"]
    return result


def measure(disks, options):
    names = list(CONTENDERS)
    rounds = []
    for number in range(options.rounds):
        turn = number % len(names)
        rounds.append({name: one_run(disks, options, name) for name in names[turn:] + names[:turn]})
    return rounds


def ratios(rounds):
    """(what, bound's name, {direction: one figure a round})"""
    def each(top, bottom):
        return {d: [top(r, d) / bottom(r, d) for r in rounds] for d in ("write", "read")}

    def rate(name):
        return lambda r, d: r[name][d]

    def both(r, d):
        return r["slow alone"][d] + r["fast alone"][d]

    def mean(r, d):
        return (r["first of two equal"][d] + r["second of two equal"][d]) / 2

    return [
        ("two equal, striped / one of them", "equal", each(rate("two equal, striped"), mean)),
        ("1:3, striped / the sum of both", "uneven", each(rate("1:3, striped by measured speed"), both)),
        ("1:3, round robin / the sum of both", None, each(rate("1:3, plain round robin"), both)),
    ]


def card(options):
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
               if line.startswith("model name"))
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always"], capture_output=True, text=True, check=False)
    print(f"""# A striped file over two disks

- CPU: {cpu}, {os.cpu_count()} cores; kernel {platform.release()}; load before the run: {os.getloadavg()[0]:.2f}
- Spillway {commit.stdout.strip() or "unknown"}; one engine with its defaults (1 MiB blocks, depth 32, one thread);
  stripes of 1 MiB
- Disks: ext4 on loop devices with direct I/O over files, slowed down by blkio.throttle (cgroup v1), reads and writes
  alike: {EQUAL[0]} and {EQUAL[1]} MB/s, then {UNEVEN[0]} and {UNEVEN[1]} MB/s.
- A run writes a file front to back, untimed, then again and reads it, timed; each page says where it belongs and is
  checked. One disk moves {options.mib} MiB, two move {2 * options.mib}.
  {options.rounds} rounds, begun by the next contender each time.
""")


def report(rounds):
    print("| contender | write MB/s | read MB/s | CPU s/GB | weights |\n|---|---|---|---|---|")
    for name in CONTENDERS:
        runs = [r[name] for r in rounds]
        cpu = statistics.median(r["cpu_s"] / (2 * r["bytes"] / 1e9) for r in runs)
        weights = sorted({":".join(map(str, r["weights"])) for r in runs})
        print(f"| {name} | {statistics.median(r['write'] for r in runs):.0f} "
              f"| {statistics.median(r['read'] for r in runs):.0f} | {cpu:.3f} | {', '.join(weights)} |")
    print("\n| ratio, median of the rounds' own | write | read | every round, write; read |\n|---|---|---|---|")
    for what, _, values in ratios(rounds):
        every = "; ".join(" ".join(f"{v:.2f}" for v in values[d]) for d in ("write", "read"))
        print(f"| {what} | {statistics.median(values['write']):.2f} | {statistics.median(values['read']):.2f} "
              f"| {every} |")


def main():
    options = arguments()
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        return 77
    largest = int(options.mib * 2)  # a file, its head, and the probes of its speed
    with Disks(options.directory, 2, largest + 160) as disks:
        card(options)
        rounds = measure(disks, options)
    report(rounds)
    bounds = {"equal": options.equal_at_least, "uneven": options.uneven_at_least, None: 0.0}
    code = 0
    for what, bound, values in ratios(rounds):
        for direction, figures in values.items():
            if statistics.median(figures) < bounds[bound]:
                print(f"striped.py: {what}, {direction}: below {bounds[bound]}", file=sys.stderr)
                code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
