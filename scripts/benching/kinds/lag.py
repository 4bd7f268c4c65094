"""W12: how long a host's own work waits for its loop while many tasks run in that loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benching.cases import DEFAULT_WIDTH, Case
from benching.clock import Clock
from benching.floors import FLOORS
from benching.goals import FLOWD
from benching.kinds import Figures
from benching.kinds.graph import WARM_UP, noop
from benching.place import emptied

EVERY_S = 0.001


def take(case: Case, tasks: int, side: str, place: Path, _profile: int) -> Figures:
    """How late a host is woken that asks to be every millisecond, in milliseconds."""
    return asyncio.run(_measured(case, tasks, side, emptied(place)))


async def _measured(case: Case, tasks: int, side: str, folder: Path) -> Figures:
    lags: list[float] = []
    small, whole = case.shape(min(WARM_UP, tasks)), case.shape(tasks)
    clock = Clock()
    if side == FLOWD:
        from benching import ours

        made = ours.pipeline(whole, noop, folder)
        async with ours.engine(folder, [f"t{number}" for number in range(tasks)], case.width) as engine:
            await ours.timed_run(engine, ours.pipeline(small, noop, folder))
            async with _watching(lags):
                clock = Clock()
                await ours.timed_run(engine, made)
    else:
        width, warm = case.width or DEFAULT_WIDTH, folder / "warm"
        warm.mkdir()
        await FLOORS[side](small, noop, width, warm)
        async with _watching(lags):
            clock = Clock()
            await FLOORS[side](whole, noop, width, folder)
    taken = clock.read()
    late = sorted(lag * 1000 for lag in lags)
    return {**taken, "p50_ms": at(late, 0.5), "p99_ms": at(late, 0.99), "max_ms": late[-1]}


def at(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@asynccontextmanager
async def _watching(lags: list[float]) -> AsyncIterator[None]:
    async def host() -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(EVERY_S)
            lags.append(max(0.0, time.perf_counter() - asked - EVERY_S))

    watcher = asyncio.create_task(host(), name="host")
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(EVERY_S * 2)
    finally:
        watcher.cancel()
