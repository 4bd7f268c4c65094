"""What a host program sees of runs: order, results, failures, retries, limits, endings."""

from __future__ import annotations

import contextvars
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from flowd import BadParameters, BadRequest, Pipeline, RunFailed
from flowd.testing import MemoryEngine


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
