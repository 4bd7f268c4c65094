"""W1 to W4 and W9: one graph in one run, beside the floors that run the same graph."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path

from benching.cases import DEFAULT_WIDTH, Case
from benching.clock import Clock
from benching.floors import FLOORS
from benching.goals import FLOWD
from benching.kinds import MB, Figures, peak_bytes
from benching.place import emptied

WARM_UP = 100
WINDOW = 10_000


def take(case: Case, tasks: int, side: str, place: Path, profile: int) -> Figures:
    """Seconds of one run; of flowd's side also its memory, and what the last tasks cost."""
    own = emptied(place)
    if side == FLOWD:
        return asyncio.run(_flowd(case, tasks, own, profile))
    return asyncio.run(_floor(case, tasks, side, own))


async def noop() -> None:
    """What a measured task does: nothing."""


class Stamps:
    """Work that does nothing but note, every so often, when it was called."""

    def __init__(self, tasks: int) -> None:
        self.every = max(1, tasks // 1_000)
        self.at: list[float] = []
        self._calls = 0

    def work(self) -> Callable[[], Awaitable[None]]:
        """The function of every task."""

        async def noting() -> None:
            self._calls += 1
            if not self._calls % self.every:
                self.at.append(time.perf_counter())

        return noting

    def marginal(self, tasks: int) -> float | None:
        """What one of the last tasks cost, as a multiple of one around the ten-thousandth; None of too few."""
        width = min(WINDOW, tasks // 4) // self.every
        middle = min(WINDOW, tasks // 2) // self.every
        first = max(0, middle - width // 2)
        if width < 1 or len(self.at) < first + width + 1:
            return None
        return (self.at[-1] - self.at[-1 - width]) / (self.at[first + width] - self.at[first])


def work_of(case: Case, *, brief: bool = False) -> Callable[[], Awaitable[None]]:
    """The function of every task of a case; `brief`: without its sleeping."""
    if not case.sleep_s or brief:
        return noop

    async def sleeper() -> None:
        await asyncio.sleep(case.sleep_s)

    return sleeper


async def _floor(case: Case, tasks: int, side: str, folder: Path) -> Figures:
    floor, width = FLOORS[side], case.width or DEFAULT_WIDTH
    warm, place = folder / "warm", folder / "timed"
    warm.mkdir()
    place.mkdir()
    await floor(case.shape(min(WARM_UP, tasks)), work_of(case, brief=True), width, warm)
    graph, work = case.shape(tasks), work_of(case)
    _ = graph.successors
    gc.collect()
    clock = Clock()
    await floor(graph, work, width, place)
    return clock.read()


async def _flowd(case: Case, tasks: int, folder: Path, profile: int) -> Figures:
    from benching import ours
    from benching.profiling import profiling

    stamps = Stamps(tasks)
    work = stamps.work() if case.name == "W9" else work_of(case)
    names = [f"t{number}" for number in range(tasks)]
    small = ours.pipeline(
        case.shape(min(WARM_UP, tasks)), work_of(case, brief=True), folder, idempotent=case.idempotent
    )
    async with ours.engine(folder, names, case.width) as engine:
        await ours.timed_run(engine, small)
        idle = peak_bytes()
        made = ours.pipeline(case.shape(tasks), work, folder, idempotent=case.idempotent)
        built = peak_bytes()
        gc.collect()
        with profiling(tasks, profile) if profile else nullcontext():
            taken = await ours.timed_run(engine, made)
        peak = peak_bytes()
    last = stamps.marginal(tasks) if case.name == "W9" else None
    return {
        **taken,
        "peak_mb": peak / MB,
        "over_idle_mb": (peak - idle) / MB,
        "kb_a_task": (peak - idle) / tasks / 1000,
        "kb_built": (built - idle) / tasks / 1000,
        **({} if last is None else {"last": last}),
    }
