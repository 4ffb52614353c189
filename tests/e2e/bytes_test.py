#!/usr/bin/env python3
"""What a step moves to and from NVMe: by the metrics, by the kernel's count, by estimate, and by theory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import program
from program import SMALL, ZERO, EndToEndTest, read_metrics

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from small_filesystem import small_filesystem

PADDING = 1.02  # planes end on blocks of 4 KiB
STEPS = 4
MIB = 1 << 20


class BytesTest(EndToEndTest):
    model = SMALL

    def setUp(self):
        super().setUp()
        width, layers = SMALL["n_embd"], SMALL["n_layer"]
        block = 12 * width * width + 13 * width
        self.parameters = (SMALL["vocab_size"] + SMALL["n_positions"]) * width + layers * block + 2 * width

    def offload(self, param, optimizer, path=None, order="after_backward"):
        """In the plain order a step's bytes are moved within it; else its update's within the next one."""
        return super().offload(param, optimizer, path) + ["--set", f"{ZERO}offload_optimizer.update_order={order}"]

    def test_forward_order_reads_the_weights_once_for_update_and_forward(self):
        places = self.offload("nvme", "nvme", order="forward")
        done = self.finish(self.start(*places, steps=STEPS))
        self.assertEqual(done.returncode, 0, done.stderr)
        row = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.endswith(" B")}
        # a step: 12 in and out for the update, 2 in for backward; the first forward reads 2 more
        per_step = {name: float(row[name][3]) for name in ("read", "written")}
        self.assertGreater(per_step["read"], 13)
        self.assertLess(per_step["read"], PADDING * (14 + 2 / STEPS) + 0.6)  # 0.6: the tied embedding
        self.assertGreaterEqual(per_step["written"], 12)
        self.assertLess(per_step["written"], PADDING * 12)

    def test_auto_is_backward_where_the_drive_has_room_for_it(self):
        """83 MB of states: two generations and as much again are 331 MB."""
        mount = small_filesystem(self, self.folder, 420)
        filler = mount / "others"
        losses = []
        for others_mib, told in ((0, False), (150, True)):
            filler.write_bytes(bytes(others_mib << 20))
            metrics = self.folder / "metrics.jsonl"
            done = self.finish(self.start(*self.offload("nvme", "nvme", mount, order="auto"), "--set",
                                          "gradient_clipping=0", "--metrics", metrics, steps=STEPS))
            self.assertEqual(done.returncode, 0, done.stderr)
            lines = read_metrics(metrics)
            self.assertEqual(any(line["tiles_updated_ahead"] for line in lines), not told)
            self.assertEqual("update_order auto is forward here" in done.stdout, told, done.stdout)
            losses.append([line["loss"] for line in lines])
        self.assertEqual(*losses)

    def assert_bytes(self, moved, per_parameter):
        self.assertGreaterEqual(moved, per_parameter * self.parameters)
        self.assertLess(moved, PADDING * per_parameter * self.parameters)

    def test_optimizer_on_nvme_moves_ten_bytes_each_way(self):
        for step in self.train(*self.offload("cpu", "nvme"), steps=STEPS):
            self.assert_bytes(step["nvme_read_bytes"], 10)
            self.assert_bytes(step["nvme_written_bytes"], 10)

    def test_all_on_nvme_moves_sixteen_in_and_twelve_out(self):
        for step in self.train(*self.offload("nvme", "nvme"), steps=STEPS):
            # 12 for the update, 2 in forward; 2 in backward, less where one read serves both.
            self.assertGreater(step["nvme_read_bytes"], 14 * self.parameters)
            self.assertLess(step["nvme_read_bytes"], PADDING * 16 * self.parameters)
            self.assert_bytes(step["nvme_written_bytes"], 12)

    def test_fp32_moments_on_nvme_move_eight_bytes_each_way(self):
        step = self.train(*self.offload("none", "nvme"), "--set", "bf16.enabled=false", steps=1)[0]
        self.assert_bytes(step["nvme_read_bytes"], 8)
        self.assert_bytes(step["nvme_written_bytes"], 8)

    def test_accumulation_moves_no_more(self):
        places = self.offload("nvme", "nvme")
        everything = ["--set", f"{ZERO}offload_gradients.device=nvme", "--set", "activation_checkpointing.device=nvme"]
        for options in ([], everything):
            counts = []
            for accumulation in (1, 4, 16):
                steps = self.train(*places, *options, "--set", "train_batch_size=16", "--set",
                                   f"train_micro_batch_size_per_gpu={16 // accumulation}", steps=2)
                counts.append([(step["nvme_read_bytes"], step["nvme_written_bytes"]) for step in steps])
            self.assertEqual(counts[0], counts[1])
            self.assertEqual(counts[0], counts[2])

    def test_gradients_on_nvme_move_four_bytes_each_way_or_two(self):
        for dtype, width in (("fp32", 4), ("bf16", 2)):
            step = self.train("--set", f"{ZERO}offload_gradients.device=nvme", "--set",
                              f"{ZERO}offload_gradients.nvme_path={self.swap}", "--set",
                              f"data_types.grad_accum_dtype={dtype}", steps=2)[1]
            self.assert_bytes(step["nvme_read_bytes"], width)
            self.assert_bytes(step["nvme_written_bytes"], width)

    def test_the_kernel_counts_the_same(self):
        self.train(*self.offload("nvme", "nvme"), steps=1)  # the program itself is in the page cache from here on
        metrics = self.folder / "metrics.jsonl"
        run = self.start(*self.offload("nvme", "nvme"), "--metrics", metrics, steps=STEPS)
        # Not reaped yet, the dead process still tells what it moved.
        os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)
        with open(f"/proc/{run.pid}/io", encoding="ascii") as file:
            kernel = {name: int(value) for name, value in (line.split(": ") for line in file)}
        self.assertEqual(self.finish(run).returncode, 0)
        steps = program.read_metrics(metrics)
        initial = 12 * self.parameters  # the first write of all states, before the first step
        written = sum(step["nvme_written_bytes"] for step in steps) + initial
        read = sum(step["nvme_read_bytes"] for step in steps)
        print(f"kernel: {kernel['read_bytes'] / MIB:.1f} MiB read, {kernel['write_bytes'] / MIB:.1f} written; "
              f"metrics: {read / MIB:.1f} and {written / MIB:.1f}")
        if kernel["write_bytes"] == 0:
            self.skipTest("the kernel counts no writes here: the scratch folder is on no disk")
        # Beside the states: a few pages of the program, the metrics, the directory's journal.
        self.assertGreaterEqual(kernel["read_bytes"], read)
        self.assertLess(kernel["read_bytes"], 1.03 * read)
        self.assertGreaterEqual(kernel["write_bytes"], written)
        self.assertLess(kernel["write_bytes"], 1.03 * written)

    def test_estimate_foretells_what_train_counts(self):
        for pair in (("cpu", "nvme"), ("nvme", "nvme")):
            with self.subTest(pair=pair):
                places = self.offload(*pair)
                told = subprocess.run([program.PROGRAM, "estimate", "--json", "--no-times",
                                       "--model", str(self.model_file), "--config", str(self.config), *places],
                                      capture_output=True, text=True, check=True)
                theory = json.loads(told.stdout)["nvme_per_step"]
                step = self.train(*places, steps=2)[1]
                read = sum(theory[f"{phase}_read_bytes"] for phase in ("forward", "backward", "update"))
                # Where one read serves forward and backward, fewer bytes than foretold.
                self.assertLess(step["nvme_read_bytes"], PADDING * read)
                self.assertGreaterEqual(step["nvme_read_bytes"], read - theory["backward_read_bytes"])
                written = theory["update_written_bytes"]
                self.assertLess(abs(step["nvme_written_bytes"] - written), (PADDING - 1) * written)

    def test_a_cache_saves_its_share(self):
        half = self.parameters // 2
        step = self.train(*self.offload("cpu", "nvme"), "--set", f"{ZERO}offload_optimizer.max_in_cpu={half}",
                          steps=2)[1]
        self.assertLess(step["nvme_read_bytes"], 8 * self.parameters)
        self.assertLess(step["nvme_written_bytes"], 8 * self.parameters)

    def test_what_is_free_is_the_cache_when_nothing_is_said(self):
        automatic = [option.replace("max_in_cpu=0", "max_in_cpu=auto") for option in self.offload("nvme", "nvme")]
        done = self.finish(self.start(*automatic, "--metrics", self.folder / "auto.jsonl", steps=2))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"keeps 100% of the parameters and 100% of the optimizer states in RAM \(.* free")
        for line in (self.folder / "auto.jsonl").read_text().splitlines():
            step = json.loads(line)
            self.assertEqual((step["nvme_read_bytes"], step["nvme_written_bytes"]), (0, 0))


if __name__ == "__main__":
    program.main()
