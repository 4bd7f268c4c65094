"""What a place in a shell text stands inside of: quotes, substitutions, here-documents, comments.

House rules of this room. The reader follows only what `sh` and `bash` read alike. Where they
differ, or only a shell could tell, everything from there on is `UNCLEAR`, and so refused: a
value may never come to stand where it could become syntax, and a clearer text is easy to write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

UNCLEAR = "a text that shells read differently from here on"

_NESTS = {"'": "single quotes", '"': "double quotes", "`": "backticks", "$'": "$'…' quotes", "${": "${ }"}
_NESTS |= {"$(": "$( )", "$((": "$(( ))", "((": "(( ))", "<(": "a process substitution"}
_COMMANDS = frozenset({"", "(", "$(", "<("})  # where words, comments and here-documents are
_BLANKS = frozenset(" \t;|&<>")
_JOINED = frozenset("$<(){")  # a line that is continued right after one of these may go on as another sign
_HERE = re.compile(r"""<<(-?)[ \t]*(?:'([^'\n]+)'|"([^"\n$`\\]+)"|\\([\w.+-]+)|([\w.+-]+))(?=[\s;|&<>()]|$)""")

_SUBSTITUTED = re.compile(r"""\$\((?:[^()'"\\`#$]|'[^']*'|"[^"$`\\]*")*\)|\$\{[^{}'"\\`$]*\}|`[^`'"\\$#]*`""")
_OPENS = re.compile(r"\$[({]|`")


def places(text: str, ends: Mapping[int, int]) -> dict[int, str]:
    """What each value stands inside of; an empty text where nothing, as it should be.

    `ends` says where each value, such as `{{ x }}`, that begins at its key is over.
    """
    return _Reader(text, ends).read()


class _Here(msgspec.Struct, frozen=True):
    word: str
    tabs: bool
    quoted: bool
    depth: int


class _Reader:
    """Walks over a text once; `stack` is what is open, the innermost last."""

    def __init__(self, text: str, ends: Mapping[int, int]) -> None:
        self.text = text
        self.ends = ends
        self.at = 0
        self.found: dict[int, str] = {}
        self.stack: list[str] = []
        self.here: list[_Here] = []
        self.in_word = False
        self.unclear = False

    def read(self) -> dict[int, str]:
        while self.at < len(self.text) and not self.unclear:
            if self.at in self.ends:
                self._value(self.at, next((_NESTS[nest] for nest in self.stack if nest != "("), ""))
            else:
                self._letter(self.text[self.at], self.stack[-1] if self.stack else "")
        return {start: self.found.get(start, UNCLEAR) for start in self.ends}

    def _value(self, start: int, place: str) -> None:
        self.found[start] = place
        self.at, self.in_word = self.ends[start], True

    def _go(self, steps: int = 1, *, in_word: bool = True) -> None:
        self.unclear |= any(self.at + step in self.ends for step in range(1, steps))
        self.at += steps
        self.in_word = in_word

    def _open(self, nest: str, *, in_word: bool = True) -> None:
        self.stack.append(nest)
        self._go(2 if nest == "<(" else 1 if nest == "(=" else len(nest), in_word=in_word)

    def _close(self, steps: int = 1, *, in_word: bool = True) -> None:
        self.stack.pop()
        self._go(steps, in_word=in_word)

    def _letter(self, letter: str, inside: str) -> None:
        if letter == "\n" and self.here and inside not in _COMMANDS:
            self.unclear = True
        elif inside in {"'", "$'"}:
            if letter == "\\" and inside == "$'":
                self.unclear = self.text.startswith("'", self.at + 1)
                self._go(2)
            elif letter == "'":
                self._close()
            else:
                self._go()
        elif letter == "\\":
            self._escape()
        elif letter == "`":
            self._close() if inside == "`" else self._open("`")
        elif inside == "`":
            self._go()
        elif letter == "$":
            self._dollar(inside)
        elif inside in _COMMANDS:
            self._command(letter, inside)
        else:
            self._within(letter, inside)

    def _escape(self) -> None:
        if self.at + 1 in self.ends:
            self._value(self.at + 1, "an escape")
        elif self.text.startswith("\n", self.at + 1):
            self.unclear = self.at > 0 and self.text[self.at - 1] in _JOINED
            self._go(2, in_word=self.in_word)
        else:
            self._go(2)

    def _dollar(self, inside: str) -> None:
        if self.at + 1 in self.ends:
            self._value(self.at + 1, "a word that begins with $")
            return
        for nest in ("$((", "$(", "${"):
            if self.text.startswith(nest, self.at):
                self._open(nest, in_word=nest != "$(")
                return
        following = self.text[self.at + 1 : self.at + 2]
        if following == "'" and inside != '"':
            self.unclear = inside not in _COMMANDS
            self._open("$'")
        else:
            self.unclear = following == "["  # arithmetic to one shell, two letters to the other
            self._go(2 if following == "$" else 1)

    def _command(self, letter: str, inside: str) -> None:
        text, at = self.text, self.at
        if letter == "\n":
            self._line()
        elif letter == "#" and not self.in_word:
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            self.found |= dict.fromkeys((start for start in self.ends if at < start < end), "a comment")
            self.at = end
        elif letter in "'\"":
            self._open(letter)
        elif text.startswith("<<<", at):
            self._go(3, in_word=False)
        elif text.startswith("<<", at):
            self._here_document()
        elif text.startswith(("<(", ">("), at):
            self._open("<(", in_word=False)
        elif text.startswith("((", at) and not self.in_word:
            self._open("((")
        elif letter == "(":
            self._open("(", in_word=False)
        elif letter == ")" and inside:
            self._close(in_word=inside != "(")
        elif letter in _BLANKS or letter == ")":
            self._go(in_word=False)
        else:  # the patterns of a `case` have a parenthesis that closes nothing
            substituted = "$(" in self.stack or "<(" in self.stack
            self.unclear = substituted and not self.in_word and text.startswith("case", at)
            self._go()

    def _within(self, letter: str, inside: str) -> None:
        """Inside double quotes, `${ }` and arithmetic."""
        if letter == '"':
            if inside == '"':
                self._close()
            else:
                self.unclear = '"' in self.stack
                self._open('"')
        elif letter == "'" and inside != '"':
            self.unclear = '"' in self.stack or "$((" in self.stack
            self._open("'")
        elif letter == "}" and inside == "${":
            self._close()
        elif inside in {"((", "$((", "(="}:
            self._arithmetic(letter, inside)
        else:
            self._go()

    def _arithmetic(self, letter: str, inside: str) -> None:
        if letter == "(":
            self._open("(=")
        elif letter == ")" and inside == "(=":
            self._close()
        elif letter == ")":
            self.unclear = not self.text.startswith("))", self.at)  # then it was a subshell
            self._close(2, in_word=inside == "$((")
        else:
            self.unclear = letter == "#" and self.text[self.at - 1] in " \t\n"
            self._go()

    def _here_document(self) -> None:
        match = _HERE.match(self.text, self.at)
        if match is None:
            self.unclear = True
            return
        dash, single, double, escaped, plain = match.groups()
        word = single or double or escaped or plain
        self.here.append(_Here(word, bool(dash), plain is None, len(self.stack)))
        self._go(match.end() - match.start(), in_word=False)

    def _line(self) -> None:
        """The end of a line, where the here-documents begin that it announced."""
        here, self.here = self.here, []
        self.unclear = any(document.depth != len(self.stack) for document in here)
        for document in here:
            self._body(document)
        if not here:
            self._go(in_word=False)

    def _body(self, document: _Here) -> None:
        """Walk over a here-document, to the end of the line that ends it."""
        continued = False
        while (start := self.at + 1) <= len(self.text):
            end = self.text.find("\n", start)
            end = len(self.text) if end < 0 else end
            self.found |= dict.fromkeys((value for value in self.ends if start <= value < end), "a here-document")
            line = self.text[start:end]
            self.at = end
            if not document.quoted and _OPENS.search(_SUBSTITUTED.sub("", line)):
                self.unclear = True  # one shell looks for the last line inside a substitution, too, the other does not
                return
            if not continued and (line.lstrip("\t") if document.tabs else line) == document.word:
                return
            continued = not document.quoted and (len(line) - len(line.rstrip("\\"))) % 2 == 1
