"""Dask's threaded scheduler: a graph as a dictionary, threads that take from it; it keeps nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from dask.threaded import get

from benching import steps
from benching.clock import Clock
from benching.graphs import Graph
from benching.peers.telling import asked, tell


def run(graph: Graph, work: Callable[..., Any], width: int) -> None:
    """The graph, each task after its needs."""
    made = {f"t{number}": (work, *(f"t{need}" for need in needs)) for number, needs in enumerate(graph.needs)}
    get(made, list(made), num_workers=width)


def pipelines(number: int, width: int) -> None:
    """W8's pipelines, results passed on, in one graph."""
    made: dict[str, Any] = {}
    for one in range(number):
        made[f"a{one}"] = (drive(steps.parse),)
        made[f"b{one}"] = (drive(steps.check), f"a{one}")
        made[f"c{one}"] = (drive(steps.price), f"b{one}")
        made[f"d{one}"] = (drive(steps.total), f"c{one}")
    get(made, [f"d{one}" for one in range(number)], num_workers=width)


def drive(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that never waits, called without a loop."""

    def called(*before: Any) -> Any:
        try:
            step(*before).send(None)
        except StopIteration as end:
            return end.value
        raise asyncio.InvalidStateError("the step waits")

    return called


def main() -> None:
    """Warm up, then time."""
    what = asked()
    width = what.width if what.case.sleep_s else 2

    def work(*_needs: Any) -> None:
        if what.case.sleep_s:
            time.sleep(what.case.sleep_s)

    if what.case.name == "W8":
        pipelines(20, width)
        clock = Clock()
        pipelines(what.tasks, width)
    else:
        run(what.small, work, width)
        graph = what.graph
        clock = Clock()
        run(graph, work, width)
    tell(clock)


if __name__ == "__main__":
    main()
