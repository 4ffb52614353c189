#!/usr/bin/env python3
"""Compiles the code of README.md and docs/embedding.md, so that it cannot rot.

snippets.py check FOLDER COMPILER [FLAG ...]: a ```cpp block is the body of a function that has an engine, a file, a
pool and a store; a ```cpp block with a file name behind is a file. Errors name the document's own lines.
snippets.py project FOLDER: writes the files that docs/embedding.md names (a project to build) into the folder."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "embedding.md"
DOCUMENTS = [ROOT / "README.md", GUIDE]
PRELUDE = """\
#include <spillway/aio/completion_queue.h>
#include <spillway/aio/engine.h>
#include <spillway/aio/striped_file.h>
#include <spillway/pinned_pool/pool.h>
#include <spillway/swapper/saved_tiles.h>
#include <spillway/swapper/tile_store.h>
#include <spillway/swapper/tile_stream.h>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <latch>
#include <vector>
using namespace spillway;
"""
FUNCTION = """\
Result<void> snippet_at_{line}([[maybe_unused]] aio::Engine& engine, [[maybe_unused]] aio::File& file,
                               [[maybe_unused]] pinned_pool::Pool& pool, [[maybe_unused]] swapper::TileStore& store) {{
#line {line} "{document}"
{code}
return {{}};
}}
"""


def blocks(text):
    """(language, file name or empty, first line, code) of each fenced block."""
    fences = re.finditer(r"^```(\w+)[ ]?(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(fence[1], fence[2], text.count("\n", 0, fence.start(3)) + 1, fence[3]) for fence in fences]


def sources(document):
    """(file name, C or C++ source) of what is to be compiled of a document."""
    found = blocks(document.read_text(encoding="utf-8"))
    functions = [FUNCTION.format(line=line, document=document, code=code)
                 for language, name, line, code in found if language == "cpp" and not name]
    if functions:
        yield f"{document.stem}_functions.cc", PRELUDE + "".join(functions)
    for language, name, line, code in found:
        if language in ("c", "cpp") and name:
            yield name, f'#line {line} "{document}"\n{code}'


def check(folder, compiler, *flags, documents=tuple(DOCUMENTS)):
    folder.mkdir(parents=True, exist_ok=True)
    failed = False
    for name, source in (pair for document in documents for pair in sources(document)):
        (folder / name).write_text(source, encoding="utf-8")
        language = ["-x", "c", "-std=c11"] if name.endswith(".c") else ["-std=c++20"]
        done = subprocess.run([compiler, *language, "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                               "-Wno-unused-variable", *flags, folder / name], check=False)
        failed = failed or done.returncode != 0
    return 1 if failed else 0


def project(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for _, name, _, code in blocks(GUIDE.read_text(encoding="utf-8")):
        if name:
            (folder / name).write_text(code, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit({"check": check, "project": project}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))
