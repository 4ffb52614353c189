"""Finds the functions of a C++ source and counts their lines, wherever they stand: in a namespace or in a class.

No parser: braces are matched after comments and literals are blanked, and the text before a brace says what it opens.
A function within a function, such as a lambda, belongs to the outer one."""

import re

BLANKED = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|'
                     r"(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'", re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
# What may stand between a function's parameters and its body: qualifiers, a type behind ->.
QUALIFIERS = r"(?:\s*(?:const|noexcept|override|final|mutable|try|&&?|->[^;{}]*))*"
FUNCTION = re.compile(rf"[)}}]{QUALIFIERS}\s*$")
# As far as the first member of a constructor that is set in braces: their end is not that of a body.
MEMBER = re.compile(r"\)\s*(?:noexcept\s*)?:[^:].*[\w>]$", re.S)
ACCESS = re.compile(r"\b(?:public|protected|private)\s*$")
SCOPE = re.compile(r"\b(?:namespace|class|struct|union|enum)\b[^()]*$")


def blank(text):
    """`text` without comments, literals and preprocessor lines; every line keeps its number."""
    def keep_lines(match):
        return "\n" * match[0].count("\n")
    return DIRECTIVE.sub(keep_lines, BLANKED.sub(keep_lines, text))


def functions(text):
    """Yields (first line, number of lines) of every function with a body."""
    text = blank(text)
    head = 0  # where the statement before the next brace begins
    depth = parentheses = 0  # depth: of braces within a function's body, or within a member's initializer
    for position, character in enumerate(text):
        if depth:
            depth += {"{": 1, "}": -1}.get(character, 0)
            # Behind the braces of an initializer the next member comes, or the body.
            if depth or re.match(r"\s*[,{]", text[position + 1:position + 200]):
                continue
            start = position - len(text[head:position].lstrip())
            yield text.count("\n", 0, start) + 1, text.count("\n", start, position) + 1
            head = position + 1
        elif character in "()":
            parentheses += 1 if character == "(" else -1
        elif parentheses:
            continue
        elif character == "{" and opens_body(text[head:position]):
            depth = 1
        elif character in "{};" or (character == ":" and ACCESS.search(text[head:position])):
            head = position + 1


def opens_body(before):
    """Whether a brace behind this text belongs to a function: its body, or the initializer of a member before it."""
    return not SCOPE.search(before) and bool(FUNCTION.search(before) or MEMBER.search(before))
