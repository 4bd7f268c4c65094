"""What happens in all runs, as one stream that many may follow, each at its own pace.

House rules of this room. The newest lines are kept once, for everybody; a reader is a number in them. One
that falls behind what is kept, or comes back after a restart, is told so (`reset`) and loads anew: nothing
is skipped in silence. A reader that never reads costs nothing but its connection.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

import anyio

from flowd.core.codec import public
from flowd.core.errors import NoSuchRun, StateDamaged
from flowd.core.events import Envelope, RunFinished
from flowd.ports.archive import Archive
from flowd.ports.clock import Clock
from flowd.ports.follower import Signal

PING_S: Final = 15.0
"""A stream that has nothing to say says so: whoever reads knows that it is there."""
_MOST_LINES: Final = 10_000
_MOST_BYTES: Final = 8_000_000
_ABROAD_S: Final = 1.0
_SELDOM_S: Final = 3.0
"""How often is looked for what other processes write while nobody reads."""
_ENDING_S: Final = 0.05
"""How soon an owner lets go of a run that has ended."""
_LOOKED_BACK: Final = timedelta(seconds=10)
_REMEMBERED_S: Final = 600.0
_ALL: Final = ""


class Line(NamedTuple):
    """One event of a run as JSON, under an `id` from which a reader goes on. `kind` is `event`, `reset` or `ping`."""

    kind: str
    id: str
    data: bytes


class Feed:
    """A follower of every run of this process, and of those of others as far as their journals tell.

    `owns` says whether a run goes on in this process.
    """

    def __init__(self, archive: Archive, clock: Clock, owns: Callable[[str], bool]) -> None:
        self._archive = archive
        self._clock = clock
        self._owns = owns
        self._epoch = secrets.token_hex(4)
        self._lines: deque[bytes] = deque()
        self._first = 1
        self._bytes = 0
        self._closed = False
        self._told: dict[str, tuple[int, float]] = {}
        self._news: dict[str, anyio.Event] = {}

    # --- what follows runs -----------------------------------------------------------------------------------

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Durable events of a run that goes on here."""
        if envelopes:
            self._add(envelopes[0].run, envelopes[-1].seq, envelopes)

    def signal(self, signal: Signal) -> None:
        """Events only."""

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for name in list(self._news):
            self._wake(name)

    async def run(self) -> None:
        """Look for what other processes write, for ever."""
        since = self._clock.now()
        while True:
            period = _ABROAD_S if _ALL in self._news else _SELDOM_S
            await self._clock.sleep_until(self._clock.monotonic() + period)
            since = await self.look_abroad(since)

    async def look_abroad(self, since: datetime) -> datetime:
        """Tell what other processes have written to their runs' journals since; from when to look the next time."""
        now, awake = self._clock.now(), self._clock.monotonic()
        self._told = {run: told for run, told in self._told.items() if told[1] > awake - _REMEMBERED_S}
        for moved in await self._archive.moved(since - _LOOKED_BACK):
            if self._owns(moved.run):
                continue
            last = self._told.get(moved.run, (0, awake))[0]
            try:
                told = [one async for one in self._archive.events(moved.run, last)]
            except (NoSuchRun, StateDamaged):  # removed meanwhile, or nothing to be believed: `doctor` speaks of it
                continue
            if told:
                self._add(moved.run, told[-1].seq, [one for one in told if one.at >= since - _LOOKED_BACK])
        return now

    def _add(self, run: str, seq: int, envelopes: Sequence[Envelope]) -> None:
        self._told[run] = seq, self._clock.monotonic()
        for data in map(public, envelopes):
            self._lines.append(data)
            self._bytes += len(data)
        while len(self._lines) > _MOST_LINES or (self._bytes > _MOST_BYTES and len(self._lines) > 1):
            self._bytes -= len(self._lines.popleft())
            self._first += 1
        self._wake(run)
        self._wake(_ALL)

    def _wake(self, name: str) -> None:
        if (news := self._news.pop(name, None)) is not None:
            news.set()

    # --- who reads -------------------------------------------------------------------------------------------

    async def all(self, after: str = "") -> AsyncIterator[Line]:
        """Every event from now on, or from behind the line with the id `after`."""
        place = self._place(after)
        if place is None:
            place = self._end
            yield Line("reset", self._id(place), b"{}")
        while not self._closed:
            if place < self._first - 1:
                place = self._end
                yield Line("reset", self._id(place), b"{}")
                continue
            if place == self._end:
                if not await self._woken(self._waiting(_ALL), PING_S):
                    yield Line("ping", "", b"")
                continue
            start = place + 1 - self._first
            for number, data in enumerate(list(islice(self._lines, start, start + 100)), place + 1):
                place = number
                yield Line("event", self._id(number), data)

    async def of_run(self, run: str, after: int = 0) -> AsyncIterator[Line]:
        """The events of a run from `after` on, until it goes on no more. NoSuchRun, StateDamaged."""
        seen, quiet, over = after, 0.0, False
        try:
            while not self._closed:
                goes_on = self._owns(run) or self._archive.is_owned(run)
                waiting = self._waiting(run)  # before it is read: what comes meanwhile is news
                async for envelope in self._archive.events(run, seen):
                    seen, quiet, over = envelope.seq, 0.0, isinstance(envelope.event, RunFinished)
                    yield Line("event", str(seen), public(envelope))
                if not goes_on:
                    return  # the last look came after the last owner had gone
                period = _ENDING_S if over else _ABROAD_S
                if not await self._woken(waiting, period) and (quiet := quiet + period) >= PING_S:
                    quiet = 0.0
                    yield Line("ping", "", b"")
        finally:
            self._wake(run)  # nothing waits for a run that has ended

    def _waiting(self, name: str) -> anyio.Event:
        """What is set when there is news of a run, or of any."""
        return self._news.setdefault(name, anyio.Event())

    async def _woken(self, news: anyio.Event, seconds: float) -> bool:
        """Wait for news; False where there were none in time."""
        with anyio.move_on_after(seconds):
            await news.wait()
        return news.is_set()

    @property
    def _end(self) -> int:
        return self._first + len(self._lines) - 1

    def _id(self, place: int) -> str:
        return f"{self._epoch}-{place}"

    def _place(self, after: str) -> int | None:
        """The number of a line; None where it is not known any more."""
        if not after:
            return self._end
        epoch, _, number = after.partition("-")
        if epoch != self._epoch or not number.isdecimal() or not self._first - 1 <= int(number) <= self._end:
            return None
        return int(number)
