"""One sample in a process of its own: warm up, then time one side of one case once.

A fresh process for each sample is the fairest: no side pays for what another has imported or left
to the garbage collector, a floor does not even import flowd, and peak memory means something.
What a first run costs (imports, opening the engine, code not yet specialised) is paid by a small
warm-up run of the same shape; starting is another bench's subject. The sides alternate, process
by process, within seconds, so that a drifting machine drifts for all of them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benching.cases import CASES, DEFAULT_WIDTH, FLOWD, Case
from benching.floors import FLOORS

WARM_UP = 100
MB = 1_000_000


def take(case: Case, tasks: int, side: str, folder: Path, profile: int = 0) -> dict[str, Any]:
    """Seconds of one run, and peak memory in bytes: idle, once built, and in the end."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="sample-") as own:
        if side == FLOWD:
            return asyncio.run(_flowd(case, tasks, Path(own), profile))
        return asyncio.run(_floor(case, tasks, side, Path(own)))


async def noop() -> None:
    """What a measured task does: nothing."""


def work_of(case: Case, *, brief: bool = False) -> Callable[[], Awaitable[None]]:
    """The function of every task of a case; `brief`: without its sleeping."""
    if not case.sleep_s or brief:
        return noop

    async def sleeper() -> None:
        await asyncio.sleep(case.sleep_s)

    return sleeper


async def _floor(case: Case, tasks: int, side: str, folder: Path) -> dict[str, Any]:
    floor, width = FLOORS[side], case.width or DEFAULT_WIDTH
    warm, place = folder / "warm", folder / "timed"
    warm.mkdir()
    place.mkdir()
    await floor(case.shape(min(WARM_UP, tasks)), work_of(case, brief=True), width, warm)
    graph, work = case.shape(tasks), work_of(case)
    _ = graph.successors
    idle = peak_bytes()
    gc.collect()
    began = time.perf_counter()
    await floor(graph, work, width, place)
    taken = time.perf_counter() - began
    return {"seconds": taken, "idle": idle, "built": idle, "peak": peak_bytes()}


async def _flowd(case: Case, tasks: int, folder: Path, profile: int) -> dict[str, Any]:
    from benching import ours
    from benching.profiling import profiling

    work, names = work_of(case), [f"t{number}" for number in range(tasks)]
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
        return {"seconds": taken, "idle": idle, "built": built, "peak": peak_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> int:
    """Take the sample that the arguments name; its figures go to stdout as JSON."""
    name, tasks, side, folder, profile = sys.argv[1:6]
    figures = take(CASES[name], int(tasks), side, Path(folder), int(profile))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
