#!/usr/bin/env python3
"""DeepSpeedCPUAdam and torch.optim.AdamW(fused=True) in turns, fp32: with adam_bench's ratio of ours to torch's the
three can be compared. Needs torch and deepspeed; says so and exits with 77 where one is missing.

    bench/adam_deepspeed.py [--millions 32] [--repetitions 25] [--threads 2]"""

import argparse
import statistics
import sys
import time

try:
    import torch
    from deepspeed.ops.adam import DeepSpeedCPUAdam
except ImportError as error:
    print(f"adam_deepspeed.py: skipped: {error}", file=sys.stderr)
    sys.exit(77)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    count = options.millions << 20
    contenders = {}
    for name, make in (("DeepSpeedCPUAdam", lambda p: DeepSpeedCPUAdam([p], lr=1e-4, weight_decay=0.01)),
                       ("torch.optim.AdamW(fused=True)",
                        lambda p: torch.optim.AdamW([p], lr=1e-4, weight_decay=0.01, fused=True))):
        parameter = torch.nn.Parameter(torch.randn(count) * 0.1)
        parameter.grad = torch.randn(count) * 0.01
        contenders[name] = make(parameter)
    seconds = {name: [] for name in contenders}
    for repetition in range(options.repetitions + 1):
        for name, optimizer in contenders.items():
            begin = time.perf_counter()
            optimizer.step()
            if repetition > 0:
                seconds[name].append(time.perf_counter() - begin)
    ratios = [a / b for a, b in zip(*seconds.values())]
    print(f"- torch {torch.__version__}, {count} parameters, {options.threads} threads\n")
    print("| | median ms | ns/parameter |\n|---|---|---|")
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(f"| {name} | {middle * 1e3:.2f} | {middle * 1e9 / count:.3f} |")
    print(f"\nDeepSpeedCPUAdam takes {statistics.median(ratios):.3f} times as long as torch.")
    print("\nMilliseconds of each pass:\n")
    for name, times in seconds.items():
        print(f"- {name}: " + " ".join(f"{value * 1e3:.2f}" for value in times))


if __name__ == "__main__":
    main()
