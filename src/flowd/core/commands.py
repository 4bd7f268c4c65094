"""`run` texts: each `{{ }}` becomes exactly one shell word, and may stand only where that is so.

A small reader of shell syntax walks the text once and knows, at each `{{`, whether it stands
outside quotes, substitutions, here-documents and comments. Elsewhere a value could become
syntax, so it is refused with the form to write instead.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from flowd.core.expressions import Expression, ExpressionError, in_text, parse_template, spans


class CommandError(ExpressionError):
    """A `{{ }}` that stands where a value could become syntax; `column` counts from 1."""

    def __init__(self, message: str, hint: str, column: int, code: str = "bad_placement") -> None:
        self.column = column
        super().__init__(code, message, hint)


class Command:
    """A shell text whose expressions all stand as plain words or parts of one."""

    __slots__ = ("expressions", "parts", "references")

    def __init__(self, parts: tuple[str | Expression, ...]) -> None:
        self.parts = parts
        self.expressions = tuple(part for part in parts if isinstance(part, Expression))
        self.references = frozenset(access for part in self.expressions for access in part.references)

    def render(self, scope: Mapping[str, Any]) -> str:
        """The text for the shell, every value quoted as one word; a list becomes several."""
        return "".join(
            part if isinstance(part, str) else self._words(number, part, part.evaluate(scope))
            for number, part in enumerate(self.parts)
        )

    def _words(self, number: int, part: Expression, value: Any) -> str:
        if isinstance(value, list | tuple):
            before = self.parts[number - 1] if number else " "
            after = self.parts[number + 1] if number + 1 < len(self.parts) else " "
            joined = not isinstance(before, str) or not isinstance(after, str)
            if joined or str(before)[-1] not in _BREAKS or str(after)[0] not in _BREAKS:
                raise ExpressionError(
                    "bad_placement",
                    f"`{part.text}` is a list and stands next to other characters",
                    "put blanks around it",
                )
            return " ".join(_word(item, part.text) for item in value)
        return _word(value, part.text)


_BREAKS = frozenset(" \t\n;|&()<>")


def _word(value: Any, text: str) -> str:
    word = in_text(value, text)
    if "\0" in word:
        raise ExpressionError("bad_expression", f"`{text}` holds a NUL character, which no argument can")
    return shlex.quote(word)


@lru_cache(maxsize=4_096)
def parse_command(text: str) -> Command:
    """Read a `run` text; CommandError for a `{{ }}` in the wrong place."""
    parts = tuple(spans(text))
    starts = {part[0]: part for part in parts if not isinstance(part, str)}
    for start, place in _places(text, {start: part[1] for start, part in starts.items()}):
        expression = starts[start][2]
        column = start - (text.rfind("\n", 0, start) + 1) + 1
        if any(access[0] == "secrets" for access in expression.references):
            raise CommandError(
                f"a secret in a command line can be read by others: `{expression.text}`",
                "pass it by env",
                column,
                "secret_in_run",
            )
        if place:
            written = text[start : starts[start][1]]
            raise CommandError(
                f"{written} stands inside {place}, where its value could become syntax",
                f"write {written} by itself, unquoted: it becomes one shell word",
                column,
            )
    return Command(tuple(part if isinstance(part, str) else part[2] for part in parts))


_HERE = re.compile(r"<<-?\s*(?:'([^'\n]+)'|\"([^\"\n]+)\"|\\?([^\s;&|<>()'\"]+))")
_NESTS = {"'": "single quotes", '"': "double quotes", "`": "backticks", "$'": "$'…' quotes"}
_NESTS |= {"$(": "$( )", "${": "${ }", "$((": "$(( ))", "<(": "a process substitution"}


def _places(text: str, ends: Mapping[int, int]) -> Iterator[tuple[int, str]]:
    """Each `{{` with what it stands inside of; an empty text: nothing, as it should be."""
    position, stack, here = 0, list[str](), list[str]()
    while position < len(text):
        if position in ends:
            yield position, _NESTS[stack[0]] if stack else ""
            position = ends[position]
            continue
        letter, inside = text[position], stack[-1] if stack else ""
        if inside in {"'", "$'"}:
            if letter == "\\" and inside == "$'":
                position += 1
            elif letter == "'":
                stack.pop()
        elif letter == "\\":
            position += 1
            if position in ends:
                yield position, "an escape"
                position = ends[position]
                continue
        elif letter == "\n" and here and not stack:
            position = yield from _here_document(text, position + 1, here.pop(0), ends)
            continue
        elif not stack and letter == "#" and (position == 0 or text[position - 1] in _BREAKS):
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            yield from ((start, "a comment") for start in ends if position < start < end)
            position = end
            continue
        elif not stack and (found := _HERE.match(text, position)) and not text.startswith("<<<", position):
            here.append(next(word for word in found.groups() if word))
            position = found.end()
            continue
        else:
            position += _turn(text, position, stack)
            continue
        position += 1


def _here_document(
    text: str, position: int, word: str, ends: Mapping[int, int]
) -> Generator[tuple[int, str], None, int]:
    """Walk over the lines of a here-document, and return where the text goes on after it."""
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        if text[position:end].strip("\t") == word:
            return end
        yield from ((start, "a here-document") for start in ends if position <= start < end)
        position = end + 1
    return len(text)


def _turn(text: str, position: int, stack: list[str]) -> int:
    """Open or close what the characters at `position` open or close; how many they are."""
    inside = stack[-1] if stack else ""
    letter = text[position]
    if letter == "`":
        _toggle(stack, "`")
    elif letter == '"':
        _toggle(stack, '"')
    elif letter == "'" and inside != '"':
        stack.append("'")
    elif text.startswith("$'", position) and inside != '"':
        stack.append("$'")
        return 2
    elif text.startswith(("$(", "${"), position):
        stack.append(text[position : position + 2])
        return 2
    elif text.startswith(("<(", ">("), position) and inside != '"':
        stack.append("<(")
        return 2
    elif letter == "(" and inside in {"$(", "<("}:
        stack.append("$(")
    elif (letter == ")" and inside in {"$(", "<("}) or (letter == "}" and inside == "${"):
        stack.pop()
    return 1


def _toggle(stack: list[str], mark: str) -> None:
    if stack and stack[-1] == mark:
        stack.pop()
    else:
        stack.append(mark)


def render_argv(items: Sequence[str], scope: Mapping[str, Any]) -> tuple[str, ...]:
    """An argument vector: an item that is exactly one `{{ list }}` becomes several arguments."""
    arguments: list[str] = []
    for item in items:
        value = parse_template(item).render(scope)
        values = value if isinstance(value, list | tuple) else [value]
        for one in values:
            text = in_text(one, item)
            if "\0" in text:
                raise ExpressionError("bad_expression", f"`{item}` holds a NUL character, which no argument can")
            arguments.append(text)
    return tuple(arguments)


@lru_cache(maxsize=4_096)
def words_of(text: str) -> tuple[str, ...]:
    """The literal words of a command, as far as they can be told without running it; what `>` writes is none."""
    plain = re.sub(r"\{\{.*?\}\}", "{{}}", text, flags=re.DOTALL)
    lexer = shlex.shlex(plain, posix=True, punctuation_chars=";&|()<>\n")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:
        words = plain.split()  # quotes that only a shell can sort out
    return tuple(
        word for before, word in pairwise(["", *words]) if "{{" not in word and not (">" in before and _is_sign(before))
    )


def _is_sign(word: str) -> bool:
    return all(character in ";&|()<>\n" for character in word)
