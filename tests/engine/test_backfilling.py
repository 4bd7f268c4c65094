"""Slots that are filled: some at a time, none kept by another, and no more begun once that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel

from flowd import BadRequest, Pipeline
from flowd.core.declared import Schedule
from flowd.core.errors import StorageFailing
from flowd.core.slots import Slot, Step, step_of
from flowd.engine.backfilling import Backfill, Filled
from flowd.engine.handle import Run
from flowd.testing import FakeClock, MemoryEngine

DAYS = [datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=number) for number in range(5)]
SCHEDULE = Schedule(name="s", cron="0 0 * * *")


class Refusing(MemoryEngine):
    """Refuses to begin the run of one day."""

    error: Exception = BadRequest("not that one")

    async def start(self, pipeline: Pipeline, *tasks: str, **options: Any) -> Run:
        """As any engine, but for the second day."""
        if options["time"] == DAYS[1]:
            raise self.error
        return await super().start(pipeline, *tasks, **options)


def slots(step: Step = Step.BEGUN) -> list[Slot]:
    """A slot for each day."""
    return [Slot(at=at, run=f"{at:%Y%m%d}", step=step) for at in DAYS]


def empty() -> Pipeline:
    """A pipeline that does nothing."""
    pipeline = Pipeline("p")

    @pipeline.task
    async def nothing() -> None:
        return

    return pipeline


async def filled(engine: MemoryEngine, at_once: int = 1) -> list[tuple[str, int]]:
    """What became of each slot."""
    async with engine:
        backfill = Backfill(engine, empty(), SCHEDULE, FakeClock())
        found = await backfill.carry_out(slots(), lambda _one: None, at_once=at_once)
    return [(one.state or one.did, one.code) for one in found]


async def test_a_slot_that_is_refused_keeps_no_other() -> None:
    """It is said with its exit code, the others are filled."""
    assert await filled(Refusing()) == [("succeeded", 0), ("refused", 2), *[("succeeded", 0)] * 3]


async def test_a_disk_that_fails_ends_it() -> None:
    """Nothing more is begun, for it would fail, too."""
    engine = Refusing()
    engine.error = StorageFailing("full")
    assert await filled(engine) == [("succeeded", 0), ("refused", 4), *[("to go", 130)] * 3]


async def test_what_is_stopped_is_interrupted_and_no_more_is_begun() -> None:
    """What runs can be gone on with, and what was done stays done."""
    pipeline, began = Pipeline("p"), []

    @pipeline.task
    async def work(ctx: Any) -> None:
        began.append(ctx.run_id)
        if len(began) > 1:
            await anyio.sleep_forever()

    told: list[Filled] = []
    async with MemoryEngine(on_exit="detach") as engine, anyio.create_task_group() as group:
        backfill = Backfill(engine, pipeline, SCHEDULE, FakeClock())
        found: list[Filled] = []

        async def fill() -> None:
            found.extend(await backfill.carry_out(slots(), told.append, at_once=2))

        group.start_soon(fill)
        while len(began) < 3:
            await anyio.lowlevel.checkpoint()
        backfill.stop()
    assert sorted(one.state or one.did for one in found) == ["interrupted"] * 2 + ["succeeded"] + ["to go"] * 2
    assert {one.code for one in found if one.state != "succeeded"} == {130}
    assert [one.slot for one in found] == slots()
    assert {one.slot.run for one in told} == set(began)


async def test_nothing_is_done_about_what_is_done() -> None:
    """Slots that need nothing, or that are not ours to fill, begin no run."""
    expected = {Step.GOOD: 0, Step.LEFT: 1, Step.HELD: 6, Step.DAMAGED: 5}
    async with MemoryEngine() as engine:
        for step, code in expected.items():
            backfill = Backfill(engine, empty(), SCHEDULE, FakeClock())
            found: Sequence[Filled] = await backfill.carry_out(slots(step), lambda _one: None)
            assert {one.code for one in found} == {code}
        assert engine.runs() == []


def test_the_step_follows_from_how_the_run_stands() -> None:
    """The table; a run that has ended is held by nobody for long."""
    for status, owned, expected in (
        ("succeeded", False, Step.GOOD),
        ("cancelled", False, Step.LEFT),
        ("failed", False, Step.RETRIED),
        ("partial", False, Step.RETRIED),
        ("interrupted", False, Step.RESUMED),
        ("waiting", False, Step.RESUMED),
        ("paused", False, Step.RESUMED),
        ("running", True, Step.HELD),
        ("waiting", True, Step.HELD),
        ("failed", True, Step.HELD),
        ("succeeded", True, Step.GOOD),
    ):
        assert step_of(status, owned=owned) is expected
