#!/usr/bin/env python3
"""A model trains in a cgroup that cannot hold half of its states, for with all of them on NVMe no memory ever does;
where not even the gradients fit, they follow."""

import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path

import program
from program import ZERO, EndToEndTest

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from cgroup import Cgroup

WIDTH, CONTEXT, BYTES = 768, 2048, 256  # gpt-lite's
MIB = 1 << 20
STEPS = 2
# All bytes of a step's update are told with it; in the background some are told with the step after.
WITHIN_THE_STEP = ("--set", f"{ZERO}offload_optimizer.update_order=after_backward")
NUMBERS = itertools.count()  # of the cgroups


def layers():
    """As many as gpt-lite has; three times that where the program links CUDA's libraries, for these alone keep
    450 MiB of memory, more than half of what gpt-lite's states leave."""
    linked = subprocess.run(["ldd", program.PROGRAM], capture_output=True, text=True).stdout
    return 36 if "libtorch_cuda" in linked else 12


def parameters(n_layer):
    return n_layer * (12 * WIDTH**2 + 13 * WIDTH) + (2 * BYTES + CONTEXT + 2) * WIDTH


class MemoryTest(EndToEndTest):
    def train_within(self, limit, count, n_layer, *options):
        """The last step's metrics, and the most anonymous memory that the run had."""
        model = self.folder / "large.json"
        model.write_text(json.dumps({"n_layer": n_layer, "n_embd": WIDTH, "n_head": 12, "n_positions": CONTEXT,
                                     "vocab_size": BYTES, "tie_word_embeddings": False}))
        try:
            cgroup = Cgroup(f"spillway-e2e-{next(NUMBERS)}", limit)
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
        metrics = self.train("--model", model, "--context", 64, *self.offload("nvme", "nvme"), *options,
                             "--set", "train_batch_size=2", "--set", "train_micro_batch_size_per_gpu=1",
                             steps=STEPS, preexec_fn=cgroup.enter)
        print(f"states {16 * count / MIB:.0f} MiB, limit {limit / MIB:.0f}, cgroup peak "
              f"{cgroup.peak_bytes() / MIB:.0f} with file pages, {peak[0] / MIB:.0f} anonymous; seconds a step "
              f"{[round(line['seconds'], 2) for line in metrics]}")
        self.assertLess(peak[0], limit)
        return metrics[-1], peak[0]

    def test_half_of_the_states_is_enough(self):
        count = parameters(layers())
        limit = 16 * count // 2  # half of weight, master weight, two moments and a gradient
        step, peak = self.train_within(limit, count, layers(), *WITHIN_THE_STEP,
                                       "--set", f"{ZERO}offload_gradients.device=cpu")
        self.assertGreater(peak, 4 * count, "the gradients alone are more: the run was not in the cgroup")
        self.assertGreater(step["nvme_written_bytes"], 12 * count)

    def test_gradients_that_do_not_fit_go_to_nvme_by_themselves(self):
        count = parameters(layers())
        step, peak = self.train_within(5 * count, count, layers(), *WITHIN_THE_STEP)  # 4 of the 5 would be gradients
        self.assertLess(peak, 5 * count)
        self.assertGreater(step["nvme_written_bytes"], 16 * count)
        self.assertGreater(step["nvme_read_bytes"], 18 * count)

    def test_saving_and_resuming_need_no_memory_for_a_checkpoint(self):
        count, saved = parameters(layers()), self.folder / "saved"
        options = ("--checkpoint-dir", saved, "--checkpoint-every", 1)
        step, peak = self.train_within(5 * count, count, layers(), *options)
        size = sum(path.stat().st_size for path in (saved / f"step-{STEPS:08}").iterdir())
        self.assertGreater(size, 12 * count)
        self.assertLess(peak, 5 * count)
        # The second step is done again, from the first one's checkpoint.
        for path in (saved / f"step-{STEPS:08}").iterdir():
            path.unlink()
        (saved / f"step-{STEPS:08}").rmdir()
        again, peak = self.train_within(5 * count, count, layers(), *options)
        self.assertEqual(again["loss"].hex(), step["loss"].hex())
        self.assertLess(peak, 5 * count)
        # Out and in again, where not even the weights fit.
        self.export_within(3 * count, saved, self.folder / "model")
        self.assertGreater((self.folder / "model" / "model.safetensors").stat().st_size, 4 * count)
        _, peak = self.train_within(5 * count, count, layers(), "--init-from", self.folder / "model")
        self.assertLess(peak, 5 * count)

    def export_within(self, limit, saved, out):
        cgroup = Cgroup(f"spillway-e2e-{next(NUMBERS)}", limit)
        self.addCleanup(cgroup.close)
        done = subprocess.run([program.PROGRAM, "export", saved, "--out", out], capture_output=True, text=True,
                              preexec_fn=cgroup.enter, timeout=program.TIMEOUT_S)
        print(f"{done.stdout.strip()}; limit {limit / MIB:.0f} MiB, cgroup peak {cgroup.peak_bytes() / MIB:.0f}")
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    program.main()
