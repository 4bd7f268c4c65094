"""aiodag: tasks of asyncio that wait for one another; it keeps nothing, and bounds nothing by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiodag import task

from benching import steps
from benching.clock import Clock
from benching.graphs import Graph
from benching.peers.telling import asked, tell


async def run(graph: Graph, work: Callable[[], Awaitable[None]]) -> None:
    """The graph, each task after its needs."""
    made: list[asyncio.Task[Any]] = []
    for needs in graph.needs:
        made.append(task(work, *(made[need] for need in needs))())
    await asyncio.gather(*made)


async def pipelines(number: int) -> None:
    """W8's pipelines, results passed on."""
    parse, check, price, total = (task(step) for step in (steps.parse, steps.check, steps.price, steps.total))
    await asyncio.gather(*(total(price(check(parse()))) for _ in range(number)))


async def main() -> None:
    """Warm up, then time."""
    what = asked()
    limit = asyncio.Semaphore(what.width)

    async def work() -> None:
        if what.case.sleep_s:
            async with limit:
                await asyncio.sleep(what.case.sleep_s)

    if what.case.name == "W8":
        await pipelines(20)
        clock = Clock()
        await pipelines(what.tasks)
    else:
        await run(what.small, work)
        graph = what.graph
        clock = Clock()
        await run(graph, work)
    tell(clock)


if __name__ == "__main__":
    asyncio.run(main())
