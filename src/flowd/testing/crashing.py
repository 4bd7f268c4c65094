"""A run that dies at a chosen durable boundary: `python -m flowd.testing.crashing REQUEST`.

The process is really killed, by itself, with SIGKILL: nothing is cleaned up, and what its
guardian does then is what it does after any other death.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core import events as e
from flowd.core.spec import Definition
from flowd.engine.engine import Engine
from flowd.engine.services import Adapters
from flowd.ports.journal import Journal, Writer
from flowd.wiring.build import file_adapters

POINTS: dict[str, tuple[type[e.Event], bool]] = {
    "before_start": (e.TaskStarted, False),
    "after_start": (e.TaskStarted, True),
    "before_end": (e.TaskSucceeded, False),
    "after_end": (e.TaskSucceeded, True),
    "in_retry_wait": (e.TaskRetryScheduled, True),
    "in_cancel": (e.RunCancelRequested, True),
}
"""Each place to die at: an event, and whether its record is durable by then or not yet written."""


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """Where to die: at a point of a task (`in_cancel`: of the run, cancelled once the task began)."""

    point: str
    task: str

    def meets(self, event: e.AnyEvent, *, durable: bool) -> bool:
        """Whether this is the moment."""
        kind, after = POINTS[self.point]
        return isinstance(event, kind) and after == durable and getattr(event, "task", self.task) == self.task


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One run to begin and not to finish; each start of a task is a line in `ledger`, durable record or not."""

    file: str
    state_dir: str
    ledger: str
    run_id: str
    params: dict[str, Any]
    tasks: tuple[str, ...]
    death: Death


class DyingWriter:
    """Passes everything on to a writer, and dies at its moment."""

    def __init__(self, writer: Writer, death: Death, ledger: Path) -> None:
        self._writer = writer
        self._death = death
        self._ledger = ledger
        self._at: int | None = None

    @property
    def durable_seq(self) -> int:
        """The highest sequence number that is synced."""
        return self._writer.durable_seq

    @property
    def left_by(self) -> Sequence[str]:
        """Who had the run before."""
        return self._writer.left_by

    def append(self, batch: Sequence[e.Envelope]) -> None:
        """Queue records, unless one of them must never be written."""
        for envelope in batch:
            if self._death.meets(envelope.event, durable=False):
                die()
            if self._death.meets(envelope.event, durable=True) and self._at is None:
                self._at = envelope.seq
        self._writer.append(batch)
        started = [envelope.event.task for envelope in batch if isinstance(envelope.event, e.TaskStarted)]
        if started:
            with self._ledger.open("a", encoding="utf-8") as file:
                file.write("".join(f"{task}\n" for task in started))

    async def durable(self, seq: int, *, hurry: bool = True) -> None:
        """Return when synced, unless that was the moment."""
        await self._writer.durable(seq, hurry=hurry)
        if self._at is not None and self._writer.durable_seq >= self._at:
            die()


def die() -> None:
    """End this process here and now."""
    os.kill(os.getpid(), signal.SIGKILL)


class DyingJournal:
    """A journal whose writers die."""

    def __init__(self, journal: Journal, death: Death, ledger: Path) -> None:
        self._journal = journal
        self._death = death
        self._ledger = ledger

    async def create(self, run: str, definition: Definition) -> str:
        """Make the run."""
        return await self._journal.create(run, definition)

    def open(self, run: str) -> AbstractAsyncContextManager[Writer]:
        """A writer that dies."""
        return self._open(run)

    @asynccontextmanager
    async def _open(self, run: str) -> AsyncIterator[Writer]:
        async with self._journal.open(run) as writer:
            yield DyingWriter(writer, self._death, self._ledger)

    def read(self, run: str, after: int = 0) -> AsyncIterator[e.Envelope]:
        """The durable records."""
        return self._journal.read(run, after)

    def select(self, run: str, events: Sequence[str], after: int = 0) -> AsyncIterator[e.Envelope]:
        """Some of them."""
        return self._journal.select(run, events, after)

    async def definition(self, run: str) -> Definition:
        """What the run was made with."""
        return await self._journal.definition(run)


@asynccontextmanager
async def dying_adapters(request: Request) -> AsyncIterator[Adapters]:
    """The real outside world, with a death in its journal."""
    async with file_adapters(Path(request.state_dir)) as adapters:
        adapters.journal = DyingJournal(adapters.journal, request.death, Path(request.ledger))
        yield adapters


async def run(request: Request) -> None:
    """Begin the run; come back only where its moment never came."""
    async with Engine(partial(dying_adapters, request)) as engine:
        pipeline = Pipeline.load(request.file)
        going = await engine.start(pipeline, *request.tasks, params=request.params, run_id=request.run_id)
        if request.death.point == "in_cancel":
            async for event in going.events():
                if event["event"] == "task_started" and event["task"] == request.death.task:
                    await going.cancel("crashtest")
                    break
        await going.wait()


if __name__ == "__main__":
    anyio.run(run, msgspec.json.decode(sys.argv[1], type=Request))
