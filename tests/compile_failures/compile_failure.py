#!/usr/bin/env python3
"""compile_failure.py FILE COMPILER [FLAG ...]: FILE compiles as it is, and with -DMISUSE it does not, for the reason
that its first line names. Without the first half, a misspelt file would pass. Skipped without the compiler."""

import re
import shutil
import subprocess
import sys
from pathlib import Path


def compiles(*command):
    done = subprocess.run([*command, "-fsyntax-only"], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stderr


def main():
    path, compiler, *flags = sys.argv[1:]
    if shutil.which(compiler) is None:
        print(f"there is no {compiler}")
        return 77
    expected = Path(path).read_text(encoding="utf-8").splitlines()[0].removeprefix("// MISUSE fails with: ")
    right, errors = compiles(compiler, *flags, path)
    if not right:
        print(f"the right use does not compile:\n{errors}")
        return 1
    wrong, errors = compiles(compiler, *flags, "-DMISUSE", path)
    if wrong or not re.search(expected, errors):
        print("the misuse compiles" if wrong else f"not for the reason '{expected}':\n{errors}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
