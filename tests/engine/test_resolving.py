"""A task whose end nobody knows: it waits, and goes on by what a person says of it."""

from __future__ import annotations

import anyio
import pytest

from flowd import BadPipeline, BadRequest, Engine, Pipeline
from flowd.testing import MemoryEngine


class Charge:
    """A pipeline whose first task charges a card, and an engine that was stopped while it did."""

    def __init__(self, folder=None) -> None:
        self.charged: list[int] = []
        self.seen: list[object] = []
        self.hold = True
        self.started = anyio.Event()
        self.pipeline = Pipeline("charge", folder=folder)

        @self.pipeline.task(idempotent=False, outputs=["receipt.txt"] if folder else [])
        async def charge(ctx):
            self.charged.append(ctx.attempt)
            if self.hold:
                self.started.set()
                await anyio.sleep(3600)
            if ctx.outputs:
                ctx.outputs[0].write_text("paid")
            return {"id": 7}

        @self.pipeline.task
        async def ship(charge):
            self.seen.append(charge)

    async def interrupted(self) -> MemoryEngine:
        """An engine (closed by now) that was left while the charge was under way."""
        async with MemoryEngine(on_exit="detach") as engine:
            self.run = await engine.start(self.pipeline)
            await self.started.wait()
        self.hold = False
        return engine


def next_engine(earlier: MemoryEngine) -> MemoryEngine:
    """Another engine on what the earlier one remembers."""
    return MemoryEngine(journal=earlier.journal, results=earlier.results, checkpoints=earlier.checkpoints)


async def test_an_uncertain_task_is_never_run_again_by_itself():
    """However often the run is resumed, it waits with exit code 3 and what lies below does not start."""
    shop = Charge()
    engine = await shop.interrupted()
    for _ in range(3):
        async with next_engine(engine) as later:
            result = await (await later.resume(shop.run.id, shop.pipeline)).wait()
            assert result.state == "waiting"
            assert result.document["exit_code"] == 3
            assert result.tasks["charge"].state == "uncertain"
    assert shop.charged == [1]
    assert shop.seen == []


@pytest.mark.parametrize(
    ("verdict", "state", "charged", "seen"),
    [
        ("succeeded", "succeeded", [1], [{"id": 9}]),
        ("failed", "failed", [1], []),
        ("rerun", "succeeded", [1, 2], [{"id": 7}]),
    ],
)
async def test_a_verdict_lets_the_run_go_on(verdict, state, charged, seen):
    """Succeeded gives its result to those below, failed fails the run, rerun runs it again."""
    shop = Charge()
    engine = await shop.interrupted()
    value = {"id": 9} if verdict == "succeeded" else None
    async with next_engine(engine) as later:
        run = await later.resolve(shop.run.id, "charge", verdict, result=value, by="ann", pipeline=shop.pipeline)
        result = await run.wait()
        events = [event async for event in run.events()]
    assert result.state == state
    assert shop.charged == charged
    assert shop.seen == seen
    answers = [event for event in events if event.event == "task_resolved"]
    assert [(answer["verdict"], answer["by"]) for answer in answers] == [(verdict, "ann")]


async def test_an_answer_may_be_recorded_without_going_on():
    """With `go_on` false the verdict is durable and nothing starts until the run is resumed."""
    shop = Charge()
    engine = await shop.interrupted()
    async with next_engine(engine) as later:
        run = await later.resolve(shop.run.id, "charge", "succeeded", pipeline=shop.pipeline, go_on=False)
        result = await run.wait()
        assert result.tasks["charge"].state == "succeeded"
        assert result.tasks["ship"].state == "pending"
        assert result.state == "interrupted"
        result = await (await later.resume(shop.run.id, shop.pipeline)).wait()
        assert result.ok


async def test_an_answer_to_no_question_is_refused():
    """A task that is not uncertain, is unknown, or gets another word than the three."""
    shop = Charge()
    engine = await shop.interrupted()
    async with next_engine(engine) as later:
        for task, verdict, said in (
            ("ship", "failed", "ship of run .* is pending, not uncertain"),
            ("shop", "failed", "no task shop"),
            ("charge", "maybe", "maybe is no verdict"),
        ):
            with pytest.raises(BadRequest, match=said):
                await later.resolve(shop.run.id, task, verdict, pipeline=shop.pipeline)


async def test_retrying_it_by_name_is_an_answer_too():
    """`retry RUN TASK` is a person's word; `retry RUN` alone leaves it as it is."""
    shop = Charge()
    engine = await shop.interrupted()
    async with next_engine(engine) as later:
        result = await (await later.retry(shop.run.id, pipeline=shop.pipeline)).wait()
        assert result.state == "waiting"
        assert shop.charged == [1]
        result = await (await later.retry(shop.run.id, "charge", pipeline=shop.pipeline)).wait()
        assert result.ok
        assert shop.charged == [1, 2]


@pytest.mark.parametrize(
    ("answer", "charged", "state"),
    [
        (True, [1], "succeeded"),
        ({"done": True, "result": {"id": 5}}, [1], "succeeded"),
        ("done", [1], "succeeded"),
        (False, [1, 2], "succeeded"),
        ("not done", [1, 2], "succeeded"),
        (None, [1], "waiting"),
        ("perhaps", [1], "waiting"),
        (ConnectionError("down"), [1], "waiting"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_tasks_own_reconcile_is_asked_before_a_person(answer, charged, state, kind):
    """Done is not run again, not done is; what it cannot tell, or fails to tell, is left to a person."""
    ran, started, asked, hold = [], anyio.Event(), [], [True]
    pipeline = Pipeline("reconciled")

    def told(order: str, attempt: int):
        asked.append((order, attempt))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def by_loop(ctx, order):
        return told(order, ctx.attempt)

    def by_thread(ctx, order):
        return told(order, ctx.attempt)

    @pipeline.task(idempotent=False, reconcile=by_loop if kind == "async" else by_thread, with_={"order": "A1", "n": 1})
    async def charge(ctx, order, n):
        ran.append(ctx.attempt)
        if hold:
            started.set()
            await anyio.sleep(3600)

    async with MemoryEngine(on_exit="detach") as engine:
        run = await engine.start(pipeline)
        await started.wait()
    hold.clear()
    async with next_engine(engine) as later:
        result = await (await later.resume(run.id, pipeline)).wait()
    assert asked == [("A1", 1)]
    assert ran == charged
    assert result.state == state
    if isinstance(answer, dict):
        assert result.tasks["charge"].result == {"id": 5}


async def test_reconcile_fits_only_a_task_that_is_not_idempotent():
    """Anything else is a mistake, and so is a function whose parameters nothing is passed for."""
    pipeline = Pipeline("wrong")

    @pipeline.task(reconcile=lambda missing: True)
    async def work():
        return 1

    with pytest.raises(BadPipeline) as caught:
        pipeline.definition()
    assert {problem.code for problem in caught.value.problems} == {"unfit_key", "bad_signature"}
    assert {problem.key for problem in caught.value.problems} == {"tasks.work.reconcile"}


async def test_success_is_believed_only_with_its_outputs(tmp_path):
    """What the task declares has to be there; then it is a checkpoint like any other, and fresh in the next run."""
    shop = Charge(tmp_path)
    async with Engine(tmp_path / ".flowd", on_exit="detach") as engine:
        run = await engine.start(shop.pipeline)
        await shop.started.wait()
    shop.hold = False
    async with Engine(tmp_path / ".flowd") as engine:
        with pytest.raises(BadRequest, match=r"receipt.txt is not there; .* or resolve it as failed or rerun"):
            await engine.resolve(run.id, "charge", "succeeded", pipeline=shop.pipeline)
        (tmp_path / "receipt.txt").write_text("paid by hand")
        resolved = await engine.resolve(run.id, "charge", "succeeded", result={"id": 8}, pipeline=shop.pipeline)
        result = await resolved.wait()
        assert result.ok
        assert result.tasks["charge"].outputs == (tmp_path / "receipt.txt",)
        again = await engine.run(shop.pipeline)
    assert again.tasks["charge"].state == "fresh"
    assert shop.charged == [1]
    assert shop.seen[0] == {"id": 8}


async def test_recover_goes_on_with_all_that_is_unfinished(tmp_path):
    """Every run that nobody owns, and none that has ended."""
    (tmp_path / "steps.py").write_text("async def work(ctx):\n    await __import__('asyncio').sleep(ctx.params['s'])\n")
    (tmp_path / "p.yaml").write_text(
        "name: p\nparams: {s: 0.0}\ntasks: {a: {call: 'steps:work'}, b: {needs: a, run: 'true'}}\n"
    )
    pipeline = Pipeline.load(tmp_path / "p.yaml")
    async with Engine(tmp_path / ".flowd", on_exit="detach") as engine:
        done = await engine.run(pipeline)
        left = [await engine.start(pipeline, params={"s": 0.2}) for _ in range(2)]
    async with Engine(tmp_path / ".flowd") as engine:
        adopted = await engine.recover()
        assert {run.id for run in adopted} == {run.id for run in left}
        assert all([(await run.wait()).ok for run in adopted])
        assert {run.id for run in engine.runs()} == {done.run_id, *(run.id for run in left)}
        assert await engine.recover() == []
