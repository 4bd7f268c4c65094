"""The port to the only durable truth: one ordered journal for each run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from flowd.core.events import Envelope
from flowd.core.spec import Definition


class Writer(Protocol):
    """The one writer of one run's journal."""

    @property
    def durable_seq(self) -> int:
        """The highest sequence number that is known to be synced."""
        ...

    @property
    def left_by(self) -> Sequence[str]:
        """The incarnations of the run's last owners whose processes may live still; empty where none can.

        They are to be ended before the first append: after that nobody is told of them again.
        """
        ...

    def append(self, batch: Sequence[Envelope]) -> None:
        """Queue records in order and return at once; their `seq` continue the journal's.

        Raises StorageFailing once any earlier write or sync has failed: a writer that failed
        is never trusted again.
        """
        ...

    async def durable(self, seq: int, *, hurry: bool = True) -> None:
        """Return when every record up to `seq` is synced; raise StorageFailing if that fails.

        With `hurry` the commit begins at once; without, the writer may linger for company.
        """
        ...


class Journal(Protocol):
    """All runs of one state directory."""

    async def create(self, run: str, definition: Definition) -> str:
        """Make the run with its `spec.json`, synced, and return that file's digest.

        Raises FileExistsError if the run exists, but for one of the same definition in which
        nothing is on record: whoever made it was cut off.
        """
        ...

    def open(self, run: str) -> AbstractAsyncContextManager[Writer]:
        """The exclusive writer of an existing run; StateLocked names a living holder.

        A torn tail is set aside, cut off and reported before the first append.
        """
        ...

    def read(self, run: str, after: int = 0) -> AsyncIterator[Envelope]:
        """The durable records with `seq > after`, in order; safe beside a writer.

        Raises NoSuchRun, and StateDamaged with file and offset.
        """
        ...

    def select(self, run: str, events: Sequence[str], after: int = 0) -> AsyncIterator[Envelope]:
        """As `read`, of the events with these names alone; the rest is checked all the same."""
        ...

    async def definition(self, run: str) -> Definition:
        """The definition the run was created with. Raises NoSuchRun or StateDamaged."""
        ...
