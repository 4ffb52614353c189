#!/usr/bin/env python3
"""A model trains in a cgroup that cannot hold half of its states, for with all of them on NVMe no memory ever does."""

import json
import os
import subprocess
import threading
from pathlib import Path

import program
from program import EndToEndTest

WIDTH, CONTEXT, BYTES = 768, 2048, 256  # gpt-lite's
MIB = 1 << 20
STEPS = 2


def layers():
    """As many as gpt-lite has; three times that where the program links CUDA's libraries, for these alone keep
    450 MiB of memory, more than half of what gpt-lite's states leave."""
    linked = subprocess.run(["ldd", program.PROGRAM], capture_output=True, text=True).stdout
    return 36 if "libtorch_cuda" in linked else 12


def parameters(n_layer):
    return n_layer * (12 * WIDTH**2 + 13 * WIDTH) + (2 * BYTES + CONTEXT + 2) * WIDTH


class Cgroup:
    """A memory limit of its own, version 1 or 2; LookupError says why there is none."""

    def __init__(self, name, limit_bytes):
        roots = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
                 ("/sys/fs/cgroup", "memory.max", "memory.peak"))
        for root, limit, peak in roots:
            self.folder, self.peak_file = Path(root) / f"{name}-{os.getpid()}", peak
            try:
                self.folder.mkdir()
            except OSError as error:
                reason = f"no cgroup can be made: {error}"
                continue
            try:
                (self.folder / limit).write_text(str(limit_bytes))
                return
            except OSError as error:
                reason = f"no memory limit can be set: {error}"
                self.folder.rmdir()
        raise LookupError(reason)

    def enter(self):
        (self.folder / "cgroup.procs").write_text("0")

    def anonymous_bytes(self):
        """Memory that holds no file's pages."""
        numbers = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        return int(numbers.get("total_rss", numbers.get("anon", 0)))

    def peak_bytes(self):
        path = self.folder / self.peak_file
        return int(path.read_text()) if path.exists() else 0

    def close(self):
        self.folder.rmdir()


class MemoryTest(EndToEndTest):
    def test_half_of_the_states_is_enough(self):
        n_layer = layers()
        count = parameters(n_layer)
        limit = 16 * count // 2  # half of weight, master weight, two moments and a gradient
        model = self.folder / "large.json"
        model.write_text(json.dumps({"n_layer": n_layer, "n_embd": WIDTH, "n_head": 12, "n_positions": CONTEXT,
                                     "vocab_size": BYTES, "tie_word_embeddings": False}))
        try:
            cgroup = Cgroup("spillway-e2e", limit)
        except LookupError as reason:
            self.skipTest(str(reason))
        self.addCleanup(cgroup.close)  # after the run's end
        ended, peak = threading.Event(), [0]

        def watch():
            while not ended.wait(0.05):
                peak[0] = max(peak[0], cgroup.anonymous_bytes())
        watcher = threading.Thread(target=watch)
        watcher.start()
        self.addCleanup(watcher.join)
        self.addCleanup(ended.set)
        metrics = self.train("--model", model, "--context", 64, *self.offload("nvme", "nvme"),
                             "--set", "train_batch_size=2", "--set", "train_micro_batch_size_per_gpu=1",
                             steps=STEPS, preexec_fn=cgroup.enter)
        print(f"states {16 * count / MIB:.0f} MiB, limit {limit / MIB:.0f}, cgroup peak "
              f"{cgroup.peak_bytes() / MIB:.0f} with file pages, {peak[0] / MIB:.0f} anonymous; seconds a step "
              f"{[round(line['seconds'], 2) for line in metrics]}")
        self.assertGreater(peak[0], 4 * count, "the gradients alone are more: the run was not in the cgroup")
        self.assertLess(peak[0], limit)
        self.assertGreater(metrics[-1]["nvme_written_bytes"], 12 * count)


if __name__ == "__main__":
    program.main()
