"""The port to all runs of a state directory, in whatever process they go on: to look, and to ask their owners."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from flowd.core.events import Envelope
from flowd.core.run import RunState
from flowd.core.spec import Definition
from flowd.ports.inbox import Answer, Request


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stands: `owner` is who goes on with it, in words, and empty where nobody does."""

    state: RunState
    definition: Definition
    status: str
    owner: str = ""
    document: dict[str, Any]


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A run in whose journal something was written last `at` a moment."""

    run: str
    at: datetime


class Archive(Protocol):
    """Everything about runs that can be known without owning them."""

    def runs(self) -> list[str]:
        """The ids of all runs, newest first."""
        ...

    async def look(self, run: str) -> Seen:
        """A run as it stands. NoSuchRun, StateDamaged."""
        ...

    def is_owned(self, run: str) -> bool:
        """Whether some process goes on with a run. NoSuchRun."""
        ...

    def events(self, run: str, after: int = 0) -> AsyncIterator[Envelope]:
        """Its durable events with `seq > after`. NoSuchRun, StateDamaged."""
        ...

    def log(self, run: str, task: str, attempt: int) -> Path:
        """The file of what an attempt said, which need not exist."""
        ...

    async def moved(self, since: datetime) -> Sequence[Moved]:
        """The runs whose journals were written to at `since` or later, in that order."""
        ...

    async def ask(self, run: str, request: Request) -> Answer | None:
        """Ask whoever owns a run; None where nobody answers in time."""
        ...
