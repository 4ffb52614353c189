#!/usr/bin/env python3
"""examples/fast_copy against files of every awkward size, holes, a full disk and Ctrl-C."""

import os
import random
import signal
import subprocess
import time

import example
from example import ExampleTest
from small_filesystem import small_filesystem

MIB = 1 << 20


class FastCopyTest(ExampleTest):
    def source(self, size, name="source"):
        path = self.folder / name
        path.write_bytes((random.Random(size).randbytes(min(size, MIB + 7)) * (size // MIB + 1))[:size])
        return path

    def test_any_size_and_the_mode(self):
        for size in (0, 1, 511, 4096, 4097, 4 * MIB - 1, 4 * MIB, 64 * MIB + 12345):
            with self.subTest(size=size):
                source, copy = self.source(size), self.folder / "copy"
                source.chmod(0o751)
                self.assert_runs(*(["--verify"] if size % 2 else []), source, copy)
                self.assertEqual(copy.read_bytes(), source.read_bytes())
                self.assertEqual(copy.stat().st_mode & 0o7777, 0o751)
                self.assertEqual(self.names(), ["copy", "source"])

    def test_holes_stay_holes(self):
        source, copy = self.folder / "source", self.folder / "copy"
        with open(source, "wb") as file:  # data, a hole, data, and a tail that is a hole of odd size
            file.write(random.Random(1).randbytes(MIB))
            file.seek(100 * MIB)
            file.write(random.Random(2).randbytes(MIB + 17))
            file.truncate(300 * MIB + 123)
        self.assert_runs("--verify", source, copy)
        done = subprocess.run(["cmp", source, copy], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        if source.stat().st_blocks * 512 > 10 * MIB:
            self.skipTest("this filesystem has no holes")
        self.assertLess(copy.stat().st_blocks * 512, 10 * MIB)

    def test_a_folder_is_copied_into(self):
        source = self.source(1000)
        (self.folder / "folder").mkdir()
        self.assert_runs(source, self.folder / "folder")
        self.assertEqual((self.folder / "folder" / "source").read_bytes(), source.read_bytes())

    def test_the_old_file_is_replaced_or_kept_whole(self):
        source, copy = self.source(5 * MIB), self.folder / "copy"
        copy.write_bytes(b"old")
        self.assert_runs(source, copy)
        self.assertEqual(copy.read_bytes(), source.read_bytes())
        copy.write_bytes(b"old")
        (self.folder / "copy.partial").write_bytes(b"somebody else's")
        self.assert_refused(source, copy, text="copy.partial")
        self.assertEqual(copy.read_bytes(), b"old")
        self.assertEqual((self.folder / "copy.partial").read_bytes(), b"somebody else's")

    def test_a_full_disk(self):
        source = self.source(60 * MIB)
        mount = small_filesystem(self, self.folder, 40)
        (mount / "copy").write_bytes(b"old")
        self.assert_refused(source, mount / "copy", text="No space left on device")
        self.assertEqual(self.names(mount), ["copy"])
        self.assertEqual((mount / "copy").read_bytes(), b"old")

    def test_an_interrupt_leaves_nothing(self):
        source = self.source(256 * MIB)
        partial = self.folder / "copy.partial"
        for attempt in range(10):
            child = subprocess.Popen([example.PROGRAM, source, self.folder / "copy"], stderr=subprocess.PIPE, text=True)
            while child.poll() is None and not partial.exists():
                time.sleep(0.001)
            time.sleep(0.003 * attempt)
            child.send_signal(signal.SIGINT)
            _, text = child.communicate(timeout=60)
            if child.returncode == 1:
                self.assertIn("cancelled", text)
                self.assertEqual(self.names(), ["source"])
                return
            if (self.folder / "copy").exists():
                os.unlink(self.folder / "copy")
        self.skipTest("the copy was always faster than the interrupt")

    def test_what_cannot_be_copied(self):
        source = self.source(10)
        self.assert_refused(text="^usage:", code=2)
        self.assert_refused("--fast", source, "copy", text="^usage:", code=2)
        self.assert_refused(self.folder / "none", self.folder / "copy", text="none: No such file")
        self.assert_refused(source, self.folder / "none" / "copy", text="No such file")
        self.assert_refused(source, source, text="same file")
        self.assert_refused(self.folder, self.folder / "copy", text="neither a regular file")
        self.assertEqual(self.names(), ["source"])


if __name__ == "__main__":
    example.main()
