"""Pausing from a host program: over engines, and left alone by those that recover."""

from __future__ import annotations

from typing import Any

import anyio

from flowd import Pipeline
from flowd.testing import MemoryEngine


def steps(go: anyio.Event, ran: list[str]) -> Pipeline:
    pipeline = Pipeline("steps")

    @pipeline.task
    async def first() -> None:
        ran.append("first")
        await go.wait()

    @pipeline.task(needs=[first])
    async def second() -> None:
        ran.append("second")

    return pipeline


async def test_a_paused_run_is_not_recovered_but_resumed() -> None:
    """Another engine leaves it as it is until somebody resumes it."""
    go, ran = anyio.Event(), list[str]()
    pipeline = steps(go, ran)
    one = MemoryEngine()
    async with one:
        run = await one.start(pipeline)
        while not ran:
            await anyio.sleep(0.001)
        await run.pause()
        go.set()
        assert (await run.wait()).state == "paused"
    async with MemoryEngine(journal=one.journal, checkpoints=one.checkpoints, results=one.results) as other:
        assert await other.recover() == []
        assert ran == ["first"]
        resumed = await other.resume(run.id, pipeline)
        assert (await resumed.wait()).ok
    assert ran == ["first", "second"]


async def test_a_run_that_nobody_owns_can_be_paused() -> None:
    """It is adopted for that alone, and says who paused it."""
    go, ran = anyio.Event(), list[str]()
    one = MemoryEngine(on_exit="detach")
    async with one:
        run = await one.start(steps(go, ran))
        while not ran:
            await anyio.sleep(0.001)
    async with MemoryEngine(journal=one.journal, checkpoints=one.checkpoints, results=one.results) as other:
        paused = await other.pause(run.id, by="ann")
        assert (await paused.wait()).state == "paused"
        document: dict[str, Any] = await paused.snapshot()
        assert document["reason"] == {"code": "paused", "sentence": "it was paused by ann"}
        assert await other.recover() == []
