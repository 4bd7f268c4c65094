"""The nodes of a YAML file: each value with its line and column, and what it weighs."""

from __future__ import annotations

from typing import Any

from flowd.authoring.findings import Findings, KeyPath, NoText


class Node:
    """A value as it stands in the file: its place, how much it weighs and how deep it is."""

    __slots__ = ("column", "depth", "done", "line", "made", "value", "weight")

    def __init__(self, line: int, column: int, value: Any = None) -> None:
        self.line = line
        self.column = column
        self.value = value
        self.weight = 1
        self.depth = 1
        self.done = False  # whether its end has been read
        self.made: Any = None


class Scalar(Node):
    """A text; `plain` where it stands without quotes."""

    __slots__ = ("plain",)
    value: str
    plain: bool


class Listing(Node):
    """A list: its `value` is a list of nodes."""

    __slots__ = ()
    value: list[Node]


class Mapping(Node):
    """A mapping: its `value` is a list of (key, value); `merged` are those that `<<` brings in."""

    __slots__ = ("index", "merged")
    value: list[tuple[Scalar, Node]]
    merged: list[Mapping]
    index: dict[str, tuple[Scalar, Node]] | None

    def find(self, key: str) -> tuple[Scalar, Node] | None:
        """The pair of a key, its own before those that are merged."""
        if self.index is None:
            self.index = {pair[0].value: pair for pair in self.value}
        if (own := self.index.get(key)) is not None:
            return own
        for other in self.merged:
            if (found := other.find(key)) is not None:
                return found
        return None


class Broken(Exception):
    """The file cannot be read any further; why is among the findings."""


def at(findings: Findings, code: str, message: str, hint: str, line: int, column: int, path: KeyPath = ()) -> None:
    """Report at a place counted from 0, which no key path leads to."""
    whole = findings.source
    findings.source = _Spot(whole.name, line + 1, column + 1)
    try:
        findings.add(code, path, message, hint)
    finally:
        findings.source = whole


class _Spot(NoText):
    def __init__(self, name: str, line: int, column: int) -> None:
        super().__init__(name)
        self._place = (line, column)

    def place(self, path: KeyPath, *, key: bool) -> tuple[int, int] | None:  # noqa: ARG002  # the Protocol's
        return self._place
