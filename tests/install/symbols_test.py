#!/usr/bin/env python3
"""symbols_test.py SHARED STATIC HEADERS...: what a shared library shows is what its public headers declare.

SHARED, STATIC: the two kinds of one library; HEADERS: folders with the public headers. Exit code 0: so it is;
1: a line for each name shown but not declared, or declared (and defined in STATIC) but not shown."""

import re
import subprocess
import sys
from pathlib import Path

PREFIXES = r"^(vtable for|VTT for|typeinfo for|typeinfo name for|non-virtual thunk to|guard variable for) "


def symbols(path, *options):
    """(kind, demangled name) of each symbol that `path` defines."""
    listing = subprocess.run(["nm", "--defined-only", "--demangle", *options, path], capture_output=True, text=True,
                             check=True).stdout
    for line in listing.splitlines():
        match = re.match(r"[0-9a-f]+ ([A-Za-z]) (.*)", line)
        if match and match[1] != "A":
            yield match[1], match[2].split("@@")[0]


class Headers:
    def __init__(self, folders):
        files = [f for folder in folders for f in sorted(Path(folder).rglob("*.h"))]
        text = "\n".join(f.read_text(encoding="utf-8") for f in files)
        text = re.sub(r"//.*", "", text)
        text = re.sub(r"\bSPILLWAY_LOCAL\b[^;{]*;", "", text)
        # Scopes that are opened, not those that are only announced.
        opened = r"\b(?:class|struct)\s+(?:\[\[\w+\]\]\s+)?(?:SPILLWAY_\w+\s+)?(\w+)(?:\s+final)?(?:\s*:[^{;]*)?\s*\{"
        self.scopes = set(re.findall(opened, text))
        for names in re.findall(r"\bnamespace\s+([\w:]+)\s*\{", text):
            self.scopes.update(names.split("::"))
        self.names = set(re.findall(r"(operator\W+?|~?\b\w+)\s*(?:[({=;\[])", text)) | self.scopes

    def declare(self, name):
        """Whether the qualified name of a symbol stands in these headers."""
        name = re.sub(PREFIXES, "", name).replace("[abi:cxx11]", "")
        *scopes, last = qualified(name).split("::")
        if not scopes:
            return last.startswith("spillway_") and last in self.names
        return scopes[0] == "spillway" and set(scopes) <= self.scopes and last in self.names


def qualified(name):
    """`name` without parameters."""
    return name.split("(")[0] if not name.startswith("(anonymous") else name


def breaches(shared, static, headers):
    shown = {name for _, name in symbols(shared, "--dynamic")}
    for name in sorted(shown):
        if not headers.declare(name):
            yield f"{shared}: shows what no public header declares: {name}"
    for name in sorted({name for kind, name in symbols(static) if kind == "T"} - shown):
        if headers.declare(name):
            yield f"{shared}: hides what a public header declares (SPILLWAY_API is missing): {name}"
    if not any(headers.declare(name) for name in shown):
        yield f"{shared}: shows nothing at all"


def main():
    found = list(breaches(sys.argv[1], sys.argv[2], Headers(sys.argv[3:])))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
