"""Past slots of a schedule on a state directory: what is still to be done about each, and who does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from flowd.adapters.checkpoints import pipeline_key
from flowd.adapters.clock import SystemClock
from flowd.adapters.disk import FileThreads
from flowd.adapters.journal.file import FileJournal
from flowd.authoring.pipeline import Pipeline
from flowd.core import states as s
from flowd.core.declared import Schedule
from flowd.core.errors import NoSuchRun, StateDamaged
from flowd.core.firing import firing_id, source_key
from flowd.core.slots import NEVER_ENDED, Slot, Step, slot_id, step_of
from flowd.core.spec import Definition
from flowd.engine.backfilling import Backfill
from flowd.ports.follower import Follower
from flowd.wiring.build import Engine
from flowd.wiring.looking import look
from flowd.wiring.reading import reading
from flowd.wiring.run_logs import run_log

_LEFT_TO_THE_SCHEDULE: Final = frozenset({Step.GOOD, Step.RESUMED, Step.HELD})


async def look_at_slots(
    state_dir: Path, definition: Definition, schedule: Schedule, times: Sequence[datetime], anew: str = ""
) -> list[Slot]:
    """What is to be done about the slots at these times.

    A slot that a run of the schedule itself has filled, or has begun to, is left to that run; where that
    failed, a run of its own is begun. `anew` names the slots together and asks for all of them again, whatever
    became of them. Each time of asking is a round with runs of its own; one that was cut off is gone on with, so
    that the same words after a death do the rest, and else a new one begins.
    """
    source = source_key(definition.spec.name, schedule.name)
    where = pipeline_key(definition.spec.name, Path(definition.folder), state_dir)
    with reading(state_dir) as journal:
        runs = _Runs(journal, definition)
        if not anew:
            return [await runs.slot(at, slot_id(source, where, at), firing_id(source, at)) for at in times]
        number = 0
        while True:
            number += 1
            found = [await runs.slot(at, slot_id(source, where, at, f"{anew} {number}")) for at in times]
            if not found or any(slot.step in NEVER_ENDED for slot in found):
                return found


class _Runs:
    """The runs of one pipeline in a journal."""

    def __init__(self, journal: FileJournal, definition: Definition) -> None:
        self._journal = journal
        self._definition = definition
        self._there: Collection[str] = frozenset(journal.runs())

    async def slot(self, at: datetime, own: str, by_schedule: str = "") -> Slot:
        """The slot with the run that is there, its own first; else with its own, which is to be begun."""
        if (found := await self._seen(at, own)) is not None:
            return found
        if (found := await self._seen(at, by_schedule)) is not None and found.step in _LEFT_TO_THE_SCHEDULE:
            return found
        return Slot(at=at, run=own, step=Step.BEGUN)

    async def _seen(self, at: datetime, run: str) -> Slot | None:
        """The slot with this run; None where there is none of the pipeline, or nothing of it is on record."""
        if run not in self._there:
            return None
        try:
            found = await look(self._journal, run)
        except NoSuchRun:  # removed meanwhile
            return None
        except StateDamaged as damage:
            return Slot(at=at, run=run, step=Step.DAMAGED, note=str(damage))
        of = found.definition
        if found.state.state == s.RUN_NEW or (of.spec.name, of.folder) != (
            self._definition.spec.name,
            self._definition.folder,
        ):
            return None
        step = step_of(found.status, owned=found.owner is not None)
        return Slot(at=at, run=run, step=step, note=str(found.owner) if step is Step.HELD else "")


@asynccontextmanager
async def filling(
    state_dir: Path,
    pipeline: Pipeline,
    schedule: Schedule,
    report: Callable[[str], None],
    *,
    params: Mapping[str, Any],
    force: bool,
) -> AsyncIterator[Backfill]:
    """An engine on the state directory that fills slots, within; what it leaves unfinished can be resumed.

    `report` hears of log lines that cannot be written.
    """
    threads, clock = FileThreads(1, "flowd-log"), SystemClock()

    def followers(_run: str, run_folder: Path, definition: Definition) -> Sequence[Follower]:
        return (run_log(run_folder, definition, threads, report),)

    with closing(threads):
        async with Engine(state_dir, on_exit="detach", clock=clock, followers=followers) as engine:
            yield Backfill(engine, pipeline, schedule, clock, params=params, force=force)
