"""A run's parameters that remember who has read which of them: what an attempt has read counts for freshness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class ReadParams(dict[str, Any]):
    """A run's parameters as an attempt sees them; remembers which of them it has read.

    Whoever looks at them all (a loop, `items()`, `dict(…)`) has read them all.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The parameter, or `default`."""
        self.read.add(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        self.read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        """All names; all are read."""
        self.read.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        """All of them; all are read."""
        self.read.update(super().keys())
        return super().items()

    def values(self) -> Any:
        """All values; all are read."""
        self.read.update(super().keys())
        return super().values()
