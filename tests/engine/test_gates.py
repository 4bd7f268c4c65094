"""Gates of a task: what fails by one is no success, is not tried again, and is never fresh."""

from __future__ import annotations

import pytest

from flowd import BadPipeline, Engine, Pipeline, Retry
from flowd.testing import MemoryEngine


class Model:
    """A pipeline whose task measures what it is told, behind a gate; and how often it ran."""

    def __init__(self, folder, gate, **policies) -> None:
        self.folder, self.gate, self.policies = folder, gate, policies
        self.ran: list[str] = []
        self.r2, self.written = 0.3, "model"

    def pipeline(self) -> Pipeline:
        """The pipeline, made anew as a new process would."""
        made = Pipeline("model", folder=self.folder, params={"min_r2": 0.2})

        @made.task(outputs=["model.txt"], gate=self.gate, **self.policies)
        async def fit(ctx):
            self.ran.append("fit")
            ctx.metric("r2", self.r2)
            ctx.outputs[0].write_text(self.written)
            return {"rows": 10, "r2": self.r2}

        @made.task
        async def ship(fit):
            self.ran.append("ship")

        return made

    async def run(self, **params):
        """One run in an engine of its own; `ran` is what ran in it."""
        self.ran.clear()
        async with Engine(self.folder / ".flowd") as engine:
            return await engine.run(self.pipeline(), params=params)


async def test_a_failed_gate_fails_its_task_and_blocks_what_is_below(tmp_path):
    """With its reason in words, its metrics kept, and no further try though a retry is there."""
    model = Model(tmp_path, ["metrics.r2 >= params.min_r2"], retry=Retry(attempts=3, delay="0s"))
    model.r2 = 0.12
    result = await model.run()
    fit = result.tasks["fit"]
    assert (result.state, fit.state, result.tasks["ship"].state) == ("failed", "failed", "upstream_failed")
    assert fit.reason.code == "gate_failed"
    assert fit.reason.sentence == "gate metrics.r2 >= params.min_r2: 0.12 is under 0.2, by 0.08"
    assert (fit.error.type, fit.metrics, fit.outputs, fit.result) == ("GateFailed", {"r2": 0.12}, (), None)
    assert model.ran == ["fit"]


async def test_a_retry_may_speak_of_gates(tmp_path):
    """Where `on` names it, another try may pass."""
    model = Model(tmp_path, ["metrics.r2 >= 0.25"], retry=Retry(attempts=3, delay="0s", on=["GateFailed"]))
    model.r2 = 0.1
    result = await model.run()
    assert (result.state, model.ran) == ("failed", ["fit", "fit", "fit"])


async def test_what_failed_a_gate_is_never_fresh(tmp_path):
    """Neither by itself nor by an earlier success of the same content: it was refused since."""
    model = Model(tmp_path, ["metrics.r2 >= params.min_r2"])
    assert (await model.run()).ok
    assert (await model.run()).tasks["fit"].state == "fresh"
    failed = await model.run(min_r2=0.5)
    assert failed.tasks["fit"].reason.code == "gate_failed"
    assert model.ran == ["fit"]
    again = await model.run()  # the same file, and the gate of the first success
    assert again.tasks["fit"].state == "succeeded"
    assert model.ran == ["fit", "ship"]


async def test_a_refusal_survives_the_loss_of_the_summary(tmp_path):
    """The checkpoints are made anew from the journals, and what was refused stays so."""
    model = Model(tmp_path, ["metrics.r2 >= params.min_r2"])
    await model.run()
    await model.run(min_r2=0.5)
    for kept in (tmp_path / ".flowd" / "pipelines").glob("*/checkpoints.json"):
        kept.write_bytes(b"damaged\n")
    async with Engine(tmp_path / ".flowd") as engine:
        plan = await engine.plan(model.pipeline())
    assert (plan["fit"].action, plan["fit"].reason.code) == ("run", "gate_failed")


@pytest.mark.parametrize(
    ("gate", "min_r2", "fresh"),
    [
        (["metrics.r2 >= params.min_r2"], 0.25, True),
        (["metrics.r2 >= params.min_r2"], 0.35, False),
        (["result.rows > 5", "len(outputs) == 1"], 0.2, True),
        (["result.rows > 50"], 0.2, False),
        (["metrics.f1 > 0.5"], 0.2, False),
    ],
)
async def test_gates_are_judged_anew_by_what_is_recorded(tmp_path, gate, min_r2, fresh):
    """A gate or a parameter that changed runs a task again only where what is recorded does not pass."""
    model = Model(tmp_path, [])
    await model.run()
    model.gate = gate
    async with Engine(tmp_path / ".flowd") as engine:
        plan = await engine.plan(model.pipeline(), params={"min_r2": min_r2})
    assert (plan["fit"].action, plan["fit"].reason.code) == (("fresh", "fresh") if fresh else ("run", "gate_failed"))


async def test_a_warning_is_told_and_fails_nothing(tmp_path):
    """In `warnings`, of the run that made it and of each that finds it fresh."""
    model = Model(tmp_path, [{"check": "metrics.r2 > 0.5", "severity": "warn", "name": "strength"}])
    for state in ("succeeded", "fresh"):
        result = await model.run()
        assert (result.ok, result.tasks["fit"].state) == (True, state)
        assert result.warnings == ("fit: gate_warning: gate strength: metrics.r2 > 0.5: 0.3 is not over 0.5, by 0.2",)


async def test_a_run_that_goes_on_judges_no_gate_twice():
    """What succeeded stays so, whatever its gate would say now."""
    bound, seen = [0.1], []
    pipeline = Pipeline("judged")

    @pipeline.task
    async def first(ctx):
        ctx.metric("m", 1)

    @pipeline.task(gate=["metrics.n > 1", "tasks.first.metrics.m == 1"])
    async def second(ctx, first):
        seen.append("second")
        ctx.metric("n", bound[0] + 1)

    @pipeline.task(needs=["second"])
    async def third():
        seen.append("third")
        if bound[0] > 0:
            raise ValueError("not yet")

    async with MemoryEngine() as engine:
        run = await engine.start(pipeline)
        assert not (await run.wait()).ok
        bound[0] = -1.0
        result = await (await engine.retry(run.id, pipeline=pipeline)).wait()
    assert result.ok
    assert seen == ["second", "third", "third"]


@pytest.mark.parametrize(
    ("gate", "key", "said"),
    [
        (["metrics.r2 >="], "tasks.fit.gate[0]", "is no expression"),
        (["{{ metrics.r2 > 1 }}"], "tasks.fit.gate[0]", "without `{{ }}`"),
        (["metric.r2 > 1"], "tasks.fit.gate[0]", "did you mean `metrics`"),
        (["params.min_r3 > 1"], "tasks.fit.gate[0]", "`params`: `min_r3` is not known here"),
        (["tasks.ship.ok"], "tasks.fit.gate[0]", "is not upstream"),
        ([{"check": "open('x')"}], "tasks.fit.gate[0].check", "`open` cannot be called"),
        ([{"check": "True", "severity": "fatal"}], "tasks.fit.gate[0].severity", "none of"),
        ([{"severity": "warn"}], "tasks.fit.gate[0]", "needs the key `check`"),
        ([{"check": "True", "why": ""}], "tasks.fit.gate[0].why", "is no key of a gate"),
        ("metrics.r2 > 1", "tasks.fit.gate", "a list is expected"),
        ([1], "tasks.fit.gate[0]", "a text is expected"),
    ],
)
def test_gates_that_are_refused(tmp_path, gate, key, said):
    """Before anything runs, each with its place."""
    with pytest.raises(BadPipeline) as caught:
        Model(tmp_path, gate).pipeline().definition()
    problem = caught.value.problems[0]
    assert problem.key == key
    assert said in str(problem)
