"""The port to the other runs that go on in a state directory, in whatever process."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from flowd.ports.inbox import Answer


class Neighbours(Protocol):
    """Who else serves, and how they are asked."""

    async def serving(self, pipeline: str, folder: str, task: str, before: datetime) -> list[str]:
        """The runs of a pipeline (its name and folder) begun `before` a moment in which the service `task` serves now.

        One that tasks of its own run still need is nobody else's to stop, and left out.
        """
        ...

    async def ask(self, run: str, kind: str, task: str, by: str) -> Answer | None:
        """Ask a run's owner something about one task; None where nobody answers."""
        ...


class NoNeighbours:
    """Nothing else goes on."""

    async def serving(self, pipeline: str, folder: str, task: str, before: datetime) -> list[str]:  # noqa: ARG002  # the port's
        """Nobody."""
        return []

    async def ask(self, run: str, kind: str, task: str, by: str) -> Answer | None:  # noqa: ARG002  # the port's
        """Nobody answers."""
        return None
