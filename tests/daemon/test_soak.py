"""A week of schedules in virtual time, with the daemon's real parts, disk and API: what it holds does not grow.

What is kept by number (events for readers, documents of runs, facts of the agenda) is kept short here, so that four
days fill it; the retention of runs is the default one. Schedules are every twenty minutes to weekly: some 790 runs,
since thousands would take minutes.
"""

import asyncio
import gc
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from flowd.core import agenda
from flowd.core.retention import DEFAULT
from flowd.daemon import control, feed
from flowd.testing import FakeClock
from serving import Here, daemon

START = datetime(2100, 1, 4, tzinfo=UTC)
"""A Monday later than any file of this test was written: to the daemon they are all old."""

STEP_M = 20
DAY_M = 24 * 60
WEEK_M = 7 * DAY_M
WARM_M = 4 * DAY_M

MOST_BLOCKS_A_RUN = 4.0
"""Blocks of memory that may be left of each run after the warm-up: coarse, as caches by number (of texts, mostly) still
fill; 1.0 to 1.5 are seen. Objects that the garbage collector knows are held to fewer than one for two runs."""

MOST_THREADS = 10
"""Pools fill as chance has it; one thread for every run would be hundreds."""

CRONS = {
    "*/20 * * * *": (0, 20),
    "20 * * * *": (20, 60),
    "40 */2 * * *": (40, 120),
    "0 */6 * * *": (0, 360),
    "0 6 * * *": (6 * 60, DAY_M),
    "0 0 * * sun": (6 * DAY_M, WEEK_M),
}
"""Each with its first minute and its period."""

FUNCTIONS = """
async def quick():
    return 1

def threaded():
    return 2
"""


def pipeline(name: str) -> str:
    """One with all the schedules, and two calls that take no time."""
    schedules = "".join(f"  - {{name: s{i}, cron: '{cron}'}}\n" for i, cron in enumerate(CRONS))
    tasks = "  first: {call: 'steps:quick'}\n  second: {call: 'steps:threaded', needs: [first]}\n"
    return f"name: {name}\nschedule:\n{schedules}tasks:\n{tasks}"


FILES = {"weekly": pipeline("weekly")}


class Held(NamedTuple):
    """What the daemon holds at a moment when nothing goes on."""

    blocks: int
    objects: int
    descriptors: int
    threads: int
    tasks: int
    runs: int
    begun: int
    remembered: int


class Week:
    """Goes through the week, a step at a time, each once all that was due before has ended."""

    def __init__(self, here: Here, clock: FakeClock) -> None:
        self.here, self.clock, self.minutes = here, clock, 0

    async def until(self, minute: int) -> Held:
        while self.minutes < minute:
            self.minutes += STEP_M
            self.clock.advance(STEP_M * 60)
            await self._ended()
        return await self._held()

    @property
    def _due(self) -> int:
        """How many runs there are to be by now: none is missed, and none comes twice."""
        steps = range(STEP_M, self.minutes + 1, STEP_M)
        return len(FILES) * sum(minute % every == first for minute in steps for first, every in CRONS.values())

    async def _ended(self) -> None:
        due = self._due
        with anyio.fail_after(20):
            while self._begun() < due or self.here.daemon._engine._here.drivers:
                await anyio.sleep(0.001)

    def _begun(self) -> int:
        """How many runs have ended, as the daemon itself counts them."""
        [metrics] = [part.run.__self__ for part in self.here.daemon.parts if part.name == "loop lag"]
        return int(
            sum(
                one.value
                for family in metrics.runs.collect()
                for one in family.samples
                if one.name == "flowd_runs_total"
            )
        )

    async def _held(self) -> Held:
        begun = self._begun()
        [notices] = [part.run.__self__ for part in self.here.daemon.parts if part.name == "notices"]
        [keeping] = [part.run.__self__ for part in self.here.daemon.parts if part.name == "keeping"]
        await keeping.run_once(self.clock.now())  # so that as many runs are kept whenever it is looked
        await notices.run_once(self.clock.now())
        await self.here.get("/runs", params={"limit": 100})
        gc.collect()
        return Held(
            blocks=sys.getallocatedblocks(),
            objects=len(gc.get_objects()),
            descriptors=len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0,
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
            runs=len(os.listdir(self.here.folder / ".flowd" / "runs")),
            begun=begun,
            remembered=len(notices._stories._silent | notices._stories._stamps.keys()),
        )


async def test_a_week_of_schedules_leaves_no_more_than_four_days_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of memory, descriptors, threads, tasks and runs; and every time of every schedule has had its one run."""
    monkeypatch.setattr(feed, "_MOST_LINES", 500)
    monkeypatch.setattr(control, "_KEPT", 50)
    monkeypatch.setattr(agenda, "_KEPT_FACTS", 2)
    monkeypatch.setattr(agenda, "_KEPT_RUNS", 2)
    (tmp_path / "steps.py").write_text(FUNCTIONS)
    monkeypatch.setattr(logging.getLogger("flowd"), "propagate", False)  # pytest keeps all that it hears
    clock = FakeClock(START)
    async with daemon(tmp_path, clock=clock, **FILES) as here:
        week = Week(here, clock)
        warm = await week.until(WARM_M)
        end = await week.until(WEEK_M)
    more = end.begun - warm.begun
    assert more > 300
    assert (end.blocks - warm.blocks) / more < MOST_BLOCKS_A_RUN, (warm, end)
    assert (end.objects - warm.objects) / more < 0.5, (warm, end)
    assert end.remembered <= end.runs
    assert end.descriptors <= warm.descriptors
    assert end.threads <= warm.threads + MOST_THREADS
    assert end.tasks <= warm.tasks
    assert DEFAULT.runs is not None
    assert max(warm.runs, end.runs) <= len(FILES) * (DEFAULT.runs + 10)  # and what an hour begins until they are pruned
