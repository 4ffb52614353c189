#!/usr/bin/env python3
"""What goes in and what comes out: token files, generated text, reports, and the help of every command."""

import array
import json
import subprocess
import sys

import program
from program import EndToEndTest, bits


def llmc(tokens):
    header = array.array("i", [20240520, 1, len(tokens)] + [0] * 253)
    return header.tobytes() + array.array("H", tokens).tobytes()


class DataTest(EndToEndTest):
    def test_token_files_hold_the_same_as_the_text(self):
        tokens = list(self.text.read_bytes())
        expected = bits(self.train(steps=3))
        self.assertEqual(sys.byteorder, "little", "the formats are little-endian")
        files = {"llmc.bin": llmc(tokens), "nanogpt.bin": array.array("H", tokens).tobytes()}
        for name, content in files.items():
            with self.subTest(file=name):
                path = self.folder / name
                path.write_bytes(content)
                given = bits(self.train("--data", path, "--data-format", name.split(".", maxsplit=1)[0], steps=3))
                self.assertEqual(given, expected)
                self.assertEqual(bits(self.train("--data", path, steps=3)), expected, "recognised by itself")

    def test_generated_text_can_be_had_again(self):
        def sample(*options):
            done = self.finish(self.start("--sample", 40, "--prompt", "ab", *options, steps=3))
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout.split("\nsample:\n")[1].split("\n  held by")[0]
        first = sample(*self.offload("nvme", "nvme"))
        self.assertGreaterEqual(len(first), 42)
        self.assertTrue(first.startswith("ab"))
        self.assertEqual(sample(), first)
        self.assertNotEqual(sample("--seed", 2), first)

    def test_sampling_beyond_the_context_goes_on(self):
        done = self.finish(self.start("--sample", 80, "--temperature", 0, steps=1))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_memory_report_names_every_parameter(self):
        done = self.finish(self.start("--memory-report", *self.offload("nvme", "nvme"), steps=1))
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [line for line in done.stdout.splitlines() if line.startswith(("  transformer.", "  head."))]
        # Two embeddings, twelve of each layer, the last norm's two.
        self.assertEqual(len(rows), 2 + 12 * self.model["n_layer"] + 2, done.stdout)

    def test_metrics_lines_have_their_keys(self):
        keys = {"step", "loss", "grad_norm", "lr", "seconds", "io_wait_seconds", "update_wait_seconds",
                "compute_seconds", "optimizer_seconds", "update_seconds", "update_drive_busy_seconds",
                "update_drive_idle_seconds", "tiles_updated_ahead", "tiles_taken_back", "tokens_per_second",
                "nvme_read_bytes", "nvme_written_bytes", "pinned_bytes", "rss_bytes"}
        for line in self.train(*self.offload("nvme", "cpu"), steps=2):
            self.assertEqual(set(line), keys)
            self.assertGreater(line["seconds"], 0)
            self.assertGreater(line["rss_bytes"], 10 << 20)
            self.assertGreater(line["nvme_read_bytes"], 0)


class CommandsTest(EndToEndTest):
    def call(self, *arguments):
        return subprocess.run([program.PROGRAM, *arguments], capture_output=True, text=True, env=program.ENVIRONMENT,
                              timeout=program.TIMEOUT_S)

    def test_every_command_has_help(self):
        for command in ((), ("train",), ("doctor",), ("estimate",)):
            done = self.call(*command, "--help")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("xample", done.stdout)

    def test_doctor_answers_in_json(self):
        done = self.call("doctor", "--json", "--path", str(self.swap))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(json.loads(done.stdout)["capabilities"])
        self.assertEqual(self.left_over(), [])

    def test_a_mistyped_option_is_refused(self):
        done = self.call("train", "--data", str(self.text), "--stepz", "3")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--stepz", done.stderr)


if __name__ == "__main__":
    program.main()
