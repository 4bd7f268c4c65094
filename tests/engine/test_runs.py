"""What a host program sees of runs: order, results, failures, retries, limits, endings."""

from __future__ import annotations

import contextvars
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from flowd import BadParameters, BadRequest, Pipeline, Retry, RunFailed
from flowd.testing import FakeClock, MemoryEngine


@pytest.fixture
async def engine():
    """An engine that a fixture opens in one task and closes in another."""
    async with MemoryEngine() as engine:
        yield engine


def diamond() -> tuple[Pipeline, list[str]]:
    """Four tasks: one, then two together, then one; and the order in which they ran."""
    pipeline, order = Pipeline("diamond"), []

    @pipeline.task
    async def top():
        order.append("top")
        return {"n": 1}

    @pipeline.task
    async def left(top):
        order.append("left")
        return top["n"] + 1

    @pipeline.task
    async def right(top):
        order.append("right")
        return top["n"] + 2

    @pipeline.task
    def bottom(left, right):
        order.append("bottom")
        return [left, right]

    return pipeline, order


async def test_results_flow_along_the_edges(engine):
    """Each task starts after its needs and receives what they returned."""
    pipeline, order = diamond()
    result = await engine.run(pipeline)
    assert result.ok
    assert result.state == "succeeded"
    assert order[0] == "top"
    assert order[-1] == "bottom"
    assert result.tasks["bottom"].result == [2, 3]
    assert result.counts == {"succeeded": 4}


async def test_named_tasks_bring_what_they_need_and_nothing_else(engine):
    """A run of one task is a run of it and its ancestors."""
    pipeline, order = diamond()
    result = await engine.run(pipeline, "left")
    assert order == ["top", "left"]
    assert set(result.tasks) == {"top", "left"}


async def test_a_consumer_cannot_reach_into_another_ones_data(engine):
    """A result is decoded for each consumer anew."""
    pipeline = Pipeline("share")

    @pipeline.task
    async def make():
        return {"rows": [1]}

    @pipeline.task
    async def spoil(make):
        make["rows"].append(2)
        return make

    @pipeline.task(needs=[spoil])
    async def look(make):
        return make

    result = await engine.run(pipeline)
    assert result.tasks["look"].result == {"rows": [1]}
    assert result.tasks["spoil"].result == {"rows": [1, 2]}


async def test_a_failure_stops_what_lies_below_and_nothing_else(engine):
    """Downstream is upstream_failed, other branches go on, and the run is a failed value."""
    pipeline = Pipeline("broken")

    @pipeline.task
    async def bad():
        raise ValueError("NaN in price")

    @pipeline.task
    async def below(bad):
        return bad

    @pipeline.task
    async def aside():
        return 1

    result = await engine.run(pipeline)
    assert result.state == "failed"
    assert result.tasks["bad"].state == "failed"
    assert result.tasks["bad"].error.type == "ValueError"
    assert "NaN in price" in result.tasks["bad"].reason.sentence
    assert result.tasks["below"].state == "upstream_failed"
    assert result.tasks["aside"].state == "succeeded"
    with pytest.raises(RunFailed, match="NaN in price"):
        result.raise_for_failure()


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


async def test_context_variables_do_not_leak_between_tasks():
    """A variable that one task sets is unset in the next that the same worker carries out."""
    mark = contextvars.ContextVar("mark", default="clean")
    pipeline, seen = Pipeline("marks", max_concurrency=1), []

    async def body():
        seen.append(mark.get())
        mark.set("dirty")
        await anyio.lowlevel.checkpoint()
        seen.append(mark.get())

    for number in range(3):
        pipeline.task(body, name=f"t{number}")
    async with MemoryEngine(max_concurrency=1) as engine:
        await engine.run(pipeline)
    assert seen == ["clean", "dirty"] * 3


async def test_events_come_in_order_and_without_gaps(engine):
    """`events` gives every durable event once, from any point on, to the end."""
    pipeline, _ = diamond()
    run = await engine.start(pipeline)
    events = [event async for event in run.events()]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[0].event == "run_started"
    assert events[-1]["event"] == "run_finished"
    assert {event.task for event in events if event.event == "task_succeeded"} == {"top", "left", "right", "bottom"}
    later = [event async for event in (await engine.get(run.id)).events(after=3)]
    assert later == events[3:]


async def test_a_result_is_there_as_soon_as_its_task_has_ended(engine):
    """`result` waits for one task, not for the run; a task that failed raises."""
    pipeline, hold = Pipeline("early"), anyio.Event()

    @pipeline.task
    async def quick():
        return 42

    @pipeline.task
    async def bad():
        raise ValueError("no")

    @pipeline.task
    async def slow():
        await hold.wait()

    run = await engine.start(pipeline)
    with anyio.fail_after(5):
        assert await run.result("quick") == 42
        with pytest.raises(RunFailed, match="ValueError: no"):
            await run.result("bad")
    with pytest.raises(BadRequest, match="no task nope"):
        await run.result("nope")
    with pytest.raises(TimeoutError):
        await run.wait(timeout=0.01)
    hold.set()
    assert (await run.wait()).state == "failed"


async def test_a_cancelled_waiter_does_not_cancel_the_run(engine):
    """The run goes on when the host task that waits for it is cancelled."""
    pipeline, hold = Pipeline("patient"), anyio.Event()

    @pipeline.task
    async def slow():
        await hold.wait()
        return 1

    run = await engine.start(pipeline)
    with anyio.move_on_after(0.01):
        await run.wait()
    hold.set()
    assert (await run.wait()).tasks["slow"].result == 1


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
    with pytest.raises(BadRequest, match="nothing of it has begun"):
        await engine.resume("key-3", pipeline)
    assert (await engine.run(pipeline, run_id="key-3")).ok


async def test_wrong_parameters_are_refused_before_anything_is_written(engine):
    """All wrong parameters are named at once, and no run exists afterwards."""
    pipeline = Pipeline("typed", params={"n": {"type": "int", "min": 1}, "name": "x"})

    @pipeline.task
    async def work():
        return 1

    with pytest.raises(BadParameters) as caught:
        await engine.start(pipeline, params={"n": 0, "nmae": "y"})
    assert len(caught.value.problems) == 2
    with pytest.raises(BadRequest, match="did you mean work"):
        await engine.start(pipeline, "wokr")


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


async def test_the_engine_lives_under_an_outer_cancel_scope():
    """A cancelled host leaves the block in order, and its scope is reported cancelled."""
    pipeline = Pipeline("outer")

    @pipeline.task
    async def slow():
        await anyio.sleep(3600)

    with anyio.move_on_after(0.05) as scope:
        async with MemoryEngine() as engine:
            run = await engine.start(pipeline)
            await run.wait()
    assert scope.cancelled_caught


async def test_an_engine_in_a_fastapi_lifespan():
    """Opened by the lifespan, used by a request handler, closed by the lifespan."""
    fastapi = pytest.importorskip("fastapi")
    from contextlib import asynccontextmanager

    pipeline, _ = diamond()
    held = {}

    @asynccontextmanager
    async def lifespan(_app):
        async with MemoryEngine() as engine:
            held["engine"] = engine
            yield

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/run")
    async def run() -> dict:
        result = await held["engine"].run(pipeline)
        return {"state": result.state}

    sent: list[dict] = []
    inbox = [{"type": "lifespan.startup"}]
    stop = anyio.Event()

    async def receive():
        if inbox:
            return inbox.pop(0)
        await stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message):
        sent.append(message)

    async def get(path: str) -> bytes:
        body = []

        async def request():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def respond(message):
            body.append(message.get("body", b""))

        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path}
        scope |= {"raw_path": path.encode(), "query_string": b"", "headers": [], "scheme": "http"}
        scope |= {"server": ("x", 80), "client": ("y", 1), "root_path": ""}
        await app(scope, request, respond)
        return b"".join(body)

    async with anyio.create_task_group() as group:
        group.start_soon(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        while not sent:
            await anyio.sleep(0.001)
        assert await get("/run") == b'{"state":"succeeded"}'
        stop.set()
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_large_or_odd_result_is_kept_and_seen_by_its_consumer(engine):
    """Large JSON spills, a tuple and a set come back as they were, and NaN is refused by its place."""
    pipeline = Pipeline("values")

    @pipeline.task
    async def large():
        return ["x" * 100] * 1000

    @pipeline.task
    async def odd():
        return (1, {2, 3}, timedelta(seconds=4))

    @pipeline.task
    async def nan():
        return {"a": [1.0, float("nan")]}

    @pipeline.task
    async def function():
        return lambda: 1

    @pipeline.task
    async def look(large, odd):
        return len(large), odd == (1, {2, 3}, timedelta(seconds=4))

    result = await engine.run(pipeline)
    assert result.tasks["look"].result == (1000, True)
    assert "result.a[1] is nan" in result.tasks["nan"].error.message
    assert "cannot be kept" in result.tasks["function"].error.message


async def test_metrics_and_the_log_plan(engine):
    """Metrics are kept; a name of the log plan that never came is a warning."""
    pipeline = Pipeline("logs")

    @pipeline.task(logs=["rows", "mae", "source", "missing"])
    async def work(ctx):
        ctx.metric("mae", 0.5)
        ctx.log.info("read", rows=3)
        ctx.progress(1, 2)
        return {"source": "file"}

    result = await engine.run(pipeline)
    assert result.tasks["work"].metrics == {"mae": 0.5}
    assert result.warnings == ("work: log_plan_missing: missing neither logged, nor a metric, nor in the result",)
