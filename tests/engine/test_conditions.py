"""`when`, `trigger_rule` and `allow_failure` in runs: what is skipped and why, and what a failure does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowd import BadPipeline, BadRequest, Engine, Pipeline, Retry
from flowd.testing import MemoryEngine


@pytest.fixture
async def engine():
    """An engine that a fixture opens in one task and closes in another."""
    async with MemoryEngine() as engine:
        yield engine


async def nothing() -> None:
    """A task of no interest."""


def scored(score: object, **policies: object) -> Pipeline:
    """A task that gives `score`, and one that publishes where it is good enough."""
    made = Pipeline("scored", params={"least": 5}, limits={"press": 1})

    @made.task
    async def score_it():
        return score

    made.task(nothing, name="publish", needs="score_it", **{"when": "tasks.score_it.result > params.least", **policies})
    made.task(nothing, name="announce", needs="publish")
    made.task(nothing, name="close", needs="announce", trigger_rule="all_done")
    return made


@pytest.mark.parametrize(("score", "state"), [(7, "succeeded"), (3, "skipped")])
async def test_when_decides_and_its_values_are_recorded(engine, score, state):
    """False skips the task and what needs it, with the expression and what it was judged by; the run succeeds."""
    result = await engine.run(scored(score))
    assert result.ok
    assert [result.tasks[name].state for name in ("publish", "announce", "close")] == [state, state, "succeeded"]
    if state == "skipped":
        reason = result.tasks["publish"].reason
        assert reason.code == "when_false"
        assert reason.sentence == (
            "`when: tasks.score_it.result > params.least` is false: params.least = 5, tasks.score_it.result = 3"
        )
        assert result.tasks["announce"].reason.code == "upstream_skipped"


async def test_a_condition_that_cannot_be_computed_fails_its_task(engine):
    """The message names the key, the expression and what is wrong."""
    result = await engine.run(scored("high"))
    assert result.tasks["publish"].state == "failed"
    assert result.tasks["publish"].error.message.startswith(
        "`when`: `tasks.score_it.result > params.least` cannot be computed: "
    )
    assert result.tasks["close"].state == "succeeded"
    assert not result.ok
    assert (await engine.run(scored("high", allow_failure=True))).ok


async def test_a_large_result_is_read_for_a_condition(engine):
    """A result that lies in a file of its own is judged like any other."""
    result = await engine.run(scored(list(range(50_000)), when="len(tasks.score_it.result) < 9"))
    assert result.tasks["publish"].state == "skipped"
    assert result.tasks["publish"].reason.sentence.endswith("…")


async def test_a_task_that_is_to_be_skipped_waits_for_no_limit(engine):
    """It is skipped as soon as its needs have ended, while another task has all there is of its limit."""
    import anyio

    made, gone = scored(3, uses={"press": 1}), anyio.Event()

    @made.task(uses={"press": 1})
    async def press():
        with anyio.fail_after(5):
            await gone.wait()

    run = await engine.start(made)
    async for event in run.events():
        if (event.get("event"), event.get("task")) == ("task_skipped", "publish"):
            gone.set()
    assert (await run.wait()).ok


@pytest.mark.parametrize(
    ("allow", "ok"),
    [
        (True, True),
        ([3, 4], True),
        ([4], False),
        ("exit_code == 3", True),
        ("exit_code > params.least", False),
        ("error.type == 'CommandFailed' and tasks.top.ok", True),
        ("error.nonsense", False),
    ],
)
async def test_an_allowed_failure_is_ok_for_what_needs_it(tmp_path, allow, ok):
    """The task is failed and allowed; what needs it runs; the run succeeds with a warning. Otherwise it fails."""
    made = Pipeline("allowed", folder=tmp_path, params={"least": 5})
    made.task(nothing, name="top")
    made.shell("shaky", "exit 3", needs="top", allow_failure=allow, retry={"attempts": 2, "delay": "0s"})
    made.task(nothing, name="after", needs="shaky")
    made.task(nothing, name="cope", needs="shaky", trigger_rule="any_failed")
    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(made)
        shaky = result.document["tasks"]["shaky"]
        assert (shaky["state"], shaky["allowed"], shaky["attempts"]) == ("failed", ok, 2)
        assert result.ok is ok
        assert [result.tasks[name].state for name in ("after", "cope")] == (
            ["succeeded", "skipped"] if ok else ["upstream_failed", "succeeded"]
        )
        told = ("shaky: failed, as it may (allow_failure): CommandFailed: exit code 3",)
        assert result.warnings == (told if ok else ())
        assert (result.document["error"] is None) is ok


async def test_a_timeout_may_be_allowed(engine):
    """What `allow_failure: true` allows is every way in which the task itself fails."""
    made = Pipeline("slow")

    @made.task(timeout="10ms", allow_failure=True, retry=Retry(attempts=1))
    async def slow():
        import anyio

        await anyio.sleep(9)

    result = await engine.run(made)
    assert result.ok
    assert result.document["tasks"]["slow"]["state"] == "timed_out"


class Report:
    """Two sources, one of which a parameter turns off, and a report of what there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []

    def pipeline(self) -> Pipeline:
        """Made anew, as by a new process."""
        made = Pipeline("report", folder=self.folder, params={"extra": True})

        @made.task(outputs=["main.json"])
        def main(ctx):
            self.ran.append("main")
            ctx.outputs[0].write_text("1")

        @made.task(outputs=["extra.json"], when="params.extra")
        def extra(ctx):
            self.ran.append("extra")
            ctx.outputs[0].write_text("2")

        @made.task(needs=["main", "extra"], trigger_rule="none_failed", outputs=["report.json"])
        def report(ctx):
            self.ran.append("report")
            ctx.outputs[0].write_text(json.dumps(ctx.params["extra"]))

        return made

    async def run(self, *tasks: str, **options):
        """Run it; what ran is in `ran`."""
        self.ran.clear()
        async with Engine(self.folder / ".flowd") as engine:
            return await engine.run(self.pipeline(), *tasks, **options)

    async def plan(self, **params):
        """What a run would do."""
        async with Engine(self.folder / ".flowd") as engine:
            return {
                name: standing.action for name, standing in (await engine.plan(self.pipeline(), params=params)).items()
            }


async def test_a_skipped_need_changes_what_is_below_it_once(tmp_path):
    """With a need skipped the task below is made anew, is then fresh as it is, and again when the need comes back."""
    shop = Report(tmp_path)
    await shop.run()
    assert shop.ran == ["main", "extra", "report"]
    assert await shop.plan() == {"main": "fresh", "extra": "fresh", "report": "fresh"}
    assert await shop.plan(extra=False) == {"main": "fresh", "extra": "skip", "report": "run"}
    result = await shop.run(params={"extra": False})
    assert (shop.ran, result.tasks["extra"].state) == (["report"], "skipped")
    await shop.run(params={"extra": False})
    assert shop.ran == []
    await shop.run()
    assert shop.ran == ["report"]  # what extra left before still holds


async def test_plan_says_what_hangs_on_a_condition(tmp_path):
    """Before anything ran, what a rule or a condition decides is `if_needed`, and so is what lies below."""
    made = Pipeline("open", folder=tmp_path)
    made.task(nothing, name="top")
    made.task(nothing, name="maybe", needs="top", when="tasks.top.ok")
    made.task(nothing, name="below", needs="maybe")
    made.task(nothing, name="cope", needs="top", trigger_rule="any_failed")
    made.task(nothing, name="last", needs=["below", "cope"], trigger_rule="all_done")
    made.task(nothing, name="never", when="False")
    async with Engine(tmp_path / ".flowd") as engine:
        told = {name: (one.action, one.reason.code) for name, one in (await engine.plan(made)).items()}
    assert told == {
        "top": ("run", "not_cached"),
        "maybe": ("if_needed", "when_open"),
        "below": ("if_needed", "upstream_open"),
        "cope": ("if_needed", "rule_open"),
        "last": ("run", "not_cached"),
        "never": ("skip", "when_false"),
    }


async def test_only_is_lent_what_a_condition_refers_to(tmp_path):
    """`--only` takes the checkpoint of a task that a `when` names, though no need leads to it directly."""
    made = Pipeline("lent", folder=tmp_path)

    @made.task(cache=True)
    def top():
        return 4

    made.task(nothing, name="middle", needs="top", cache=True)
    made.task(nothing, name="last", needs="middle", when="tasks.top.result == 5")
    async with Engine(tmp_path / ".flowd") as engine:
        with pytest.raises(BadRequest, match="top has no checkpoint"):
            await engine.run(made, "last", only=True)
        await engine.run(made)
        result = await engine.run(made, "last", only=True)
    assert result.tasks["last"].reason.code == "when_false"
    assert result.tasks["top"].state == "fresh"


async def test_a_retry_judges_a_condition_anew(engine):
    """What is run again may answer otherwise; a decision that nothing touches stays as it is recorded."""
    made, well = Pipeline("again"), []
    made.task(nothing, name="no", when="False")

    @made.task
    async def flaky():
        if not well:
            raise OSError("down")

    made.task(nothing, name="cope", needs="flaky", trigger_rule="all_done", when="tasks.flaky.failed")
    made.task(nothing, name="go", needs="flaky", trigger_rule="all_done", when="tasks.flaky.ok")
    result = await engine.run(made, run_id="r")
    assert [result.tasks[name].state for name in ("no", "cope", "go")] == ["skipped", "succeeded", "skipped"]
    well.append(1)
    run = await engine.retry("r", pipeline=made)
    result = await run.wait()
    assert result.ok
    assert [result.tasks[name].state for name in ("no", "cope", "go")] == ["skipped", "succeeded", "succeeded"]
    assert result.tasks["no"].reason.code == "when_false"


def test_python_and_file_say_the_same(tmp_path):
    """The three keys, as policies of a task and in YAML."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: p\ntasks:\n  a: {run: x, allow_failure: [3]}\n"
        "  b: {run: x, needs: a, trigger_rule: all_done, when: tasks.a.ok, allow_failure: exit_code == 2}\n"
    )
    made = Pipeline("p", folder=tmp_path)
    made.shell("a", "x", allow_failure=[3])
    made.shell("b", "x", needs="a", trigger_rule="all_done", when="tasks.a.ok", allow_failure="exit_code == 2")
    assert made.spec == Pipeline.load(file).spec


def test_a_condition_names_only_what_comes_before(tmp_path):
    """Exit 2 names the need to add."""
    made = Pipeline("p", folder=tmp_path)
    made.shell("a", "x")
    made.shell("b", "x", when="tasks.a.ok")
    with pytest.raises(BadPipeline, match="add a to its needs"):
        _ = made.spec
