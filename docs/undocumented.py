#!/usr/bin/env python3
"""undocumented.py XML: names what Doxygen found in the public headers and nobody says a word about: classes, functions,
callback types and macros. Not asked of plain data, of accessors and of operator==, whose names say it. Exit code 1 when
there is any.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

KINDS = {"function", "typedef", "define"}


def is_documented(node):
    return any((node.findtext(tag) or "").strip() or node.find(f"{tag}/para") is not None
               for tag in ("briefdescription", "detaileddescription", "inbodydescription"))


def is_accessor(member):
    arguments = (member.findtext("argsstring") or "").split(")")
    return arguments[0] == "(" and "const" in arguments[-1]


def needs_words(member):
    kind = member.get("kind")
    if kind not in KINDS or member.get("prot") == "private" or is_accessor(member):
        return False
    if member.findtext("name") == "operator==":  # all members, as any reader expects
        return False
    # `using Item = std::vector<Part>` is said by its right side; what a callback gets is not.
    return kind != "typedef" or "(" in "".join(member.find("type").itertext()) + (member.findtext("argsstring") or "")


def main():
    silent = set()
    for path in Path(sys.argv[1]).glob("*.xml"):
        compound = ElementTree.parse(path).getroot().find("compounddef")
        if compound is None or compound.get("prot") == "private":
            continue
        place = compound.find("location")
        if compound.get("kind") == "class" and not is_documented(compound):
            silent.add(f"{place.get('file')}:{place.get('line')}: {compound.findtext('compoundname')}")
        for member in compound.iter("memberdef"):
            if needs_words(member) and not is_documented(member):
                place = member.find("location")
                name = f"{compound.findtext('compoundname')}::{member.findtext('name')}"
                silent.add(f"{place.get('file')}:{place.get('line')}: {name}")
    for line in sorted(silent):
        print(f"{line}: no comment says what it does")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
