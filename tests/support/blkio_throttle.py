"""Slows a device down for a child process (cgroup v1's blkio controller), down to standing still."""

import os
from pathlib import Path


class BlkioThrottle:
    """Of the device that holds `path`. LookupError says why there is none."""

    ROOT = Path("/sys/fs/cgroup/blkio")

    def __init__(self, path):
        if not (self.ROOT / "cgroup.procs").exists():
            raise LookupError("there is no blkio controller of cgroup v1 here")
        device = os.stat(path).st_dev
        self.device = f"{os.major(device)}:{os.minor(device)}"
        self.folder = self.ROOT / f"spillway-test-{os.getpid()}"
        try:
            self.folder.mkdir()
        except OSError as error:
            raise LookupError(f"no cgroup can be made: {error}") from error

    def limit(self, bytes_per_second):
        """Reads and writes each; 0: no limit. Holds for what already waits, too."""
        for direction in ("read", "write"):
            try:
                (self.folder / f"blkio.throttle.{direction}_bps_device").write_text(
                    f"{self.device} {bytes_per_second}")
            except OSError as error:
                self.close()
                raise LookupError(f"this kernel does not throttle devices: {error}") from error

    def enter(self):
        (self.folder / "cgroup.procs").write_text("0")

    def close(self):
        """What is still in it has ended, or does so now that nothing holds it up."""
        if not self.folder.exists():
            return
        for direction in ("read", "write"):
            (self.folder / f"blkio.throttle.{direction}_bps_device").write_text(f"{self.device} 0")
        for process in (self.folder / "cgroup.procs").read_text().split():
            (self.ROOT / "cgroup.procs").write_text(process)
        self.folder.rmdir()
