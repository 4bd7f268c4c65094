"""Services in the fold: what needs one may start while it serves, and the counts beside the states stay true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.again import to_reset
from flowd.core.decide import begin, decide, start
from flowd.core.run import RunState
from flowd.core.spec import PipelineSpec, Retry, Run, Service, TaskSpec
from flowd.core.stimuli import Adopted, Again, AttemptEnded, CancelAsked, Failed, RetryAsked, Serves, Succeeded

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ERROR = e.Error(type="X", message="no")


def spec(keep: str = "needed", rule: str = "all_succeeded", *, idempotent: bool = True) -> PipelineSpec:
    """api ← ask ← report, and `other`, which needs nothing."""

    def task(name: str, *needs: str, **more: object) -> TaskSpec:
        return TaskSpec(name=name, action=Run(text="true"), executor="shell", needs=needs, **more)  # type: ignore[arg-type]

    service = Service(keep=keep, restart=Retry(attempts=3))
    api = msgspec.structs.replace(task("api"), service=service, executor="service", idempotent=idempotent)
    return PipelineSpec(
        name="p", tasks=(api, task("ask", "api", trigger_rule=rule), task("report", "ask"), task("other"))
    )


def begun(**keys: object) -> RunState:
    """A run in which the service serves."""
    run = RunState("r", spec(**keys))  # type: ignore[arg-type]
    begin(run, e.RunStarted(pipeline="p", spec=""), NOON)
    start(run, "api", NOON)
    decide(run, Serves(task="api", attempt=1, url="http://127.0.0.1:1", port=1, pid=2), NOON)
    return run


def names(run: RunState, numbers: list[int]) -> list[str]:
    """The tasks of these numbers."""
    return [run.shape.specs[number].name for number in numbers]


def test_what_needs_it_may_start_while_it_serves() -> None:
    """Not before, and not once it has gone."""
    run = RunState("r", spec())
    begin(run, e.RunStarted(pipeline="p", spec=""), NOON)
    assert names(run, run.take_ready()) == ["api", "other"]
    start(run, "api", NOON)
    assert run.take_ready() == []
    decide(run, Serves(task="api", attempt=1), NOON)
    assert names(run, run.take_ready()) == ["ask"]
    decide(run, AttemptEnded("api", 1, Failed(error=ERROR), Again(delay=timedelta(0))), NOON)
    assert not run.may_start(run.shape.index["ask"])
    assert run.task("api").service is not None
    assert (run.task("api").state, run.task("api").service.restarts) == (s.RETRYING, 1)
    start(run, "api", NOON)
    decide(run, Serves(task="api", attempt=2), NOON)
    assert run.may_start(run.shape.index["ask"])


def test_a_report_of_another_attempt_is_no_news() -> None:
    """As with every other report."""
    run = begun()
    assert decide(run, Serves(task="api", attempt=1), NOON) == []
    assert decide(run, Serves(task="api", attempt=7), NOON) == []


def test_one_that_fails_takes_along_what_has_not_begun() -> None:
    """What runs goes on."""
    run = begun()
    decide(run, AttemptEnded("api", 1, Failed(error=ERROR)), NOON)
    assert [task.state for task in run.tasks] == [s.FAILED, s.UPSTREAM_FAILED, s.UPSTREAM_FAILED, s.PENDING]
    run = begun()
    start(run, "ask", NOON)
    decide(run, AttemptEnded("api", 1, Failed(error=ERROR)), NOON)
    assert run.task("ask").state == s.RUNNING
    decide(run, AttemptEnded("ask", 1, Succeeded()), NOON)
    assert run.may_start(run.shape.index["report"])


def test_a_new_owner_begins_it_again_unless_nothing_needs_it() -> None:
    """What it had served is done; one that a person has to be asked about is uncertain."""
    run = begun()
    decide(run, Adopted("b"), NOON)
    assert run.task("api").state == s.PENDING
    assert not run.may_start(run.shape.index["ask"])
    run = begun(idempotent=False)
    decide(run, Adopted("b"), NOON)
    assert run.task("api").state == s.UNCERTAIN
    run = begun()
    for name in ("ask", "report"):
        start(run, name, NOON)
        decide(run, AttemptEnded(name, 1, Succeeded()), NOON)
    decide(run, Adopted("b"), NOON)
    assert run.task("api").state == s.SUCCEEDED


def test_cancelled_it_is_cancelled() -> None:
    """And with it what waited for it."""
    run = begun()
    decide(run, CancelAsked(), NOON)
    assert run.task("ask").state == s.CANCELLED
    assert run.state == s.RUN_CANCELLING


def test_a_retry_below_resets_it() -> None:
    """It has to serve once more."""
    run = begun()
    start(run, "ask", NOON)
    decide(run, AttemptEnded("ask", 1, Failed(error=ERROR)), NOON)
    decide(run, AttemptEnded("api", 1, Succeeded()), NOON)
    assert names(run, sorted(to_reset(run, RetryAsked(tasks=("ask",))))) == ["api", "ask", "report"]


STEPS = st.lists(st.tuples(st.sampled_from(["api", "ask", "report", "other"]), st.integers(0, 7)), max_size=40)


@given(STEPS, st.sampled_from(["all_succeeded", "all_done", "any_succeeded", "none_failed", "any_failed"]))
@settings(max_examples=300, deadline=None)
def test_what_is_counted_is_what_stands(steps: list[tuple[str, int]], rule: str) -> None:
    """In any order of starts, ends, deaths of owners and retries; the fold of the events says the same."""
    run = RunState("r", spec(rule=rule))
    events = begin(run, e.RunStarted(pipeline="p", spec=""), NOON)
    for name, what in steps:
        task, number = run.task(name), run.shape.index[name]
        attempt = task.attempt
        if run.may_start(number) and what < 4:
            events.append(start(run, name, NOON))
        elif what == 4:
            events += decide(run, Serves(task=name, attempt=attempt), NOON) if name == "api" else []
        elif what == 5:
            events += decide(run, AttemptEnded(name, attempt, Succeeded()), NOON)
        elif what == 6:
            again = Again(delay=timedelta(0)) if attempt % 2 else None
            events += decide(run, AttemptEnded(name, attempt, Failed(error=ERROR), again), NOON)
        elif what == 7:
            events += decide(run, RetryAsked(tasks=()), NOON) if attempt % 2 else decide(run, Adopted("b"), NOON)
        check(run)
    again = RunState("r", spec(rule=rule))
    for event in events:
        again.apply(event, NOON)
    assert [task.state for task in again.tasks] == [task.state for task in run.tasks]
    assert (again.missing, again.unended, again.live) == (run.missing, run.unended, run.live)


def check(run: RunState) -> None:
    """Each count is the one that the states give."""
    assert run.unended == sum(task.state not in s.ENDED for task in run.tasks)
    assert run.live == {number for number, task in enumerate(run.tasks) if task.state in s.LIVE}
    for number, needs in enumerate(run.shape.needs):
        if number in run.shape.rules:
            tally, true = run.tallies[number], run.tally(number)
            assert tally == true
        else:
            assert run.missing[number] == sum(not run.tasks[need].ok for need in needs)
