"""The list of mutations: for each row of the fault list one place of the product changed, and a test that must see it.

mutations.json: row (of docs/reliability.md); what is broken; file; the text `from`, which occurs in it once; the text
`to` instead; the targets to build; and a test of CTest, as a regular expression that its name begins with."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = 24


def read_mutations():
    return json.loads((Path(__file__).parent / "mutations.json").read_text(encoding="utf-8"))


def apply(mutation, root):
    """Changes the file below `root`; returns what it held before. ValueError: it does not fit any more."""
    path = root / mutation["file"]
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    count = text.count(mutation["from"])
    if count != 1:
        raise ValueError(f"row {mutation['row']}, {mutation['what']}: {mutation['file']} holds what is to be changed "
                         f"{count} times, not once")
    path.write_text(text.replace(mutation["from"], mutation["to"]), encoding="utf-8")
    return text


def ctest_expression(mutation):
    """Fits the test itself, and the program that is one test with all its cases."""
    return "^" + re.sub(r"\.(?!\*)", r"\\.", mutation["test"]) + f"|^{mutation['test'].split('/')[0]}$"


def gtest_filter(mutation):
    """For a program that is one test: CTest tells each case itself which one it is."""
    return f"*{mutation['test'].partition('/')[2].replace('.*', '*')}*"
