#!/usr/bin/env python3
"""examples/kv_spill: a cache of blocks that goes on after a restart, also after a kill."""

import random
import signal
import subprocess
import time

import example
from example import PROGRAM, ExampleTest


class KvSpillTest(ExampleTest):
    def blocks(self, output, word):
        """First and last block of the line that starts with the word."""
        line = next(line for line in output.splitlines() if line.startswith(word))
        return tuple(int(number) for number in line.split("blocks ")[1].split(",")[0].split(" to "))

    def test_blocks_survive_restarts(self):
        first = self.assert_runs(self.folder)
        self.assertEqual(self.blocks(first, "saved"), (0, 63))
        self.assertEqual(self.names(), ["saved-1"])
        taken = sum(path.stat().st_blocks * 512 for path in (self.folder / "saved-1").iterdir())
        self.assertLess(taken, 66 * (512 << 10) + (1 << 20), "places without a block take no space")
        for run in range(1, 7):  # the numbers go round the places
            output = self.assert_runs(self.folder)
            self.assertEqual(self.blocks(output, "opened"), (16 * run - 16, 16 * run + 47))
            self.assertEqual(self.blocks(output, "saved"), (16 * run, 16 * run + 63))
            self.assertEqual(self.names(), [f"saved-{run + 1}"])

    def test_a_run_that_is_killed_loses_only_its_own_blocks(self):
        self.assert_runs(self.folder)
        seed = random.randrange(1 << 30)
        draw = random.Random(seed)
        for _ in range(12):
            with subprocess.Popen([PROGRAM, self.folder], stdout=subprocess.DEVNULL) as process:
                time.sleep(draw.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
            # As many blocks as ever, and every byte of them checked.
            first, last = self.blocks(self.assert_runs(self.folder), "opened")
            self.assertEqual(last - first, 63, f"seed {seed}")
            self.assertEqual(first % 16, 0, f"seed {seed}")

    def test_damage_is_named(self):
        self.assert_runs(self.folder)
        segment = self.folder / "saved-1" / "segment-00000"
        manifest = self.folder / "saved-1" / "spillway-tiles"
        for path, text in ((segment, "segment-00000.*tile 0, plane keys.*checksum mismatch"),
                           (manifest, "spillway-tiles.*damaged")):
            with path.open("r+b") as file:
                file.seek(5000 if path == segment else 100)
                byte = file.read(1)
                file.seek(-1, 1)
                file.write(bytes([byte[0] ^ 1]))
                file.flush()
                self.assert_refused(self.folder, text=text)
                file.seek(-1, 1)
                file.write(byte)
        self.assert_runs(self.folder)

    def test_what_cannot_be_done(self):
        self.assert_refused(text="^usage:", code=2)
        self.assert_refused(self.folder / "none", text="none: No such file")


if __name__ == "__main__":
    example.main()
