"""W8: many small pipelines at once, each of four steps that hand a JSON document on."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio

from benching import steps
from benching.cases import DEFAULT_WIDTH, Case
from benching.clock import Clock
from benching.floors import ENDED, STARTED
from benching.goals import FLOWD
from benching.journal import FloorJournal
from benching.kinds import Figures
from benching.place import emptied

WARM_UP = 20
NAMES = ("parsed", "checked", "priced", "total")
STEPS: tuple[Callable[..., Awaitable[Any]], ...] = (steps.parse, steps.check, steps.price, steps.total)


def take(_case: Case, tasks: int, side: str, place: Path, _profile: int) -> Figures:
    """Seconds until the last of the pipelines has its total."""
    own = emptied(place)
    if side == FLOWD:
        return asyncio.run(_flowd(tasks, own))
    return asyncio.run(_floor(tasks, own, each=side != "L3"))


def check(totals: Sequence[str], pipelines: int) -> None:
    """RuntimeError unless every pipeline came to the right sum."""
    if len(totals) != pipelines or any(json.loads(text)["total"] != steps.EXPECTED for text in totals):
        raise RuntimeError("a pipeline came to a wrong end")


async def _floor(pipelines: int, folder: Path, *, each: bool) -> Figures:
    """L3: an anyio child for each step, one limiter, and one journal (`each`: one for each pipeline)."""

    async def run(number: int, place: Path) -> Figures:
        place.mkdir()  # noqa: ASYNC240  # nothing runs beside it yet
        totals: list[str] = []
        limiter = anyio.CapacityLimiter(DEFAULT_WIDTH)
        clock = Clock()
        async with AsyncExitStack() as stack:
            shared = None if each else await stack.enter_async_context(FloorJournal(place / "floor.jsonl"))

            async def child(group: Any, journal: FloorJournal, first: int, step: int, *before: Any) -> None:
                async with limiter:
                    journal.append(first + step, STARTED)
                    value = await STEPS[step](*before)
                    journal.append(first + step, ENDED)
                if step + 1 < len(STEPS):
                    group.start_soon(child, group, journal, first, step + 1, value)
                else:
                    totals.append(value)

            async def pipeline(one: int) -> None:
                async with FloorJournal(place / f"{one}.jsonl") as journal, anyio.create_task_group() as group:
                    group.start_soon(child, group, journal, 0, 0)

            async with anyio.create_task_group() as group:
                for one in range(number):
                    if shared is None:
                        group.start_soon(pipeline, one)
                    else:
                        group.start_soon(child, group, shared, one * len(STEPS), 0)
        taken = clock.read()
        check(totals, number)
        return taken

    await run(min(WARM_UP, pipelines), folder / "warm")
    gc.collect()
    return await run(pipelines, folder / "timed")


async def _flowd(pipelines: int, folder: Path) -> Figures:
    from benching import ours
    from flowd import Pipeline

    made = Pipeline("bench", folder=folder)
    for name, step in zip(NAMES, STEPS, strict=True):
        made.task(name=name, retry=ours.RETRY)(step)
    made.definition()
    async with ours.engine(folder, NAMES, None) as engine:

        async def run(number: int) -> Figures:
            clock = Clock()
            results = await asyncio.gather(*(engine.run(made) for _ in range(number)))
            taken = clock.read()
            check([result.tasks["total"].result for result in results], number)
            return taken

        await run(min(WARM_UP, pipelines))
        gc.collect()
        return await run(pipelines)
