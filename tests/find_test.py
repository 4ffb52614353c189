#!/usr/bin/env python3
"""find_test.py BUILD NAME: what to build, and what to tell CTest, to run the test NAME in the folder BUILD.

NAME: a test of CTest, the part of its name before a slash, a GoogleTest program, a suite, or a case: Suite.Case. Prints
three lines: targets of ninja, an expression for ctest -R, a value for GTEST_FILTER (empty: none). Exit code 1, with one
line on stderr, when there is no such test. Nothing needs to be built before."""

import difflib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

CASE = re.compile(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", re.M)
# Behind the program's name: Instance/Suite.Case/parameter, or parts of it.
NAME = re.compile(r"(?:\w+/)?(\w+)(?:/\w+)?(?:\.(\w+)(?:/.*)?)?")


def programs(build):
    """GoogleTest program: its cases, [(suite, case)]; from the sources that CMake compiles into it."""
    found = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        target = re.search(r" -o \S*?CMakeFiles/(\w+)\.dir/", entry["command"])
        if target and entry["file"].endswith("_test.cc"):
            found.setdefault(target[1], []).extend(CASE.findall(Path(entry["file"]).read_text(encoding="utf-8")))
    return found


def ctest_tests(build):
    """Test of CTest: its command. Programs that are not built yet are not among them."""
    said = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], capture_output=True, text=True,
                          check=True).stdout
    return {test["name"]: test.get("command", []) for test in json.loads(said[said.index("{"):])["tests"]
            if not test["name"].endswith("_NOT_BUILT")}


def outputs_in(commands, build):
    """What of the commands' words ninja builds."""
    said = subprocess.run(["ninja", "-C", build, "-t", "targets", "all"], capture_output=True, text=True, check=True)
    outputs = {line.split(":")[0] for line in said.stdout.splitlines()}
    words = {word for command in commands for word in command if word.startswith(f"{build}/")}
    return sorted({word.removeprefix(f"{build}/") for word in words} & outputs)


def escaped(text):
    return re.sub(r"([][.*+?^$()|\\])", r"\\\1", text)


def of_program(name, cases_of, tests):
    """(targets, expression, filter) of a GoogleTest program, suite or case; None when NAME is none."""
    program, _, inner = name.partition("/")
    if name in cases_of:
        return [name], f"^{name}(/|$)", ""
    if program not in cases_of:
        program, inner = None, name
    match = NAME.fullmatch(inner)
    if not match:
        return None
    suite, case = match[1], match[2]
    targets = [target for target, cases in cases_of.items() if program in (None, target)
               and any(suite == s and case in (None, c) for s, c in cases)]
    if not targets:
        return None
    if inner in (suite, f"{suite}.{case}"):  # with every instance and every parameter
        core = f"{suite}.{case or '*'}"
        expression = rf"(.*/)?{suite}(/[^.]*)?\.{case or ''}" + ("(/|$)" if case else "")
        chosen = f"{core}:{core}/*:*/{core}:*/{core}/*:{suite}/*.{case or '*'}"
    else:
        expression, chosen = escaped(inner) + "$", inner
    alone = [target for target in targets if target in tests]  # those that are one test with all their cases
    expressions = [f"^{target}$" if target in alone else f"^{target}/{expression}" for target in targets]
    return targets, "|".join(expressions), chosen if alone else ""


def of_ctest(name, tests, build):
    chosen = [test for test in tests if test == name or test.startswith(name.rstrip("/") + "/")]
    if not chosen:
        return None
    expression = f"^{escaped(name)}$" if name in tests else f"^{escaped(name.rstrip('/'))}/"
    return outputs_in([tests[test] for test in chosen], build), expression, ""


def find(name, build):
    cases_of, tests = programs(build), ctest_tests(build)
    found = of_program(name, cases_of, tests) or of_ctest(name, tests, build)
    if found:
        return found
    names = {*tests, *cases_of, *(f"{suite}.{case}" for cases in cases_of.values() for suite, case in cases)}
    near = difflib.get_close_matches(name, names, n=3)
    raise LookupError(f"there is no test '{name}'" + (f"; is it {' or '.join(near)}?" if near else ""))


def main():
    build, name = Path(sys.argv[1]).resolve(), sys.argv[2]
    try:
        targets, expression, chosen = find(name, build)
    except LookupError as error:
        sys.exit(f"tests/run.sh: {error.args[0]}")
    print(shlex.join(targets), expression, chosen, sep="\n")


if __name__ == "__main__":
    main()
