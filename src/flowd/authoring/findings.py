"""Where every problem of a pipeline is gathered, with the place it stands at."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from flowd.core.errors import Problem
from flowd.core.printable import printable

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a pipeline down to a value."""

_LONG = 60
_LONGEST = 600
_MOST_NAMES = 2000
_MOST_GUESSES = 20


class Source(Protocol):
    """What was read: knows where each value stands."""

    name: str

    def file(self, path: KeyPath) -> str:
        """The file in which a value stands."""
        ...

    def place(self, path: KeyPath, *, key: bool) -> tuple[int, int] | None:
        """Line and column, from 1, of a value or of its key; None where there is no text."""
        ...

    def written(self, path: KeyPath) -> str | None:
        """A scalar as it is written, where it was read from text."""
        ...


class NoText:
    """A source without lines: a pipeline that is written in Python."""

    def __init__(self, name: str) -> None:
        self.name = name

    def file(self, path: KeyPath) -> str:  # noqa: ARG002  # the Protocol's
        """There is no other."""
        return self.name

    def place(self, path: KeyPath, *, key: bool) -> tuple[int, int] | None:  # noqa: ARG002  # the Protocol's
        """Never known."""
        return None

    def written(self, path: KeyPath) -> str | None:  # noqa: ARG002  # the Protocol's
        """Never known."""
        return None


class FunctionLines(NoText):
    """The places of tasks in a Python file: the lines on which their functions begin."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lines: dict[str, int] = {}

    def note(self, task: str, function: Callable[..., Any]) -> None:
        """Remember where a task's function stands, if it stands in this file."""
        code = getattr(function, "__code__", None)
        if code is not None and code.co_filename == self.name:
            self._lines[task] = code.co_firstlineno

    def place(self, path: KeyPath, *, key: bool) -> tuple[int, int] | None:  # noqa: ARG002  # the Protocol's
        """The line of the task that a path leads into."""
        line = self._lines.get(str(path[1])) if len(path) > 1 and path[0] in {"tasks", "finally"} else None
        return None if line is None else (line, 1)


class Findings:
    """Collects the problems of one pipeline; two of the same code at one key are one."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._seen: set[tuple[str, KeyPath, str]] = set()
        self._guesses = 0

    def add(self, code: str, path: KeyPath, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Something is wrong with the value at `path`, or with the key itself.

        Whatever texts of the user's the message holds, it is printed as one line.
        """
        message, hint = plain(message, _LONGEST), plain(hint, _LONGEST)
        if (code, path, message) in self._seen:
            return
        self._seen.add((code, path, message))
        line, column = self.source.place(path, key=at_key) or (None, None)
        self.problems.append(
            Problem(
                file=self.source.file(path),
                line=line,
                column=column,
                key=dotted(path),
                code=code,
                message=message,
                hint=hint,
            )
        )

    def suggest(self, name: str, known: Iterable[str], otherwise: str = "") -> str:
        """The hint for an unknown name; guessing takes time, so only the first few are guessed."""
        self._guesses += 1
        return did_you_mean(name, known, otherwise) if self._guesses <= _MOST_GUESSES else otherwise

    def sorted(self) -> list[Problem]:
        """By line, then in the order they were found."""
        return sorted(self.problems, key=lambda problem: (problem.line or sys.maxsize, problem.column or 0))


def dotted(path: KeyPath) -> str:
    """`("tasks", "a", "needs", 0)` as `tasks.a.needs[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{plain(part)}" if text else plain(part)
    return text


def plain(text: str, most: int = _LONG) -> str:
    """A text of the user's, safe to print: short, and without control characters."""
    clean = printable(text[: most + 1])
    return clean if len(text) <= most else clean[:most] + "…"


def quoted(value: object) -> str:
    """A value as a message shows it: between backticks, short."""
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, str):
        return f"`{plain(value)}`"
    try:
        return f"`{plain(repr(value))}`"
    except Exception:  # noqa: BLE001  # an object of the user's without a text, or an int too long for one
        return f"`{type(value).__name__}`"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant."""
    import difflib

    names = list(known)
    if len(names) > _MOST_NAMES or len(name) > 2 * _LONG:
        names = [other for other in names if other.casefold() == name.casefold()]
    folded = {other.casefold(): other for other in reversed(names)}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The hint for an unknown name."""
    found = nearest(name, known)
    return f"did you mean `{found}`?" if found else otherwise


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names in a sentence, shortened where there are many."""
    all_names = list(names)
    text = ", ".join(f"`{plain(name)}`" for name in all_names[:most])
    return text if len(all_names) <= most else f"{text} and {len(all_names) - most} more"
