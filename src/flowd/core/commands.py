"""`run` texts: each `{{ }}` becomes exactly one shell word, and may stand only where that is so.

It may stand outside quotes, substitutions, here-documents and comments only. Elsewhere a value
could become syntax, so it is refused with the form to write instead.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from flowd.core.expressions import Expression, ExpressionError, in_text, parse_template, spans
from flowd.core.shell_text import places


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
            return " ".join(_word(item, f"{part.text}[{place}]") for place, item in enumerate(value))
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
    for start, place in sorted(places(text, {start: part[1] for start, part in starts.items()}).items()):
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


def render_argv(items: Sequence[str], scope: Mapping[str, Any]) -> tuple[str, ...]:
    """An argument vector: an item that is exactly one `{{ list }}` becomes several arguments."""
    arguments: list[str] = []
    for item in items:
        value = parse_template(item).render(scope)
        is_list = isinstance(value, list | tuple)  # then the item is one expression
        named = item.strip().removeprefix("{{").removesuffix("}}").strip()
        for place, one in enumerate(value if is_list else [value]):
            text = in_text(one, f"{named}[{place}]" if is_list else named)
            if "\0" in text:
                raise ExpressionError("bad_expression", f"`{item}` holds a NUL character, which no argument can")
            arguments.append(text)
    return tuple(arguments)


_SIMPLE = re.compile(r"[\w ./:=,@%+-]*")  # no shell sees anything in it but words


@lru_cache(maxsize=4_096)
def words_of(text: str) -> tuple[str, ...]:
    """The literal words of a command, as far as they can be told without running it; what `>` writes is none."""
    if _SIMPLE.fullmatch(text):
        return tuple(text.split())
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
