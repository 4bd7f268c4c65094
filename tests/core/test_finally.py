"""What stands under `finally`: once all others have ended, however they did, and once for each such end."""

from __future__ import annotations

import pytest

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.run import fold
from walk import ERROR, Walk, facts, heirs, pipeline, task

WELL = st.Succeeded()
BADLY = st.Failed(error=ERROR)


def begun(*more) -> Walk:
    """A run of two tasks, and one that comes finally."""
    walk = Walk(pipeline(task("a"), task("b", "a"), *more, task("last", final=True)))
    walk.begin()
    return walk


def play(walk: Walk, name: str, end: st.Outcome) -> None:
    """Start a task, and let its attempt end."""
    number = walk.run.shape.index[name]
    assert number in walk.startable()
    walk.start(number)
    walk.end(number, end)


def ready(walk: Walk) -> list[str]:
    """What may start."""
    return [walk.run.shape.specs[number].name for number in walk.startable()]


@pytest.mark.parametrize(
    ("how", "state"),
    [("success", "succeeded"), ("failure", "failed"), ("cancel", "cancelled"), ("deadline", "failed")],
)
@pytest.mark.parametrize("last", [WELL, BADLY])
def test_it_runs_however_the_run_ended(how: str, state: str, last: st.Outcome) -> None:
    """It starts when the last task has ended and not before; its failure spoils a success and nothing else."""
    walk = begun()
    assert ready(walk) == ["a"]
    if how == "success":
        play(walk, "a", WELL)
        assert ready(walk) == ["b"]
        play(walk, "b", WELL)
    elif how == "failure":
        play(walk, "a", BADLY)
    else:
        walk.start(0)
        walk.tell(st.CancelAsked(by="me") if how == "cancel" else st.DeadlineReached())
        assert ready(walk) == []
        walk.end(0, st.Stopped(cause="cancelled" if how == "cancel" else "deadline"))
    assert walk.run.closing is not None
    assert (walk.run.closing.state, walk.run.state) == (state, s.RUN_RUNNING)
    assert ready(walk) == ["last"]
    walk.tell(st.DeadlineReached())  # it has its own timeouts
    play(walk, "last", last)
    assert walk.run.state == ("failed" if state == "succeeded" and last is BADLY else state)
    assert facts(fold("r", walk.spec, walk.journal)) == facts(walk.run)


def test_a_pause_is_no_end() -> None:
    """A run that is paused or interrupted can go on, so nothing under `finally` runs."""
    walk = begun()
    walk.start(0)
    walk.tell(st.PauseAsked(reason="interrupted"))
    walk.end(0, BADLY)
    assert walk.run.closing is None
    walk.tell(st.Adopted("heir"))
    assert ready(walk) == ["last"]


def test_cut_off_anywhere_it_is_run_to_its_end_once() -> None:
    """Whatever of the journal a crash has left, the heir brings the run to one end, with one success of `last`."""
    walk = begun(task("c"))
    play(walk, "a", BADLY)
    play(walk, "c", WELL)
    play(walk, "last", WELL)
    for length, heir in heirs(walk):
        heir.go_on()
        said = [envelope.event for envelope in (*walk.journal[:length], *heir.journal)]
        assert sum(isinstance(event, e.TaskSucceeded) and event.task == "last" for event in said) == 1
        assert sum(isinstance(event, e.RunClosing) for event in said) == 1
        assert heir.run.state in s.RUN_ENDED


def test_a_cancel_while_it_runs_is_meant_for_it() -> None:
    """The tasks have ended by then, so it stops what runs; a run that had succeeded so far is cancelled."""
    walk = begun()
    play(walk, "a", WELL)
    play(walk, "b", WELL)
    walk.start(walk.run.shape.index["last"])
    walk.tell(st.CancelAsked(by="me"))
    walk.end(walk.run.shape.index["last"], st.Stopped(cause="cancelled"))
    assert (walk.run.task("last").state, walk.run.state) == (s.CANCELLED, s.RUN_CANCELLED)


def test_a_retry_leads_to_another_end() -> None:
    """What is run again ends again, and what stands under `finally` follows; retried alone, it runs alone."""
    walk = begun()
    play(walk, "a", BADLY)
    play(walk, "last", WELL)
    walk.tell(st.RetryAsked())
    assert ready(walk) == ["a"]
    play(walk, "a", WELL)
    play(walk, "b", WELL)
    play(walk, "last", BADLY)
    assert walk.run.state == s.RUN_FAILED
    walk.tell(st.RetryAsked())
    assert [one.state for one in walk.run.tasks] == [s.SUCCEEDED, s.SUCCEEDED, s.PENDING]
    play(walk, "last", WELL)
    assert walk.run.state == s.RUN_SUCCEEDED


def test_nothing_of_the_tasks_is_retried_while_it_runs() -> None:
    """Their end is what it follows from."""
    walk = begun()
    play(walk, "a", BADLY)
    walk.start(walk.run.shape.index["last"])
    walk.tell(st.RetryAsked())
    assert [one.state for one in walk.run.tasks] == [s.FAILED, s.UPSTREAM_FAILED, s.RUNNING]


def test_a_run_of_some_tasks_has_it_too() -> None:
    """Whatever is selected, what stands under `finally` belongs to the run."""
    from flowd.core.shape import select

    tasks = (task("a"), task("b", "a"), task("last", final=True))
    assert select(tasks, ("a",)) == ("a", "last")
