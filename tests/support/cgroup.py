"""A memory limit for a child process."""

import os
from pathlib import Path


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

    def oom_kills(self):
        """How often the OOM killer ended a process in it."""
        for name in ("memory.oom_control", "memory.events"):
            if (self.folder / name).exists():
                text = (self.folder / name).read_text()
                return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))
        return 0

    def close(self):
        self.folder.rmdir()
