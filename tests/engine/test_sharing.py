"""What tasks share beyond their run: ages, rates, paths and limits, in virtual time where time matters."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowd import Engine, Pipeline
from flowd.adapters.lock_table import FileLockTable, MemoryLockTable
from flowd.core.claims import Claim, Refusal
from flowd.testing import FakeClock, MemoryEngine


async def test_a_waiting_task_gains_priority() -> None:
    """One slot, and a chain of urgent tasks of a minute each: the other starts after as many as priorities differ."""
    clock, order = FakeClock(autojump=0.01), list[str]()
    pipeline = Pipeline("aging", max_concurrency=1)

    def add(name: str, **policies: Any) -> Any:
        async def body() -> None:
            order.append(name)
            await clock.sleep_until(clock.monotonic() + 60)

        return pipeline.task(body, name=name, **policies)

    add("low")
    last = add("u0", priority=3)
    for number in range(1, 9):
        last = add(f"u{number}", priority=3, needs=[last])
    async with MemoryEngine(clock=clock) as engine:
        assert (await engine.run(pipeline)).ok
    assert order.index("low") in {3, 4}


async def test_a_rate_spreads_starts() -> None:
    """Three a minute: three at once, the next three when the minute is over, and no sooner."""
    clock, starts = FakeClock(autojump=0.01), list[float]()
    pipeline = Pipeline("rated", limits={"api": {"rate": "3/minute"}})

    async def body() -> None:
        starts.append(clock.monotonic())

    for number in range(8):
        pipeline.task(body, name=f"t{number}", uses={"api": 1})
    locks = MemoryLockTable()
    async with MemoryEngine(clock=clock, locks=locks) as engine:
        assert (await engine.run(pipeline)).ok
    assert starts == pytest.approx([0, 0, 0, 60, 60, 60, 120, 120], abs=0.001)
    async with MemoryEngine(clock=clock, locks=locks) as engine:  # what another engine has started counts on
        assert (await engine.run(pipeline)).ok
    assert all(later - sooner >= 60 for sooner, later in zip(starts, starts[3:], strict=False))


async def test_a_retry_is_a_start_too() -> None:
    """Each attempt counts under a rate, not each task."""
    clock, starts = FakeClock(autojump=0.01), list[float]()
    pipeline = Pipeline("rated", limits={"api": {"rate": "1/minute"}})

    @pipeline.task(uses={"api": 1}, retry={"attempts": 3, "delay": "1s"})
    async def flaky(ctx: Any) -> None:
        starts.append(clock.monotonic())
        if ctx.attempt < 3:
            raise ConnectionError("reset")

    async with MemoryEngine(clock=clock) as engine:
        assert (await engine.run(pipeline)).ok
    assert starts == pytest.approx([0, 60, 120], abs=0.001)


async def test_a_path_that_another_run_writes_is_waited_for(tmp_path: Path) -> None:
    """A reader of another run waits for the writer, says why, and goes on by itself."""
    hold, order = anyio.Event(), list[str]()
    (tmp_path / "data.csv").write_text("old")
    writer = Pipeline("writer", folder=tmp_path)
    reader = Pipeline("reader", folder=tmp_path)

    @writer.task(outputs=["data.csv"])
    async def write() -> None:
        order.append("write")
        await hold.wait()
        (tmp_path / "data.csv").write_text("new")
        order.append("written")

    @reader.task(inputs=["data.csv"])
    async def read() -> str:
        order.append("read")
        return (tmp_path / "data.csv").read_text()

    async with MemoryEngine() as engine:
        first = await engine.start(writer)
        with anyio.fail_after(5):
            while not order:
                await anyio.sleep(0.001)
        second = await engine.start(reader)
        with anyio.fail_after(5):
            while not (waiting := engine.waiting()):
                await anyio.sleep(0.001)
        [why] = waiting
        assert (why["task"], why["code"], why["what"]) == ("read", "path_busy", str(tmp_path / "data.csv"))
        assert why["by"] == [{"run": first.id, "task": "write"}]
        hold.set()
        assert (await first.wait()).ok
        assert (await second.wait()).tasks["read"].result == "new"
        assert engine.waiting() == []
    assert order == ["write", "written", "read"]


async def test_a_waiter_that_is_cancelled_waits_no_more(tmp_path: Path) -> None:
    """A run whose task waits for a path can be cancelled, and leaves nothing behind it."""
    hold = anyio.Event()
    pipeline = Pipeline("writer", folder=tmp_path)

    @pipeline.task(outputs=["data.csv"])
    async def write() -> None:
        await hold.wait()
        (tmp_path / "data.csv").write_text("new")

    async with MemoryEngine() as engine:
        first = await engine.start(pipeline)
        await anyio.wait_all_tasks_blocked()
        second = await engine.start(pipeline)
        with anyio.fail_after(5):
            while not engine.waiting():
                await anyio.sleep(0.001)
        await second.cancel()
        with anyio.fail_after(5):
            assert (await second.wait()).state == "cancelled"
        assert engine.waiting() == []
        hold.set()
        assert (await first.wait()).ok


async def test_a_freed_limit_starts_a_waiter_of_another_engine_soon(tmp_path: Path) -> None:
    """Two engines on one state directory: the waiter is told within 0.2 s that there is room."""
    hold, times = anyio.Event(), dict[str, float]()
    holder, waiter = (Pipeline(name, folder=tmp_path, limits={"gpu": 1}) for name in ("holder", "waiter"))

    @holder.task(uses={"gpu": 1})
    async def work() -> None:
        await hold.wait()
        times["freed"] = anyio.current_time()

    @waiter.task(uses={"gpu": 1}, name="work")
    async def wait() -> None:
        times["began"] = anyio.current_time()

    async with Engine(tmp_path / "state") as one, Engine(tmp_path / "state") as other:
        first = await one.start(holder)
        with anyio.fail_after(5):
            while not one.limits()["gpu"]["holders"]:
                await anyio.sleep(0.001)
            await anyio.sleep(0.05)
            second = await other.start(waiter)
            while not other.waiting():
                await anyio.sleep(0.001)
            [why] = other.waiting()
            assert (why["code"], why["by"]) == ("limit_full", [{"run": first.id, "task": "work"}])
            hold.set()
            assert (await second.wait()).ok
            assert (await first.wait()).ok
    assert 0 <= times["began"] - times["freed"] < 0.2


async def test_an_abandoned_thread_keeps_its_limit(tmp_path: Path) -> None:
    """A thread that cannot be stopped holds what it uses after its run and its engine have ended."""
    release = threading.Event()
    pipeline = Pipeline("stuck", folder=tmp_path, limits={"gpu": 1}, grace="10ms")

    @pipeline.task(uses={"gpu": 1}, timeout="50ms")
    def stuck() -> None:
        release.wait(20)

    try:
        async with Engine(tmp_path / "state") as engine:
            assert (await engine.run(pipeline)).tasks["stuck"].state == "abandoned"
        asked = Claim(run="r", task="t", uses={"gpu": 1}, capacities={"gpu": 1})
        other = FileLockTable(tmp_path / "state", "other")
        answer = await other.claim(asked, datetime.now(UTC))
        assert isinstance(answer, Refusal)
        assert answer.by is not None
        assert answer.by[1] == "stuck"
        other.close()
    finally:
        release.set()


async def test_a_long_wait_is_said_once() -> None:
    """After ten seconds one line for each thing that is waited for, however many tasks of the run wait there."""
    clock, lines = FakeClock(autojump=0.01), list[Any]()
    pipeline = Pipeline("waits", limits={"gpu": 1})

    class Listener:
        async def record(self, envelopes: Any) -> None: ...

        def signal(self, signal: Any) -> None:
            lines.append((signal.task, signal.fields["event"], signal.fields["code"], clock.monotonic()))

    async def body() -> None:
        await clock.sleep_until(clock.monotonic() + 25)

    for number in range(3):
        pipeline.task(body, name=f"t{number}", uses={"gpu": 1})
    async with MemoryEngine(clock=clock, followers=lambda _run, _folder, _definition: (Listener(),)) as engine:
        assert (await engine.run(pipeline)).ok
    assert lines == [("t1", "waiting", "limit_full", pytest.approx(10, abs=0.1))]
