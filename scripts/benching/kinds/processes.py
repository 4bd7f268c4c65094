"""W11: functions in processes: flowd's, each in one that can be killed, beside the standard library's pool."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from benching.cases import Case
from benching.clock import Clock
from benching.goals import FLOWD
from benching.kinds import Figures
from benching.nothing import nothing
from benching.place import emptied

if TYPE_CHECKING:
    from flowd import Pipeline

WARM_UP = 4


def take(case: Case, tasks: int, side: str, place: Path, _profile: int) -> Figures:
    """Seconds of all tasks, after a few that are not timed."""
    width = case.width or 1
    if side == FLOWD:
        return asyncio.run(_flowd(tasks, width, emptied(place)))
    if side == "process pool":
        with ProcessPoolExecutor(width) as pool:
            for done in [pool.submit(nothing) for _ in range(WARM_UP)]:
                done.result()
            clock = Clock()
            for done in [pool.submit(nothing) for _ in range(tasks)]:
                done.result()
            return clock.read()
    with ThreadPoolExecutor(width) as threads:
        command = [sys.executable, "-c", "pass"]
        clock = Clock()
        list(threads.map(lambda _: subprocess.run(command, check=True), range(tasks)))
        return clock.read()


async def _flowd(tasks: int, width: int, folder: Path) -> Figures:
    from benching import ours
    from flowd import Pipeline

    def calls(number: int) -> Pipeline:
        made = Pipeline("bench", folder=folder)
        for task in range(number):
            made.task(name=f"t{task}", executor="process", retry=ours.RETRY)(nothing)
        made.definition()
        return made

    async with ours.engine(folder, [f"t{number}" for number in range(tasks)], width) as engine:
        await ours.timed_run(engine, calls(WARM_UP))
        return await ours.timed_run(engine, calls(tasks))
