#!/usr/bin/env python3
"""check.py RULE [FILE]: checks the checkout against one house rule (rules, rooms, glossary). FILE: for `links`.

Exit code 0: kept; 1: broken, a line each; 77: cannot be checked here."""

import sys
from pathlib import Path

import glossary
import rooms
import rules

RULES = {**rules.RULES, "rooms": rooms.rooms, "families": rooms.families, "listed": rooms.listed,
         "glossary": glossary.glossary}


def main():
    rule = sys.argv[1]
    try:
        if rule == "links":
            breaches = rules.links(Path(sys.argv[2]).read_text(encoding="utf-8").splitlines())
        else:
            breaches = RULES[rule](rules.source_root())
    except LookupError as reason:
        print(f"skipped: {reason}")
        return 77
    print("\n".join(breaches))
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
