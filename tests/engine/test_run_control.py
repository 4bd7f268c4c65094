"""What a host program can make of runs: retries, timeouts, cancelling, limits, order, ids, leaving and coming back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from flowd import BadRequest, Pipeline, Retry
from flowd.core import events, spec
from flowd.engine.retrying import answer
from flowd.engine.workers import TURN
from flowd.testing import FakeClock, MemoryEngine


@pytest.fixture
async def engine():
    """An engine that a fixture opens in one task and closes in another."""
    async with MemoryEngine() as engine:
        yield engine


@pytest.mark.parametrize(
    ("retry", "waits"),
    [
        (Retry(attempts=3, backoff="constant", delay="500ms"), [0.5, 0.5]),
        (Retry(attempts=3, backoff="linear", delay="200ms"), [0.2, 0.4]),
        (Retry(attempts=4, backoff="exponential", delay="1s", max_delay="3s"), [1, 2, 3]),
    ],
)
async def test_retries_wait_as_their_policy_says(retry, waits):
    """The n-th attempt begins after the n-th wait; the last one succeeds."""
    pipeline = Pipeline("retry")

    @pipeline.task(retry=retry)
    async def flaky(ctx):
        if ctx.attempt <= len(waits):
            raise ConnectionError("reset")
        return ctx.attempt

    async with MemoryEngine(clock=FakeClock(autojump=0.01)) as engine:
        result = await engine.run(pipeline)
    assert result.tasks["flaky"].result == len(waits) + 1
    attempts = result.document["tasks"]["flaky"]["attempt_list"]
    assert [attempt["waited_s"] for attempt in attempts] == [None, *waits]


async def test_a_retry_that_would_need_one_more_attempt_fails_with_their_number():
    """The message of a task that used up its attempts says how many there were."""
    pipeline = Pipeline("retry")

    @pipeline.task(retry=Retry(attempts=3, delay="500ms"))
    async def flaky(ctx):
        if ctx.attempt < 4:
            raise ConnectionError("reset")

    async with MemoryEngine(clock=FakeClock(autojump=0.01)) as engine:
        result = await engine.run(pipeline)
    assert result.tasks["flaky"].attempts == 3
    assert result.tasks["flaky"].reason.sentence == "failed 3 of 3 attempts: ConnectionError: reset"


async def test_only_the_listed_failures_are_tried_again(engine):
    """`on` names classes and their bases; `never_on` wins over it."""
    pipeline = Pipeline("listed")

    @pipeline.task(retry=Retry(attempts=3, delay="0s", on=["OSError"], never_on=["PermissionError"]))
    async def reset(ctx):
        if ctx.attempt < 3:
            raise ConnectionResetError

    @pipeline.task(retry=Retry(attempts=3, delay="0s", on=["OSError"], never_on=["PermissionError"]))
    async def denied():
        raise PermissionError

    @pipeline.task(retry=Retry(attempts=3, delay="0s", on=["OSError"]))
    async def wrong():
        raise ValueError

    result = await engine.run(pipeline)
    assert {name: task.attempts for name, task in result.tasks.items()} == {"reset": 3, "denied": 1, "wrong": 1}
    assert result.tasks["reset"].state == "succeeded"


async def test_tenacitys_own_objects_are_taken(engine):
    """A user's stop and wait objects of tenacity decide in place of the policy."""
    import tenacity

    pipeline = Pipeline("own")

    @pipeline.task(retry=Retry(stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_none()))
    async def flaky(ctx):
        if ctx.attempt < 4:
            raise RuntimeError("again")

    result = await engine.run(pipeline)
    assert result.tasks["flaky"].attempts == 4
    assert result.ok


async def test_a_timeout_ends_an_attempt_as_timed_out():
    """`timeout` bounds one attempt and is told apart from a failure."""
    pipeline = Pipeline("slow")

    @pipeline.task(timeout="5s")
    async def slow():
        await anyio.sleep(3600)

    async with MemoryEngine(clock=FakeClock(autojump=0.01)) as engine:
        result = await engine.run(pipeline)
    assert result.tasks["slow"].state == "timed_out"
    assert result.state == "failed"
    assert "5s" in result.tasks["slow"].error.message


async def test_a_timeout_can_be_tried_again():
    """`on: [timeout]` retries what timed out."""
    pipeline = Pipeline("slow")

    @pipeline.task(timeout="5s", retry=Retry(attempts=2, delay="1s", on=["timeout"]))
    async def slow(ctx):
        if ctx.attempt == 1:
            await anyio.sleep(3600)
        return "done"

    async with MemoryEngine(clock=FakeClock(autojump=0.01)) as engine:
        result = await engine.run(pipeline)
    assert result.tasks["slow"].result == "done"


async def test_a_deadline_ends_the_whole_run():
    """What runs is timed_out, what waits is cancelled, and the run says why."""
    pipeline = Pipeline("late", deadline="1m")

    @pipeline.task
    async def slow():
        await anyio.sleep(3600)

    @pipeline.task
    async def below(slow):
        return slow

    async with MemoryEngine(clock=FakeClock(autojump=0.01)) as engine:
        result = await engine.run(pipeline)
    assert result.tasks["slow"].state == "timed_out"
    assert result.tasks["below"].state in {"cancelled", "upstream_failed"}
    assert result.state == "failed"
    assert result.document["reason"]["code"] == "deadline"


async def test_cancelling_a_run_ends_its_tasks(engine):
    """A cancelled run's coroutine gets CancelledError, and nothing below it starts."""
    pipeline, started, saw = Pipeline("cancel"), anyio.Event(), []

    @pipeline.task
    async def long():
        started.set()
        try:
            await anyio.sleep(3600)
        except anyio.get_cancelled_exc_class():
            saw.append("cancelled")
            raise

    @pipeline.task
    async def below(long):
        saw.append("below")

    run = await engine.start(pipeline)
    await started.wait()
    await run.cancel("enough")
    result = await run.wait()
    assert saw == ["cancelled"]
    assert result.state == "cancelled"
    assert {task.state for task in result.tasks.values()} == {"cancelled"}


async def test_a_cancelled_task_leaves_a_receipt(engine):
    """The journal says what each attempt stopped at and how long that took."""
    pipeline, started = Pipeline("receipt"), []

    @pipeline.task
    async def coroutine():
        started.append(1)
        await anyio.sleep(3600)

    @pipeline.task
    def thread(ctx):
        started.append(1)
        while not ctx.cancelled:
            pass

    run = await engine.start(pipeline)
    while len(started) < 2:
        await anyio.sleep(0.001)
    await run.cancel()
    result = await run.wait()
    endings = {name: task["attempt_list"][0]["ending"] for name, task in result.document["tasks"].items()}
    assert {name: ending["stopped_by"] for name, ending in endings.items()} == {
        "coroutine": "cancellation",
        "thread": "return",
    }
    assert all(0 <= ending["stop_s"] < 5 for ending in endings.values())


async def test_a_non_idempotent_task_that_is_cancelled_is_uncertain(engine):
    """What it had done when it was stopped nobody knows; the run waits for a person."""
    pipeline, started = Pipeline("charge"), anyio.Event()

    @pipeline.task(idempotent=False)
    async def charge():
        started.set()
        await anyio.sleep(3600)

    run = await engine.start(pipeline)
    await started.wait()
    await run.cancel()
    result = await run.wait()
    assert result.tasks["charge"].state == "uncertain"
    assert result.state == "waiting"
    assert result.document["exit_code"] == 3


@pytest.mark.parametrize(("most", "expected"), [(1, 1), (2, 2), (8, 5)])
async def test_never_more_than_max_concurrency(engine, most, expected):
    """`max_concurrency` of a pipeline bounds how many of its tasks run at once, and is used fully."""
    pipeline, now, peak = Pipeline("wide", max_concurrency=most), 0, 0

    async def body():
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await anyio.sleep(0.01)
        now -= 1

    for number in range(5):
        pipeline.task(body, name=f"t{number}")
    assert (await engine.run(pipeline)).ok
    assert peak == expected


async def test_a_limit_is_shared_by_all_runs_of_an_engine():
    """Weights add up across runs and never pass the capacity."""
    now, peak = 0, 0

    async def body():
        nonlocal now, peak
        now += 2
        peak = max(peak, now)
        await anyio.sleep(0.005)
        now -= 2

    def pipeline(name: str) -> Pipeline:
        made = Pipeline(name, limits={"db": 5})
        for number in range(6):
            made.task(body, name=f"t{number}", uses={"db": 2})
        return made

    async with MemoryEngine() as engine:
        runs = [await engine.start(pipeline(name)) for name in "abc"]
        results = [await run.wait() for run in runs]
    assert all(result.ok for result in results)
    assert peak == 4


async def test_a_fan_out_that_never_waits_lets_others_in():
    """However many tasks there are that do not await, the host's own tasks have their turns, and a cancel gets in."""
    pipeline, turns, ran = Pipeline("busy"), [], []

    async def body():
        ran.append(1)

    for number in range(3000):
        pipeline.task(body, name=f"t{number}")

    async def host():
        while len(ran) < 3000:
            turns.append(len(ran))
            await anyio.lowlevel.checkpoint()

    async with MemoryEngine() as engine, anyio.create_task_group() as group:
        group.start_soon(host)
        assert (await engine.run(pipeline)).ok
    assert max(later - sooner for sooner, later in pairwise([*turns, 3000])) <= TURN


async def test_limits_can_be_looked_at():
    """Use, holders with since when, and waiters in the order in which they will go; a pipeline's go with it."""
    pipeline, hold = Pipeline("looked", limits={"db": 2}), anyio.Event()

    async def body():
        await hold.wait()

    pipeline.task(body, name="holder", uses={"db": 2}, priority=9)
    pipeline.task(body, name="later", uses={"db": 1})
    pipeline.task(body, name="sooner", uses={"db": 2}, priority=5)
    async with MemoryEngine(limits={"gpu": 1}) as engine:
        run = await engine.start(pipeline)
        await anyio.wait_all_tasks_blocked()
        seen = engine.limits()
        assert list(seen) == ["gpu", "db"]
        assert seen["db"]["used"] == seen["db"]["capacity"] == 2
        assert [(who["task"], who["weight"]) for who in seen["db"]["holders"]] == [("holder", 2)]
        assert seen["db"]["holders"][0]["since"] is not None
        assert [(who["task"], who["weight"]) for who in seen["db"]["waiters"]] == [("sooner", 2), ("later", 1)]
        hold.set()
        await run.wait()
        assert engine.limits() == {"gpu": {"capacity": 1, "used": 0, "holders": [], "waiters": []}}


async def test_priority_then_the_longer_path_goes_first():
    """Of what is ready, the higher priority starts first; among equals, the longer path."""
    order: list[str] = []
    pipeline = Pipeline("order", max_concurrency=1)

    def add(name: str, **policies):
        async def body():
            order.append(name)

        return pipeline.task(body, name=name, **policies)

    add("short")
    head = add("head")
    middle = add("middle", needs=[head])
    add("tail", needs=[middle])
    add("urgent", priority=10)
    async with MemoryEngine() as engine:
        await engine.run(pipeline)
    assert order == ["urgent", "head", "middle", "short", "tail"]


async def test_a_known_run_id_gives_the_first_run(engine):
    """The same id again returns the first run; with other parameters it is refused."""
    pipeline, ran = Pipeline("once", params={"n": {"type": "int", "default": 1}}), []

    @pipeline.task
    async def count():
        ran.append(1)

    first = await engine.run(pipeline, run_id="key-1")
    again = await engine.run(pipeline, run_id="key-1")
    assert ran == [1]
    assert again.run_id == first.run_id == "key-1"
    with pytest.raises(BadRequest, match="other parameters"):
        await engine.run(pipeline, run_id="key-1", params={"n": 2})


async def test_starting_twice_at_once_with_one_id_is_one_run(engine):
    """Whoever comes second gets the run of the first, however close they are."""
    pipeline, ran, ids = Pipeline("once"), [], []

    @pipeline.task
    async def count():
        ran.append(1)

    async def start():
        run = await engine.start(pipeline, run_id="key-2")
        await run.wait()
        ids.append(run.id)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(start)
    assert ids == ["key-2"] * 5
    assert ran == [1]


async def test_a_run_that_never_began_is_begun_by_its_id(engine):
    """A process that died between making a run and its first record leaves an id that can be used."""
    pipeline = Pipeline("cut")

    @pipeline.task
    async def work():
        return 1

    await engine.journal.create("key-3", pipeline.definition())
    with pytest.raises(BadRequest, match="nothing of it is on record"):
        await engine.resume("key-3", pipeline)
    assert (await engine.run(pipeline, run_id="key-3")).ok


async def test_leaving_with_drain_waits_and_with_cancel_cancels():
    """`on_exit` decides what becomes of a run that is not done."""
    ended = []

    def pipeline() -> Pipeline:
        made = Pipeline("leaving")

        @made.task
        async def work():
            await anyio.sleep(0.02)
            ended.append("work")

        return made

    async with MemoryEngine(on_exit="drain") as engine:
        await engine.start(pipeline())
    assert ended == ["work"]
    async with MemoryEngine(on_exit="cancel") as engine:
        await engine.start(pipeline())
    assert ended == ["work"]


async def test_a_detached_run_is_resumed_by_the_next_engine():
    """What had succeeded is not run again; an interrupted attempt uses up no retry."""
    pipeline, ran, hold = Pipeline("detached"), [], anyio.Event()

    @pipeline.task
    async def first():
        ran.append("first")
        return 7

    @pipeline.task
    async def second(first, ctx):
        ran.append(f"second {ctx.attempt}")
        if ctx.attempt == 1:
            hold.set()
            await anyio.sleep(3600)
        return first + 1

    async with MemoryEngine(on_exit="detach") as engine:
        run = await engine.start(pipeline)
        await hold.wait()
    async with MemoryEngine(journal=engine.journal, results=engine.results) as later:
        assert (await (await later.get(run.id)).snapshot())["state"] == "interrupted"
        result = await (await later.resume(run.id, pipeline)).wait()
    assert ran == ["first", "second 1", "second 2"]
    assert result.tasks["second"].result == 8


async def test_retry_runs_failed_tasks_again_in_the_same_run(engine):
    """`retry` leaves what succeeded, and gives the failed task a new allowance of attempts."""
    pipeline, ran, fixed = Pipeline("again"), [], []

    @pipeline.task
    async def good():
        ran.append("good")

    @pipeline.task(needs=["good"])
    async def bad():
        ran.append("bad")
        if not fixed:
            raise ValueError("broken")

    @pipeline.task(needs=["bad"])
    async def below():
        ran.append("below")

    failed = await engine.run(pipeline)
    assert failed.state == "failed"
    fixed.append(True)
    run = await engine.retry(failed.run_id, pipeline=pipeline)
    result = await run.wait()
    assert result.ok
    assert ran == ["good", "bad", "bad", "below"]
    assert result.tasks["bad"].attempts == 2


def paused_chain() -> tuple[Pipeline, list[str], anyio.Event, anyio.Event]:
    """Two tasks, the first of which runs until the second event is set; what ran; the first event: it has begun."""
    pipeline, ran, began, release = Pipeline("chain"), [], anyio.Event(), anyio.Event()

    @pipeline.task
    async def first():
        ran.append("first")
        began.set()
        await release.wait()

    @pipeline.task
    async def second(first):
        ran.append("second")

    return pipeline, ran, began, release


async def test_a_paused_run_goes_on_while_its_task_still_runs(engine):
    """Resumed before it has come to rest: what runs goes on, nothing is run twice."""
    pipeline, ran, began, release = paused_chain()
    run = await engine.start(pipeline)
    await began.wait()
    await run.pause()
    assert (await run.snapshot())["state"] == "paused"
    await run.resume()
    await run.resume()  # it goes on already
    release.set()
    assert (await run.wait()).ok
    assert ran == ["first", "second"]
    events = [event.event async for event in run.events()]
    assert [events.count(name) for name in ("run_paused", "run_adopted", "task_interrupted")] == [1, 1, 0]


async def test_a_paused_run_goes_on_after_it_has_come_to_rest(engine):
    """The same handle waits anew, with the same closures; a finished run stays as it is."""
    pipeline, ran, began, release = paused_chain()
    run = await engine.start(pipeline)
    await began.wait()
    await run.pause()
    release.set()
    assert (await run.wait()).state == "paused"
    assert ran == ["first"]
    await run.resume()
    result = await run.wait()
    assert (result.state, ran) == ("succeeded", ["first", "second"])
    await run.resume()
    assert (await run.wait()).tasks["second"].attempts == 1
    assert (await engine.resume(run.id)).id == run.id


async def test_resuming_at_the_moment_of_rest():
    """Told in the same instant in which the last attempt ends, before the run is let go: nothing is lost."""
    for turns in range(12):
        pipeline, ran, began, release = paused_chain()
        async with MemoryEngine() as engine:
            run = await engine.start(pipeline)
            await began.wait()
            await run.pause()
            release.set()
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            await run.resume()
            assert (await run.wait()).ok, turns
        assert ran == ["first", "second"]


async def test_a_retry_that_came_due_in_a_pause_is_made_after_it():
    """The wait for it is taken up again."""
    clock, pipeline, tried = FakeClock(), Pipeline("p"), []
    release, failed = anyio.Event(), anyio.Event()

    @pipeline.task(retry=Retry(attempts=2, delay="1s"))
    async def flaky(ctx):
        tried.append(ctx.attempt)
        if ctx.attempt == 1:
            failed.set()
            raise ConnectionError("reset")

    @pipeline.task
    async def long():
        await release.wait()

    async with MemoryEngine(clock=clock) as engine:
        run = await engine.start(pipeline)
        await failed.wait()
        await run.pause()
        clock.advance(5)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert tried == [1]
        await run.resume()
        clock.advance(0.1)
        release.set()
        assert (await run.wait(10)).ok
    assert tried == [1, 2]


async def test_a_task_that_cancels_itself_fails(engine):
    """CancelledError that nobody asked for is a failure like others, and ends neither the run nor the engine."""
    pipeline = Pipeline("self", defaults={"retry": {"attempts": 2}})

    @pipeline.task
    async def raises():
        raise asyncio.CancelledError

    @pipeline.task
    async def awaits():
        lost = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost

    @pipeline.task
    async def groups():
        raise BaseExceptionGroup("both", [asyncio.CancelledError(), ValueError("x")])

    @pipeline.task
    async def other():
        return 1

    result = await engine.run(pipeline)
    assert {name: task.state for name, task in result.tasks.items()} == {
        "raises": "failed",
        "awaits": "failed",
        "groups": "failed",
        "other": "succeeded",
    }
    assert result.tasks["awaits"].attempts == 2
    assert "nobody had cancelled it" in result.tasks["awaits"].error.message
    assert (await engine.run(pipeline, "other")).ok


def test_jitter_adds_up_to_so_much() -> None:
    """Each wait is drawn anew, never shorter than the policy's and never longer than both together."""
    policy = spec.Retry(attempts=9, delay=timedelta(seconds=2), backoff="constant", jitter=timedelta(seconds=1))
    failure, error = RuntimeError("x"), events.Error(type="RuntimeError", message="x")
    given = {"tries": 1, "elapsed": timedelta(0), "failure": failure, "error": error, "timed_out": False}
    drawn = [answer(policy, None, **given) for _ in range(50)]
    waits = {again.delay.total_seconds() for again in drawn if again is not None}
    assert len(waits) > 40
    assert 2 <= min(waits) < max(waits) <= 3
