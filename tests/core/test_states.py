"""Every pair of an event and a state, and the page that draws them."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.errors import IllegalTransition
from flowd.core.run import RunState
from walk import ERROR, NOON, WHY, facts, pipeline, task

ROOT = Path(__file__).resolve().parents[2]

TASK_EVENTS = (
    e.TaskStarted(task="b", attempt=1),
    e.TaskServing(task="b", attempt=1),
    e.TaskSucceeded(task="b", attempt=1),
    e.TaskFresh(task="b", source="r0"),
    e.TaskRetryScheduled(task="b", attempt=1, error=ERROR, delay=timedelta(seconds=1), retry_at=NOON),
    e.TaskRoundEnded(task="b", attempt=1, round=1, delay=timedelta(seconds=1), next_at=NOON),
    e.TaskFailed(task="b", attempt=1, error=ERROR),
    e.TaskTimedOut(task="b", attempt=1, error=ERROR),
    e.TaskAbandoned(task="b", attempt=1, reason=WHY),
    e.TaskInterrupted(task="b", attempt=1, reason=WHY),
    e.TaskUncertain(task="b", attempt=1, reason=WHY),
    e.TaskResolved(task="b", verdict="succeeded"),
    e.TaskResolved(task="b", verdict="failed"),
    e.TaskResolved(task="b", verdict="rerun"),
    e.TaskApprovalRequested(task="b", message="go on?"),
    e.TaskApproved(task="b", by="ann", answered_at=NOON),
    e.TaskRejected(task="b", by="ann", answered_at=NOON),
    e.TaskTimerStarted(task="b", until=NOON),
    e.TaskSkipped(task="b", reason=WHY),
    e.TaskUpstreamFailed(task="b", cause="a"),
    e.TaskCancelled(task="b"),
    e.TaskExpanded(task="b", count=0),
    e.TaskPartial(task="b"),
    e.TaskReopened(task="b"),
    e.TaskDeferred(task="b", attempt=1, child="r+b", reason=WHY),
    e.TaskTakenUp(task="b"),
    e.TaskReset(task="b"),
)
RUN_EVENTS = (
    e.RunStarted(pipeline="p", spec=""),
    e.RunAdopted(owner="me"),
    e.RunCancelRequested(),
    e.RunDeadlinePassed(),
    e.RunPaused(),
    e.RunClosing(state="failed"),
    e.RunFinished(state="succeeded"),
    e.RunFinished(state="failed"),
    e.RunFinished(state="cancelled"),
    e.RunReopened(),
    e.RunRedefined(spec="", definition=pipeline(task("a"), task("b", "a"), task("c", "b"))),
)


def a_run(state: str = s.RUN_RUNNING) -> RunState:
    """A run of a ← b ← c, all pending."""
    run = RunState("r", pipeline(task("a"), task("b", "a"), task("c", "b")))
    run.apply(e.RunStarted(pipeline="p", spec=""), NOON)
    run.state = state
    return run


def with_task_in(state: str) -> RunState:
    """A run whose middle task came into `state` by a legal event."""
    run = a_run()
    reached = {s.PENDING} if state == s.PENDING else set[str]()
    into = {
        s.SERVING: (s.RUNNING, e.TaskServing),
        s.RETRYING: (s.RUNNING, e.TaskRetryScheduled),
        s.UNCERTAIN: (s.RUNNING, e.TaskUncertain),
        s.ABANDONED: (s.RUNNING, e.TaskAbandoned),
        s.SUCCEEDED: (s.RUNNING, e.TaskSucceeded),
        s.PARTIAL: (s.EXPANDED, e.TaskPartial),
    }
    before, last = into.get(state, (s.PENDING, None))
    if before == s.RUNNING:
        run.apply(TASK_EVENTS[0], NOON)
    elif before == s.EXPANDED:
        run.apply(e.TaskExpanded(task="b", count=0), NOON)
    for event in TASK_EVENTS:
        if reached or state == run.task("b").state:
            break
        if (last is None or type(event) is last) and s.TASK_TRANSITIONS[type(event)].get(before) == state:
            run.apply(event, NOON)
    assert run.task("b").state == state
    return run


def test_every_event_is_tried() -> None:
    """The tables, the unions of events and the samples here speak of the same events."""
    assert {type(event) for event in TASK_EVENTS} == set(get_args(e.TASK_EVENTS)) == set(s.TASK_TRANSITIONS)
    assert {type(event) for event in RUN_EVENTS} == set(get_args(e.RUN_EVENTS)) == set(s.RUN_TRANSITIONS)


@pytest.mark.parametrize("state", s.TASK_STATES)
@pytest.mark.parametrize(
    "event", TASK_EVENTS, ids=lambda event: f"{type(event).__name__}{getattr(event, 'verdict', '')}"
)
def test_every_pair_of_a_task(event: e.TaskEvent, state: str) -> None:
    """A legal event moves its task, and no other, to the state of the table; an illegal one changes nothing."""
    run = with_task_in(state)
    before = deepcopy((facts(run), run.unmet, run.ready))
    target = s.TASK_TRANSITIONS[type(event)].get(state)
    if target is None:
        with pytest.raises(IllegalTransition, match=f"{type(event).__name__} of 'b', which is {state}"):
            run.apply(event, NOON)
        assert (facts(run), run.unmet, run.ready) == before
    else:
        run.apply(event, NOON)
        verdict = event.verdict if isinstance(event, e.TaskResolved) else ""
        assert run.task("b").state == (target or s.RESOLUTIONS[verdict])
        assert (run.task("a").state, run.task("c").state, run.state) == (s.PENDING, s.PENDING, s.RUN_RUNNING)


@pytest.mark.parametrize("state", s.RUN_STATES)
@pytest.mark.parametrize("event", RUN_EVENTS, ids=lambda event: f"{type(event).__name__}{getattr(event, 'state', '')}")
def test_every_pair_of_a_run(event: e.Event, state: str) -> None:
    """A legal event moves the run to the state of the table, or to the one it names; an illegal one changes nothing."""
    run = a_run(state)
    before = deepcopy((facts(run), run.unmet, run.ready))
    target = s.RUN_TRANSITIONS[type(event)].get(state)
    if target is None:
        with pytest.raises(IllegalTransition, match=f"{type(event).__name__} of run r, which is {state}"):
            run.apply(event, NOON)
        assert (facts(run), run.unmet, run.ready) == before
    else:
        run.apply(event, NOON)
        assert run.state == (target or event.state)
        assert [task.state for task in run.tasks] == [s.PENDING] * 3


@pytest.mark.parametrize(
    "event",
    [
        e.RunFinished(state="running"),
        e.RunFinished(state="nonsense"),
        e.TaskResolved(task="b", verdict="perhaps"),
        e.TaskStarted(task="nobody", attempt=1),
    ],
)
def test_an_event_that_names_what_does_not_exist(event: e.AnyEvent) -> None:
    """A task, a verdict or an end that does not exist is refused like any illegal event."""
    run = with_task_in(s.UNCERTAIN)
    before = deepcopy(facts(run))
    with pytest.raises(IllegalTransition):
        run.apply(event, NOON)
    assert facts(run) == before


def test_the_tables_speak_of_known_states() -> None:
    """Every state in a table exists, every state can be reached, and only a person leaves an end."""
    for table, states in ((s.TASK_TRANSITIONS, s.TASK_STATES), (s.RUN_TRANSITIONS, s.RUN_STATES)):
        for moves in table.values():
            assert {*moves, *moves.values()} <= {*states, ""}
    reached = {target for moves in s.TASK_TRANSITIONS.values() for target in moves.values()}
    assert set(s.TASK_STATES) <= reached | set(s.RESOLUTIONS.values())
    assert {event for event, moves in s.TASK_TRANSITIONS.items() if s.ENDED & moves.keys()} == {
        e.TaskReset,
        e.TaskReopened,
    }
    assert {event for event, moves in s.RUN_TRANSITIONS.items() if s.RUN_ENDED & moves.keys()} == {e.RunReopened}


def test_the_page_is_current() -> None:
    """STATES.md is what the tables say now; else run scripts/states --write."""
    script = ROOT / "scripts" / "states"
    shown = subprocess.run([sys.executable, str(script)], capture_output=True, check=True, text=True)
    assert shown.stdout == (ROOT / "src" / "flowd" / "core" / "STATES.md").read_text(encoding="utf-8")
    assert "pending --> running: TaskStarted" in shown.stdout
    assert "uncertain --> pending: TaskResolved" in shown.stdout
