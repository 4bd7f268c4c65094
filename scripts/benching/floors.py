"""The floors: the least that an executor of some kind must do, each written in full and nothing more.

| floor | what it is |
|-------|------------|
| L0    | a fixed set of workers over a ready queue, in memory |
| L1    | an `asyncio.TaskGroup` child for each task, and a `Semaphore`, in memory |
| L2    | L0, and a checksummed journal line at a task's start and at its end, in group commits |
| L3    | an anyio child for each task, a `CapacityLimiter`, and the journal of L2 |
| L3w   | L3, where a task's dependents wait until its end is durable |
| L4    | L3, where each task writes and syncs by itself |

None of them retries, logs, times out, recovers or can be cancelled: what flowd costs above L2 is
the price of all that. A child exists only once its task may start. A worker gives the loop a turn
before each task, as an executor in a host's loop must: otherwise nothing else would run meanwhile,
and the whole journal would be one commit at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from benching.graphs import Graph
from benching.journal import FloorJournal

Work = Callable[[], Awaitable[None]]
Floor = Callable[[Graph, Work, int, Path], Awaitable[FloorJournal | None]]
"""Runs a graph of which every task is `work`, so many at once; its journal goes into the folder."""

STARTED, ENDED = b"task_started", b"task_succeeded"
JOURNAL = "floor.jsonl"


async def l0(graph: Graph, work: Work, width: int, _folder: Path) -> None:
    """Workers over a ready queue."""
    await _workers(graph, work, width, None)


async def l1(graph: Graph, work: Work, width: int, _folder: Path) -> None:
    """A child for each task, and a semaphore."""
    missing, successors = graph.missing, graph.successors
    semaphore = asyncio.Semaphore(width)

    async def child(number: int) -> None:
        async with semaphore:
            await work()
        for below in successors[number]:
            missing[below] -= 1
            if not missing[below]:
                group.create_task(child(below))

    async with asyncio.TaskGroup() as group:
        for number, needs in enumerate(graph.needs):
            if not needs:
                group.create_task(child(number))


async def l2(graph: Graph, work: Work, width: int, folder: Path) -> FloorJournal:
    """Workers and a journal."""
    async with FloorJournal(folder / JOURNAL) as journal:
        await _workers(graph, work, width, journal)
    return journal


async def l3(graph: Graph, work: Work, width: int, folder: Path) -> FloorJournal:
    """An anyio child for each task, a limiter, and the journal."""
    return await _children(graph, work, width, folder, None)


async def l3w(graph: Graph, work: Work, width: int, folder: Path) -> FloorJournal:
    """The same, its dependents waiting for the group commit."""
    return await _children(graph, work, width, folder, FloorJournal.durable)


async def l4(graph: Graph, work: Work, width: int, folder: Path) -> FloorJournal:
    """The same, with a sync for each task."""
    return await _children(graph, work, width, folder, FloorJournal.commit_alone, grouped=False)


FLOORS: dict[str, Floor] = {"L0": l0, "L1": l1, "L2": l2, "L3": l3, "L3w": l3w, "L4": l4}


async def _workers(graph: Graph, work: Work, width: int, journal: FloorJournal | None) -> None:
    missing, successors, left = graph.missing, graph.successors, len(graph)
    ready: asyncio.Queue[int] = asyncio.Queue()
    done = asyncio.Event()

    async def worker() -> None:
        nonlocal left
        while True:
            await asyncio.sleep(0)
            number = await ready.get()
            if journal is not None:
                journal.append(number, STARTED)
            await work()
            if journal is not None:
                journal.append(number, ENDED)
            for below in successors[number]:
                missing[below] -= 1
                if not missing[below]:
                    ready.put_nowait(below)
            left -= 1
            if not left:
                done.set()

    for number, needs in enumerate(graph.needs):
        if not needs:
            ready.put_nowait(number)
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(worker()) for _ in range(width)]
        await done.wait()
        for one in workers:
            one.cancel()


async def _children(
    graph: Graph,
    work: Work,
    width: int,
    folder: Path,
    settle: Callable[[FloorJournal], Awaitable[None]] | None,
    *,
    grouped: bool = True,
) -> FloorJournal:
    missing, successors = graph.missing, graph.successors
    limiter = anyio.CapacityLimiter(width)

    async def child(number: int) -> None:
        async with limiter:
            journal.append(number, STARTED)
            await work()
            journal.append(number, ENDED)
            if settle is not None:
                await settle(journal)
        for below in successors[number]:
            missing[below] -= 1
            if not missing[below]:
                group.start_soon(child, below)

    async with FloorJournal(folder / JOURNAL, grouped=grouped) as journal, anyio.create_task_group() as group:
        for number, needs in enumerate(graph.needs):
            if not needs:
                group.start_soon(child, number)
    return journal
