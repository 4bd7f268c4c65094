"""A run that goes on with its pipeline as it is now, and what is refused."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from flowd import BadParameters, BadPipeline, BadRequest, Engine, Pipeline
from flowd.adapters.checkpoints import FileCheckpoints
from flowd.testing import MemoryEngine


class Halted:
    """A run that was left after its first task, while the second was under way."""

    def __init__(self, **keys) -> None:
        self.ran: list[str] = []
        self.pipeline = self.of("first", "second", **keys)
        self.reached = anyio.Event()

    def of(self, *names: str, hold: str = "second", idempotent: bool = True, name: str = "p", **keys) -> Pipeline:
        """A chain of tasks that say that they ran; the one called `hold` does not end while `reached` is awaited."""
        made, before = Pipeline(name, **keys), ()
        for one in names:

            async def body(ctx):
                self.ran.append(ctx.task)
                if ctx.task == hold and not self.reached.is_set():
                    self.reached.set()
                    await anyio.sleep(3600)
                return ctx.task

            made.task(name=one, needs=before, idempotent=idempotent or one != hold)(body)
            before = (one,)
        return made

    async def left(self) -> MemoryEngine:
        """The engine (closed by now) that was left."""
        async with MemoryEngine(on_exit="detach") as engine:
            self.run = (await engine.start(self.pipeline)).id
            await self.reached.wait()
        self.ran.clear()
        return engine


def after(earlier: MemoryEngine) -> MemoryEngine:
    """Another engine on what the earlier one remembers."""
    return MemoryEngine(journal=earlier.journal, results=earlier.results, checkpoints=earlier.checkpoints)


async def test_a_run_goes_on_as_its_pipeline_is_now():
    """What had succeeded is not run again, what is new runs, what is gone does not; and so it is remembered."""
    halted = Halted()
    earlier = await halted.left()
    now = halted.of("first", "between", "third", max_concurrency=1)
    async with after(earlier) as engine:
        run = await engine.resume(halted.run, now, with_new_definition=True, by="me")
        result = await run.wait()
        events = [event async for event in run.events()]
    assert result.ok
    assert {name: task.state for name, task in result.tasks.items()} == dict.fromkeys(
        ("first", "between", "third"), "succeeded"
    )
    assert halted.ran == ["between", "third"]
    [told] = [event for event in events if event.event == "run_redefined"]
    assert (told.added, told.removed, told.by, len(told.spec)) == (["between", "third"], ["second"], "me", 64)
    async with after(earlier) as engine:  # from the journal alone
        again = await (await engine.get(halted.run)).wait()
        assert set(again.tasks) == {"first", "between", "third"}
        handle = await engine.retry(halted.run, "third", pipeline=now)
        assert (await handle.wait()).tasks["third"].attempts == 2


async def test_what_has_not_changed_is_not_redefined():
    """The same definition is a plain resume."""
    halted = Halted()
    earlier = await halted.left()
    async with after(earlier) as engine:
        run = await engine.resume(halted.run, halted.pipeline, with_new_definition=True)
        assert (await run.wait()).ok
        assert not [event async for event in run.events() if event.event == "run_redefined"]


async def test_parameters_are_carried_over():
    """One that is gone is dropped, a new one has its default, one that no longer fits is refused."""
    halted = Halted(params={"old": 1, "kept": 2})
    earlier = await halted.left()
    async with after(earlier) as engine:
        bad = halted.of("first", params={"kept": {"type": "int", "max": 1, "default": 0}})
        with pytest.raises(BadParameters, match="kept"):
            await engine.resume(halted.run, bad, with_new_definition=True)
        now = halted.of("first", params={"kept": 0, "new": 3})
        run = await engine.resume(halted.run, now, with_new_definition=True)
        assert (await run.wait()).document["params"] == {"kept": 2, "new": 3}


async def test_limits_are_those_of_the_new_definition():
    """A capacity that only the new definition names bounds its tasks."""
    halted = Halted()
    earlier = await halted.left()
    now, most, running = Pipeline("p", limits={"gpu": 1}), [0], [0]
    now.task(name="first")(lambda: None)

    async def body():
        running[0] += 1
        most[0] = max(most[0], running[0])
        await anyio.lowlevel.checkpoint()
        running[0] -= 1

    for number in range(4):
        now.task(name=f"t{number}", uses={"gpu": 1})(body)
    async with after(earlier) as engine:
        assert (await (await engine.resume(halted.run, now, with_new_definition=True)).wait()).ok
    assert most == [1]


async def test_what_cannot_be_mapped_is_refused():
    """Another pipeline, a task whose end nobody knows, a run that goes on or has ended: each says what to do."""
    halted = Halted()
    halted.pipeline = halted.of("first", "second", idempotent=False)
    earlier = await halted.left()
    async with after(earlier) as engine:

        async def refused(pipeline: Pipeline | None, words: str, **more) -> None:
            with pytest.raises(BadRequest, match=words):
                await engine.resume(halted.run, pipeline, with_new_definition=True, **more)

        await refused(None, "takes the pipeline")
        await refused(halted.of("first", name="q"), "cannot go on as q")
        await refused(halted.of("first", folder="/elsewhere"), "cannot go on as p in /elsewhere")
        await refused(halted.of("first"), "second is uncertain.*resolve it first .*, or put it back")
        bad = halted.of("first", "second", idempotent=False)
        bad.shell("third", "true", needs=["nobody"])
        with pytest.raises(BadPipeline, match="nobody"):
            await engine.resume(halted.run, bad, with_new_definition=True)
        assert not halted.ran
        done = await engine.resolve(halted.run, "second", "succeeded", pipeline=halted.pipeline)
        assert (await done.wait()).ok
        await refused(halted.of("first"), "has succeeded.*start a new run")


async def test_a_failed_run_is_retried_as_its_pipeline_is_now():
    """`retry` with the new definition: only what failed, mended, runs again; an unknown task is refused."""
    pipeline = Pipeline("p")
    pipeline.task(name="good")(lambda: 1)
    pipeline.task(name="bad", needs="good")(lambda: 1 / 0)
    now = Pipeline("p")
    now.task(name="good")(lambda: 2)
    now.task(name="bad", needs="good")(lambda good: good + 1)
    now.task(name="more", needs="bad")(lambda: 3)
    async with MemoryEngine() as engine:
        run = (await engine.run(pipeline)).run_id
        with pytest.raises(BadRequest, match="ask for what failed again"):
            await engine.resume(run, now, with_new_definition=True)
        with pytest.raises(BadRequest, match="no task nothing"):
            await engine.retry(run, "nothing", pipeline=now, with_new_definition=True)
        result = await (await engine.retry(run, pipeline=now, with_new_definition=True)).wait()
    assert {name: task.result for name, task in result.tasks.items()} == {"good": 1, "bad": 2, "more": 3}


async def test_an_input_that_is_missing_is_found_before_it_goes_on(tmp_path):
    """As before a start."""
    halted = Halted(folder=tmp_path)
    earlier = await halted.left()
    now = Pipeline("p", folder=tmp_path)
    now.shell("read", "cat data.csv", inputs=["data.csv"])
    async with after(earlier) as engine:
        with pytest.raises(BadPipeline, match=r"data\.csv is not there"):
            await engine.resume(halted.run, now, with_new_definition=True)


class Consumed:
    """A task that removes the file which it reads, between one above it and a failing one below."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data.csv"
        self.data.touch()

    def pipeline(self, *, mended: bool) -> Pipeline:
        """As it was, or with another body of the task that failed."""
        made = Pipeline("p", folder=self.folder, description="mended" if mended else "")
        made.task(name="top")(lambda: None)
        made.task(name="read", needs="top", inputs=["data.csv"])(self.data.unlink)
        made.task(name="last", needs="read")(lambda: 1 / int(mended))
        return made


async def test_what_a_task_has_read_may_be_gone(tmp_path):
    """A task that has succeeded reads no more, unless it is asked for again."""
    consumed = Consumed(tmp_path)
    now = consumed.pipeline(mended=True)
    async with MemoryEngine() as engine:
        run = (await engine.run(consumed.pipeline(mended=False))).run_id
        assert not consumed.data.exists()
        for tasks, downstream in ((["read"], False), (["top"], True)):
            with pytest.raises(BadPipeline, match=r"data\.csv is not there"):
                await engine.retry(run, *tasks, pipeline=now, with_new_definition=True, downstream=downstream)
        assert (await (await engine.retry(run, "last", pipeline=now, with_new_definition=True)).wait()).ok


async def test_a_run_is_resumed_although_what_was_read_is_gone(tmp_path):
    """As it is retried."""
    consumed, reached = Consumed(tmp_path), anyio.Event()
    pipeline = consumed.pipeline(mended=True)

    async def hold():
        reached.set()
        await anyio.sleep(3600)

    pipeline.task(name="held", needs="last")(hold)
    async with MemoryEngine(on_exit="detach") as engine:
        run = await engine.start(pipeline)
        await reached.wait()
    async with after(engine) as later:
        now = consumed.pipeline(mended=True)
        assert (await (await later.resume(run.id, now, with_new_definition=True)).wait()).ok


async def test_the_success_of_a_task_that_is_gone_is_remembered(tmp_path, monkeypatch):
    """Also where its run was cut off before it was merged: put back in a later run, it is fresh."""

    def pipeline(*names: str, mended: bool = True) -> Pipeline:
        made = Pipeline("p", folder=tmp_path)
        for name in names:
            made.shell(name, f"echo 1 > {name}", outputs=[name])
        made.task(name="last", needs=list(names))(lambda: 1 / int(mended))
        return made

    async def dies(*_):
        raise OSError("cut off")

    async with Engine(tmp_path / ".flowd") as engine:
        with monkeypatch.context() as death:
            death.setattr(FileCheckpoints, "merge", dies)
            run = await engine.start(pipeline("kept", "gone", mended=False))
            with pytest.raises(OSError, match="cut off"):
                await run.wait()
        handle = await engine.retry(run.id, pipeline=pipeline("kept"), with_new_definition=True)
        assert (await handle.wait()).ok
        plan = await engine.plan(pipeline("kept", "gone"))
    assert {name: one.action for name, one in plan.items()} == {"kept": "fresh", "gone": "fresh", "last": "run"}


async def test_a_run_that_goes_on_is_not_redefined(tmp_path):
    """It has to be still first."""
    halted = Halted()
    async with Engine(tmp_path / ".flowd") as engine:
        run = await engine.start(halted.pipeline)
        await halted.reached.wait()
        with pytest.raises(BadRequest, match="is going on"):
            await engine.resume(run.id, halted.of("first"), with_new_definition=True)
