#!/usr/bin/env python3
"""doxygen_comments.py HEADER: prints the header with its comments as Doxygen wants them (its INPUT_FILTER).

The house style has plain // comments: the one that opens a file is about the file and about the type whose name it
begins with; one above a run of functions that return the same is about each of them (read and write); one behind a
member is about that member. Copies, moves and destructors without a comment of their own say nothing that their type
does not, and are left out. Line numbers stay as they are."""

import re
import sys
from pathlib import Path

SCOPE = re.compile(r'^\s*(template <[^{]*>\s)?(typedef\s)?((namespace|class|struct|union)\b|extern "")[^;{]*$')
TYPE = re.compile(r"^\s*(class|struct)\b[^:;]*?(\w+)( final)?( :[^:].*)? \{")
SPECIAL_MEMBER = re.compile(
    r"^\s*(virtual |explicit )?(~\w+\(\)|(?P<a>\w+)\((const (?P=a)&|(?P=a)&&)( \w+)?\)|"
    r"(?P<b>\w+)& operator=\((const (?P=b)&|(?P=b)&&)( \w+)?\)|\w+\(\) = default)")
RETURNED = re.compile(r"^\s*(?:virtual |static |explicit |\[\[nodiscard\]\] )*([\w:<>,&* ]+?[ &*>])\w+\(")
LITERAL = re.compile(r'"(\\.|[^"\\])*"|(?<![0-9a-zA-Z])\'(\\.|[^\'\\])+\'')


def marked_up(comment):
    """Comment text for Doxygen: preconditions marked, and nothing in it taken for a tag or a command."""
    parts = comment.strip().removeprefix("//").strip().split("`")
    for i in range(0, len(parts), 2):  # outside of backticks
        parts[i] = re.sub(r"[<>@\\#%]", r"\\\g<0>", parts[i])
        parts[i] = re.sub(r"\bREQUIRES: ", "@pre ", parts[i])
    return "`".join(parts)


class Filter:
    def __init__(self):
        self.scopes = []  # "scope", "enum" or "body" for each open brace
        self.parentheses = 0
        self.statement = ""  # of the declaration under way, up to this line
        self.hidden = False  # it is left out
        self.file_comment = None  # a list once it has begun
        self.above = []  # the comment right above
        self.run = []  # the comment above the run of functions ...
        self.returned = ""  # ... that return this
        self.column_behind = 0  # of a comment behind the code of the line above; 0: there is none

    def line(self, line):
        text = line.strip()
        column_behind, self.column_behind = self.column_behind, 0
        between = not self.statement and "body" not in self.scopes
        if not text:
            self.above = []
            self.run = [] if between else self.run
            return ""
        if text.startswith("//"):
            indent = len(line) - len(line.lstrip())
            if column_behind and indent >= column_behind:
                self.column_behind = column_behind
                return " " * indent + "///< " + marked_up(text)
            return self.comment(line, text) if between else line
        if between and (text.startswith("#") or re.fullmatch(r"(public|private|protected):", text)):
            self.above, self.run = [], []
            return line
        return self.code(line, between)

    def comment(self, line, text):
        if self.file_comment is None:
            self.file_comment = self.above = [marked_up(text)]
            return f"/** @file */ /// {self.file_comment[0]}"
        if not self.above:
            self.run = []
        self.above.append(marked_up(text))
        return line[: line.index("//")] + "/// " + marked_up(text)

    def code(self, line, between):
        code, _, behind = line.partition(" // ")
        if between:
            returned = RETURNED.match(code)
            if self.above and self.above is not self.file_comment:
                self.run, self.returned = self.above, returned[1] if returned else ""
            elif not returned or returned[1] != self.returned:
                self.run = []
            self.hidden = bool(SPECIAL_MEMBER.match(code)) and not behind and not self.above
            documented, self.above = bool(self.above), []
            prefix = "" if documented or behind or self.hidden else self.inherited(code)
        else:
            prefix = ""
        hidden = self.hidden
        self.track(code)
        if hidden:
            return ""
        if behind and "body" not in self.scopes and not re.match(r"\s*\}", code):
            self.column_behind = len(code.rstrip()) + 1
            return f"{prefix}{code.rstrip()}  ///< {marked_up(behind)}"
        return prefix + line

    def inherited(self, code):
        """The comment of a declaration that has none itself: its run's, or for the file's own type the file's."""
        named = TYPE.match(code)
        if named:
            about = " ".join(self.file_comment or [])
            return f"/** {about} */ " if re.search(rf"\b{named[2]}\b", about.partition(":")[0]) else ""
        return f"/** {' '.join(self.run)} */ " if self.run else ""

    def track(self, code):
        for character in LITERAL.sub('""', code) + "\n":
            self.statement += character if self.statement or not character.isspace() else ""
            if character in "()":
                self.parentheses += 1 if character == "(" else -1
            elif self.parentheses:
                continue
            elif character == "{":
                kind = "enum" if self.statement.startswith(("enum", "typedef enum")) else "body"
                kind = "scope" if SCOPE.match(self.statement.strip(" {\n")) else kind
                self.scopes.append(kind)
                self.end_statement(kind != "body")
            elif character == "}":
                kind = self.scopes.pop() if self.scopes else "scope"
                self.end_statement("body" not in self.scopes)
                if kind != "body":
                    self.run = []
            elif character == ";":
                self.end_statement("body" not in self.scopes)
            elif character == "," and self.scopes and self.scopes[-1] == "enum":
                self.end_statement(True)

    def end_statement(self, ends):
        if ends:
            self.statement, self.hidden = "", False


def main():
    header = Filter()
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").split("\n"):
        print(header.line(line))


if __name__ == "__main__":
    main()
