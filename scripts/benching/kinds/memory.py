"""M: what a task holds while it waits, while it runs, and once it has ended; each in kB, of the whole process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benching.cases import Case
from benching.graphs import independent
from benching.kinds import Figures, held_bytes
from benching.place import emptied


def take(_case: Case, tasks: int, _side: str, place: Path, _profile: int) -> Figures:
    """Memory held, garbage excluded, over that before the run and for each of its tasks."""
    return asyncio.run(_measured(tasks, emptied(place)))


async def _measured(tasks: int, folder: Path) -> Figures:
    from benching import ours

    begun, most = 0, 0
    full, gate = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        nonlocal begun
        begun += 1
        if begun == most:
            full.set()
        await gate.wait()

    def over(before: int) -> float:
        return (held_bytes() - before) / tasks / 1000

    names = [f"t{number}" for number in range(tasks)]
    figures: dict[str, float] = {}
    for kind, width in (("pending_kb", 1), ("running_kb", tasks)):
        begun, most = 0, width
        full.clear()
        gate.clear()
        async with ours.engine(folder / kind, names, width) as engine:
            bare = held_bytes()
            made = ours.pipeline(independent(tasks), held, folder)
            figures.setdefault("spec_kb", over(bare))
            before = held_bytes()
            run = await engine.start(made)
            await full.wait()
            figures[kind] = over(before)
            gate.set()
            await run.wait()
            figures["finished_kb"] = over(before)
    return figures
