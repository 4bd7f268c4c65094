"""What follows when something happens to a run: the one birthplace of its events.

House rules of this room. Every function here is pure but for the run it is given: it applies
each event as it decides it, so that the next decision sees it, and returns them in order. The
caller stamps and journals them with the same `now`. A report of an attempt that is not the
task's current one yields nothing. An unknown stimulus is a defect and raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from flowd.core import events as e
from flowd.core import stimuli as st
from flowd.core.deciding.anew import redefined, resolved, retry_asked
from flowd.core.deciding.approvals import approval_asked, approval_expired, approved, rejected
from flowd.core.deciding.asking import adopted_by, cancel_asked, deadline_reached, pause_asked, resume_asked
from flowd.core.deciding.decision import Decision
from flowd.core.deciding.ends import attempt_ended, child_moved, could_not_begin, found_fresh, when_false
from flowd.core.deciding.failing import stop_at_failures
from flowd.core.deciding.fanning import expanded, gathered
from flowd.core.deciding.rounds import repeat_timed_out
from flowd.core.deciding.serving import handed_over, serves
from flowd.core.deciding.settling import settle
from flowd.core.deciding.waiting import timer_fired, timer_started
from flowd.core.run import RunState


def begin(run: RunState, event: e.RunStarted, now: datetime) -> list[e.AnyEvent]:
    """The first events of a run."""
    decision = Decision(run, now)
    decision.say(event)
    settle(decision)
    return decision.events


def start(
    run: RunState,
    task: str,
    now: datetime,
    reason: e.Reason | None = None,
    parts: Mapping[str, str] | None = None,
    child: str = "",
) -> e.TaskStarted:
    """Start the next attempt of a task that is ready; its number counts every try."""
    number = run.shape.index[task]
    rounds = run.tasks[number].rounds
    event = e.TaskStarted(
        task=task,
        attempt=run.tasks[number].attempt + 1,
        round=0 if run.shape.specs[number].repeat is None else rounds.ended + 1 if rounds is not None else 1,
        executor=run.shape.specs[number].executor,
        reason=reason,
        parts={} if run.shape.specs[number].idempotent else dict(parts or {}),
        child=child,
    )
    run.apply(event, now)
    return event


def decide(run: RunState, stimulus: st.Stimulus, now: datetime) -> list[e.AnyEvent]:
    """All events that follow from `stimulus`, already applied to `run`."""
    decision = Decision(run, now)
    _HANDLERS[type(stimulus)](decision, stimulus)
    settle(decision)
    if stop_at_failures(decision):
        settle(decision)
    return decision.events


_HANDLERS: dict[type, Callable[[Decision, Any], None]] = {
    st.AttemptEnded: attempt_ended,
    st.Serves: serves,
    st.HandedOver: handed_over,
    st.FoundFresh: found_fresh,
    st.CouldNotBegin: could_not_begin,
    st.Expanded: expanded,
    st.Gathered: gathered,
    st.WhenFalse: when_false,
    st.TimerStarted: timer_started,
    st.TimerFired: timer_fired,
    st.RepeatTimedOut: repeat_timed_out,
    st.ChildMoved: child_moved,
    st.CancelAsked: cancel_asked,
    st.PauseAsked: pause_asked,
    st.ResumeAsked: resume_asked,
    st.DeadlineReached: deadline_reached,
    st.Adopted: adopted_by,
    st.RetryAsked: retry_asked,
    st.Redefined: redefined,
    st.Resolved: resolved,
    st.ApprovalAsked: approval_asked,
    st.Approved: approved,
    st.Rejected: rejected,
    st.ApprovalExpired: approval_expired,
}
