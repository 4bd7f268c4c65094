"""A person's answer: asked once, kept for days, believed only for what was shown, and acted on once."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from flowd import BadParameters, BadPipeline, BadRequest, Engine, Pipeline
from flowd.testing import FakeClock, MemoryEngine


class Report:
    """measure → publish (held by a question about what was measured), and sign → ship; and what ran."""

    def __init__(self, folder, **asks) -> None:
        self.folder, self.asks = folder, asks
        self.ran: list[object] = []
        self.said = "good"

    def pipeline(self) -> Pipeline:
        """The pipeline, made anew as a new process would."""
        made = Pipeline("report", folder=self.folder)

        @made.task(outputs=["m.txt"])
        async def measure(ctx):
            ctx.metric("r2", 0.31)
            ctx.outputs[0].write_text(self.said)

        asks = {"message": "R2 is {{ tasks.measure.metrics.r2 }}: publish?", "show": ["m.txt"], **self.asks}

        @made.task(needs=["measure"], approve=asks, with_={"note": "{{ approval.comment }} by {{ approval.by }}"})
        async def publish(note):
            self.ran.append(note)

        return made

    def engine(self, **options) -> Engine:
        """An engine of its own."""
        return Engine(self.folder / ".flowd", **options)


@pytest.fixture
def report(tmp_path):
    """The report in a folder of its own."""
    return Report(tmp_path)


async def waiting(report: Report) -> str:
    """A run of it that waits for its answer; nobody owns it any more."""
    async with report.engine() as engine:
        result = await engine.run(report.pipeline())
    assert (result.state, result.document["exit_code"], report.ran) == ("waiting", 3, [])
    return result.run_id


async def test_a_question_outlives_its_engine_and_the_answer_starts_the_action(report):
    """Nothing runs while it waits; who said what, and when, is recorded and in scope of the action."""
    run_id = await waiting(report)
    async with report.engine() as engine:
        resumed = await (await engine.resume(run_id, report.pipeline())).wait()
        assert (resumed.state, report.ran) == ("waiting", [])
        asked = resumed.document["tasks"]["publish"]["approval"]
        assert (asked["state"], asked["message"]) == ("waiting", "R2 is 0.31: publish?")
        assert [shown["path"] for shown in asked["show"]] == ["m.txt"]
        run = await engine.approve(run_id, "publish", comment="fine", by="ann", pipeline=report.pipeline())
        result = await run.wait()
        events = [event async for event in run.events()]
    assert result.ok
    assert report.ran == ["fine by ann"]
    told = result.document["tasks"]["publish"]["approval"]
    assert (told["state"], told["by"], told["comment"]) == ("approved", "ann", "fine")
    names = [event["event"] for event in events if event.get("task") == "publish"]
    assert names == ["task_approval_requested", "task_approved", "task_started", "task_succeeded"]


async def test_a_rejection_fails_the_task_and_a_retry_asks_anew(report):
    """Reason `rejected`, never retried by itself."""
    run_id = await waiting(report)
    async with report.engine() as engine:
        run = await engine.reject(run_id, "publish", comment="too low", by="ann", pipeline=report.pipeline())
        result = await run.wait()
        task = result.tasks["publish"]
        assert (result.state, task.state, task.reason.code) == ("failed", "failed", "rejected")
        assert (task.reason.sentence, task.error.type) == ("rejected by ann: too low", "Rejected")
        again = await (await engine.retry(run_id, pipeline=report.pipeline())).wait()
        assert (again.state, again.tasks["publish"].state, report.ran) == ("waiting", "waiting", [])
        result = await (await engine.approve(run_id, "publish", by="bob", pipeline=report.pipeline())).wait()
    assert result.ok
    assert report.ran == [" by bob"]


async def test_an_answer_stands_only_for_what_was_shown(report):
    """A shown file that changed before the answer: it is refused, and the question asked anew."""
    run_id = await waiting(report)
    (report.folder / "m.txt").write_text("bad")
    async with report.engine() as engine:
        with pytest.raises(BadRequest, match=r"m\.txt has changed since publish asked"):
            await engine.approve(run_id, "publish", pipeline=report.pipeline())
        state = await (await engine.get(run_id)).wait()
        assert state.tasks["publish"].reason.code == "approval_lapsed"
        assert "m.txt" in state.tasks["publish"].reason.sentence
        assert (state.state, report.ran) == ("waiting", [])
        result = await (await engine.approve(run_id, "publish", pipeline=report.pipeline())).wait()
    assert result.ok


async def test_an_approval_lapses_before_the_action_starts(report):
    """Recorded, and not begun: the file changes, and it is asked again."""
    run_id = await waiting(report)
    async with report.engine() as engine:
        run = await engine.approve(run_id, "publish", pipeline=report.pipeline(), go_on=False)
        assert (await run.wait()).document["tasks"]["publish"]["approval"]["state"] == "approved"
        (report.folder / "m.txt").write_text("bad")
        result = await (await engine.resume(run_id, report.pipeline())).wait()
    task = result.tasks["publish"]
    assert (result.state, task.state, task.reason.code) == ("waiting", "waiting", "approval_lapsed")
    assert report.ran == []


async def test_what_is_shown_has_to_be_there(tmp_path):
    """Else nobody is asked about nothing."""
    pipeline = Pipeline("p", folder=tmp_path)
    pipeline.approve("sign", show=["nothing.txt"])
    async with Engine(tmp_path / ".flowd") as engine:
        result = await engine.run(pipeline)
    assert result.tasks["sign"].state == "failed"
    assert "nothing.txt, is not there" in result.tasks["sign"].reason.sentence


async def test_an_answer_alone_is_a_task_with_a_result(tmp_path):
    """Its fields are typed by the form, and given to those below."""
    pipeline, seen = Pipeline("p", folder=tmp_path), []
    sign = pipeline.approve("sign", "Deploy?", form={"level": {"type": "int", "min": 1, "required": True}, "to": "eu"})

    @pipeline.task(needs=[sign])
    async def deploy(sign):
        seen.append(sign)

    async with MemoryEngine() as engine:
        run = await engine.start(pipeline)
        assert (await run.wait()).state == "waiting"
        for values, said in (({}, "required"), ({"level": 0}, "less than 1"), ({"level": 1, "lvl": 2}, "no field")):
            with pytest.raises(BadParameters, match=said):
                await engine.approve(run.id, "sign", values=values, pipeline=pipeline)
        result = await (
            await engine.approve(run.id, "sign", values={"level": 2}, comment="go", by="ann", pipeline=pipeline)
        ).wait()
    assert result.ok
    (given,) = seen
    assert given | {"at": ""} == {"comment": "go", "by": "ann", "at": "", "level": 2, "to": "eu"}
    assert result.tasks["sign"].result == given
    assert result.document["tasks"]["sign"]["approval"]["at"] == given["at"]


async def test_only_an_open_question_can_be_answered(report):
    """Each refusal says how the task stands."""
    run_id = await waiting(report)
    async with report.engine() as engine:
        for task, said in (("measure", "asks nobody"), ("nobody", "no task nobody")):
            with pytest.raises(BadRequest, match=said):
                await engine.approve(run_id, task, pipeline=report.pipeline())
        await (await engine.approve(run_id, "publish", by="ann", pipeline=report.pipeline())).wait()
        for answer in (engine.approve, engine.reject):
            with pytest.raises(BadRequest, match="waits for no answer: it was approved by ann"):
                await answer(run_id, "publish", pipeline=report.pipeline())
    assert len(report.ran) == 1


@pytest.mark.parametrize(
    ("then", "state", "task", "ran"),
    [("fail", "failed", "failed", 0), ("skip", "succeeded", "skipped", 0), ("approve", "succeeded", "succeeded", 1)],
)
@pytest.mark.parametrize("patient", [False, True])
async def test_silence_counts_from_when_it_was_asked(then, state, task, ran, patient):
    """While nobody runs as well: whoever resumes acts on it, and a patient engine by itself."""
    clock, seen = FakeClock(), []
    pipeline = Pipeline("p")

    @pipeline.task(approve={"timeout": "7d", "then": then, "form": {"level": 3}}, with_={"n": "{{ approval.level }}"})
    async def work(n):
        seen.append(n)

    async with MemoryEngine(clock=clock, patient=patient, on_exit="detach") as engine:
        run = await engine.start(pipeline)
        if patient:
            async for event in run.events():
                if event["event"] == "task_approval_requested":
                    break
            clock.advance(timedelta(days=8).total_seconds())
        result = await run.wait()
        if not patient:
            assert result.state == "waiting"
            clock.advance(timedelta(days=8).total_seconds())
            result = await (await engine.resume(run.id, pipeline)).wait()
    assert (result.state, result.tasks["work"].state, seen) == (state, task, [3] * ran)
    asked = result.document["tasks"]["work"]["approval"]
    if then == "approve":
        assert (asked["state"], asked["by"]) == ("approved", "timeout")
    else:
        assert asked["state"] == "timed_out"
        assert result.tasks["work"].reason.code == "approval_timed_out"
        assert "within 7d" in result.tasks["work"].reason.sentence


async def test_an_answer_that_comes_too_late_is_refused():
    """The time was over, though nobody was there to see it."""
    clock, pipeline = FakeClock(), Pipeline("p")
    pipeline.approve("sign", timeout="1h")
    async with MemoryEngine(clock=clock) as engine:
        run = await engine.start(pipeline)
        await run.wait()
        clock.advance(7200)
        with pytest.raises(BadRequest, match="nobody answered within 1h"):
            await engine.approve(run.id, "sign", pipeline=pipeline)
        result = await (await engine.resume(run.id, pipeline)).wait()
    assert (result.state, result.tasks["sign"].state) == ("failed", "failed")


async def test_a_question_takes_no_slot_and_other_tasks_go_on():
    """One slot and a limit of one: both are free for others while it waits, and it asks while they are taken."""
    pipeline, order = Pipeline("p", limits={"gpu": 1}, max_concurrency=1), []
    release = anyio.Event()

    @pipeline.task(uses={"gpu": 1})
    async def long():
        order.append("long")
        await release.wait()

    @pipeline.task(approve={"message": "?"}, uses={"gpu": 1})
    async def held():
        order.append("held")

    @pipeline.task(uses={"gpu": 1})
    async def short():
        order.append("short")

    async with MemoryEngine(max_concurrency=1) as engine:
        run = await engine.start(pipeline)
        async for event in run.events():
            if event["event"] == "task_approval_requested":
                break
        assert order == ["long"]
        release.set()
        result = await run.wait()
        assert (result.state, order) == ("waiting", ["long", "short"])
        assert (await (await engine.approve(run.id, "held", pipeline=pipeline)).wait()).ok
    assert order == ["long", "short", "held"]


async def test_a_living_run_takes_the_answer_while_others_work():
    """The action starts at once."""
    pipeline, release, ran = Pipeline("p"), anyio.Event(), anyio.Event()

    @pipeline.task
    async def long():
        await release.wait()

    @pipeline.task(approve={"message": "?"})
    async def held():
        ran.set()

    async with MemoryEngine() as engine:
        run = await engine.start(pipeline)
        async for event in run.events():
            if event["event"] == "task_approval_requested":
                break
        await engine.approve(run.id, "held", by="ann")
        with anyio.fail_after(5):
            await ran.wait()
        release.set()
        assert (await run.wait()).ok


async def test_a_cancelled_run_asks_no_more(report):
    """Cancelled while it waits, the run ends at once, and an answer is refused."""
    run_id = await waiting(report)
    async with report.engine() as engine:
        result = await (await engine.cancel(run_id)).wait()
        assert (result.state, result.tasks["publish"].state) == ("cancelled", "cancelled")
        assert result.document["tasks"]["publish"]["approval"]["state"] == "withdrawn"
        with pytest.raises(BadRequest, match="it is cancelled"):
            await engine.approve(run_id, "publish", pipeline=report.pipeline())


async def test_a_deadline_ends_the_waiting():
    """The run is failed, as for any task that still ran."""
    clock, pipeline = FakeClock(), Pipeline("p", deadline="1h")
    pipeline.approve("sign")
    async with MemoryEngine(clock=clock) as engine:
        run = await engine.start(pipeline)
        assert (await run.wait()).state == "waiting"
        clock.advance(4000)
        result = await (await engine.resume(run.id, pipeline)).wait()
    assert (result.state, result.tasks["sign"].reason.code) == ("failed", "deadline")


async def test_what_is_asked_again_above_asks_anew_below(report):
    """A retry of what was shown takes the open question back, until its need has ended again."""
    run_id = await waiting(report)
    report.said = "better"
    async with report.engine() as engine:
        result = await (await engine.retry(run_id, "measure", pipeline=report.pipeline())).wait()
        assert result.state == "waiting"
        events = [event async for event in (await engine.get(run_id)).events()]
    asked = [event for event in events if event["event"] == "task_approval_requested"]
    assert len(asked) == 2
    assert asked[0]["show"][0]["digest"] != asked[1]["show"][0]["digest"]


class Sent:
    """draft → review (beside) → print, with a side of its own; what ran, with what comment."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.pipeline = Pipeline("sent")

        @self.pipeline.task(with_={"note": "{{ default(rejection.comment, 'first') }}"})
        async def draft(note):
            self.ran.append(f"draft {note}")

        @self.pipeline.task(needs=["draft"])
        async def check():
            self.ran.append("check")

        @self.pipeline.task(needs=["draft"])
        async def side():
            self.ran.append("side")

        @self.pipeline.task(needs=["check"], approve={"message": "print?"})
        async def publish():
            self.ran.append("publish")

        @self.pipeline.task(needs=["publish"])
        async def after():
            self.ran.append("after")


async def test_sent_back_it_is_done_again_from_there(tmp_path):
    """The comment is in scope of the task it goes back to; what lies between runs again, and it is asked anew."""
    sent = Sent()
    async with MemoryEngine() as engine:
        run = await engine.start(sent.pipeline)
        await run.wait()
        for task, said in (("after", "is not a task that publish needs"), ("side", "is not a task")):
            with pytest.raises(BadRequest, match=said):
                await engine.reject(run.id, "publish", back_to=task, pipeline=sent.pipeline)
        sent.ran.clear()
        back = await engine.reject(
            run.id, "publish", comment="too long", by="ann", back_to="draft", pipeline=sent.pipeline
        )
        result = await back.wait()
        assert (result.state, result.tasks["publish"].state, sent.ran) == (
            "waiting",
            "waiting",
            ["draft too long", "check"],
        )
        result = await (await engine.approve(run.id, "publish", pipeline=sent.pipeline)).wait()
        events = [event async for event in (await engine.get(run.id)).events()]
    assert result.ok
    assert sent.ran == ["draft too long", "check", "publish", "after"]
    (no,) = [event for event in events if event["event"] == "task_rejected"]
    assert (no["by"], no["comment"], no["back_to"]) == ("ann", "too long", "draft")


async def test_a_fresh_action_asks_nobody(tmp_path):
    """An approval holds a start; where nothing starts, nobody is asked. An answer alone is asked in every run."""
    pipeline = Pipeline("p", folder=tmp_path)

    @pipeline.task(outputs=["out.txt"], approve={"message": "write?"})
    def write(ctx):
        ctx.outputs[0].write_text("x")

    pipeline.approve("sign")
    async with Engine(tmp_path / ".flowd") as engine:
        plan = await engine.plan(pipeline)
        assert {name: standing.action for name, standing in plan.items()} == {"write": "wait", "sign": "wait"}
        run = await engine.start(pipeline)
        await run.wait()
        await (await engine.approve(run.id, "write", pipeline=pipeline)).wait()
        assert (await (await engine.approve(run.id, "sign", pipeline=pipeline)).wait()).ok
        plan = await engine.plan(pipeline)
        assert {name: standing.action for name, standing in plan.items()} == {"write": "fresh", "sign": "wait"}
        result = await engine.run(pipeline)
    assert {name: task.state for name, task in result.tasks.items()} == {"write": "fresh", "sign": "waiting"}


@pytest.mark.parametrize(
    ("policies", "code", "said"),
    [
        ({"approve": "publish?"}, "wrong_type", 'write {message: "publish?"}'),
        ({"approve": {"mesage": "x"}}, "unknown_key", "did you mean `message`"),
        ({"approve": {"then": "skip"}}, "unfit_key", "no meaning without a `timeout`"),
        ({"approve": {"then": "go"}}, "bad_value", "none of"),
        (
            {"approve": {"then": "approve", "timeout": "1d", "form": {"n": {"type": "int", "required": True}}}},
            "bad_value",
            "nobody would fill in `n`",
        ),
        ({"approve": {"form": {"by": "x"}}}, "bad_name", "in every answer"),
        ({"approve": {"form": {"n": {"type": "whole"}}}}, "bad_value", "none of"),
        ({"approve": {"message": "{{ tasks.later.ok }}"}}, "unknown_name", "`later` is not known"),
        ({"approve": {"message": "{{ approval.by }}"}}, "unknown_name", "`approval` is not known"),
        ({"approve": {"form": {"n": 1}}, "with_": {"x": "{{ approval.m }}"}}, "unknown_name", "`m` is not known"),
        ({"with_": {"x": "{{ approval.by }}"}}, "unknown_name", "`approval` is not known"),
        ({"with_": {"x": "{{ default(1, approval.by) }}"}}, "unknown_name", "`approval` is not known"),
        (
            {"approve": {}, "with_": {"x": "{{ approval.by }}"}, "outputs": ["o"], "cache": True},
            "unfit_key",
            "never fresh",
        ),
    ],
)
def test_questions_that_are_refused(policies, code, said):
    """Before anything runs."""
    pipeline = Pipeline("p")

    @pipeline.task(**policies)
    def work(x=None):
        return x

    with pytest.raises(BadPipeline) as caught:
        pipeline.definition()
    problem = caught.value.problems[0]
    assert problem.code == code
    assert said in str(problem)


@pytest.mark.parametrize("key", ["outputs", "retry", "timeout", "executor", "gate", "env"])
def test_an_answer_alone_has_no_use_for_the_keys_of_actions(key):
    """Each is named; a timeout has its place within."""
    values = {"outputs": ["x"], "retry": {"attempts": 2}, "timeout": "1d", "executor": "thread", "gate": ["True"]}
    pipeline = Pipeline("p")
    pipeline.approve("sign", **({"timeout": None} | {key: values.get(key, {"A": "b"})} if key != "timeout" else {}))
    if key == "timeout":
        pipeline._raw["tasks"]["sign"]["timeout"] = "1d"  # as a file would say it
    with pytest.raises(BadPipeline) as caught:
        pipeline.definition()
    (problem,) = caught.value.problems
    assert (problem.code, problem.key) == ("unfit_key", f"tasks.sign.{key}")
    assert ("within `approve`" in problem.hint) is (key == "timeout")


async def test_one_answer_lets_all_items_begin_and_begin_again():
    """A task with items asks once; items that failed are run again under the same answer."""
    pipeline, ran = Pipeline("items"), []

    @pipeline.task(foreach=[1, 2, 3], approve={"message": "all three?"})
    async def work(item):
        ran.append(item)
        if item == 2 and ran.count(2) == 1:
            raise ValueError("not yet")

    async with MemoryEngine() as engine:
        run = await engine.start(pipeline)
        assert (await run.wait()).state == "waiting"
        assert not (await (await engine.approve(run.id, "work", by="ann", pipeline=pipeline)).wait()).ok
        again = await engine.retry(run.id, pipeline=pipeline)
        with anyio.fail_after(10):
            result = await again.wait()
    assert result.ok
    assert sorted(ran) == [1, 2, 2, 3]
    assert result.document["tasks"]["work"]["approval"]["by"] == "ann"


@pytest.mark.parametrize("asks", [{}, {"timeout": "1ms", "then": "fail"}])
async def test_a_no_that_is_allowed_is_a_warning(asks, tmp_path):
    """Said by a person or by silence: what needs the task goes on, and so does the run."""
    pipeline = Pipeline("p", folder=tmp_path)
    pipeline.approve("ask", allow_failure=True, **asks)
    pipeline.shell("after", "true", needs="ask")
    async with Engine(tmp_path / ".flowd", patient=True) as engine:
        run = await engine.start(pipeline)
        if not asks:
            async for event in run.events():
                if event["event"] == "task_approval_requested":
                    await engine.reject(run.id, "ask", by="ann")
                    break
        result = await run.wait()
    tasks = result.document["tasks"]
    assert (result.state, tasks["ask"]["state"], tasks["ask"]["allowed"]) == ("succeeded", "failed", True)
    assert tasks["after"]["state"] == "succeeded"
    assert result.warnings
