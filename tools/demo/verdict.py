#!/usr/bin/env python3
"""verdict.py METRICS.jsonl NATS: whether the last held-out loss is below NATS. Exit code 1 when not."""

import json
import sys
from pathlib import Path


def main():
    steps = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines() if line]
    level = float(sys.argv[2])
    losses = [step["eval_loss"] for step in steps if "eval_loss" in step]
    if not losses:
        sys.exit("demo: the run was never evaluated")
    if not losses[-1] < level:
        sys.exit(f"demo: held-out loss {losses[-1]:.3f} is not below the bigram entropy, {level:.3f}")
    print(f"demo: it learnt: held-out loss {losses[-1]:.3f}, below the bigram entropy of {level:.3f} nats a byte")


if __name__ == "__main__":
    main()
