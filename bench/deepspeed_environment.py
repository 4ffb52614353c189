"""Installs DeepSpeed in an environment of its own, compiles what it compiles at its first use, and runs the twin there.

All in one cache folder, and once: the next run finds it. A folder that was cut off is completed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from train_runs import ROOT, RunFailed, run_watched

DEEPSPEED, TORCH = "0.19.8", "2.11.0"
TWIN = Path(__file__).resolve().with_name("deepspeed_twin.py")
TINY = {"n_layer": 1, "n_embd": 64, "n_head": 2, "n_positions": 32, "vocab_size": 256}


def say(text):
    print(f"deepspeed: {text}", file=sys.stderr, flush=True)


def default_folder():
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "spillway" / f"deepspeed-{DEEPSPEED}-py{sys.version_info.major}.{sys.version_info.minor}"


def run(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RunFailed(f"{' '.join(map(str, command))}: {(result.stderr or result.stdout).strip()[-500:]}")
    return result.stdout.strip()


def torches_at_hand():
    """Folders that may hold an importable torch: the active environment's, and what the build uses."""
    try:
        yield Path(run(sys.executable, "-c", "import torch; print(torch.__path__[0])")).parent
    except RunFailed:
        pass
    environment = ROOT / "build/environment"
    given = os.environ.get("SPILLWAY_TORCH")
    if not given and environment.exists():
        given = run("bash", "-c", 'source "$0" && echo "$SPILLWAY_TORCH"', environment)
    if given:
        yield Path(given).parent


class DeepSpeed:
    """The environment in `folder`. RunFailed tells what is missing."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.python = self.folder / "bin/python"
        self.compiled = self.folder / "compiled"  # a stamp

    def install(self):
        if self.compiled.exists():
            return
        self.require_compiler()
        if not self.python.exists():
            run(sys.executable, "-m", "venv", self.folder)
        self.find_torch()
        say(f"installing DeepSpeed {DEEPSPEED} into {self.folder}")
        run(self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"torch=={TORCH}",
            f"deepspeed=={DEEPSPEED}", "setuptools")
        self.compile()
        self.compiled.touch()

    @staticmethod
    def require_compiler():
        """DeepSpeed compiles its operators when they are first used; its asynchronous I/O wants libaio's header."""
        if shutil.which("c++") is None:
            raise RunFailed("a C++ compiler is missing; as root: apt-get install build-essential")
        if Path("/usr/include/libaio.h").exists():
            return
        install = ["apt-get", "install", "-y", "--no-install-recommends", "libaio-dev"]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise RunFailed(f"libaio's header is missing; as root: apt-get update && {' '.join(install)}")
        say("installing libaio-dev")
        run("apt-get", "update")
        run(*install)

    def find_torch(self):
        """Lets the environment use a torch of the right version that is there; pip fetches 2 GB otherwise."""
        packages = Path(run(self.python, "-c", "import site; print(site.getsitepackages()[0])"))
        path_file = packages / "torch_at_hand.pth"
        for folder in torches_at_hand():
            path_file.write_text(f"{folder}\n", encoding="utf-8")
            try:
                version = run(self.python, "-c", "import torch; print(torch.__version__)")
            except RunFailed:
                continue
            if version.split("+")[0] == TORCH:
                say(f"torch {version} in {folder}")
                return
        path_file.unlink(missing_ok=True)
        say(f"no torch {TORCH} that Python can import: pip fetches it (2 GB)")

    def compile(self):
        """Runs a tiny model once in each way that the bench does."""
        shutil.rmtree(self.folder / "extensions", ignore_errors=True)
        say("compiling its operators (4 to 15 minutes, once)")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "model.json").write_text(json.dumps(TINY), encoding="utf-8")
            (folder / "text.txt").write_bytes(b"compile " * 100)
            for place in ({"device": "cpu"}, {"device": "nvme", "nvme_path": str(folder / "states")}):
                config = {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": True},
                          "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
                          "zero_optimization": {"stage": 3, "offload_optimizer": place}}
                self.twin(folder, config, steps=1, context=32)

    def twin(self, folder, config, steps, context, **how):
        """A run on `folder`'s model.json and text.txt: what deepspeed_twin.py found, and its peaks of memory."""
        configuration, result = folder / "deepspeed.json", folder / "deepspeed_result.json"
        configuration.write_text(json.dumps(config), encoding="utf-8")
        result.unlink(missing_ok=True)
        for lock in self.folder.glob("extensions/*/lock"):  # of a run that was killed: the next would wait for ever
            lock.unlink()
        environment = dict(os.environ) | {
            "TORCH_EXTENSIONS_DIR": str(self.folder / "extensions"), "OMP_WAIT_POLICY": "passive",
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        _, watch = run_watched([self.python, TWIN, "--model", folder / "model.json", "--data", folder / "text.txt",
                                "--config", configuration, "--steps", steps, "--context", context, "--result", result],
                               environment=environment, **how)
        return json.loads(result.read_text(encoding="utf-8")) | {
            "peak_bytes": watch.peak_bytes, "peak_anonymous_bytes": watch.peak_anonymous_bytes}
