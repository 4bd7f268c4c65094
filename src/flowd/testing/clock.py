"""A clock that moves only when told to, or when everybody waits for it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush

import anyio


class FakeClock:
    """Virtual time for an engine: `advance` moves it by hand.

    With `autojump` (real seconds) it jumps by itself to the next moment that somebody waits
    for, once nothing has asked it for so long. The rule is that of trio's MockClock.
    """

    def __init__(self, start: datetime | None = None, *, autojump: float | None = None) -> None:
        self._start = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed = 0.0
        self._autojump = autojump
        self._waiters: list[tuple[float, int, anyio.Event]] = []
        self._order = 0
        self._jump: asyncio.TimerHandle | None = None

    def now(self) -> datetime:
        """The virtual moment, in UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Virtual seconds since the start."""
        return self._elapsed

    async def sleep_until(self, moment: float) -> None:
        """Return once virtual time has reached `moment`."""
        if moment <= self._elapsed:
            await anyio.lowlevel.checkpoint()
            return
        self._order += 1
        event = anyio.Event()
        heappush(self._waiters, (moment, self._order, event))
        self._arm()
        await event.wait()

    def advance(self, seconds: float) -> None:
        """Move time forward, waking everybody whose moment has come."""
        self._elapsed += seconds
        while self._waiters and self._waiters[0][0] <= self._elapsed:
            heappop(self._waiters)[2].set()

    def _arm(self) -> None:
        if self._autojump is None:
            return
        if self._jump is not None:
            self._jump.cancel()
        self._jump = asyncio.get_running_loop().call_later(self._autojump, self._leap)

    def _leap(self) -> None:
        self._jump = None
        if self._waiters:
            self.advance(self._waiters[0][0] - self._elapsed)
            if self._waiters:
                self._arm()
