"""W10: a run whose owner is gone, taken up again: what each event of its journal costs."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from benching.cases import Case
from benching.clock import Clock
from benching.goals import FLOWD
from benching.kinds import Figures
from benching.place import prepared

if TYPE_CHECKING:
    from flowd import Pipeline

RUN = "measured"
EVENTS_OF_A_TASK = 2
LAST = "last"


def take(_case: Case, tasks: int, side: str, place: Path, _profile: int) -> Figures:
    """Seconds until a run of so many events goes on. Every side reads the one journal that the first has made."""
    place = prepared(place.parent / "journal", lambda folder: asyncio.run(_make(folder, tasks)))
    if side == FLOWD:
        return asyncio.run(_resume(place, tasks))
    return _plainly(place, tasks)


async def _make(folder: Path, events: int) -> None:
    """A run of which all but the last task have succeeded; whoever owned it has let go of it."""
    from flowd import Engine

    reached = asyncio.Event()
    async with Engine(folder / ".flowd", on_exit="detach") as engine:
        await engine.start(_pipeline(folder, events, reached), run_id=RUN)
        await reached.wait()


def _pipeline(folder: Path, events: int, reached: asyncio.Event) -> Pipeline:
    from flowd import Pipeline

    async def nothing() -> None:
        pass

    async def last() -> None:
        reached.set()
        await asyncio.sleep(3600)

    made = Pipeline("bench", folder=folder)
    for number in range(max(1, events // EVENTS_OF_A_TASK)):
        made.task(name=f"t{number}")(nothing)
    made.task(name=LAST, needs=list(made_names(events)))(last)
    made.definition()
    return made


def made_names(events: int) -> tuple[str, ...]:
    """The tasks that have all ended before the last begins."""
    return tuple(f"t{number}" for number in range(max(1, events // EVENTS_OF_A_TASK)))


async def _resume(folder: Path, events: int) -> Figures:
    from flowd import Engine
    from flowd.adapters.journal.file import FileJournal
    from flowd.core.run import fold

    reached = asyncio.Event()
    made = _pipeline(folder, events, reached)
    state_dir = folder / ".flowd"
    gc.collect()
    journal = FileJournal(state_dir)
    spec = journal.defined(RUN).spec
    clock = Clock()
    folded = fold(RUN, spec, journal.records(RUN))
    reading = clock.read()["seconds"]
    journal.close()
    if len(folded.tasks) != len(spec.tasks):
        raise RuntimeError("the journal was not read whole")
    del folded, spec
    gc.collect()
    async with Engine(state_dir, on_exit="detach") as engine:
        clock = Clock()
        await engine.resume(RUN, made)
        await reached.wait()
        taken = clock.read()
    return {**taken, "us_an_event": taken["seconds"] / events * 1e6, "us_folded": reading / events * 1e6}


def _plainly(folder: Path, events: int) -> Figures:
    """The least: every line's checksum, and its JSON read without looking at what it says."""
    (path,) = sorted((folder / ".flowd" / "runs" / RUN).glob("journal.*.jsonl"))
    gc.collect()
    clock = Clock()
    read = 0
    for line in path.read_bytes().splitlines():
        payload, _, tail = line.rpartition(b',"sum":"')
        if b'%08x"}' % crc32(payload) != tail:
            raise RuntimeError("a checksum does not fit")
        json.loads(line)
        read += 1
    taken = clock.read()
    if read < events:
        raise RuntimeError(f"the journal holds {read} events, not {events}")
    return taken
