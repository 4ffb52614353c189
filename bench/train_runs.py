"""What the benches of train steps share: a model's sizes, its text, runs with their peak memory, the machine's card."""

import json
import os
import platform
import random
import re
import statistics
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIB, GIB = 1 << 20, 1 << 30
SPILLWAY = ROOT / "build/release/bin/spillway"


class RunFailed(Exception):
    """A run did not end well; its text is the reason."""


def gpt(layers, width, heads, positions, vocabulary=256):
    """A model as `spillway train --model` reads it: no dropout, so that a twin can compute the same."""
    return {"n_layer": layers, "n_embd": width, "n_head": heads, "n_positions": positions, "vocab_size": vocabulary,
            "tie_word_embeddings": False, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}


def parameters(model):
    width = model["n_embd"]
    tables = (2 if not model["tie_word_embeddings"] else 1) * model["vocab_size"] + model["n_positions"]
    return tables * width + model["n_layer"] * (12 * width * width + 13 * width) + 2 * width


def describe(model):
    return (f"GPT of {parameters(model) / 1e6:.1f} M parameters ({model['n_layer']} layers, width "
            f"{model['n_embd']})")


def write_text(path, size_bytes=2_000_000):
    """Words of a small vocabulary, drawn with a fixed seed: something to learn."""
    words = [bytes(random.Random(i).choices(b"abcdefghijklmnopqrstuvwxyz", k=2 + i % 7)) for i in range(500)]
    path.write_bytes(b" ".join(random.Random(1).choices(words, k=size_bytes // 5))[:size_bytes])


class MemoryWatch:
    """Peaks of a process's memory, looked at every 20 ms: resident with its huge pages, and what holds no file."""

    def __init__(self, pid):
        self.status = Path(f"/proc/{pid}/status")
        self.peak_bytes, self.peak_anonymous_bytes = 0, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def look(self):
        try:
            text = self.status.read_text(encoding="utf-8")
        except OSError:
            return
        fields = {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
        if "VmHWM" not in fields:  # it has ended, and is waited for
            return
        huge = fields.get("HugetlbPages", 0)
        self.peak_bytes = max(self.peak_bytes, fields["VmHWM"] + huge)
        anonymous = fields.get("RssAnon", 0) + fields.get("RssShmem", 0) + huge
        self.peak_anonymous_bytes = max(self.peak_anonymous_bytes, anonymous)

    def watch(self):
        while not self.ended.wait(0.02):
            self.look()

    def stop(self):
        self.ended.set()
        self.thread.join()


def run_watched(command, environment=None, preexec_fn=None):
    """Runs it to its end: its output and its MemoryWatch. RunFailed, when it fails, has the end of what it said."""
    # pylint: disable=subprocess-popen-preexec-fn (the watch's thread is started later)
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", env=environment, preexec_fn=preexec_fn) as child:
        watch = MemoryWatch(child.pid)
        try:
            output, _ = child.communicate()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        finally:
            watch.stop()
    if child.returncode != 0:
        raise RunFailed("\n".join(output.strip().splitlines()[-12:]) or f"exit code {child.returncode}")
    return output, watch


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Training:
    """A model, text and configuration in a scratch folder, and runs of `spillway train` on them."""

    def __init__(self, program, folder, model, config):
        self.program, self.folder, self.model = program, Path(folder), model
        for name, document in (("model.json", model), ("config.json", config)):
            (self.folder / name).write_text(json.dumps(document), encoding="utf-8")
        write_text(self.folder / "text.txt")

    def run(self, steps, context, settings=(), traced=False, options=(), **how):
        """`settings`: configuration keys and values; `options`: of the command line. The steps' metrics, bits of
        losses, peaks, seconds in all, and of a run that is traced what storage did: busy_seconds, hidden_seconds,
        bytes."""
        metrics, trace = self.folder / "run.jsonl", self.folder / "trace.json"
        metrics.unlink(missing_ok=True)
        command = [self.program, "train", "--model", self.folder / "model.json", "--data", self.folder / "text.txt",
                   "--config", self.folder / "config.json", "--context", context, "--steps", steps, "--seed", 1,
                   "--metrics", metrics, *options]
        for key, value in dict(settings).items():
            command += ["--set", f"{key}={value}"]
        if traced:
            command += ["--trace", trace]
        begin = time.monotonic()
        output, watch = run_watched(command, environment=quiet_threads(), **how)
        seconds, lines = time.monotonic() - begin, read_lines(metrics)
        run = {"steps": lines, "bits": [(line["loss"].hex(), line["grad_norm"].hex()) for line in lines],
               "peak_bytes": watch.peak_bytes, "peak_anonymous_bytes": watch.peak_anonymous_bytes,
               "run_seconds": seconds, "output": output}
        if traced:
            summary, _ = run_watched([self.program, "trace", trace, "--json"])
            run["storage"] = json.loads(summary)["lanes"]["read or write"]
        return run


def quiet_threads():
    """Idle compute threads sleep instead of taking a core from the others: the same for all contenders."""
    return dict(os.environ) | {"OMP_WAIT_POLICY": "passive"}


def median(runs, warm_up, figure):
    """Over all runs' steps after the warm-up; `figure`: of a step."""
    return statistics.median(figure(step) for run_ in runs for step in run_["steps"][warm_up:])


def each_round(runs, warm_up, figure):
    return [statistics.median(figure(step) for step in run_["steps"][warm_up:]) for run_ in runs]


def ratios(top, bottom):
    """Of each round's own figures."""
    return [a / b for a, b in zip(top, bottom)]


def spread(values, digits=2):
    """"median (smallest to largest)"."""
    return (f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})")


def output_of(*command):
    try:
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return result.stdout.strip().split("\n")[0] if result.returncode == 0 else "unknown"


def disk_of(directory):
    """"ext4 on /dev/vda"."""
    return " on ".join(output_of("findmnt", "-no", "FSTYPE,SOURCE", "-T", directory).split())


def print_card(title, *lines):
    """The report's head: machine, commit, load, and what the bench adds."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text(encoding="utf-8"))
    load = os.getloadavg()[0]
    commit = output_of("git", "-C", ROOT, "describe", "--always", "--dirty")
    busy = "; **the machine was busy with other work: read the ratios**" if load > 1 else ""
    print(f"# {title}\n")
    for line in (f"CPU: {cpu[1] if cpu else 'unknown'}, {os.cpu_count()} cores; {int(memory[1]) >> 20} GiB of memory; "
                 f"Linux {platform.release()}; Spillway {commit}",
                 f"Load average before the run: {load:.1f} on {os.cpu_count()} cores{busy}", *lines):
        print(f"- {line}")
    print(flush=True)


def print_table(head, rows):
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print(flush=True)


def print_repetitions(runs_by_name, warm_up, figure):
    """Every counted step, a run between bars."""
    for name, runs in runs_by_name.items():
        print(f"- {name}: " + " | ".join(
            " ".join(f"{figure(step):.3f}" for step in run_["steps"][warm_up:]) for run_ in runs))
    print(flush=True)
