"""Runs that the ends of other pipelines' runs begin, in whatever process those ran."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import anyio

from flowd.core import states as s
from flowd.core.errors import FlowdError, StorageFailing
from flowd.core.lineage import is_child
from flowd.daemon.triggering import Armed, Happening, Triggering
from flowd.ports.archive import Archive
from flowd.ports.clock import Clock

_PERIOD_S: Final = 5.0
_LOOKED_BACK: Final = timedelta(minutes=1)
"""So long before the last end that was seen, another may have been written that was not."""

_REMEMBERED: Final = 1_000
"""So many ends are known to have been followed; older ones are not looked at any more."""


class AfterTriggers:
    """Looks for ends, again and again, and at once where it is poked."""

    def __init__(self, triggering: Triggering, archive: Archive, clock: Clock) -> None:
        self._triggering = triggering
        self._archive = archive
        self._clock = clock
        self._ended: dict[str, datetime] = {}
        self._news = anyio.Event()

    def poke(self) -> None:
        """Look again now: a run has ended."""
        self._news.set()

    async def run(self) -> None:
        """Take a turn whenever there is news, or some seconds later."""
        while True:
            self._news = anyio.Event()
            await self.turn(self._clock.now())
            with anyio.move_on_after(_PERIOD_S):
                await self._news.wait()

    async def turn(self, now: datetime) -> None:
        """Look once at what has ended since each trigger last fired, and begin what is to follow."""
        known = [one for one in self._triggering.armed("after") if not await self._triggering.see(one, now)]
        armed = [one for one in known if not self._triggering.entry(one).paused]
        if not armed:
            return
        since = min(self._since(one, now) for one in armed) - _LOOKED_BACK
        for moved in await self._archive.moved(since):
            if is_child(moved.run) or self._ended.get(moved.run) == moved.at:
                continue
            if await self._follow(moved.run, armed, now):
                self._ended[moved.run] = moved.at
        while len(self._ended) > 5_000:
            self._ended.pop(next(iter(self._ended)))

    def _since(self, armed: Armed, now: datetime) -> datetime:
        return self._triggering.entry(armed).handled or now

    async def _follow(self, run: str, armed: list[Armed], now: datetime) -> bool:
        """Begin what follows a run; False where it has not ended."""
        try:
            seen = await self._archive.look(run)
        except FlowdError:  # removed, or damaged: nothing that can be followed
            return True
        ended = seen.state.ended_at
        if seen.state.state not in s.RUN_ENDED or ended is None:
            return False
        for one in armed:
            entry = self._triggering.entry(one)
            name = f"{run} {ended.isoformat()}"
            first = next((fact.at for fact in entry.recent), entry.handled)
            if one.trigger.after != seen.state.spec.name or seen.state.state not in one.trigger.on:
                continue
            if name in entry.known or (first is not None and ended < first):
                continue
            trigger = {"kind": "after", "pipeline": one.trigger.after, "upstream": run, "state": seen.state.state}
            try:
                await self._triggering.begin(one, Happening(name=name, at=ended, trigger=trigger), now)
            except StorageFailing:
                raise
            except FlowdError:
                continue  # it is on record, and said
            if len(entry.known) > 2 * _REMEMBERED:
                await self._triggering.keep_only(one, tuple(entry.known)[-_REMEMBERED:], now)
        return True
