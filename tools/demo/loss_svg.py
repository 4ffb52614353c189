#!/usr/bin/env python3
"""loss_svg.py METRICS.jsonl OUT.svg [--level NATS NAME] [--title TEXT]: draws the loss curve of a run.

Reads `step`, `loss` and, where a step was evaluated, `eval_loss` from the metrics of `spillway train`."""

import argparse
import html
import json
import math
from pathlib import Path

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 56, 52  # margins; the right one holds the names of the curves
TRAIN, EVAL, LEVEL = "#9db7d5", "#c2410c", "#4b5563"
STYLE = """text { font: 13px system-ui, sans-serif; fill: #374151 }
.title { font-size: 17px; font-weight: 600; fill: #111827 }
.grid { stroke: #e5e7eb } .axis { stroke: #9ca3af } .curve { fill: none; stroke-width: 2 }"""


def ticks(low, high, wanted):
    """About `wanted` round numbers from low to high."""
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


class Plot:
    def __init__(self, x_range, y_range):
        self.x_range, self.y_range = x_range, y_range
        self.parts = []

    def x(self, value):
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def line(self, x1, y1, x2, y2, kind, extra=""):
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}" {extra}/>')

    def text(self, x, y, text, extra=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{html.escape(text)}</text>')

    def axes(self, x_name, y_name):
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        for value in ticks(*self.y_range, 6):
            self.line(LEFT, self.y(value), right, self.y(value), "grid")
            self.text(LEFT - 8, self.y(value) + 4, f"{value:g}", 'text-anchor="end"')
        for value in ticks(*self.x_range, 8):
            self.line(self.x(value), bottom, self.x(value), bottom + 5, "axis")
            self.text(self.x(value), bottom + 20, f"{value:g}", 'text-anchor="middle"')
        self.line(LEFT, bottom, right, bottom, "axis")
        self.text((LEFT + right) / 2, HEIGHT - 12, x_name, 'text-anchor="middle"')
        self.text(LEFT - 8, TOP - 10, y_name, 'text-anchor="start"')

    def curve(self, points, colour, dots=False):
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="curve" stroke="{colour}"/>')
        if dots:
            self.parts += [f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3.5" fill="{colour}"/>'
                           for x, y in points]

    def names(self, names):
        """`names`: (height of the curve's end, text, colour); moved apart where they would overlap."""
        lowest = 0.0
        for value, text, colour in sorted(names, key=lambda n: -n[0]):
            lowest = max(lowest + 17, self.y(value) + 4)
            self.text(WIDTH - RIGHT + 10, lowest, text, f'style="fill:{colour}"')

    def svg(self, title):
        self.text(LEFT - 8, 26, title, 'class="title"')
        body = "\n".join(self.parts)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
                f'height="{HEIGHT}">\n<style>{STYLE}</style>\n<rect width="100%" height="100%" fill="#fff"/>\n'
                f"{body}\n</svg>\n")


def draw(steps, level, title):
    train = [(s["step"], s["loss"]) for s in steps]
    held_out = [(s["step"], s["eval_loss"]) for s in steps if "eval_loss" in s]
    values = [y for _, y in train + held_out if math.isfinite(y)]
    if level:
        values.append(level[0])
    margin = 0.04 * (max(values) - min(values) or 1)
    plot = Plot((min(0, train[0][0]), max(train[-1][0], 1)), (min(values) - margin, max(values) + margin))
    plot.axes("step", "loss, nats a byte")
    plot.curve(train, TRAIN)
    names = [(train[-1][1], f"training {train[-1][1]:.2f}", "#5b83b3")]
    if held_out:
        plot.curve(held_out, EVAL, dots=True)
        names.append((held_out[-1][1], f"held-out {held_out[-1][1]:.2f}", EVAL))
    if level:
        height = plot.y(level[0])
        plot.line(LEFT, height, WIDTH - RIGHT, height, "level", f'stroke="{LEVEL}" stroke-dasharray="6 4"')
        names.append((level[0], f"{level[1]} {level[0]:.2f}", LEVEL))
    plot.names(names)
    return plot.svg(title)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--level", nargs=2, metavar=("NATS", "NAME"), help="a dashed line to compare with")
    parser.add_argument("--title", default="Loss")
    arguments = parser.parse_args()
    steps = [json.loads(line) for line in arguments.metrics.read_text().splitlines() if line]
    level = (float(arguments.level[0]), arguments.level[1]) if arguments.level else None
    arguments.out.write_text(draw(steps, level, arguments.title))


if __name__ == "__main__":
    main()
