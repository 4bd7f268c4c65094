"""W13: one task that is carried out for each item of a long list; an item is a number handed back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benching.cases import Case
from benching.goals import FLOWD
from benching.kinds import MB, Figures, graph, peak_bytes
from benching.place import emptied


def take(case: Case, tasks: int, side: str, place: Path, profile: int) -> Figures:
    """Seconds of all items, and the most memory that the process held; a floor does as many tasks without a list."""
    if side != FLOWD:
        return graph.take(case, tasks, side, place, profile)
    return asyncio.run(_measured(tasks, emptied(place)))


async def _measured(items: int, folder: Path) -> Figures:
    from benching import ours
    from flowd import Pipeline

    made = Pipeline("bench", folder=folder)

    @made.task
    async def listed() -> list[dict[str, object]]:
        return [{"id": number, "path": f"data/part-{number}.csv"} for number in range(items)]

    @made.task(foreach=listed, retry=ours.RETRY)
    async def work(item: dict[str, object]) -> object:
        return item["id"]

    made.definition()
    async with ours.engine(folder, ["listed", "work"], None) as engine:
        taken = await ours.timed_run(engine, made)
    return {**taken, "peak_mb": peak_bytes() / MB}
