"""DBOS on sqlite: a workflow whose steps are recorded in a database."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from dbos import DBOS

from benching import steps
from benching.clock import Clock
from benching.graphs import Graph
from benching.peers.telling import asked, tell

GRAPHS: dict[str, Graph] = {}


@DBOS.step()
async def nothing() -> None:
    """What a measured task does."""


@DBOS.workflow()
async def whole(name: str) -> None:
    """A graph in one workflow: the tasks that may start are started together, level by level."""
    graph = GRAPHS[name]
    missing, left = graph.missing, [number for number, needs in enumerate(graph.needs) if not needs]
    while left:
        await asyncio.gather(*(nothing() for _ in left))
        below: list[int] = []
        for number in left:
            for one in graph.successors[number]:
                missing[one] -= 1
                if not missing[one]:
                    below.append(one)
        left = below


@DBOS.step()
async def parse() -> dict[str, Any]:
    """Read the order."""
    return await steps.parse()


@DBOS.step()
async def check(parsed: dict[str, Any]) -> dict[str, Any]:
    """Drop the lines that order nothing."""
    return await steps.check(parsed)


@DBOS.step()
async def price(checked: dict[str, Any]) -> dict[str, Any]:
    """Add what each line costs."""
    return await steps.price(checked)


@DBOS.step()
async def total(priced: dict[str, Any]) -> str:
    """The order with its sum."""
    return await steps.total(priced)


@DBOS.workflow()
async def order() -> str:
    """One of W8's pipelines."""
    text: str = await total(await price(await check(await parse())))
    return text


async def main() -> None:
    """Warm up, then time."""
    what = asked()
    logging.disable(logging.CRITICAL)
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{what.place}/dbos.sqlite"})
    DBOS.launch()
    try:
        GRAPHS.update(small=what.small, whole=what.graph)
        if what.case.name == "W8":
            await asyncio.gather(*(order() for _ in range(5)))
            clock = Clock()
            await asyncio.gather(*(order() for _ in range(what.tasks)))
        else:
            await whole("small")
            clock = Clock()
            await whole("whole")
        tell(clock)
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main())
