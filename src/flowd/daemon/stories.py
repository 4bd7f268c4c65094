"""What the runs of a state directory have come to, read from their journals and put into the outbox.

House rules of this room. Whoever ran a run, its journal is what counts: a follower only says that there is something
to read, so that nothing is lost where this process dies between a run's end and its notice. What has been read is
remembered with the notices that came of it; what is read again gives the same ones, which the outbox knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import anyio.to_thread
import msgspec

from flowd.core import events as e
from flowd.core.consequences import at_the_end, in_a_row, lateness
from flowd.core.declared import Notify
from flowd.core.errors import FlowdError, StorageFailing
from flowd.core.happenings import EVENTS, Happening, Question, Story
from flowd.core.lateness import History, Outcome
from flowd.core.notices import also_told, notices_of, tells_somebody
from flowd.core.spec import Definition
from flowd.daemon.saying import say
from flowd.ports.outbox import Outbox, Seen

OLDEST: Final = timedelta(hours=24)
"""What happened longer ago is told no more, but for questions that are still open."""
MOST_RUNS: Final = 2_000
"""The newest runs, which are looked at for what others than this process have done in them."""

Key = tuple[str, str]
"""A pipeline: its name and folder."""


class Journals(Protocol):
    """The runs of a state directory, to be read beside their owners. `runs` and `stamp` block."""

    def runs(self) -> list[str]:
        """The ids of all runs, newest first."""
        ...

    def stamp(self, run: str) -> int:
        """When a run's journal was written last, in nanoseconds since 1970; 0 where there is none."""
        ...

    async def definition(self, run: str) -> Definition:
        """What a run was created with. NoSuchRun, StateDamaged."""
        ...

    def select(self, run: str, events: Sequence[str], after: int = 0) -> AsyncIterator[e.Envelope]:
        """The durable records of these events, in order. NoSuchRun, StateDamaged."""
        ...


class _Reading(msgspec.Struct, kw_only=True, eq=False):
    """A run that is read: as it was defined, its story, and what happened and is not in the outbox yet."""

    definition: Definition
    story: Story
    told: int
    outcomes: list[Outcome]
    pending: list[Happening] = []


class Stories:
    """Reads runs, and remembers those that go on and how those before them ended.

    `everywhere` says who is told of every pipeline, besides those whom its own file names.
    """

    def __init__(self, journals: Journals, outbox: Outbox, everywhere: Sequence[Notify] = ()) -> None:
        self._journals = journals
        self._everywhere = everywhere
        self._outbox = outbox
        self._readings: dict[str, _Reading] = {}
        self._stamps: dict[str, int] = {}
        self._silent: set[str] = set()  # runs of which nobody is told anything
        self._histories: dict[Key, History] = {}
        for seen in outbox.seen().values():
            for outcome in seen.outcomes:
                self.history((seen.pipeline, seen.folder)).add(outcome)

    def history(self, key: Key) -> History:
        """How the runs of a pipeline ended lately."""
        return self._histories.setdefault(key, History())

    def going_on(self, key: Key) -> list[tuple[str, datetime]]:
        """The runs of a pipeline that have not ended, and when each began."""
        return [
            (run, reading.story.opened_at)
            for run, reading in self._readings.items()
            if reading.story.is_open and reading.story.opened_at is not None and _key(reading.definition) == key
        ]

    async def question(self, run: str, task: str) -> tuple[Definition, Question | None]:
        """What a task of a run asks now, by the journal as it is. NoSuchRun, StateDamaged."""
        definition = await self._journals.definition(run)
        story = Story(run, definition.spec)
        async for envelope in self._journals.select(run, EVENTS):
            story.apply(envelope)
        return msgspec.structs.replace(definition, spec=story.spec), story.questions.get(task)

    async def look_around(self, now: datetime) -> int:
        """Read every run that has changed since it was read, whoever changed it; how many notices came of it."""
        remembered = {*self._stamps, *self._silent}
        there, changed = await anyio.to_thread.run_sync(self._changed, now - OLDEST)
        for gone in remembered.difference(there):  # removed for good; one that came meanwhile is none of them
            self._stamps.pop(gone, None)
            self._silent.discard(gone)
        waiting = {run for run, reading in self._readings.items() if reading.pending}
        return sum([await self.look(run, now) for run in dict.fromkeys([*reversed(changed), *waiting])])

    def _changed(self, since: datetime) -> tuple[list[str], list[str]]:
        """In a thread: all runs, and those that were written to, newest first; what was left alone long is not read."""
        known, born = self._outbox.seen(), max(self._outbox.born, since).timestamp() * 1e9
        found = []
        runs = self._journals.runs()
        for run in dict.fromkeys([*runs[:MOST_RUNS], *self._readings]):
            if run in self._silent:
                continue
            stamp = self._journals.stamp(run)
            before = self._stamps.get(run)
            if before is None and run in known:
                before = known[run].stamp
            if stamp != before and (before is not None or stamp >= born):
                found.append(run)
        return runs, found

    async def look(self, run: str, now: datetime) -> int:
        """Read on in one run, and put what came of it into the outbox; how many notices are new.

        What is wrong with a run is said once; StorageFailing where the outbox cannot be written.
        """
        stamp = await anyio.to_thread.run_sync(self._journals.stamp, run)
        if run in self._silent or not stamp:
            return 0
        try:
            return await self._read_on(run, stamp, now)
        except StorageFailing:
            raise
        except Exception as error:  # noqa: BLE001  # a run that cannot be read keeps no other from being told of
            if self._stamps.get(run) != stamp:
                what = str(error) if isinstance(error, FlowdError) else f"{type(error).__name__}: {error}"
                say("notices_of_run_failed", level="warning", run=run, error=what)
            self._stamps[run] = stamp
            return 0

    async def _read_on(self, run: str, stamp: int, now: datetime) -> int:
        reading = self._readings.get(run)
        if reading is None:
            definition = await self._journals.definition(run)
            if not self._everywhere and not tells_somebody(definition.spec):
                self._silent.add(run)
                return 0
            known = self._outbox.seen().get(run)
            reading = _Reading(
                definition=definition,
                story=Story(run, definition.spec),
                told=0 if known is None else known.seq,
                outcomes=[] if known is None else list(known.outcomes),
            )
            self._readings[run] = reading
        try:
            async with aclosing(self._journals.select(run, EVENTS, reading.story.seq)) as events:  # type: ignore[type-var]
                async for envelope in events:
                    self._take(reading, envelope)
        finally:
            count = await self._tell(reading, stamp, now)
        self._stamps[run] = stamp
        if not reading.story.is_open and not reading.pending:
            del self._readings[run]
        return count

    def _take(self, reading: _Reading, envelope: e.Envelope) -> None:
        story = reading.story
        found = story.apply(envelope)
        if isinstance(envelope.event, e.RunFinished):
            history = self.history(_key(reading.definition))
            more, outcome = at_the_end(story, history)
            if outcome is not None:
                failures = len(history.failures(outcome))
                found = [in_a_row(happening, failures) for happening in found]
                if envelope.seq > reading.told:
                    history.add(outcome)
                    reading.outcomes.append(outcome)
            found += more
        reading.pending += [happening for happening in found if happening.seq > reading.told]

    async def _tell(self, reading: _Reading, stamp: int, now: datetime) -> int:
        """Put what is pending into the outbox; what is not due yet stays, and the run counts as read up to there."""
        story, definition = reading.story, self._now(reading)
        held, notices = list[Happening](), []
        for happening in reading.pending:
            if not story.still(happening) or self._is_old(happening, now):
                continue
            if happening.not_before is not None and now < happening.not_before:
                held.append(happening)
            else:
                notices += notices_of(definition, story.run, happening, self._outbox.knows)
        if not notices and story.is_open:
            reading.pending = held
            return 0
        seen = Seen(
            run=story.run,
            seq=min([story.seq, *(happening.seq - 1 for happening in held)]),
            stamp=0 if held else stamp,
            pipeline=definition.spec.name,
            folder=definition.folder,
            ended=story.ended_at,
            outcomes=tuple(reading.outcomes),
        )
        new = await self._outbox.add(notices, seen, now)
        reading.pending, reading.told = held, seen.seq
        return len(new)

    def _now(self, reading: _Reading) -> Definition:
        """A run's pipeline, as it was defined last."""
        return also_told(msgspec.structs.replace(reading.definition, spec=reading.story.spec), self._everywhere)

    def _is_old(self, happening: Happening, now: datetime) -> bool:
        return happening.at < self._outbox.born or (happening.kind != "waiting" and happening.at < now - OLDEST)

    async def look_at_clock(self, now: datetime) -> int:
        """Tell of the runs that have become late by now; how many notices are new."""
        count = 0
        for run, reading in list(self._readings.items()):
            if not reading.story.is_open:
                continue
            late = lateness(reading.story, self.history(_key(reading.definition)), now)
            if late is not None:
                notices = notices_of(self._now(reading), run, late, self._outbox.knows)
                count += len(await self._outbox.add(notices, None, now))
        return count


def _key(definition: Definition) -> Key:
    return definition.spec.name, definition.folder


def is_worth_a_look(event: Any) -> bool:
    """Whether there may be something to tell after this event."""
    if isinstance(event, e.TaskStarted | e.TaskServing | e.TaskFresh | e.TaskSkipped):
        return False
    return not isinstance(event, e.TaskSucceeded) or bool(event.warnings)
