"""A follower that keeps a run's state as its followers may know it, and writes the transcript."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from flowd.cli.screen import Line, Transcript
from flowd.core.events import Envelope
from flowd.core.run import RunState
from flowd.core.spec import PipelineSpec
from flowd.ports.follower import Signal
from flowd.ports.journal import Journal

Write = Callable[[Sequence[Line]], None]


class Region(Protocol):
    """Where what runs now is drawn, on a terminal."""

    def begin(self, run: RunState) -> None:
        """There is a run to draw."""
        ...

    def signal(self, signal: Signal) -> None:
        """A task told how far it is."""
        ...


class Watch:
    """One run as it goes on. `told` counts the events that came live."""

    def __init__(self, run: str, spec: PipelineSpec, journal: Journal, write: Write, region: Region | None) -> None:
        self.state = RunState(run, spec)
        self.told = 0
        self._seq = 0
        self._journal = journal
        self._transcript = Transcript(self.state)
        self._write = write
        self._region = region
        self._news = anyio.Event()
        if region is not None:
            region.begin(self.state)

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Write down what became durable; what was before this owner's time is read up on first."""
        await self.catch_up(envelopes[0].seq - 1)
        lines: list[Line] = []
        for envelope in envelopes:
            self._apply(envelope)
            lines += self._transcript.after(envelope)
        self.told += len(envelopes)
        if lines:
            self._write(lines)
        news, self._news = self._news, anyio.Event()
        news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once something holds of `state`."""
        while not holds():
            await self._news.wait()

    def signal(self, signal: Signal) -> None:
        """Pass progress on to where it is drawn."""
        if self._region is not None and signal.kind == "progress":
            self._region.signal(signal)

    async def catch_up(self, until: int | None = None) -> None:
        """Take in what the journal holds up to record `until`, silently."""
        if until is not None and until <= self._seq:
            return
        async for envelope in self._journal.read(self.state.id, self._seq):
            if until is not None and envelope.seq > until:
                break
            self._apply(envelope)

    def heading(self) -> str:
        """What runs, in one line."""
        return self._transcript.heading()

    def _apply(self, envelope: Envelope) -> None:
        self.state.apply(envelope.event, envelope.at)
        self._seq = envelope.seq


class EventLines:
    """Prints each event as a JSON line, once it is durable and never before."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """One line each."""
        from flowd.core.codec import public

        self._write("".join(f"{public(envelope).decode()}\n" for envelope in envelopes))

    def signal(self, signal: Signal) -> None:
        """What is said in passing is no event."""
