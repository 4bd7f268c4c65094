"""`wait`: a durable timer that holds nothing, and whose moment is on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowd import BadPipeline, Pipeline
from flowd.adapters.journal.memory import MemoryJournal
from flowd.core.spec import Wait
from flowd.core.waits import until
from flowd.testing import FakeClock, MemoryEngine

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def paced(**more: object) -> tuple[Pipeline, list[str]]:
    """A task, a wait of an hour, and a task after it, on one slot that another takes meanwhile."""
    made, ran = Pipeline("paced", max_concurrency=1, **more), []
    for name, needs in (("first", ()), ("after", "pause"), ("beside", "first")):

        async def body(name: str = name) -> None:
            ran.append(name)

        made.task(body, name=name, needs=needs, with_={"name": name})
    made.wait("pause", "1h", needs="first")
    return made, ran


async def test_a_wait_holds_no_slot_and_ends_at_its_moment() -> None:
    """What else may run does so meanwhile; what needs it begins an hour later."""
    made, ran = paced()
    async with MemoryEngine(clock=FakeClock(NOON, autojump=0.01)) as engine:
        result = await engine.run(made)
    assert result.ok
    assert ran == ["first", "beside", "after"]
    after = result.document["tasks"]["after"]
    assert datetime.fromisoformat(after["started"]) - NOON >= timedelta(hours=1)
    assert result.document["tasks"]["pause"]["attempts"] == 0


async def test_resumed_it_counts_from_the_first_time() -> None:
    """An engine that leaves after twenty minutes and one that comes ten later: an hour in all, not more."""
    made, ran = paced()
    journal, clock = MemoryJournal(), FakeClock(NOON)
    async with MemoryEngine(journal=journal, clock=clock, on_exit="detach") as engine:
        run = await engine.start(made, run_id="r")
        async for event in run.events():
            if event["event"] == "task_timer_started":
                break
        document = (await run.snapshot())["tasks"]["pause"]
        assert (document["state"], document["reason"]["code"]) == ("waiting", "until")
        assert document["reason"]["sentence"] == "it waits until 2026-01-01 13:00:00 UTC"
        clock.advance(20 * 60)
    later = FakeClock(NOON + timedelta(minutes=30), autojump=0.01)
    async with MemoryEngine(journal=journal, clock=later) as engine:
        result = await (await engine.resume("r", pipeline=made)).wait()
    assert result.ok
    ended = datetime.fromisoformat(result.document["tasks"]["pause"]["ended"])
    assert timedelta(0) <= ended - (NOON + timedelta(hours=1)) < timedelta(seconds=5)
    assert ran.count("after") == 1


async def test_a_cancel_ends_a_wait_at_once() -> None:
    """It is called off with its run."""
    made, _ = paced()
    async with MemoryEngine(clock=FakeClock(NOON)) as engine:
        run = await engine.start(made)
        async for event in run.events():
            if event["event"] == "task_timer_started":
                await run.cancel()
        result = await run.wait()
    assert (result.state, result.tasks["pause"].state) == ("cancelled", "cancelled")


@pytest.mark.parametrize(
    ("wait", "moment"),
    [
        (Wait(duration=timedelta(minutes=5)), "2026-01-01T12:05"),
        (Wait(until="18:30"), "2026-01-01T18:30"),
        (Wait(until="06:30"), "2026-01-02T06:30"),
        (Wait(until="06:30", timezone="America/New_York"), "2026-01-02T11:30"),
        (Wait(until="2026-03-01T08:00:00", timezone="Europe/Berlin"), "2026-03-01T07:00"),
        (Wait(until="2025-03-01T08:00:00"), "2026-01-01T12:00"),  # it is over
    ],
)
def test_until_when(wait: Wait, moment: str) -> None:
    """The next time of day in its zone, a date and time, or so long from now."""
    assert until(wait, NOON) == datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("soon", "`soon` is no duration"),
        ({"until": "25:00"}, "is no time of day"),
        ({"until": "2026-13-01T10:00"}, "is no moment"),
        ({"until": "06:30", "timezone": "Mars"}, "is no time zone"),
        ({"timezone": "UTC"}, "needs the key `until`"),
    ],
)
def test_what_is_no_wait_is_refused(given: object, said: str) -> None:
    """Each with what to write instead."""
    made = Pipeline("p")
    made.wait("w", given)
    with pytest.raises(BadPipeline, match=said):
        _ = made.spec


def test_what_belongs_to_an_action_is_refused_beside_a_wait() -> None:
    """A wait runs nothing."""
    for key, value in {"outputs": ["x"], "timeout": "1s", "foreach": [1], "retry": {"attempts": 2}}.items():
        made = Pipeline("p")
        made.wait("w", "1s", **{key: value})
        with pytest.raises(BadPipeline, match=f"`{key}` has no meaning beside `wait`"):
            _ = made.spec
