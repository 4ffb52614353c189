#!/usr/bin/env python3
"""`spillway export` that does not come to its end, by a full disk or kill -9, or that is not alone: nothing that looks
complete is left, the next one works, and none removes what is another's."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import program
from export_test import MODEL, ExportTest
from small_filesystem import SmallFilesystem


class UnfinishedTest(ExportTest):
    model = MODEL | {"n_embd": 256}  # 1.7 M parameters: some twenty files of at most 300 kB or one tensor

    def setUp(self):
        super().setUp()
        self.saved, _ = self.trained("saved", steps=1)
        self.export(self.saved, self.folder / "whole", "--max-shard-size", "300KB")
        self.files = len(list((self.folder / "whole").iterdir()))
        self.assertGreater(self.files, 12)

    def begin(self, out, *before):
        command = [*before, program.PROGRAM, "export", str(self.saved), "--out", str(out), "--max-shard-size", "300KB"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        self.addCleanup(self.end, run)
        return run

    def begin_and_stop(self, out, files):
        """An export that stands still when it has made so many of its files, or a few more."""
        unfinished = out.with_name(out.name + ".tmp")
        for _ in range(50):
            run = self.begin(out)
            while run.poll() is None and len(list(unfinished.glob("*"))) < files:
                pass  # whoever sleeps here may sleep through it all
            if run.returncode is None:
                run.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, run.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                if files <= len(list(unfinished.glob("*"))) < self.files:
                    return run
            run.send_signal(signal.SIGCONT)
            self.assertEqual(self.finish(run).returncode, 0)
            shutil.rmtree(out)
        self.fail("each was done before it could be stopped")

    def assert_refused_by_name(self, done, *texts):
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for text in ("spillway export: ", *texts):
            self.assertIn(text, done.stderr)

    def assert_works(self, out):
        self.export(self.saved, out, "--max-shard-size", "300KB")
        self.assertFalse(out.with_name(out.name + ".tmp").exists())
        self.assertEqual(sorted(path.name for path in out.iterdir()),
                         sorted(path.name for path in (self.folder / "whole").iterdir()))
        for path in out.iterdir():
            self.assertEqual(path.read_bytes(), (self.folder / "whole" / path.name).read_bytes())

    def test_a_disk_that_fills_half_way(self):
        disk = SmallFilesystem(self, self.folder, 60)
        run = self.begin_and_stop(disk.path / "model", files=3)
        with open(disk.path / "others", "wb", buffering=0) as others:
            disk.fill(others.fileno())
        run.send_signal(signal.SIGCONT)
        self.assert_refused_by_name(self.finish(run), "No space left on device", "model.tmp/")
        self.assertEqual(sorted(os.listdir(disk.path)), ["lost+found", "others"])
        (disk.path / "others").unlink()
        self.assert_works(disk.path / "model")

    def test_a_disk_whose_names_run_out_half_way(self):
        disk = SmallFilesystem(self, self.folder, 60)
        (disk.path / "names").mkdir()
        for number in range(os.statvfs(disk.path).f_ffree - 8):
            (disk.path / "names" / str(number)).touch()
        self.assert_refused_by_name(self.finish(self.begin(disk.path / "model")), "create", "No space left on device",
                                    "model.tmp/")
        self.assertEqual(sorted(os.listdir(disk.path)), ["lost+found", "names"])
        shutil.rmtree(disk.path / "names")
        self.assert_works(disk.path / "model")

    def test_kill_half_way(self):
        model, unfinished = self.folder / "model", self.folder / "model.tmp"
        for files in (1, 5, 12):
            run = self.begin_and_stop(model, files)
            run.kill()
            run.communicate()
            self.assertFalse(model.exists())
            self.assertTrue(unfinished.exists())
            self.assert_refused(self.finish(self.start("--init-from", unfinished, steps=1)), "model.tmp")
            self.assert_works(model)
            shutil.rmtree(model)

    def test_what_another_export_writes_is_left_alone(self):
        model, unfinished = self.folder / "model", self.folder / "model.tmp"
        run = self.begin_and_stop(model, files=3)
        self.assert_refused_by_name(self.finish(self.begin(model)), "another export is writing there")
        run.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(run).returncode, 0)
        self.assertFalse(unfinished.exists())
        shutil.rmtree(model)
        unfinished.mkdir()
        (unfinished / "mine.txt").write_text("not an export's")
        self.assert_refused_by_name(self.finish(self.begin(model)), "holds files that are no export's")
        self.assertEqual([path.name for path in unfinished.iterdir()], ["mine.txt"])
        shutil.rmtree(unfinished)
        self.assert_works(model)

    def test_one_that_is_overtaken_before_it_has_locked_gives_way(self):
        if shutil.which("strace") is None:
            self.skipTest("strace is not installed")
        model, unfinished = self.folder / "model", self.folder / "model.tmp"
        # It stops when it has made and opened the directory. The second takes that for a killed one's.
        strace = self.begin(model, "strace", "-f", "-qq", "-o", "/dev/null", "-P", str(unfinished), "-e",
                            "trace=openat", "-e", "inject=openat:signal=STOP:when=1")
        children = Path(f"/proc/{strace.pid}/task/{strace.pid}/children")
        self.wait_until(lambda: unfinished.exists() or strace.poll() is not None, "the directory")
        self.assertIsNone(strace.returncode, "strace cannot trace here")
        first = int(children.read_text().split()[0])
        self.addCleanup(self.end_traced, strace, first)
        self.wait_until(lambda: Path(f"/proc/{first}/stat").read_text().rsplit(") ", 1)[1][0] in "Tt", "a stop")
        second = self.begin_and_stop(model, files=3)
        os.kill(first, signal.SIGCONT)
        self.assert_refused_by_name(self.finish(strace), "another export is writing there")
        second.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(second).returncode, 0)
        for path in (self.folder / "whole").iterdir():
            self.assertEqual((model / path.name).read_bytes(), path.read_bytes())

    @staticmethod
    def end_traced(strace, pid):
        if strace.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def test_of_several_at_a_time_one_is_done(self):
        model = self.folder / "model"
        for left_by_a_killed_one in (False, True) * 2:
            if left_by_a_killed_one:
                run = self.begin_and_stop(model, files=2)
                run.kill()
                run.communicate()
            done = [self.finish(run) for run in [self.begin(model) for _ in range(4)]]
            self.assertEqual([one.returncode for one in done].count(0), 1, [one.stderr for one in done])
            for one in done:
                if one.returncode != 0:
                    self.assert_refused_by_name(one)
            for path in (self.folder / "whole").iterdir():
                self.assertEqual((model / path.name).read_bytes(), path.read_bytes())
            self.assertFalse((self.folder / "model.tmp").exists())
            shutil.rmtree(model)


if __name__ == "__main__":
    program.main()
