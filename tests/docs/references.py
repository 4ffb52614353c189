"""What documents name: tests, files of the project, other documents. Each function returns what is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
FOLDERS = {"aio", "bench", "cmake", "docs", "examples", "pinned_pool", "swapper", "tests", "tools", "trainer"}
SUFFIX = r"\.(md|h|cc|cu|c|py|sh|json|svg|txt|cmake)"


def documents(root=ROOT):
    """All documents, but for the results of benches."""
    return [root / "README.md", root / "CONTRIBUTING.md", root / "bench" / "README.md",
            root / "trainer" / "models" / "README.md", *sorted((root / "docs").glob("*.md"))]


def backticked(text):
    """What stands in backticks, outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def cases_of_googletest():
    sources = (path.read_text(encoding="utf-8") for path in TESTS.rglob("*.cc"))
    names = (name for source in sources for name in
             re.findall(r"^(?:TYPED_)?TEST(?:_[FP])?\((\w+,\s*\w+)\)", source, re.MULTILINE))
    return {re.sub(r",\s*", ".", name) for name in names}


def missing_tests(text):
    """Of the names in `text` that are a test's: those that no test has."""
    cases = cases_of_googletest()
    found = []
    for name in backticked(text):
        last = name.split("/")[-1]
        if re.fullmatch(r"e2e/\w+/test_\w+", name):
            _, file, case = name.split("/")
            path = TESTS / "e2e" / f"{file}.py"
            if not path.exists() or f"def {case}(self)" not in path.read_text(encoding="utf-8"):
                found.append(name)
        elif re.fullmatch(r"[A-Z]\w+\.[A-Z]\w+", last):
            if last not in cases:
                found.append(name)
        elif name.startswith("compile_failures/"):
            if not (TESTS / f"{name}.cc").exists():
                found.append(name)
        elif re.fullmatch(r"\w+_test\.(cc|py)", name):
            if not list(TESTS.rglob(name)):
                found.append(name)
    return found


def commands(text):
    """The words of commands in indented blocks that name a file of the project."""
    lines = re.findall(r"^    (.+)$", text, re.MULTILINE)
    return [word for line in lines for word in re.split(r"[\s=$;&]+", line.split("#")[0])
            if word.split("/")[0] in FOLDERS and "/" in word]


def missing_files(text, folder):
    """Paths in backticks and commands that look like the project's, and are neither there nor beside the document."""
    found = []
    for name in backticked(text) + commands(text):
        name = name.split()[0].strip("<>") if name.startswith("<") else name.split()[0].split("<")[0]
        is_ours = name.split("/")[0] in FOLDERS and "/" in name
        if re.match(r"spillway/\w+/.+\.h$|spillway/spillway\.h$", name):
            if not list(ROOT.glob(f"*/include/{name}")):
                found.append(name)
        elif is_ours or re.fullmatch(rf"\w+(/\w+)+{SUFFIX}", name) and not name.startswith("build/"):
            if not any(list(base.glob(name.rstrip("/"))) for base in (ROOT, folder)):
                found.append(name)
    return found


def anchors(text):
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text, folder):
    """Links to files that are not there, or to headings that their document does not have."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = folder / path if path else None
        if target is not None and not target.exists():
            found.append(link)
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8") if target else text):
            found.append(link)
    return found


def promises_without_test(text):
    """Rows of tables of promises that name nothing that shows them."""
    tables = re.findall(r"^\| promise \| shown by \|\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [row for table in tables for row in table.splitlines() if "`" not in row.split(" | ")[-1]]


def rows_of_rooms(text):
    """Room: the rooms that it may include, as the table of architecture.md has them."""
    table = re.search(r"^\| room \| holds \| may include \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    return {row[0].strip("`"): [room.strip() for room in row[2].split(",") if room.strip()] for row in rows}


def wrong_rooms(text, rooms):
    """Differences between that table and `rooms`, those of tests/style/rooms.py; `run` may include all."""
    rows = rows_of_rooms(text)
    wrong = [f"{room}: not in both" for room in sorted(set(rows) ^ set(rooms))]
    return wrong + [f"{room}: {sorted(set(rows[room]) ^ set(allowed))}" for room, allowed in rooms.items()
                    if room in rows and room != "run" and set(rows[room]) != set(allowed)]
