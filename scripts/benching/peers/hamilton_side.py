"""Hamilton's async driver: functions named after what they give, needs by parameter; it keeps nothing."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

from hamilton import async_driver

from benching.clock import Clock
from benching.graphs import Graph
from benching.peers.telling import asked, tell


def module_of(graph: Graph, name: str) -> types.ModuleType:
    """A module with a function for each task."""
    made = sys.modules[name] = types.ModuleType(name)  # it asks inspect where a function comes from
    lines = [
        f"async def t{number}({', '.join(f't{need}: int' for need in needs)}) -> int:\n    return 1\n"
        for number, needs in enumerate(graph.needs)
    ]
    exec(compile("\n".join(lines), name, "exec"), made.__dict__)
    return made


async def driver_of(graph: Graph, name: str) -> Any:
    """The driver of a graph."""
    return await async_driver.Builder().with_modules(module_of(graph, name)).build()


async def main() -> None:
    """Warm up, then time one execution; making the driver is not timed, as building flowd's pipeline is not."""
    what = asked()
    small, graph = what.small, what.graph
    warm, driver = await driver_of(small, "small"), await driver_of(graph, "whole")
    await warm.execute([f"t{number}" for number in range(len(small))])
    clock = Clock()
    await driver.execute([f"t{number}" for number in range(len(graph))])
    tell(clock)


if __name__ == "__main__":
    asyncio.run(main())
