"""The part of the daemon that tells people: reads what runs have come to, watches the clock, and delivers.

House rules of this room. Nothing here is in a run's way: a follower only says that there is something to read, and
returns. `run_once` is one look, without any wait; `run` looks as long as it goes on, and delivers beside that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
import anyio.abc
import msgspec

from flowd.core.consequences import not_done
from flowd.core.declared import Expect, Notify
from flowd.core.errors import FlowdError
from flowd.core.events import Envelope
from flowd.core.lateness import due_before, last_due, missed
from flowd.core.notices import Message, Notice, message_of, notices_of, tells_somebody
from flowd.core.secrecy import Secrecy
from flowd.core.spec import Definition
from flowd.core.views import moment
from flowd.daemon.answer_links import AnswerLinks
from flowd.daemon.delivery import PATIENCE, Delivery
from flowd.daemon.saying import say
from flowd.daemon.stories import OLDEST, Journals, Key, Stories, is_worth_a_look
from flowd.ports.clock import Clock
from flowd.ports.follower import Follower, Signal
from flowd.ports.notifier import Deliver
from flowd.ports.outbox import Outbox
from flowd.ports.secrets import Secrets

EVERY: Final = timedelta(seconds=15)
"""How often all runs, and the clock, are looked at."""

_SETTLES: Final = timedelta(seconds=5)
"""How long after its time of day a pipeline is called late: what ended just then is read first."""


class Pipelines(Protocol):
    """The pipelines that the daemon knows now."""

    def definitions(self) -> Sequence[Definition]:
        """Each as it is written now."""
        ...

    def due(self, pipeline: str, after: datetime, until: datetime) -> Sequence[datetime]:
        """The instants at which its schedules were due, later than `after`, up to `until`, in order."""
        ...


class Notices:
    """Tells people by `deliver` of what happens in the runs that `journals` has, and of what `pipelines` expects.

    `everywhere` says who is told of every run; of `pipelines` it is for the caller to have it in their definitions.
    `base_url` is where the daemon is reached (empty: no page is named), `link_key` signs links that answer questions
    (empty: there are none). `place` is what messages say of where flowd runs. `secrecy` learns the secrets of URLs.
    """

    def __init__(
        self,
        outbox: Outbox,
        deliver: Deliver,
        clock: Clock,
        pipelines: Pipelines,
        journals: Journals,
        secrets: Secrets,
        *,
        everywhere: Sequence[Notify] = (),
        secrecy: Secrecy | None = None,
        base_url: str = "",
        link_key: bytes = b"",
        place: str = "",
        every: timedelta = EVERY,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._pipelines = pipelines
        self._secrecy = secrecy or Secrecy()
        self._base = base_url.rstrip("/")
        self._place = place
        self._every = every
        self._stories = Stories(journals, outbox, everywhere)
        self.links = AnswerLinks(self._stories, outbox, base_url=base_url, key=link_key)
        self._delivery = Delivery(
            outbox, deliver, self._message, clock=clock, secrets=secrets, secrecy=self._secrecy, patience=patience
        )
        self._woken: dict[str, None] = {}
        self._news = anyio.Event()
        self._instants: dict[tuple[Key, datetime], Sequence[datetime]] = {}

    def follower(self, run: str, _folder: Path) -> Sequence[Follower]:
        """What the engine of this process is given for each run."""
        return (_Bell(lambda: self._wake(run)),)

    def _wake(self, run: str) -> None:
        self._woken[run] = None
        self._news.set()

    async def run(self) -> None:
        """Look and deliver for ever; ended by cancellation."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._delivery.run, name="delivery of notices")
            await self._watch()

    async def _watch(self) -> None:
        next_round = self._clock.monotonic()
        while True:
            news = self._news = anyio.Event()
            try:
                if self._clock.monotonic() >= next_round:
                    next_round = self._clock.monotonic() + self._every.total_seconds()
                    await self.run_once(self._clock.now())
                else:
                    await self._look_at_woken(self._clock.now())
            except (FlowdError, OSError) as error:  # the disk; what was not written is tried again
                say("notices_failing", level="warning", error=str(error))
                await self._clock.sleep_until(next_round)
                continue
            await self._rest(news, next_round)

    async def _rest(self, news: anyio.Event, until: float) -> None:
        """Until there is something to read, or the next round is due."""

        async def tick(scope: anyio.CancelScope) -> None:
            await self._clock.sleep_until(until)
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(tick, group.cancel_scope)
            await news.wait()
            group.cancel_scope.cancel()

    async def run_once(self, now: datetime) -> int:
        """Look at all runs and at the clock, once; how many notices came of it. StorageFailing."""
        count = await self._look_at_woken(now)
        count += await self._stories.look_around(now)
        count += await self._stories.look_at_clock(now)
        count += await self._look_at_days(now)
        self._told(count)
        return count

    async def _look_at_woken(self, now: datetime) -> int:
        count = 0
        for run in list(self._woken):
            del self._woken[run]
            try:
                count += await self._stories.look(run, now)
            except BaseException:
                self._woken[run] = None
                raise
        self._told(count)
        return count

    def _told(self, count: int) -> None:
        if count or self._outbox.waiting():
            self._delivery.wake()

    async def _look_at_days(self, now: datetime) -> int:
        """Tell of the pipelines that are not done by their time of day."""
        count = 0
        for definition in self._pipelines.definitions():
            expect = definition.spec.expect
            if expect is None or expect.done_by is None or not tells_somebody(definition.spec):
                continue
            due = last_due(expect, now - _SETTLES)
            if due is not None and due >= max(self._outbox.born, now - OLDEST):
                count += await self._look_at_day(definition, expect, due, now)
        return count

    async def _look_at_day(self, definition: Definition, expect: Expect, due: datetime, now: datetime) -> int:
        key = (definition.spec.name, definition.folder)
        instants = self._instants.get((key, due))
        if instants is None:
            self._instants = {known: found for known, found in self._instants.items() if known[0] != key}
            instants = self._pipelines.due(definition.spec.name, due_before(expect, due), due)
            self._instants[key, due] = instants
        found = missed(
            expect,
            now,
            instants=instants,
            open_runs=self._stories.going_on(key),
            history=self._stories.history(key),
        )
        if found is None:
            return 0
        run = found.runs[0] if found.runs else ""
        notices = notices_of(definition, run, not_done(definition.spec, found), self._outbox.knows)
        return len(await self._outbox.add(notices, None, now))

    def _message(self, notice: Notice) -> Message:
        link = f"{self._base}/runs/{notice.run}" if self._base and notice.run else ""
        clean = msgspec.structs.replace(notice, sentence=self._secrecy.hide(notice.sentence))
        return message_of(clean, place=self._place, link=link, links=self.links.of(notice))

    def document(self) -> dict[str, Any]:
        """What waits to be delivered, what is wrong where, and what was given up."""
        return {"since": moment(self._outbox.born), **self._delivery.document()}


class _Bell:
    """A follower that says that there is something to read, and holds nobody up."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Ring where people may have to be told."""
        if any(is_worth_a_look(envelope.event) for envelope in envelopes):
            self._ring()

    def signal(self, signal: Signal) -> None:
        """What is said in passing is told to nobody."""
