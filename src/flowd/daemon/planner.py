"""Schedules at work: what is due is begun, and what is decided about every time is on record.

House rules of this room. A firing is begun before it is recorded, under an id that it has by its nature;
so a death between the two is mended by asking whether that run is there. `turn` is one look at everything,
apart from the loop; it may be taken again at any time, and does nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Protocol

import anyio
import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core import agenda as facts
from flowd.core.declared import Schedule
from flowd.core.errors import BadRequest, FlowdError, NoSuchRun, StateLocked, StorageFailing
from flowd.core.firing import GRACE, Due, Missed, Overlap, due, firing_id, overlap, source_key
from flowd.core.occurrences import Occurrence, counted_in_words, explained, occurrences
from flowd.core.views import moment
from flowd.daemon.saying import say
from flowd.engine.engine import Engine
from flowd.engine.handle import Run
from flowd.ports.agenda import AgendaStore
from flowd.ports.clock import Clock

KIND: Final = "schedule"
OF_TRIGGER: Final = "@"
"""Stands in the keys of triggers, and in no name."""
_LONGEST_WAIT: Final = 15.0
"""Seconds after which the clock is looked at in any case: it may have been set."""
_STEP: Final = 2.0
"""Seconds that the wall clock may differ from the awake time between two looks."""
_FUTURE: Final = timedelta(days=1)
"""What was decided about that far ahead of now was decided by a clock that went wrong."""
_GONE_AFTER: Final = 600.0
"""Seconds after which a schedule that is not declared any more is forgotten: a file may be away for a moment."""
_GOING_ON: Final = frozenset({"running", "paused"})


class Pipelines(Protocol):
    """The pipelines that there are, by name."""

    def pipelines(self) -> Mapping[str, Pipeline]:
        """All that can be run."""
        ...


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule that is declared, with its pipeline; `key` names it among all."""

    key: str
    pipeline: Pipeline
    schedule: Schedule


class Planner:
    """Begins runs of `engine` as schedules have them due. `grace` is how late one may be and count as on time."""

    def __init__(
        self, engine: Engine, pipelines: Pipelines, store: AgendaStore, clock: Clock, grace: timedelta = GRACE
    ) -> None:
        self._engine = engine
        self._pipelines = pipelines
        self._store = store
        self._clock = clock
        self._grace = grace
        self._next: dict[str, tuple[str, Occurrence | None]] = {}
        self._absent: dict[str, float] = {}
        self._news = anyio.Event()

    # --- what it is asked ----------------------------------------------------------------------------------

    def poke(self) -> None:
        """Look again now: a run has ended, or a pipeline has changed."""
        self._news.set()

    def declared(self) -> Iterator[Planned]:
        """Every schedule of every pipeline."""
        for name, pipeline in self._pipelines.pipelines().items():
            for schedule in pipeline.definition().spec.schedule:
                yield Planned(key=source_key(name, schedule.name), pipeline=pipeline, schedule=schedule)

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule as JSON: when it is due next, whether it is paused, and what was decided last."""
        return [self._document(planned) for planned in sorted(self.declared(), key=lambda planned: planned.key)]

    async def pause(self, key: str, by: str) -> dict[str, Any]:
        """Have a schedule fire no more until it is resumed; its document. BadRequest where there is none."""
        planned = self._planned(key)
        if not self._store.agenda.entry(key).paused:
            await self._record(facts.Paused(source=key, at=self._clock.now(), by=by))
        return self._document(planned)

    async def resume(self, key: str, by: str) -> dict[str, Any]:
        """Have a schedule fire again, from now on; its document. BadRequest where there is none."""
        planned = self._planned(key)
        if self._store.agenda.entry(key).paused:
            await self._record(facts.Resumed(source=key, at=self._clock.now(), by=by))
            self._next.pop(key, None)
            self.poke()
        return self._document(planned)

    # --- the loop ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take a turn whenever something is due, for ever."""
        wall, awake = self._clock.now(), self._clock.monotonic()
        while True:
            self._news = anyio.Event()
            following = await self.turn(self._clock.now())
            await self._wait(following)
            now, then = self._clock.now(), self._clock.monotonic()
            stepped = (now - wall).total_seconds() - (then - awake)
            if abs(stepped) > _STEP:
                await self._record(facts.Stepped(source="", at=now, seconds=round(stepped, 3)))
                say("clock_stepped", level="warning", seconds=round(stepped, 3))
                self._next.clear()
            wall, awake = now, then

    async def _wait(self, following: datetime | None) -> None:
        seconds = _LONGEST_WAIT
        if following is not None:
            seconds = min(seconds, max((following - self._clock.now()).total_seconds(), 0))
        moment = self._clock.monotonic() + seconds
        async with anyio.create_task_group() as group:

            async def until_news() -> None:
                await self._news.wait()
                group.cancel_scope.cancel()

            group.start_soon(until_news)
            await self._clock.sleep_until(moment)
            group.cancel_scope.cancel()

    async def turn(self, now: datetime) -> datetime | None:
        """Begin what is due by `now`; when something is due next, as far as that is known.

        Raises StorageFailing where a decision cannot be recorded; what was not is decided anew.
        """
        declared = {planned.key: planned for planned in self.declared()}
        await self._forget_absent(declared, now)
        for planned in declared.values():
            await self._decide(planned, now)
        coming = [found.at for _, found in self._next.values() if found is not None]
        return min(coming, default=None)

    async def _decide(self, planned: Planned, now: datetime) -> None:
        key, schedule = planned.key, planned.schedule
        entry, digest = self._store.agenda.entry(key), _digest(planned)
        if entry.digest != digest or entry.handled is None or entry.handled > now + _FUTURE:
            await self._record(facts.Seen(source=key, at=now, digest=digest))
            self._next.pop(key, None)
        if entry.paused:
            self._next[key] = digest, None
            return
        if entry.queued:
            await self._begin_queued(planned, now)
        known = self._next.get(key)
        if known is not None and known[0] == digest and (known[1] is None or known[1].at > now):
            return
        await self._recall(planned)
        assert entry.handled is not None
        found = due(schedule, entry.handled, now, self._grace)
        if found.missed is not None:
            await self._miss(planned, found, found.missed, now)
        for occurrence in found.fire:
            await self._fire(planned, occurrence, now, late=found.late)
        self._next[key] = digest, next(occurrences(schedule, max(now, entry.handled)), None)

    async def _recall(self, planned: Planned) -> None:
        """Record what was begun and not recorded, since the process died in between."""
        entry = self._store.agenda.entry(planned.key)
        while entry.handled is not None:
            following = next(occurrences(planned.schedule, entry.handled), None)
            if following is None or following.at > self._clock.now():
                return
            run = firing_id(planned.key, following.at)
            if await self._status(run) is None:
                return
            await self._record(
                facts.Fired(source=planned.key, at=self._clock.now(), time=following.at, run=run, mark=following.mark)
            )

    async def _forget_absent(self, declared: Mapping[str, Planned], now: datetime) -> None:
        awake = self._clock.monotonic()
        for key, entry in list(self._store.agenda.entries.items()):
            if key in declared or not entry.digest or OF_TRIGGER in key:
                self._absent.pop(key, None)
            elif awake - self._absent.setdefault(key, awake) > _GONE_AFTER:
                await self._record(facts.Removed(source=key, at=now))
                self._absent.pop(key)
        for key in self._next.keys() - declared.keys():
            del self._next[key]

    # --- one time ------------------------------------------------------------------------------------------

    async def _miss(self, planned: Planned, found: Due, missed: Missed, now: datetime) -> None:
        rule = planned.schedule.misfire
        word = rule if isinstance(rule, str) else f"all: {rule['all']}"
        number = counted_in_words(missed.number, planned.schedule)
        times = "time was" if missed.number == 1 else "times were"
        sentence = f"{number} {times} missed, and `misfire` is {word}"
        if found.late and found.fire:
            sentence += f"; the newest {len(found.fire)} are begun now" if len(found.fire) > 1 else "; the newest is"
        await self._skip(planned, now, "misfire", sentence, missed.first, missed.last, missed.number)

    async def _fire(self, planned: Planned, occurrence: Occurrence, now: datetime, *, late: bool) -> None:
        entry = self._store.agenda.entry(planned.key)
        going = await self._going(planned.key)
        behind = going[-1] if going else (entry.queued[-1].behind if entry.queued else "")
        rule = planned.schedule.overlap
        match overlap(rule, going_on=bool(going), waiting=len(entry.queued)):
            case Overlap.START:
                await self._begin(planned, occurrence, now, late=late)
            case Overlap.SKIP:
                said = f"{behind} still went on" + (f", and {len(entry.queued)} wait" if entry.queued else "")
                await self._skip(planned, now, "overlap", said, occurrence.at, behind=behind)
            case Overlap.QUEUE:
                await self._queue(planned, occurrence, behind, now, cancelled=False)
            case Overlap.CANCEL:
                for older in list(entry.queued):
                    await self._skip(planned, now, "overlap", "a newer time took its place", older.time)
                await self._queue(planned, occurrence, behind, now, cancelled=True)
                for run in going:
                    await self._cancel(run, planned.key)

    async def _begin_queued(self, planned: Planned, now: datetime) -> None:
        entry = self._store.agenda.entry(planned.key)
        going = await self._going(planned.key)
        if not going:
            first = entry.queued[0]
            await self._begin(planned, Occurrence(at=first.time, mark=first.mark), now, late=False)
        elif entry.queued[0].cancelled:  # again, after a death in between
            for run in going:
                await self._cancel(run, planned.key)

    async def _begin(self, planned: Planned, occurrence: Occurrence, now: datetime, *, late: bool) -> None:
        key, schedule = planned.key, planned.schedule
        run_id = firing_id(key, occurrence.at)
        spec = planned.pipeline.definition().spec
        tasks = [task for name in schedule.tasks for task in spec.targets.get(name, (name,))]
        try:
            run = await self._engine.start(
                planned.pipeline,
                *tasks,
                params=schedule.params,
                run_id=run_id,
                time=occurrence.at,
                trigger={"kind": KIND, "schedule": schedule.name},
            )
            await run.recorded()
        except StateLocked:
            say("schedule_fired_elsewhere", schedule=key, run=run_id)  # a person has resumed it in the meantime
        except StorageFailing:
            raise
        except FlowdError as refused:
            await self._skip(planned, now, "refused", str(refused), occurrence.at)
            return
        why = "late" if late else ""
        await self._record(
            facts.Fired(source=key, at=now, time=occurrence.at, run=run_id, mark=occurrence.mark, why=why)
        )
        say("schedule_fired", schedule=key, run=run_id, time=occurrence.at.isoformat(), mark=occurrence.mark or None)

    async def _queue(
        self, planned: Planned, occurrence: Occurrence, behind: str, now: datetime, *, cancelled: bool
    ) -> None:
        at, mark = occurrence.at, occurrence.mark
        await self._record(
            facts.Queued(source=planned.key, at=now, time=at, behind=behind, cancelled=cancelled, mark=mark)
        )
        say("schedule_queued", schedule=planned.key, time=at.isoformat(), behind=behind)

    async def _skip(
        self,
        planned: Planned,
        now: datetime,
        why: str,
        sentence: str,
        time: datetime,
        last: datetime | None = None,
        number: int = 1,
        behind: str = "",
    ) -> None:
        last = last or time
        await self._record(
            facts.Skipped(
                source=planned.key,
                at=now,
                time=time,
                last=last,
                why=why,
                sentence=sentence,
                count=number,
                behind=behind,
            )
        )
        level = "error" if why == "refused" else "warning"
        say("schedule_skipped", level=level, schedule=planned.key, time=time.isoformat(), why=why, sentence=sentence)

    async def _cancel(self, run: str, key: str) -> None:
        try:
            await self._engine.cancel(run, f"a newer time of {key} is due", by=KIND)
        except StateLocked as held:
            say("schedule_cannot_cancel", level="warning", schedule=key, run=run, error=str(held))

    async def _going(self, key: str) -> list[str]:
        """The runs of a schedule that go on.

        One that waits for a person, that nobody can go on with, or that only keeps a service, is in nobody's way.
        """
        return [run for run in self._store.agenda.entry(key).runs if await self._goes_on(run)]

    async def _goes_on(self, run: str) -> bool:
        return await self._status(run) in _GOING_ON and not await (await self._engine.get(run)).is_kept()

    async def _status(self, run: str) -> str | None:
        """A run's state; None where there is none, or nothing of it was recorded."""
        try:
            handle: Run = await self._engine.get(run)
        except NoSuchRun:
            return None
        status = await handle.status()
        return None if status == "new" else status

    # --- within --------------------------------------------------------------------------------------------

    def _planned(self, key: str) -> Planned:
        declared = {planned.key: planned for planned in self.declared()}
        if key not in declared:
            known = ", ".join(sorted(declared)) or "none is declared"
            raise BadRequest(f"there is no schedule {key}; there are: {known}")
        return declared[key]

    def _document(self, planned: Planned) -> dict[str, Any]:
        entry, schedule = self._store.agenda.entry(planned.key), planned.schedule
        known = self._next.get(planned.key)
        if known is not None and known[0] == _digest(planned) and not entry.paused:
            following = known[1]
        else:  # before the first turn, or without any
            following = next(occurrences(schedule, self._clock.now()), None)
        return {
            "name": planned.key,
            "pipeline": planned.pipeline.name,
            "when": explained(schedule),
            "cron": schedule.cron,
            "timezone": schedule.timezone,
            "tasks": list(schedule.tasks),
            "paused": entry.paused_by or None,
            "next": None if following is None or entry.paused else moment(following.at),
            "last_run": entry.runs[-1] if entry.runs else None,
            "queued": [moment(one.time) for one in entry.queued],
            "recent": msgspec.to_builtins(entry.recent[-20:]),
        }

    async def _record(self, fact: facts.AnyFact) -> None:
        await self._store.record([fact], fact.at)


def _digest(planned: Planned) -> str:
    """What a schedule's definition is told from another by: when it is due, not what becomes of it."""
    schedule = planned.schedule
    due_by = (schedule.cron, schedule.every, schedule.timezone, schedule.dst)
    return sha256(msgspec.json.encode(due_by)).hexdigest()[:16]
