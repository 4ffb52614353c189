"""Disks of known speed: ext4 on loop devices over files, slowed down by the kernel (blkio, cgroup v1).

They take no CPU from what is measured, and their speed does not swing. Needs root. All of it is gone afterwards, also
after a failure or Ctrl-C; SIGTERM is turned into an exit for that.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLKIO = Path("/sys/fs/cgroup/blkio")
DIRECTIONS = ("read", "write")


def why_not():
    """Why there can be no such disks here; None when there can."""
    if os.geteuid() != 0:
        return "loop devices and cgroups need root"
    if not (BLKIO / "blkio.throttle.read_bps_device").exists():
        return f"no blkio controller of cgroup v1 at {BLKIO}"
    for program in ("losetup", "mkfs.ext4", "mount", "umount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {result.stderr.strip() or result.returncode}")
    return result.stdout.strip()


def unmount(path):
    """A killed program's files are closed some time after its end: io_uring's are."""
    for _ in range(100):
        if subprocess.run(["umount", path], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    run("umount", "--lazy", path)


class Disk:
    def __init__(self, device, path):
        self.device = device
        self.path = path
        self.number = (Path("/sys/class/block") / Path(device).name / "dev").read_text().strip()


class Disks:
    """`count` disks of `size_mib`, with their files in `folder`. A context manager."""

    def __init__(self, folder, count, size_mib):
        self.folder, self.count, self.size_mib = folder, count, size_mib
        self.disks = []
        self.undo = contextlib.ExitStack()

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with contextlib.ExitStack() as undo:
            scratch = Path(tempfile.mkdtemp(prefix=".throttled-", dir=self.folder))
            undo.callback(shutil.rmtree, scratch)
            self.cgroup = Path(tempfile.mkdtemp(prefix="spillway-", dir=BLKIO))
            undo.callback(self.cgroup.rmdir)
            for index in range(self.count):
                self.disks.append(self.add(undo, scratch, index))
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.undo.close()

    def add(self, undo, scratch, index):
        image = scratch / f"image{index}"
        with image.open("wb") as file:
            block = os.urandom(1 << 20)
            for _ in range(self.size_mib):  # written, so that no block is allocated under the clock
                file.write(block)
            os.fsync(file.fileno())
        device = run("losetup", "-f", "--show", "--direct-io=on", image)
        undo.callback(run, "losetup", "-d", device)
        run("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=0", "-O", "^has_journal", device)
        mount = scratch / f"disk{index}"
        mount.mkdir()
        run("mount", device, mount)
        undo.callback(unmount, mount)
        return Disk(device, mount)

    def limit(self, mb_per_second):
        """One figure a disk, for reads and for writes, of programs run by `run`."""
        for disk, rate in zip(self.disks, mb_per_second):
            for direction in DIRECTIONS:
                rule = self.cgroup / f"blkio.throttle.{direction}_bps_device"
                rule.write_text(f"{disk.number} {int(rate * 1e6)}")

    def enter(self):
        """Moves the calling process into the cgroup of the limits: for a child before it starts."""
        (self.cgroup / "cgroup.procs").write_text("0")

    def run(self, command):
        """What the program prints, under the limits."""
        # pylint: disable=subprocess-popen-preexec-fn (no threads here)
        result = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=self.enter)
        if result.returncode != 0:
            raise OSError(result.stderr.strip() or f"{command[0]} failed with {result.returncode}")
        return result.stdout
