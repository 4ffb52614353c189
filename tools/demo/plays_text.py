#!/usr/bin/env python3
"""plays_text.py PLAYS TRAIN HELD_OUT: makes two plain text files of a folder of plays in Markdown.

The last twentieth of each play, cut between two speeches, is held out. The same bytes come out each time."""

import html
import re
import sys
from pathlib import Path

HELD_OUT = 20  # one part in


def plain_text(markdown):
    """Speakers as "NAME:", everything else as it reads, no markup."""
    text = html.unescape(markdown).replace("\u2014", "--")
    text = re.sub(r"^#+\s*", "", text, flags=re.M)
    text = re.sub(r"^\*\*(.+?)\*\*\s*$", r"\1:", text, flags=re.M)
    text = re.sub(r"[*_\\]", "", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    text = re.sub(r"\n{3,}", "\n\n", text)
    return text.strip().encode("ascii", "ignore").decode() + "\n\n"


def main():
    plays, train_path, held_out_path = map(Path, sys.argv[1:])
    train, held_out = [], []
    for play in sorted(plays.rglob("*.md")):
        text = plain_text(play.read_text(encoding="utf-8"))
        cut = text.index("\n\n", len(text) - len(text) // HELD_OUT) + 2
        train.append(text[:cut])
        held_out.append(text[cut:])
    if not train:
        sys.exit(f"plays_text: no plays in {plays}")
    train_path.write_text("".join(train), encoding="ascii")
    held_out_path.write_text("".join(held_out), encoding="ascii")


if __name__ == "__main__":
    main()
