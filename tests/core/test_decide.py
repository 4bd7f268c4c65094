"""What follows from what, one story at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.spec import Retry
from walk import ERROR, NOON, Walk, pipeline, task

WELL = st.Succeeded()
BADLY = st.Failed(error=ERROR)


def begun(*tasks, selected: tuple[str, ...] = ()) -> Walk:
    """A run that has just begun."""
    walk = Walk(pipeline(*tasks))
    walk.begin(selected)
    return walk


def play(walk: Walk, name: str, *ends: st.Outcome, again: bool = False) -> None:
    """Start a task, and let its attempt end."""
    number = walk.run.shape.index[name]
    for end in ends:
        walk.start(number)
        walk.end(number, end, again=again)


def names(walk: Walk, since: int = 0) -> list[str]:
    """The events of the journal in short."""
    said = [envelope.event for envelope in walk.journal[since:]]
    return [f"{type(event).__name__} {getattr(event, 'task', '')}".strip() for event in said]


def states(walk: Walk) -> dict[str, str]:
    """The state of every task."""
    return {spec.name: task.state for spec, task in zip(walk.run.shape.specs, walk.run.tasks, strict=True)}


def test_a_run_of_nothing_ends_at_once() -> None:
    """A pipeline without tasks has succeeded when it begins."""
    walk = begun()
    assert names(walk) == ["RunStarted", "RunFinished"]
    assert walk.run.state == s.RUN_SUCCEEDED


def test_a_run_of_some_tasks_is_a_graph_of_its_own() -> None:
    """Needs outside the selection do not count, and what was not selected is not there."""
    walk = begun(task("a"), task("b", "a"), task("c", "b"), selected=("b", "c"))
    assert states(walk) == {"b": s.PENDING, "c": s.PENDING}
    assert walk.startable() == [0]
    play(walk, "b", WELL)
    play(walk, "c", WELL)
    assert walk.run.state == s.RUN_SUCCEEDED


def test_a_failure_spreads_down_and_only_down() -> None:
    """What needs a failed task is upstream_failed and says which need; an independent branch goes on."""
    walk = begun(task("a"), task("b", "a"), task("c", "b"), task("d"))
    play(walk, "a", BADLY)
    assert states(walk) == {"a": s.FAILED, "b": s.UPSTREAM_FAILED, "c": s.UPSTREAM_FAILED, "d": s.PENDING}
    reason = walk.run.task("c").reason
    assert reason is not None
    assert reason.sentence == "it needs b, which did not end well"
    play(walk, "d", WELL)
    assert walk.run.state == s.RUN_FAILED
    assert walk.run.reason == e.Reason("task_failed", "a did not end well")


def test_a_retry_is_an_event_and_counts_every_try() -> None:
    """A failure that may be tried again is `retrying` until it is; the last one says how many there were."""
    walk = begun(task("a", retry=Retry(attempts=2)))
    play(walk, "a", BADLY, again=True)
    assert states(walk) == {"a": s.RETRYING}
    assert walk.run.unended == 1
    play(walk, "a", BADLY)
    ended = walk.run.task("a")
    assert (ended.state, ended.attempt, ended.tries) == (s.FAILED, 2, 2)
    assert ended.reason == e.Reason("failed", "failed 2 of 2 attempts: ValueError: NaN in price")
    assert ended.attempts is not None
    assert [attempt.waited for attempt in ended.attempts] == [None, timedelta(seconds=2)]


def test_an_interruption_uses_up_no_try() -> None:
    """An interrupted attempt has a number and does not count against the policy."""
    walk = begun(task("a", retry=Retry(attempts=2)))
    play(walk, "a", st.Stopped(cause="interrupted"))
    interrupted = walk.run.task("a")
    assert (interrupted.state, interrupted.attempt, interrupted.tries) == (s.PENDING, 1, 0)


@pytest.mark.parametrize("cause", ["interrupted", "cancelled"])
def test_a_non_idempotent_task_that_was_stopped_is_uncertain(cause: str) -> None:
    """flowd stopped it after it had begun: what it did is for a person to say."""
    walk = begun(task("a", idempotent=False), task("b", "a"))
    play(walk, "a", st.Stopped(cause=cause))
    assert states(walk) == {"a": s.UNCERTAIN, "b": s.PENDING}
    assert walk.startable() == []
    walk.tell(st.RetryAsked())
    assert states(walk)["a"] == s.UNCERTAIN


@pytest.mark.parametrize(
    ("verdict", "ends"),
    [
        ("succeeded", {"a": s.SUCCEEDED, "b": s.PENDING}),
        ("failed", {"a": s.FAILED, "b": s.UPSTREAM_FAILED}),
        ("rerun", {"a": s.PENDING, "b": s.PENDING}),
    ],
)
def test_a_person_resolves_what_is_uncertain(verdict: str, ends: dict[str, str]) -> None:
    """Each verdict leads on; a second one says nothing."""
    walk = begun(task("a", idempotent=False, retry=Retry(attempts=2)), task("b", "a"))
    play(walk, "a", BADLY, again=True)
    play(walk, "a", st.Stopped(cause="interrupted"))
    walk.tell(st.Resolved(task="a", verdict=verdict, by="me"))
    assert states(walk) == ends
    error = walk.run.task("a").error
    if verdict == "succeeded":
        assert error is None  # that of an earlier attempt is not its end
    since = len(walk.journal)
    walk.tell(st.Resolved(task="a", verdict="failed"))
    assert names(walk, since) == []


def test_to_ask_for_an_uncertain_task_by_name_is_to_answer_for_it() -> None:
    """`retry RUN TASK` of an uncertain task runs it again; without a name it is left alone."""
    walk = begun(task("a", idempotent=False), task("b", "a"))
    play(walk, "a", st.Stopped(cause="interrupted"))
    since = len(walk.journal)
    walk.tell(st.RetryAsked(tasks=("a",), by="me"))
    assert names(walk, since) == ["TaskResolved a"]
    assert walk.startable() == [0]


def test_cancelling_ends_what_waits_and_waits_for_what_runs() -> None:
    """The run is cancelled once the last attempt has ended; nothing starts any more."""
    walk = begun(task("a"), task("b", "a"), task("c"), task("d", retry=Retry(attempts=2)))
    walk.start(0)
    play(walk, "d", BADLY, again=True)
    walk.tell(st.CancelAsked(reason="enough", by="me"))
    assert states(walk) == {"a": s.RUNNING, "b": s.CANCELLED, "c": s.CANCELLED, "d": s.CANCELLED}
    assert walk.run.state == s.RUN_CANCELLING
    walk.end(0, st.Stopped(cause="cancelled"))
    assert walk.run.state == s.RUN_CANCELLED
    assert walk.run.task("a").reason == e.Reason("cancelled", "enough")


def test_a_failure_while_cancelling_is_not_tried_again() -> None:
    """A cancelled run schedules nothing."""
    walk = begun(task("a", retry=Retry(attempts=2)))
    walk.start(0)
    walk.tell(st.CancelAsked())
    walk.end(0, BADLY, again=True)
    assert states(walk) == {"a": s.FAILED}
    assert walk.run.state == s.RUN_CANCELLED


def test_a_deadline_fails_the_run() -> None:
    """What still ran is timed out, what had not begun is cancelled, and the run is failed."""
    walk = begun(task("a"), task("b"))
    walk.start(0)
    walk.tell(st.DeadlineReached())
    walk.end(0, st.Stopped(cause="deadline"))
    assert states(walk) == {"a": s.TIMED_OUT, "b": s.CANCELLED}
    assert (walk.run.state, walk.run.reason) == (s.RUN_FAILED, e.Reason("deadline", "the run's deadline passed"))


def test_a_deadline_counts_anew_from_a_retry() -> None:
    """A run that is asked for again has its whole time again."""
    walk = begun(task("a"))
    assert walk.run.opened_at == walk.run.started_at == NOON
    play(walk, "a", BADLY)
    walk.now += timedelta(days=1)
    walk.tell(st.RetryAsked())
    assert walk.run.started_at == NOON
    assert walk.run.opened_at == walk.now


def test_a_paused_run_starts_nothing_and_ends_when_it_goes_on() -> None:
    """What runs goes on to its end; the run itself ends only when someone goes on with it."""
    walk = begun(task("a"), task("b", "a"))
    walk.start(0)
    walk.tell(st.PauseAsked())
    walk.end(0, WELL)
    assert walk.startable() == []
    walk.tell(st.Adopted("me"))
    assert walk.startable() == [1]


def test_a_run_with_tasks_left_cancelled_has_not_succeeded() -> None:
    """Of a cancelled run one task is asked for again: that it succeeds does not make the rest done."""
    walk = begun(task("a"), task("b"))
    walk.tell(st.CancelAsked())
    walk.tell(st.RetryAsked(tasks=("a",)))
    play(walk, "a", WELL)
    assert states(walk) == {"a": s.SUCCEEDED, "b": s.CANCELLED}
    assert (walk.run.state, walk.run.reason) == (s.RUN_CANCELLED, e.Reason("cancelled", "b had been cancelled"))


def failed_below() -> Walk:
    """a ← b ← c, and d alone: b failed, so c could not run."""
    walk = begun(task("a"), task("b", "a"), task("c", "b"), task("d"))
    play(walk, "a", WELL)
    play(walk, "b", BADLY)
    play(walk, "d", WELL)
    return walk


@pytest.mark.parametrize(
    ("asked", "reset"),
    [
        (st.RetryAsked(), ["c", "b"]),
        (st.RetryAsked(tasks=("b",)), ["c", "b"]),
        (st.RetryAsked(tasks=("c",)), ["c", "b"]),
        (st.RetryAsked(tasks=("a",)), ["c", "b", "a"]),
        (st.RetryAsked(tasks=("d",)), ["d"]),
        (st.RetryAsked(tasks=("d", "c")), ["c", "b", "d"]),
    ],
    ids=lambda value: "+".join(value.tasks) or "all" if isinstance(value, st.RetryAsked) else "",
)
def test_what_a_retry_runs_again(asked: st.RetryAsked, reset: list[str]) -> None:
    """The named tasks, what did not end well above and below them, and nothing that is done; what lies below first."""
    walk = failed_below()
    since = len(walk.journal)
    walk.tell(asked)
    assert names(walk, since) == ["RunReopened", *(f"TaskReset {name}" for name in reset)]
    assert walk.run.state == s.RUN_RUNNING


def test_a_retry_with_downstream_runs_again_what_succeeded_below() -> None:
    """`--downstream` takes what depends on it, done or not."""
    walk = begun(task("a"), task("b", "a"), task("c"))
    for name in "abc":
        play(walk, name, WELL)
    since = len(walk.journal)
    walk.tell(st.RetryAsked(tasks=("a",), downstream=True))
    assert names(walk, since) == ["RunReopened", "TaskReset b", "TaskReset a"]


def test_a_retry_of_nothing_reopens_nothing() -> None:
    """Where all ended well there is nothing to do again."""
    walk = begun(task("a"))
    play(walk, "a", WELL)
    since = len(walk.journal)
    walk.tell(st.RetryAsked())
    assert names(walk, since) == []
    assert walk.run.state == s.RUN_SUCCEEDED


def test_a_task_that_is_asked_for_again_begins_from_nothing() -> None:
    """Nothing of an earlier success, warning or wait is left to be taken for the new attempt's."""
    walk = begun(task("a", retry=Retry(attempts=2)), task("b"))
    play(walk, "a", BADLY, again=True)
    walk.tell(st.CancelAsked())
    walk.tell(st.RetryAsked())
    play(walk, "a", st.Succeeded(metrics={"n": 1.0}, warnings=("w",), parts={"action": "1"}))
    walk.tell(st.RetryAsked(tasks=("a",)))
    again = walk.run.task("a")
    assert (again.warnings, again.parts, again.metrics, again.tries) == ((), {}, {}, 0)
    walk.start(0)
    assert [attempt.waited for attempt in again.attempts or ()] == [None, None, None]


def test_a_need_that_is_asked_for_again_holds_back_what_waits_for_a_retry() -> None:
    """A task that is retrying does not start before a need that was reset has ended well again."""
    walk = begun(task("a"), task("b", "a", retry=Retry(attempts=2)), task("c"))
    play(walk, "a", WELL)
    play(walk, "b", BADLY, again=True)
    walk.tell(st.RetryAsked(tasks=("a",)))
    assert walk.startable() == [0, 2]
    play(walk, "a", WELL)
    assert walk.startable() == [1, 2]


@pytest.mark.parametrize("end", [st.Stopped(cause="interrupted"), BADLY])
def test_a_need_that_fails_the_second_time_fails_what_waits_again(end: st.Outcome) -> None:
    """A task that ran while its need was asked for again, and has to run again, does not wait for ever."""
    walk = begun(task("a"), task("b", "a", retry=Retry(attempts=2)))
    play(walk, "a", WELL)
    walk.start(1)
    walk.tell(st.RetryAsked(tasks=("a",)))
    play(walk, "a", BADLY)
    assert states(walk) == {"a": s.FAILED, "b": s.RUNNING}
    walk.end(1, end, again=True)
    assert states(walk) == {"a": s.FAILED, "b": s.UPSTREAM_FAILED}
    assert walk.run.state == s.RUN_FAILED


def test_an_owner_that_died_leaves_interrupted_and_uncertain_tasks() -> None:
    """What ran is run again where that is harmless, else a person is asked; what had ended stands."""
    walk = begun(task("a"), task("b"), task("c", idempotent=False), task("d", "c"))
    play(walk, "a", WELL)
    walk.start(1)
    walk.start(2)
    since = len(walk.journal)
    walk.tell(st.Adopted("heir"))
    assert names(walk, since) == ["RunAdopted", "TaskInterrupted b", "TaskUncertain c"]
    assert walk.run.owner == "heir"
    assert walk.startable() == [1]


def test_a_finished_run_cannot_be_adopted_cancelled_or_paused() -> None:
    """Only `retry` leads out of an end."""
    walk = begun(task("a"))
    play(walk, "a", WELL)
    since = len(walk.journal)
    for stimulus in (st.Adopted("x"), st.CancelAsked(), st.PauseAsked(), st.DeadlineReached()):
        walk.tell(stimulus)
    assert names(walk, since) == []


def test_an_unknown_stimulus_is_a_defect() -> None:
    """What is none of the stimuli raises: unknown never means success."""
    with pytest.raises(KeyError):
        begun(task("a")).tell("done")  # type: ignore[arg-type]
