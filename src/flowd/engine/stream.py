"""One run's stream: events are numbered, stamped and appended here, and told once durable."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime

import anyio
import anyio.lowlevel

from flowd.core.events import AnyEvent, Envelope
from flowd.engine.saying import warn
from flowd.ports.follower import Follower, Signal
from flowd.ports.journal import Writer

MOST_AT_ONCE = 256
"""Events told in one go: what followers do with more would hold the loop."""


class Stream:
    """Numbers what was decided, hands it to the writer, and publishes what is durable.

    `applied` is the last number given, `published` the last that followers have seen: they
    never see an event that a crash could take back. It belongs to `thread`, in which `loop` runs.
    """

    def __init__(self, run_id: str, writer: Writer, applied: int, followers: Sequence[Follower]) -> None:
        self.run_id = run_id
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.applied = applied
        self.published = applied
        self._writer = writer
        self._followers = list(followers)
        self._pending: deque[Envelope | Signal] = deque()
        self._news = anyio.Event()
        self._told = anyio.Event()

    def emit(self, events: Sequence[AnyEvent], at: datetime) -> None:
        """Append what was decided at `at`; returns at once. StorageFailing if the writer failed."""
        if not events:
            return
        batch = [Envelope(self.run_id, number, at, event) for number, event in enumerate(events, self.applied + 1)]
        self._writer.append(batch)
        self.applied += len(batch)
        self._pending.extend(batch)
        self._news.set()

    def signal(self, signal: Signal) -> None:
        """Pass on something said in passing, after the events that came before it; nothing is kept."""
        if self._pending:
            self._pending.append(signal)
        else:
            self._pass_on(signal)

    def add(self, follower: Follower) -> None:
        """Let `follower` see everything that is published from now on."""
        self._followers.append(follower)

    def remove(self, follower: Follower) -> None:
        """Tell `follower` nothing more."""
        if follower in self._followers:
            self._followers.remove(follower)

    @property
    def durable_seq(self) -> int:
        """The number of the last record that is on disk."""
        return self._writer.durable_seq

    async def durable(self) -> None:
        """Return when all that was applied so far is on disk."""
        await self._writer.durable(self.applied)

    async def told(self) -> None:
        """Return when all that was applied so far is on disk and every follower has seen it."""
        target = self.applied
        await self._writer.durable(target)
        while self.published < target:
            told = self._told
            await told.wait()

    async def publish(self) -> None:
        """Tell followers what has become durable, for ever; ended by cancellation."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await self._writer.durable(self.applied, hurry=False)
            durable = self._writer.durable_seq  # more may have been appended while the disk was waited for
            while batch := self._take(durable):
                for follower in list(self._followers):
                    await self._tell(follower, batch)
                self.published = batch[-1].seq
                self._say_what_followed()
                await anyio.lowlevel.checkpoint()  # after a long batch others have a turn
            told, self._told = self._told, anyio.Event()
            told.set()

    def _take(self, durable: int) -> list[Envelope]:
        """The events at the head of the queue, up to one that is not on disk or to something said in passing."""
        pending, batch = self._pending, list[Envelope]()
        while pending and len(batch) < MOST_AT_ONCE:
            head = pending[0]
            if not isinstance(head, Envelope) or head.seq > durable:
                break
            batch.append(head)
            pending.popleft()
        return batch

    def _say_what_followed(self) -> None:
        while self._pending and isinstance(head := self._pending[0], Signal):
            self._pending.popleft()
            self._pass_on(head)

    def _pass_on(self, signal: Signal) -> None:
        for follower in list(self._followers):
            try:
                follower.signal(signal)
            except Exception as error:  # noqa: BLE001  # as with events: one bad follower must not fail the task that speaks
                self._drop(follower, error)

    async def _tell(self, follower: Follower, batch: Sequence[Envelope]) -> None:
        try:
            await follower.record(batch)
        except Exception as error:  # noqa: BLE001  # one bad follower must not stop the run or the others
            self._drop(follower, error)

    def _drop(self, follower: Follower, error: Exception) -> None:
        self.remove(follower)
        warn("follower_dropped", run=self.run_id, follower=type(follower).__name__, error=repr(error))
