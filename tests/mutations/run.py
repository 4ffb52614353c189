#!/usr/bin/env python3
"""run.py [ROW ...]: breaks the product on purpose, in a copy of the checkout, and shows that the tests see it.

For each mutation of the rows given (default: all): builds what its test needs, shows the test green, applies the
mutation, builds again, shows it red, and takes it back. Takes an hour or two for all; by hand and nightly. Ends with a
table and a bad exit code unless every test was green before and red after. The copy and its build stay in
build/mutations, so that the next time is quicker."""

import argparse
import os
import subprocess
import sys
import time

import mutations

TREE = mutations.ROOT / "build" / "mutations"
BUILD = TREE / "build" / "release"  # as deep as any other build: ccache then finds what those have compiled


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace", **options)


def must(*command, **options):
    done = run(*command, **options)
    if done.returncode != 0:
        sys.exit(f"run.py: {' '.join(str(part) for part in command)}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def copy_tree():
    """What git knows of, changes that are not committed yet included; what has not changed keeps its time."""
    TREE.mkdir(parents=True, exist_ok=True)
    names = must("git", "-C", mutations.ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    names = [name for name in names if (mutations.ROOT / name).exists()]
    for old in must("find", ".", "-path", "./build", "-prune", "-o", "-type", "f", "-print", cwd=TREE).splitlines():
        if old.removeprefix("./") not in set(names):
            (TREE / old).unlink()
    for name in names:
        source, copy = mutations.ROOT / name, TREE / name
        if copy.exists() and copy.read_bytes() == source.read_bytes():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
        copy.chmod(source.stat().st_mode)


def configure(like):
    """As the build in `like`, so that libtorch is found where it was."""
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DSPILLWAY_CUDA=OFF"]
    cache = like / "CMakeCache.txt"
    for line in cache.read_text(encoding="utf-8").splitlines() if cache.exists() else ():
        if line.startswith(("SPILLWAY_TORCH:", "SPILLWAY_TRAINER:")):
            options.append(f"-D{line}")
    must("cmake", "-S", TREE, "-B", BUILD, "-G", "Ninja", *options)


def build(targets, jobs):
    return run("ninja", "-C", BUILD, f"-j{jobs}", *targets) if targets else run("true")


def outcome(mutation):
    """'green', 'red' or 'skipped', and the last lines of what the test said."""
    done = run("ctest", "--test-dir", BUILD, "-R", mutations.ctest_expression(mutation), "--verbose",
               "--no-tests=error", env=os.environ | {"GTEST_FILTER": mutations.gtest_filter(mutation)})
    if done.returncode != 0:
        return "red", done.stdout
    skipped = "***Skipped" in done.stdout or "[  SKIPPED ]" in done.stdout
    return ("skipped" if skipped else "green"), done.stdout


def try_mutation(mutation, jobs):
    """What came before and after, and what the test said of it."""
    done = build(mutation["build"], jobs)
    if done.returncode != 0:
        return "does not build", "-", done.stdout
    before, said = outcome(mutation)
    if before != "green":
        return before, "-", said
    path = TREE / mutation["file"]
    original = mutations.apply(mutation, TREE)
    try:
        done = build(mutation["build"], jobs)
        if done.returncode != 0:
            return before, "does not build", done.stdout
        return before, *outcome(mutation)
    finally:
        path.write_text(original, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", metavar="ROW", type=int, nargs="*", help="default: all")
    parser.add_argument("--like", default=mutations.ROOT / "build" / "release", type=type(mutations.ROOT),
                        help="a build to take the place of libtorch from (build/release)")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    copy_tree()
    configure(given.like)
    lines, good = [], True
    for mutation in mutations.read_mutations():
        if given.rows and mutation["row"] not in given.rows:
            continue
        start = time.monotonic()
        before, after, said = try_mutation(mutation, given.jobs)
        fits = (before, after) == ("green", "red")
        good = good and (fits or before == "skipped")
        lines.append(f"| {mutation['row']} | {mutation['what']} | `{mutation['test']}` | {before} | {after} |")
        print(f"row {mutation['row']}: {mutation['what']}: before {before}, after {after} "
              f"({time.monotonic() - start:.0f} s)", flush=True)
        if not fits:
            print(said[-3000:], flush=True)
    print("\n| row | mutation | test | before | after |\n|---|---|---|---|---|\n" + "\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
