"""What a `ctx` is made of: the attempt that it is about, and what carries its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Subject(Protocol):
    """The attempt that a context is about; `Work` is one."""

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    @property
    def attempt(self) -> int:
        """Which try this is, counted from 1."""
        ...

    @property
    def task(self) -> Any:
        """The task; it has a `name`."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """The run's parameters."""
        ...

    @property
    def inputs(self) -> Sequence[Path]:
        """Absolute paths of what the task reads."""
        ...

    @property
    def outputs(self) -> Sequence[Path]:
        """Absolute paths of what the task writes."""
        ...


class Voice(Protocol):
    """What carries the words of an attempt; `Channel` is one."""

    def log(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """A line for people."""
        ...

    def metric(self, name: str, value: float) -> None:
        """A named number."""
        ...

    def progress(self, done: float, total: float | None) -> None:
        """How far it is."""
        ...
