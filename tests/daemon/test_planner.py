"""Schedules at work, in virtual time: what fires, what is recorded, and what a death or a clock does to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from agendas import MemoryAgenda, Shelf
from flowd import Pipeline
from flowd.adapters.journal.memory import MemoryJournal
from flowd.authoring.loading import load
from flowd.core import agenda as facts
from flowd.core.agenda import AnyFact
from flowd.core.errors import BadRequest, NoSuchRun, StorageFailing
from flowd.daemon.planner import Planner
from flowd.testing import FakeClock, MemoryEngine

HOME = Path(__file__).parents[2]
GOLDEN = HOME / "tests" / "golden" / "a_year_of_firings.txt"
START = datetime(2026, 1, 1, tzinfo=UTC)


class Place:
    """A planner with all that it needs; `again` is what a new process would begin with."""

    def __init__(self, engine: MemoryEngine, clock: FakeClock, store: MemoryAgenda, *pipelines: Pipeline) -> None:
        self.engine, self.clock, self.store = engine, clock, store
        self.shelf = Shelf(*pipelines)
        self.planner = Planner(engine, self.shelf, store, clock)

    async def turn(self, seconds: float = 0) -> datetime | None:
        self.clock.advance(seconds)
        following = await self.planner.turn(self.clock.now())
        await self.settle()
        return following

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        for run in self.engine.runs():
            with anyio.move_on_after(0.05):
                await run.wait()

    def of(self, kind: type[AnyFact]) -> list[Any]:
        return [fact for fact in self.store.told if isinstance(fact, kind)]

    def again(self) -> "Place":
        return Place(self.engine, self.clock, MemoryAgenda(self.store.told), *self.shelf.by_name.values())


def quick(**schedule: Any) -> Pipeline:
    """A pipeline whose runs end at once."""
    pipeline = Pipeline("quick", schedule=schedule, params={"region": "eu"})

    @pipeline.task
    async def work(ctx: Any) -> dict[str, Any]:
        return {"params": dict(ctx.params)}

    return pipeline


def slow(**schedule: Any) -> tuple[Pipeline, dict[str, anyio.Event]]:
    """A pipeline whose runs go on until the event of their id is set."""
    pipeline, gates = Pipeline("slow", schedule=schedule), {}

    @pipeline.task
    async def work(ctx: Any) -> None:
        gates[ctx.run_id] = anyio.Event()
        await gates[ctx.run_id].wait()

    return pipeline, gates


@asynccontextmanager
async def place(*pipelines: Pipeline, journal: MemoryJournal | None = None) -> AsyncIterator[Place]:
    clock = FakeClock(START)
    async with MemoryEngine(clock=clock, journal=journal) as engine:
        made = Place(engine, clock, MemoryAgenda(), *pipelines)
        await made.turn()
        yield made


async def test_each_time_begins_one_run_that_knows_it() -> None:
    """It has the instant as its logical time, the schedule as its trigger, and the schedule's parameters."""
    async with place(quick(cron="0 6 * * *", params={"region": "us"})) as here:
        assert await here.turn() == START + timedelta(hours=6)
        assert here.of(facts.Fired) == []
        await here.turn(6 * 3600)
        await here.turn()
        [fired] = here.of(facts.Fired)
        document = await (await here.engine.get(fired.run)).snapshot()
    assert document["state"] == "succeeded"
    assert document["trigger"] == {"kind": "schedule", "schedule": "quick", "time": "2026-01-01T06:00:00Z"}
    assert document["params"] == {"region": "us"}
    assert fired.time == START + timedelta(hours=6)


async def test_what_was_before_it_was_first_seen_is_none_of_its_times() -> None:
    """A new schedule counts from now, and one that was edited too."""
    async with place(quick(cron="0 0 * * *")) as here:
        here.shelf.by_name["quick"] = quick(cron="30 * * * *")
        await here.turn(5400)
        assert here.of(facts.Fired) == []
        assert len(here.of(facts.Seen)) == 2
        await here.turn(3600)
        assert [fired.time for fired in here.of(facts.Fired)] == [START + timedelta(hours=2, minutes=30)]


async def test_a_death_between_the_run_and_its_record_begins_no_second_one() -> None:
    """The run is there under the name that the firing has by its nature; its record is made up for."""
    async with place(quick(every=timedelta(hours=1), misfire="skip")) as here:
        here.store.broken = True
        here.clock.advance(3600)
        real, here.store.record = here.store.record, _refuse_fired(here.store)  # type: ignore[method-assign]
        here.store.broken = False
        with pytest.raises(StorageFailing):
            await here.planner.turn(here.clock.now())
        await here.settle()
        assert len(here.engine.runs()) == 1
        here.store.record = real  # type: ignore[method-assign]
        after = here.again()
        await after.turn(1800)  # by now it is too late for it: it would be skipped
        assert len(here.engine.runs()) == 1
        assert [fired.time for fired in after.of(facts.Fired)] == [START + timedelta(hours=1)]
        assert after.of(facts.Skipped) == []


def _refuse_fired(store: MemoryAgenda) -> Any:
    real = store.record

    async def record(told: Sequence[AnyFact], now: datetime) -> None:
        if any(isinstance(fact, facts.Fired) for fact in told):
            raise StorageFailing("the disk is full")
        await real(told, now)

    return record


@pytest.mark.parametrize(("misfire", "begun", "missed"), [("skip", 0, 5), ("latest", 1, 4), ({"all": 3}, 3, 2)])
async def test_times_that_were_missed_are_decided_about_once(misfire: Any, begun: int, missed: int) -> None:
    """Five hours of downtime: by the rule, with one record of what was missed, and nothing more at a second look."""
    async with place(quick(every=timedelta(hours=1), misfire=misfire, overlap="allow")) as here:
        after = here.again()
        await after.turn(5 * 3600 + 600)
        await after.turn()
        await after.again().turn()
        assert len(after.of(facts.Fired)) == begun
        [skipped] = after.of(facts.Skipped)
        assert (skipped.count, skipped.why) == (missed, "misfire")
        assert len(after.engine.runs()) == begun


async def test_skip_leaves_the_run_alone_that_goes_on() -> None:
    """The record names it; once it has ended, times begin runs again."""
    pipeline, gates = slow(every=timedelta(hours=1))
    async with place(pipeline) as here:
        await here.turn(3600)
        await here.turn(3600)
        [first] = here.of(facts.Fired)
        [skipped] = here.of(facts.Skipped)
        assert (skipped.why, skipped.behind) == ("overlap", first.run)
        gates[first.run].set()
        await here.settle()
        await here.turn(3600)
        assert len(here.of(facts.Fired)) == 2
        gates[here.of(facts.Fired)[1].run].set()


async def test_allow_has_them_side_by_side() -> None:
    """Both go on."""
    pipeline, gates = slow(every=timedelta(hours=1), overlap="allow")
    async with place(pipeline) as here:
        await here.turn(3600)
        await here.turn(3600)
        assert len(gates) == 2
        for gate in gates.values():
            gate.set()


async def test_a_queue_is_worked_off_in_order_and_is_bounded() -> None:
    """Two wait, the third is skipped; each begins when the one before it has ended, after a restart too."""
    pipeline, gates = slow(every=timedelta(hours=1), overlap={"queue": 2})
    async with place(pipeline) as here:
        for _ in range(4):
            await here.turn(3600)
        assert [one.time.hour for one in here.of(facts.Queued)] == [2, 3]
        assert [one.time.hour for one in here.of(facts.Skipped)] == [4]
        after = here.again()
        for hour in (1, 2, 3):
            fired = after.of(facts.Fired)[-1]
            assert fired.time.hour == hour
            gates[fired.run].set()
            await after.settle()
            await after.turn()
        assert after.store.agenda.entry("slow").queued == []


async def test_the_old_run_makes_room_for_the_new() -> None:
    """It is cancelled, with the reason, and the newest time begins when it has ended."""
    pipeline, gates = slow(every=timedelta(hours=1), overlap="cancel_old")
    async with place(pipeline) as here:
        await here.turn(3600)
        await here.turn(3600)
        await here.turn()
        first, second = here.of(facts.Fired)
        document = await (await here.engine.get(first.run)).snapshot()
        assert document["state"] == "cancelled"
        assert second.time.hour == 2
        gates[second.run].set()


async def test_a_run_that_waits_for_a_person_is_in_nobodys_way() -> None:
    """Otherwise one forgotten approval would stop the schedule for good."""
    pipeline = Pipeline("asking", schedule={"every": timedelta(hours=1)})
    pipeline.approve("sign_off", "Go on?")
    async with place(pipeline) as here:
        await here.turn(3600)
        await here.turn(3600)
        assert len(here.of(facts.Fired)) == 2


async def test_paused_it_fires_nothing_and_resumed_it_makes_up_for_nothing() -> None:
    """A pause outlives the process; what came during it is none of its times."""
    async with place(quick(every=timedelta(hours=1))) as here:
        document = await here.planner.pause("quick", "ada")
        assert document["paused"] == "ada"
        after = here.again()
        await after.turn(5 * 3600)
        assert after.of(facts.Fired) == []
        await after.planner.resume("quick", "ada")
        await after.turn()
        assert after.of(facts.Fired) == []
        await after.turn(3600)
        assert len(after.of(facts.Fired)) == 1
        with pytest.raises(BadRequest, match="there is no schedule quack; there are: quick"):
            await after.planner.pause("quack", "ada")


async def test_a_clock_that_goes_back_fires_nothing_twice() -> None:
    """An hour back: the times that it shows again were decided about."""
    async with place(quick(every=timedelta(minutes=10))) as here:
        await here.turn(3600)
        fired = len(here.engine.runs())
        await here.planner.turn(START + timedelta(minutes=30))
        await here.planner.turn(START + timedelta(hours=1))
        assert len(here.engine.runs()) == fired


async def test_a_clock_that_was_years_ahead_does_not_silence_a_schedule() -> None:
    """Once it is right again, the schedule counts from now."""
    async with place(quick(every=timedelta(hours=1))) as here:
        await here.planner.turn(datetime(2036, 1, 1, tzinfo=UTC))
        await here.settle()
        assert len(here.of(facts.Fired)) == 1
        await here.turn(60)
        await here.turn(3600)
        assert [fired.time for fired in here.of(facts.Fired)][1:] == [START + timedelta(hours=1)]


async def test_what_is_refused_is_on_record_and_the_next_time_is_tried() -> None:
    """A run that cannot begin is no firing."""
    pipeline = Pipeline("needy", schedule={"every": timedelta(hours=1)}, folder="/nonexistent")
    pipeline.shell("read", "cat missing.csv", inputs=["missing.csv"])
    async with place(pipeline) as here:
        await here.turn(3600)
        await here.turn(3600)
        first, second = here.of(facts.Skipped)
        assert first.why == "refused"
        assert "missing.csv" in first.sentence
        assert second.time.hour == 2
        assert here.of(facts.Fired) == []


async def test_the_loop_wakes_for_each_time_and_records_a_step_of_the_clock() -> None:
    """By itself, in virtual time; a jump of the wall clock against the awake time is one fact."""
    clock = _Stepping(START, autojump=0)
    async with MemoryEngine(clock=clock) as engine, anyio.create_task_group() as group:
        here = Place(engine, clock, MemoryAgenda(), quick(every=timedelta(minutes=1), overlap="allow"))
        group.start_soon(here.planner.run)
        with anyio.fail_after(10):
            while len(here.of(facts.Fired)) < 3:
                await asyncio.sleep(0)
            clock.offset = timedelta(hours=2)
            while not here.of(facts.Stepped) or len(here.of(facts.Fired)) < 5:
                await asyncio.sleep(0)
        group.cancel_scope.cancel()
    [stepped] = here.of(facts.Stepped)
    assert stepped.seconds == pytest.approx(7200, abs=1)
    times = [fired.time for fired in here.of(facts.Fired)]
    assert times == sorted(set(times))
    assert sum(one.count for one in here.of(facts.Skipped)) + len(times) == (times[-1] - START) // timedelta(minutes=1)


class _Stepping(FakeClock):
    """A clock whose wall can be set."""

    offset = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.offset


class _Book:
    """Stands for an engine where only what is begun matters."""

    def __init__(self) -> None:
        self.begun: list[tuple[datetime, str, str]] = []

    async def start(self, pipeline: Pipeline, *tasks: str, time: datetime, run_id: str, **_options: Any) -> "_Book":
        self.begun.append((time, pipeline.name, ", ".join(tasks) or "all"))
        return self

    async def recorded(self) -> None:
        """At once."""

    async def get(self, run_id: str) -> "_Book":
        raise NoSuchRun(run_id)


async def test_a_year_of_the_examples_is_as_it_was_agreed() -> None:
    """The five pipelines' schedules from 2026 on, and three that meet changes of the clock, against the golden list."""
    lines = [f"{time:%Y-%m-%dT%H:%MZ}  {name}  {tasks}" for time, name, tasks in await a_year()]
    assert lines == GOLDEN.read_text().splitlines()


async def a_year() -> list[tuple[datetime, str, str]]:
    pipelines = [
        load(str(HOME / "configs" / name / "pipeline.yaml")) for name in ("prices", "scoring", "market", "retrain")
    ]
    pipelines.append(load(str(HOME / "configs" / "quickstart" / "pipeline.yaml")))
    for name, zone, dst in (
        ("berlin", "Europe/Berlin", {"gap": "shift", "fold": "both"}),
        ("santiago", "America/Santiago", {"gap": "skip", "fold": "second"}),
        ("lord_howe", "Australia/Lord_Howe", {}),
    ):
        schedule = {"cron": "15,45 0,1,2 * * sun", "timezone": zone, "dst": dst}
        pipeline = Pipeline(name, schedule=schedule)
        pipeline.shell("work", "true")
        pipelines.append(pipeline)
    book, store = _Book(), MemoryAgenda()
    planner = Planner(book, Shelf(*pipelines), store, FakeClock(START))  # type: ignore[arg-type]
    now: datetime | None = START
    while now is not None and now < datetime(2027, 1, 1, tzinfo=UTC):
        now = await planner.turn(now)
    return sorted(book.begun)
