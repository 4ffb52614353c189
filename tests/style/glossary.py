"""The field's terms: words of our own that confused readers, each with the better one, and the rule that finds them.

Looked at: sources, headers and Python of what is built, with their comments, names, messages and help texts, and the
documents. Not the tests, which quote freely. What a program prints or writes for others to read is an interface: such
words stay, each as an exception with its reason."""

import re

from rules import HEADER_SUFFIXES, SOURCE_SUFFIXES, files, lines_of

FOLDERS = ["aio", "pinned_pool", "swapper", "trainer", "bench", "examples", "docs", "tools"]
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
SUFFIXES = SOURCE_SUFFIXES | HEADER_SUFFIXES | {".md"}
# What to look for (of a phrase: the words between may be broken over two comment lines), and what to say.
TERMS = [
    (r"tak(e|es|en|ing) back|took back|take_?back|TakeBack|taken_back", "rolled back (an update), returned (memory)"),
    (r"foret(old|ells?|elling)", "predicted"),
    (r"ahead of (the|its) norm", "speculative"),
    (r"Wish", "Policy"),
    (r"told", "reported, passed, or a sentence with its subject"),
    (r"turned round|read_turned", "transposed"),
    (r"lets? go of|letting go of", "releases, frees, drops"),
    (r"(is|are|yet|values|one) to come|kToCome", "loaded later, next"),
    (r"[Hh]as (?!been|just).{1,60} put into", "asks for a copy in"),
    (r"on (its|their) way", "in flight"),
    (r"under way", "in flight, running"),
    (r"(can|could|cannot|may) be had|to be had", "is available"),
    (r"(stands?|stood) still", "waits, hangs"),
    (r"took by (itself|themselves)", "automatic"),
    (r"(gives?|given?|gave) up for lost", "leaked"),
    (r"found out", "detected"),
]
# "file term": why it stays.
EXCEPTIONS = {
    "aio/src/engine_thread.cc let go of": "a message that is printed",
    "bench/urgent_latency.cc under way": "a line that is printed",
    "docs/style.md told": "an example of what not to write",
    "docs/style.md on its way": "an example of what not to write",
    "docs/style.md ahead of the norm": "an example of what not to write",
    "docs/style.md took by themselves": "an example of what not to write",
    "swapper/src/c/request.cc under way": "a message that callers see",
    "swapper/src/file_tile_store.cc under way": "a message that callers see",
    "trainer/run/metrics_file.cc taken_back": "a key of the metrics file",
}


def glossary(root, folders=None, exceptions=None):
    folders = FOLDERS if folders is None else folders
    exceptions = EXCEPTIONS if exceptions is None else exceptions
    breaches, needed = [], set()
    for path in files(root):
        name = path.relative_to(root).as_posix()
        if path.suffix not in SUFFIXES or name.startswith("bench/results/"):
            continue
        if not name.startswith(tuple(f"{folder}/" for folder in folders)) and name not in DOCUMENTS:
            continue
        for number, word, better in words_of(lines_of(path)):
            if f"{name} {word}" in exceptions:
                needed.add(f"{name} {word}")
            else:
                breaches.append(f"{name}:{number}: '{word}': rather {better}")
    breaches += [f"{place}: an exception in tests/style/glossary.py that nothing needs"
                 for place in exceptions if place not in needed]
    return breaches


def words_of(lines):
    """(line number, word, better one) of each; a phrase may go on in the next comment line."""
    for number, line in enumerate(lines, 1):
        following = re.match(r"\s*(///?<?|\||#)? ?(.*)", lines[number])[2] if number < len(lines) else ""
        for term, better in TERMS:
            pattern = rf"(?<![A-Za-z]){term}(?![a-z])" if "_" in term or "Back" in term else rf"\b({term})\b"
            for match in re.finditer(pattern, f"{line.rstrip()} {following}"):
                if match.start() < len(line.rstrip()):
                    yield number, match[0], better
