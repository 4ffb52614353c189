"""Hugging Face's own readers, in an environment of their own in the cache folder, made once: safetensors is small;
transformers needs a torch that Python can import, which the build's libtorch need not be."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

SAFETENSORS, TRANSFORMERS = "0.8.0", "5.23.0"
VERSION = f"py{sys.version_info.major}.{sys.version_info.minor}"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spillway"
INSTALL_S = 240

FORWARD = """
import json, sys, torch, transformers
transformers.utils.logging.disable_progress_bar()
folder, tokens = sys.argv[1], json.loads(sys.argv[2])
model = transformers.GPT2LMHeadModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
given = torch.tensor([tokens])
with torch.no_grad():
    logits = model(given[:, :-1]).logits[0]
loss = torch.nn.functional.cross_entropy(logits, given[0, 1:]).item()
model.save_pretrained(folder + "-saved", max_shard_size="40KB")
model.transformer.save_pretrained(folder + "-bare")
print(json.dumps({"logits": logits.tolist(), "loss": loss, "saved": folder + "-saved", "saved_bare": folder + "-bare"}))
"""


class Unavailable(Exception):
    """Why it cannot be had here."""


def run(*command, environment=None, timeout=INSTALL_S):
    try:
        return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True,
                              timeout=timeout, env=environment).stdout.strip()
    except subprocess.CalledProcessError as failed:
        lines = (failed.stderr or failed.stdout).strip().splitlines()
        raise Unavailable(f"{Path(command[0]).name}: {lines[-1] if lines else failed.returncode}") from None
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise Unavailable(str(failed)) from None


def environment_of(name, *packages):
    """The Python of an environment that has them; one that was cut off is completed."""
    folder = CACHE / f"{name}-{VERSION}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{folder.name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python, complete = folder / "bin/python", folder / "complete"
        if not complete.exists():
            run(sys.executable, "-m", "venv", folder)
            run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-cache-dir", *packages)
            complete.touch()
    return python


def importable_torch():
    """The folder to put on the path so that `import torch` works; None: it works as it is."""
    folders = [None]
    if os.environ.get("SPILLWAY_TORCH"):
        folders.append(Path(os.environ["SPILLWAY_TORCH"]).parent)
    folders += sorted(CACHE.glob(f"torch-*-{VERSION}/lib/python*/site-packages"))
    for folder in folders:
        try:
            run(sys.executable, "-c", "import torch", environment=path_with(folder))
            return folder
        except Unavailable:
            continue
    raise Unavailable("no torch that Python can import (the build's is libtorch, for C++ alone)")


def path_with(folder):
    return dict(os.environ) | ({"PYTHONPATH": str(folder)} if folder else {})


class HuggingFace:
    """transformers, with a torch that is there."""

    def __init__(self, python, torch):
        self.python, self.torch = python, torch

    @staticmethod
    def with_safetensors():
        return environment_of(f"safetensors-{SAFETENSORS}", "--no-deps", f"safetensors=={SAFETENSORS}")

    @classmethod
    def with_transformers(cls):
        torch = importable_torch()
        return cls(environment_of(f"transformers-{TRANSFORMERS}", f"transformers=={TRANSFORMERS}"), torch)

    def forward(self, model, tokens):
        """Logits and loss of the tokens, and folders that transformers saved the model to."""
        environment = path_with(self.torch) | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        told = run(self.python, "-c", FORWARD, model, json.dumps(tokens), environment=environment)
        return json.loads(told.splitlines()[-1])
