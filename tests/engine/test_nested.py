"""Pipelines that are tasks of others: each a run of its own, which begins, waits, goes on and ends with that one."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from flowd import BadPipeline, Engine, Pipeline, Retry
from flowd.testing import MemoryEngine

pytestmark = pytest.mark.anyio


def doubling(**more) -> Pipeline:
    """A pipeline that doubles its parameter."""
    made = Pipeline(
        "doubling", params={"n": {"type": "int", "required": True}}, result="{{ tasks.double.result }}", **more
    )

    @made.task
    async def double(ctx):
        return ctx.params["n"] * 2

    return made


def around(inner: Pipeline, **policies) -> Pipeline:
    """A task that gives a number, the pipeline that is given it, and one that takes what that gives."""
    made = Pipeline("outer")

    @made.task
    async def number():
        return 21

    made.include("inner", inner, needs=number, **{"with_": {"n": "{{ tasks.number.result }}"}, **policies})

    @made.task
    async def after(inner):
        return inner

    return made


async def test_its_result_is_the_tasks_and_it_has_a_run_of_its_own():
    """With what it is given as its parameters, and where it comes from as its trigger."""
    async with MemoryEngine() as engine:
        result = await engine.run(around(doubling()))
        assert result.tasks["after"].result == 42
        child = result.document["tasks"]["inner"]["child"]
        assert child == f"{result.run_id}+inner"
        inner = await (await engine.get(child)).snapshot()
    assert inner["params"] == {"n": 21}
    assert inner["state"] == "succeeded"
    assert inner["trigger"] == {"kind": "pipeline", "run": result.run_id, "task": "inner", "origin": "hand"}


async def test_without_a_result_it_gives_nothing():
    """As any task that returns nothing."""
    inner = Pipeline("quiet")
    inner.task(name="only")(lambda: 1)
    made = Pipeline("outer")
    made.include("inner", inner)
    async with MemoryEngine() as engine:
        result = await engine.run(made)
    assert result.ok
    assert result.tasks["inner"].result is None


@pytest.mark.parametrize(("most", "slots"), [(1, 1), (1, 8), (2, 2), (2, 8)])
async def test_the_outer_bound_holds_for_the_inner_tasks_and_the_outer_task_holds_no_slot(most, slots):
    """Also where the engine itself has no more slots: the pipeline deep inside still runs."""
    running, peak = 0, 0

    async def work():
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.sleep(0.01)
        running -= 1

    def wide(name: str) -> Pipeline:
        made = Pipeline(name)
        for number in range(4):
            made.task(name=f"t{number}")(work)
        return made

    middle = wide("middle")
    middle.include("deep", wide("deep"))
    made = Pipeline("outer", max_concurrency=most)
    made.include("middle", middle)
    made.task(name="beside")(work)
    async with MemoryEngine(max_concurrency=slots) as engine:
        result = await engine.run(made)
        assert peak == most
        after = await engine.run(wide("again"))
    assert result.ok
    assert after.ok
    assert peak <= max(most, slots)


async def test_what_failed_inside_fails_the_task_and_is_named():
    """With the run to look at; a retry runs again inside only what had not ended well."""
    calls = []
    inner = Pipeline("inner")

    @inner.task
    async def good():
        calls.append("good")

    @inner.task(needs="good")
    async def bad():
        calls.append("bad")
        if len(calls) < 3:
            raise ValueError("NaN in price")

    made = Pipeline("outer")
    made.include("inner", inner)
    async with MemoryEngine() as engine:
        result = await engine.run(made)
        assert result.state == "failed"
        error = result.tasks["inner"].error
        assert (error.type, error.message) == (
            "PipelineFailed",
            f"bad failed: ValueError: NaN in price; flowd show {result.run_id}+inner",
        )
        again = await (await engine.retry(result.run_id, pipeline=made)).wait()
    assert again.ok
    assert calls == ["good", "bad", "bad"]
    assert again.document["tasks"]["inner"]["child"] == f"{result.run_id}+inner"


async def test_its_own_retry_policy_goes_on_with_the_same_run():
    """Each further attempt of the task is a retry of what failed inside."""
    calls = []
    inner = Pipeline("inner")

    @inner.task
    async def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise OSError("reset")

    made = Pipeline("outer")
    made.include("inner", inner, retry=Retry(attempts=3, delay="1ms"))
    async with MemoryEngine() as engine:
        result = await engine.run(made)
    assert result.ok
    assert result.tasks["inner"].attempts == 3


async def test_asked_for_again_it_gets_another_run():
    """What it gave before stands under the run before."""
    async with MemoryEngine() as engine:
        made = around(doubling())
        result = await engine.run(made)
        again = await (await engine.retry(result.run_id, "inner", pipeline=made)).wait()
    assert again.document["tasks"]["inner"]["child"] == f"{result.run_id}+inner+2"


async def test_a_wrong_parameter_fails_the_task():
    """What is known only in the run is judged there."""
    made = Pipeline("outer", params={"n": "many"})
    made.include("inner", doubling(), with_={"n": "{{ params.n }}"})
    async with MemoryEngine() as engine:
        result = await engine.run(made)
    assert result.tasks["inner"].error.type == "BadParameters"


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_it_is_cancelled_with_its_task(how):
    """By a cancel of the outer run, or by the task's own timeout."""
    begun = anyio.Event()
    inner = Pipeline("inner")

    @inner.task
    async def long():
        begun.set()
        await anyio.sleep_forever()

    made = Pipeline("outer")
    made.include("inner", inner, timeout="50ms" if how == "timeout" else None)
    async with MemoryEngine() as engine:
        run = await engine.start(made)
        await begun.wait()
        if how == "cancel":
            await run.cancel("enough")
        result = await run.wait()
        child = await (await engine.get(f"{run.id}+inner")).snapshot()
    assert result.tasks["inner"].state == {"cancel": "cancelled", "timeout": "timed_out"}[how]
    assert child["state"] == "cancelled"


async def test_a_pause_crosses_the_boundary_and_so_does_going_on():
    """What runs goes on to its end, nothing new starts, inside as outside."""
    begun, gate, calls = anyio.Event(), anyio.Event(), []
    inner = Pipeline("inner")

    @inner.task
    async def first():
        begun.set()
        await gate.wait()

    @inner.task(needs="first")
    async def second():
        calls.append("second")

    made = Pipeline("outer")
    made.include("inner", inner)
    async with MemoryEngine() as engine:
        run = await engine.start(made)
        await begun.wait()
        await run.pause()
        gate.set()
        paused = await run.wait()
        child = await (await engine.get(f"{run.id}+inner")).snapshot()
        assert (paused.state, child["state"], calls) == ("paused", "paused", [])
        assert child["tasks"]["first"]["state"] == "succeeded"
        await run.resume()
        result = await run.wait()
    assert result.ok
    assert calls == ["second"]
    assert result.document["tasks"]["inner"]["child"] == child["run"]


def asking() -> Pipeline:
    """A pipeline that asks, and goes on."""
    made = Pipeline("asking", result="{{ tasks.sign.result.comment }}")
    made.approve("sign", "Deploy?")
    return made


@pytest.mark.parametrize("patient", [False, True])
async def test_a_question_inside_makes_the_task_wait(patient):
    """With the exact command; once it is answered, the outer run goes on, by itself where its engine is patient."""
    made = Pipeline("outer")
    made.include("inner", asking())

    @made.task
    async def after(inner):
        return inner

    async with MemoryEngine(patient=patient) as engine:
        run = await engine.start(made)
        child = f"{run.id}+inner"
        async for event in run.events():
            if event["event"] == "task_deferred":
                assert event["commands"] == [f"flowd approve {child} sign", f"flowd resume {run.id}"]
                break
        if not patient:
            assert (await run.wait()).state == "waiting"
        await engine.approve(child, "sign", comment="go")
        if not patient:
            await (await engine.get(child)).wait()
            run = await engine.resume(run.id, made)
        result = await run.wait()
    assert result.ok
    assert result.tasks["after"].result == "go"


async def test_what_is_uncertain_inside_makes_the_task_wait(tmp_path):
    """An interrupted attempt of a task that is not idempotent is a person's affair, inside as outside."""
    begun = anyio.Event()
    inner = Pipeline("inner", folder=tmp_path)

    @inner.task(idempotent=False)
    async def train():
        begun.set()
        await anyio.sleep_forever()

    made = Pipeline("outer", folder=tmp_path)
    made.include("inner", inner)
    async with Engine(tmp_path / ".flowd", on_exit="detach") as engine:
        run = await engine.start(made)
        await begun.wait()
    async with Engine(tmp_path / ".flowd") as engine:
        again = await (await engine.resume(run.id, made)).wait()
        assert again.state == "waiting"
        commands = again.document["tasks"]["inner"]["reason"]["sentence"]
        assert commands == f"its run {run.id}+inner waits for a person"
        await (await engine.resolve(f"{run.id}+inner", "train", "succeeded", pipeline=inner)).wait()
        result = await (await engine.resume(run.id, made)).wait()
    assert result.ok


async def test_a_detached_run_goes_on_inside_with_what_is_left(tmp_path):
    """What had ended inside is not run again."""
    calls, begun = [], anyio.Event()
    inner = Pipeline("inner", folder=tmp_path)

    @inner.task
    async def first():
        calls.append("first")

    @inner.task(needs="first")
    async def second():
        calls.append("second")
        begun.set()
        if calls.count("second") == 1:
            await anyio.sleep_forever()

    made = Pipeline("outer", folder=tmp_path)
    made.include("inner", inner)
    async with Engine(tmp_path / ".flowd", on_exit="detach") as engine:
        run = await engine.start(made)
        await begun.wait()
    async with Engine(tmp_path / ".flowd") as engine:
        result = await (await engine.resume(run.id, made)).wait()
    assert result.ok
    assert calls == ["first", "second", "second"]


async def test_it_is_fresh_where_all_its_tasks_are(tmp_path: Path):
    """It has no run then; a file of its that was changed makes it run, and what reads its files needs it."""
    (tmp_path / "in.txt").write_text("1")
    inner = Pipeline("inner", folder=tmp_path, result="{{ tasks.copy.result }}")

    @inner.task(inputs=["in.txt"], outputs=["out.txt"])
    def copy(ctx):
        ctx.outputs[0].write_text(ctx.inputs[0].read_text())
        return ctx.inputs[0].read_text()

    made = Pipeline("outer", folder=tmp_path)
    made.include("inner", inner)
    made.shell("read", "cat {{ inputs }} > {{ outputs }}", inputs=["out.txt"], outputs=["read.txt"])
    assert made.spec.tasks[1].needs == ("inner",)
    async with Engine(tmp_path / ".flowd") as engine:
        first = await engine.run(made)
        assert (await engine.plan(made))["inner"].action == "fresh"
        second = await engine.run(made)
        (tmp_path / "in.txt").write_text("2")
        planned = (await engine.plan(made))["inner"]
        assert (planned.action, planned.reason.code) == ("run", "tasks_stale")
        third = await engine.run(made)
    assert [r.tasks["inner"].state for r in (first, second, third)] == ["succeeded", "fresh", "succeeded"]
    assert [r.tasks["inner"].result for r in (first, second, third)] == ["1", "1", "2"]
    assert second.document["tasks"]["inner"]["child"] is None
    assert second.tasks["read"].state == "fresh"
    assert (tmp_path / "read.txt").read_text() == "2"


async def test_one_for_each_item_of_a_list():
    """Each item has a run; the result is the list."""
    made = Pipeline("outer")
    made.include("each", doubling(), foreach=[1, 2, 3], with_={"n": "{{ item }}"})
    async with MemoryEngine() as engine:
        result = await engine.run(made)
        runs = [run.id for run in engine.runs()]
    assert result.tasks["each"].result == [2, 4, 6]
    assert len(runs) == 4


async def test_partial_inside_is_partial_outside():
    """And what needs it goes on."""
    inner = Pipeline("inner")

    @inner.task(foreach={"over": [1, 2], "min_success": 0.5})
    async def each(item):
        if item == 2:
            raise ValueError("no")

    made = Pipeline("outer")
    made.include("inner", inner)
    made.task(name="after", needs="inner")(lambda: 1)
    async with MemoryEngine() as engine:
        result = await engine.run(made)
    assert result.state == "partial"
    assert [result.tasks[name].state for name in ("inner", "after")] == ["partial", "succeeded"]


# --- what is refused ------------------------------------------------------------------------------------


def write(folder: Path, name: str, text: str) -> Path:
    """A pipeline's file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


INNER = "name: inner\nparams: {n: {type: int, required: true}}\ntasks: {t: {run: 'true'}}\n"


@pytest.mark.parametrize(
    ("task", "code", "said"),
    [
        ("{pipeline: gone.yaml}", "no_file", "there is no file `gone.yaml`"),
        ("{pipeline: nobody}", "no_pipeline", "there is no pipeline `nobody`"),
        ("{pipeline: 'in ner'}", "bad_value", "names no pipeline"),
        ("{pipeline: inner.yaml}", "missing_param", "needs the parameter `n`"),
        ("{pipeline: inner.yaml, with: {n: 1, m: 2}}", "unknown_param", "has no parameter `m`"),
        ("{pipeline: inner.yaml, with: {n: many}}", "bad_param", "n"),
        ("{pipeline: inner.yaml, with: {n: 1}, idempotent: false}", "unfit_key", "`idempotent` has no meaning"),
        ("{pipeline: inner.yaml, with: {n: 1}, uses: {cpu: 1}}", "unfit_key", "`uses` has no meaning"),
        ("{pipeline: inner.yaml, with: {n: '{{ secrets.S }}'}}", "secret_misplaced", "what a pipeline is given"),
        ("{pipeline: '{{ params.x }}'}", "bad_placement", "cannot stand in `pipeline`"),
        ("{pipeline: inner.yaml, run: 'true'}", "two_actions", "one action"),
    ],
)
def test_what_is_refused(tmp_path, task, code, said):
    """Before anything runs, at the place where it stands."""
    write(tmp_path, "inner.yaml", INNER)
    path = write(tmp_path, "outer.yaml", f"name: outer\nsecrets: {{S: {{env: S}}}}\ntasks:\n  x: {task}\n")
    with pytest.raises(BadPipeline) as refused:
        Pipeline.load(path)
    found = {problem.code: problem for problem in refused.value.problems}
    assert code in found
    assert said in found[code].message
    assert found[code].line == 4


def test_what_is_wrong_inside_is_told_at_its_own_place(tmp_path):
    """File and line are those of the inner pipeline."""
    write(tmp_path, "sub/inner.yaml", "name: inner\ntasks:\n  t: {run: 'true', need: x}\n")
    path = write(tmp_path, "outer.yaml", "name: outer\ntasks: {x: {pipeline: sub/inner.yaml}}\n")
    with pytest.raises(BadPipeline) as refused:
        Pipeline.load(path)
    (problem,) = refused.value.problems
    assert (Path(problem.file).name, problem.line, problem.code) == ("inner.yaml", 3, "unknown_key")


def test_a_cycle_is_refused_with_its_path(tmp_path):
    """However the files name each other, and in Python too."""
    path = write(tmp_path, "a.yaml", "name: a\ntasks: {x: {pipeline: sub/b.yaml}}\n")
    write(tmp_path, "sub/b.yaml", "name: b\ntasks: {x: {pipeline: ../a.yaml}}\n")
    with pytest.raises(BadPipeline, match=r"a cycle of pipelines: a.yaml → b.yaml → a.yaml"):
        Pipeline.load(path)
    first, second = Pipeline("first"), Pipeline("second")
    first.include("x", second)
    second.include("x", first)
    with pytest.raises(BadPipeline, match=r"a cycle of pipelines: first → second → first"):
        first.definition()


def test_pipelines_that_lie_too_deep_are_refused():
    """With the way down."""
    inner = Pipeline("p0")
    inner.task(name="t")(lambda: 1)
    for number in range(1, 9):
        outer = Pipeline(f"p{number}")
        outer.include("x", inner)
        inner = outer
    with pytest.raises(BadPipeline, match=r"pipelines are 9 deep: p8 → p7 → .* → p0"):
        inner.definition()


def test_a_pipeline_is_found_by_its_name(tmp_path):
    """In the folder, or beside it."""
    write(tmp_path, "b/pipeline.yaml", "name: inner\ntasks: {t: {run: 'true'}}\n")
    path = write(tmp_path, "a/pipeline.yaml", "name: outer\ntasks: {x: {pipeline: inner}}\n")
    assert Pipeline.load(path).spec.tasks[0].action.definition.folder == str(tmp_path / "b")
