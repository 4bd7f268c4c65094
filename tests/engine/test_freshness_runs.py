"""What a second run does: fresh tasks are not run again, and only what a change reaches is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowd import BadPipeline, BadRequest, Engine, Pipeline


class Shop:
    """A pipeline over files: raw.csv → clean.json → model.json → report.txt, and what ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.fudge = 0
        (folder / "raw.csv").write_text("1\n2\n3\n")

    def pipeline(self, **options) -> Pipeline:
        """The pipeline, made anew as a new process would."""
        made = Pipeline("shop", folder=self.folder, params={"scale": 1}, **options)

        @made.task(inputs=["raw.csv"], outputs=["clean.json"])
        def clean(ctx):
            self.ran.append("clean")
            rows = [int(line) for line in ctx.inputs[0].read_text().split()]
            ctx.outputs[0].write_text(json.dumps(sorted(rows)))

        @made.task(inputs=["clean.json"], outputs=["model.json"], with_={"scale": "{{ params.scale }}"})
        def fit(ctx, scale):
            self.ran.append("fit")
            rows = json.loads(ctx.inputs[0].read_text())
            ctx.outputs[0].write_text(json.dumps({"mean": scale * sum(rows) / len(rows) + self.fudge}))
            return {"rows": len(rows)}

        @made.task(inputs=["model.json"], outputs=["report.txt"])
        def report(ctx):
            self.ran.append("report")
            ctx.outputs[0].write_text(f"mean {json.loads(ctx.inputs[0].read_text())['mean']}\n")

        return made

    async def run(self, *tasks: str, **options):
        """Run it in an engine of its own; what ran since the last call is in `ran`."""
        self.ran.clear()
        async with Engine(self.folder / ".flowd") as engine:
            return await engine.run(self.pipeline(), *tasks, **options)

    async def plan(self, **options) -> dict[str, tuple[str, str]]:
        """What a run would do, as (action, reason code)."""
        async with Engine(self.folder / ".flowd") as engine:
            standings = await engine.plan(self.pipeline(), **options)
        return {name: (standing.action, standing.reason.code) for name, standing in standings.items()}


@pytest.fixture
def shop(tmp_path):
    """The shop in a folder of its own."""
    return Shop(tmp_path)


async def test_a_second_run_finds_everything_fresh(shop):
    """Nothing changed, nothing runs, and results and outputs are there as before."""
    first = await shop.run()
    assert shop.ran == ["clean", "fit", "report"]
    second = await shop.run()
    assert shop.ran == []
    assert second.counts == {"fresh": 3}
    assert second.tasks["fit"].result == {"rows": 3}
    assert second.document["tasks"]["fit"]["source"] == first.run_id
    assert second.tasks["report"].outputs == (shop.folder / "report.txt",)


async def test_an_implied_need_orders_tasks(shop):
    """An input that another task writes makes it a need, though `needs` does not say so."""
    needs = {task.name: task.needs for task in shop.pipeline().spec.tasks}
    assert needs == {"clean": (), "fit": ("clean",), "report": ("fit",)}


async def test_a_change_spreads_only_as_far_as_it_matters(shop):
    """Other rows run everything; the same rows in another order stop at the clean file."""
    await shop.run()
    (shop.folder / "raw.csv").write_text("1\n2\n6\n")
    await shop.run()
    assert shop.ran == ["clean", "fit", "report"]
    (shop.folder / "raw.csv").write_text("6\n2\n1\n")
    result = await shop.run()
    assert shop.ran == ["clean"]
    assert result.tasks["fit"].state == result.tasks["report"].state == "fresh"


async def test_touching_a_file_without_changing_it_changes_nothing(shop):
    """Content counts, not time."""
    await shop.run()
    (shop.folder / "raw.csv").write_text("1\n2\n3\n")
    await shop.run()
    assert shop.ran == []


async def test_an_output_that_is_gone_or_edited_is_made_again(shop):
    """A missing or altered output makes its task run; what it gives is the same, so nothing below does."""
    await shop.run()
    (shop.folder / "model.json").unlink()
    assert (await shop.plan())["fit"] == ("run", "output_missing")
    await shop.run()
    assert shop.ran == ["fit"]
    (shop.folder / "report.txt").write_text("edited")
    assert (await shop.plan())["report"] == ("run", "output_changed")
    await shop.run()
    assert shop.ran == ["report"]


async def test_a_parameter_reaches_only_those_that_use_it(shop):
    """Another value makes the task that takes it run, and what lies below by its product."""
    await shop.run()
    assert await shop.plan(params={"scale": 2}) == {
        "clean": ("fresh", "fresh"),
        "fit": ("run", "with_changed"),
        "report": ("if_needed", "upstream_may_change"),
    }
    await shop.run(params={"scale": 2})
    assert shop.ran == ["fit", "report"]


async def test_force_runs_what_it_names_whatever_is_recorded(shop):
    """`force` runs all; `force_tasks` runs those, and below them only what changes."""
    await shop.run()
    await shop.run(force=True)
    assert shop.ran == ["clean", "fit", "report"]
    await shop.run(force_tasks=["fit"])
    assert shop.ran == ["fit"]


async def test_only_runs_one_task_on_what_is_there(shop):
    """The needs' newest checkpoints stand in for them; without one it is refused."""
    with pytest.raises(BadRequest, match="fit has no checkpoint"):
        await shop.run("report", only=True)
    await shop.run()
    (shop.folder / "raw.csv").write_text("9\n")
    (shop.folder / "report.txt").unlink()
    result = await shop.run("report", only=True)
    assert shop.ran == ["report"]
    assert result.ok


async def test_a_missing_input_is_refused_before_anything_starts(shop):
    """`input_missing` names the task and the path, and no run is made."""
    (shop.folder / "raw.csv").unlink()
    with pytest.raises(BadPipeline) as caught:
        await shop.run()
    assert [problem.code for problem in caught.value.problems] == ["input_missing"]
    assert shop.ran == []
    assert not list((shop.folder / ".flowd" / "runs").glob("*"))


async def test_a_missing_output_fails_the_task(tmp_path):
    """A task that does not write what it declares has not succeeded."""
    pipeline = Pipeline("lazy", folder=tmp_path)

    @pipeline.task(outputs=["never.txt"])
    def lazy():
        return 1

    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(pipeline)
    assert result.tasks["lazy"].state == "failed"
    assert "never.txt" in result.tasks["lazy"].error.message


async def test_a_file_that_its_task_rewrites_is_fresh_until_another_hand_edits_it(tmp_path):
    """An in-place update makes nothing stale for ever, and may be absent at first."""
    ran = []

    def pipeline() -> Pipeline:
        made = Pipeline("inplace", folder=tmp_path)

        @made.task(inputs=["model.txt"], outputs=["model.txt"])
        def update(ctx):
            ran.append("update")
            path = ctx.outputs[0]
            path.write_text((path.read_text() if path.exists() else "") + "x")

        return made

    async def run() -> str:
        async with Engine(tmp_path / ".flowd") as engine:
            return (await engine.run(pipeline())).tasks["update"].state

    assert [await run(), await run(), await run()] == ["succeeded", "fresh", "fresh"]
    (tmp_path / "model.txt").write_text("edited")
    assert [await run(), await run()] == ["succeeded", "fresh"]
    assert (tmp_path / "model.txt").read_text() == "editedx"


async def test_two_writers_of_one_file_are_both_fresh(tmp_path):
    """Train, then save in place: an edge orders them, and the last one's record counts."""
    ran = []
    (tmp_path / "data.txt").write_text("1")

    def pipeline() -> Pipeline:
        made = Pipeline("writers", folder=tmp_path)

        @made.task(inputs=["data.txt"], outputs=["model.txt"])
        def train(ctx):
            ran.append("train")
            ctx.outputs[0].write_text("weights of " + ctx.inputs[0].read_text())

        @made.task(needs=["train"], inputs=["model.txt"], outputs=["model.txt"])
        def save(ctx):
            ran.append("save")
            ctx.outputs[0].write_text(ctx.inputs[0].read_text() + ", saved")

        @made.task(needs=["save"], inputs=["model.txt"], outputs=["served.txt"])
        def serve(ctx):
            ran.append("serve")
            ctx.outputs[0].write_text(ctx.inputs[0].read_text())

        return made

    async def run() -> list[str]:
        ran.clear()
        async with Engine(tmp_path / ".flowd") as engine:
            assert (await engine.run(pipeline())).ok
        return list(ran)

    assert await run() == ["train", "save", "serve"]
    assert await run() == []
    (tmp_path / "data.txt").write_text("2")
    assert await run() == ["train", "save", "serve"]
    assert await run() == []
    (tmp_path / "model.txt").write_text("by hand")
    assert await run() == ["train", "save"]
    assert await run() == []


async def test_an_expired_checkpoint_does_not_count(tmp_path):
    """`fresh_for` bounds the age of what is trusted."""
    from datetime import UTC, datetime

    from flowd.testing import FakeClock

    clock, ran = FakeClock(datetime(2026, 1, 1, tzinfo=UTC)), []

    async def run() -> None:
        pipeline = Pipeline("aging", folder=tmp_path)

        @pipeline.task(outputs=["out.txt"], fresh_for="1h")
        def fetch(ctx):
            ran.append(1)
            ctx.outputs[0].write_text("x")

        async with Engine(tmp_path / ".flowd", clock=clock) as engine:
            assert (await engine.run(pipeline)).ok

    await run()
    clock.advance(3599)
    await run()
    assert len(ran) == 1
    clock.advance(2)
    await run()
    assert len(ran) == 2


async def test_an_output_that_was_not_rewritten_counts_and_is_marked(tmp_path):
    """A declared output that was there before and was left alone is `unchanged`."""
    (tmp_path / "there.txt").write_text("old")
    pipeline = Pipeline("lazy", folder=tmp_path)

    @pipeline.task(outputs=["there.txt"])
    def lazy():
        return None

    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(pipeline)
    assert result.ok
    assert result.document["tasks"]["lazy"]["outputs"][0]["unchanged"] is True


async def test_a_parameter_read_through_ctx_is_part_of_the_fingerprint(tmp_path):
    """Only the parameters that the task really read make it stale."""
    ran = []

    async def run(**params) -> None:
        pipeline = Pipeline("reads", folder=tmp_path, params={"used": 1, "unused": 1})

        @pipeline.task(outputs=["out.txt"])
        def work(ctx):
            ran.append(ctx.params["used"])
            ctx.outputs[0].write_text(str(ctx.params["used"]))

        async with Engine(tmp_path / ".flowd") as engine:
            assert (await engine.run(pipeline, params=params)).ok

    await run()
    await run(unused=2)
    assert ran == [1]
    await run(used=2)
    assert ran == [1, 2]
