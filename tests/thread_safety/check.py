#!/usr/bin/env python3
"""check.py SOURCE BUILD: every source that locks passes Clang's -Wthread-safety, which proves that what a mutex guards
is used under it (<spillway/aio/mutex.h>). The flags are those of BUILD/compile_commands.json. std::mutex, which carries
no annotations and so proves nothing, is refused."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LAYERS = ["aio", "pinned_pool", "swapper", "trainer"]
MUTEX_HEADER = "aio/include/spillway/aio/mutex.h"
UNANNOTATED = re.compile(r"std::(mutex|shared_mutex|recursive_mutex|condition_variable|lock_guard|unique_lock)\b")
LOCKS = re.compile(r"\b(Mutex|MutexLock|CondVar)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)


class Sources:
    """The project's files as text, and which of them lock, themselves or in a header that they name."""

    def __init__(self, root):
        self.root = root
        self.texts = {}
        for layer in LAYERS:
            for path in sorted((root / layer).rglob("*")):
                if path.suffix in {".cc", ".h", ".cu"}:
                    self.texts[path] = path.read_text(encoding="utf-8")

    def locks(self, path):
        return any(LOCKS.search(self.texts.get(file, "")) for file in [path, *self.included(path)])

    def included(self, path):
        for name in INCLUDE.findall(self.texts.get(path, "")):
            folders = [path.parent, self.root, self.root / "swapper" / "src" / "c"]
            for layer in LAYERS:
                folders += [self.root / layer / "include", self.root / layer / "src"]
            yield from [f for f in (folder / name for folder in folders) if f in self.texts][:1]

    def unannotated(self):
        for path, text in self.texts.items():
            if path == self.root / MUTEX_HEADER:
                continue
            for number, line in enumerate(text.splitlines(), 1):
                if match := UNANNOTATED.search(line):
                    yield f"{path.relative_to(self.root)}:{number}: {match[0]} carries no annotations, spillway's does"


def flags_of(entry):
    """What decides how a source is read, without what only gcc takes and without its precompiled headers."""
    words = shlex.split(entry["command"])
    kept = ["-std=c++20"]
    for word, following in zip(words, words[1:] + [""]):
        if word == "-isystem":
            kept += [word, following]
        elif word.startswith(("-I", "-D")):
            kept.append(word)
    return kept


def check(entry):
    warnings = ["-Wno-everything", "-Wthread-safety", "-Werror"]
    command = ["clang++", *flags_of(entry), "-fsyntax-only", *warnings, entry["file"]]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return entry["file"], time.monotonic() - start, done.stderr if done.returncode != 0 else ""


def main():
    root, build = Path(sys.argv[1]), Path(sys.argv[2])
    if shutil.which("clang++") is None:
        print("there is no clang++; tools/setup.sh installs it")
        return 77
    sources = Sources(root)
    breaches = list(sources.unannotated())
    compiled = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    locking = {entry["file"]: entry for entry in compiled if sources.locks(Path(entry["file"]))}
    if not locking:
        breaches.append("no source locks: this test looks at nothing")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, seconds, errors in pool.map(check, locking.values()):
            print(f"{Path(path).relative_to(root)}: {seconds:.1f} s")
            if errors:
                breaches.append(errors)
    print("\n".join(breaches) or f"{len(locking)} sources lock as they say")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
