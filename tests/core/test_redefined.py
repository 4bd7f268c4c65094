"""A run that goes on with another definition: what was known stays known, and the rest is laid out anew."""

from __future__ import annotations

from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.run import fold
from flowd.core.spec import PipelineSpec, Retry
from walk import ERROR, Walk, facts, pipeline, task

BADLY = st.Failed(error=ERROR)


def begun(*tasks, selected: tuple[str, ...] = ()) -> Walk:
    """A run that has just begun."""
    walk = Walk(pipeline(*tasks))
    walk.begin(selected)
    return walk


def play(walk: Walk, name: str, end: st.Outcome | None = None, *, again: bool = False) -> None:
    """One attempt of a task."""
    number = walk.run.shape.index[name]
    walk.start(number)
    walk.end(number, end or st.Succeeded(), again=again)


def redefine(walk: Walk, spec: PipelineSpec, again: st.RetryAsked | None = None) -> None:
    """Let it go on so; the journal then folds to what the run is."""
    walk.tell(st.Adopted("heir"))
    walk.tell(st.Redefined(definition=spec, spec="d", by="me", again=again))
    folded = fold("r", walk.spec, walk.journal)
    assert facts(folded) == facts(walk.run)
    assert folded.spec == walk.run.spec
    assert sorted(folded.take_ready()) == sorted(n for n in range(len(walk.run.tasks)) if may(walk, n, s.PENDING))


def may(walk: Walk, number: int, *states: str) -> bool:
    """Whether a task in one of `states` may start."""
    return walk.run.may_start(number) and walk.run.tasks[number].state in states


def states(walk: Walk) -> dict[str, str]:
    """The state of every task."""
    return {spec.name: task.state for spec, task in zip(walk.run.shape.specs, walk.run.tasks, strict=True)}


def test_what_succeeded_stays_so() -> None:
    """A new task between two old ones runs, what was left out is gone, and the run ends when the rest has."""
    walk = begun(task("a"), task("b", "a"), task("c", "b"))
    play(walk, "a")
    play(walk, "b")
    redefine(walk, pipeline(task("new", "a"), task("a"), task("c", "new", "a")))
    assert states(walk) == {"new": s.PENDING, "a": s.SUCCEEDED, "c": s.PENDING}
    event = walk.journal[-1].event
    assert (event.added, event.removed, event.tasks, event.by) == (("new",), ("b",), (), "me")
    assert not walk.run.may_start(walk.run.shape.index["c"])
    play(walk, "new")
    play(walk, "c")
    assert walk.run.state == s.RUN_SUCCEEDED


def test_a_task_that_was_left_out_holds_nothing_up() -> None:
    """What lay behind a failed task that is gone may run now; behind one that is still there it may not."""
    walk = begun(task("bad"), task("b", "bad"), task("c", "b"), task("worse"), task("d", "worse"), task("e"))
    play(walk, "bad", BADLY)
    play(walk, "worse", BADLY)
    redefine(walk, pipeline(task("b"), task("c", "b"), task("worse"), task("d", "worse"), task("e")))
    held = {"worse": s.FAILED, "d": s.UPSTREAM_FAILED}
    assert states(walk) == held | dict.fromkeys(("b", "c", "e"), s.PENDING)
    for name in ("b", "c", "e"):
        play(walk, name)
    assert walk.run.state == s.RUN_FAILED


def test_a_new_task_behind_a_failed_one_does_not_run() -> None:
    """The consequences of what had failed reach it."""
    walk = begun(task("bad"), task("e"))
    play(walk, "bad", BADLY)
    redefine(walk, pipeline(task("bad"), task("after", "bad"), task("e")))
    assert states(walk) == {"bad": s.FAILED, "after": s.UPSTREAM_FAILED, "e": s.PENDING}


def test_a_finished_run_goes_on_by_a_retry() -> None:
    """Reopened, redefined and asked for again in one go; a wait for a retry outlives it, too."""
    walk = begun(task("a"), task("bad", "a"))
    play(walk, "a")
    play(walk, "bad", BADLY)
    assert walk.run.state == s.RUN_FAILED
    redefine(walk, pipeline(task("a"), task("bad", "a"), task("more", "bad")), st.RetryAsked())
    assert states(walk) == {"a": s.SUCCEEDED, "bad": s.PENDING, "more": s.PENDING}
    assert walk.run.state == s.RUN_RUNNING


def test_a_task_that_waits_for_its_retry_goes_on_waiting() -> None:
    """Its tries count on."""
    walk = begun(task("a", retry=Retry(attempts=3)), task("b"))
    play(walk, "a", BADLY, again=True)
    redefine(walk, pipeline(task("a", retry=Retry(attempts=5))))
    state = walk.run.task("a")
    assert (state.state, state.tries, state.retry_at is not None) == (s.RETRYING, 1, True)


def test_a_run_of_some_tasks_stays_one() -> None:
    """With whatever they have come to need, and nothing else."""
    walk = begun(task("z"), task("a"), task("b", "a"), task("x"), selected=("a", "b"))
    play(walk, "a")
    redefine(walk, pipeline(task("z"), task("a", "z"), task("n"), task("b", "a", "n"), task("x")))
    assert states(walk) == {"a": s.SUCCEEDED, "n": s.PENDING, "b": s.PENDING}


def test_nothing_is_redefined_while_something_runs() -> None:
    """Nor while the run is being cancelled."""
    walk = begun(task("a"))
    walk.start(0)
    before = len(walk.journal)
    walk.tell(st.Redefined(definition=pipeline(task("b")), spec="d"))
    walk.tell(st.CancelAsked())
    walk.tell(st.Redefined(definition=pipeline(task("b")), spec="d"))
    assert [type(envelope.event).__name__ for envelope in walk.journal[before:]] == ["RunCancelRequested"]
