"""What people, clocks and new owners ask of a run as a whole: to stop, to wait, to go on."""

from __future__ import annotations

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.deciding.approvals import finish_answered, finish_sent_back
from flowd.core.deciding.decision import Decision
from flowd.core.deciding.ends import is_deferred
from flowd.core.deciding.serving import is_needed
from flowd.core.reasons import because


def cancel_asked(decision: Decision, asked: st.CancelAsked) -> None:
    """Stop for good."""
    if decision.run.state in {s.RUN_RUNNING, s.RUN_PAUSED}:
        decision.say(e.RunCancelRequested(reason=asked.reason, by=asked.by))


def pause_asked(decision: Decision, asked: st.PauseAsked) -> None:
    """Start nothing more."""
    if decision.run.state == s.RUN_RUNNING:
        decision.say(e.RunPaused(reason=asked.reason, by=asked.by))


def resume_asked(decision: Decision, asked: st.ResumeAsked) -> None:
    """Go on after a pause."""
    if decision.run.state == s.RUN_PAUSED:
        decision.say(e.RunAdopted(owner=asked.owner))
        decision.run.find_ready()


def deadline_reached(decision: Decision, _reached: st.DeadlineReached) -> None:
    """The run has taken as long as it may; what stands under `finally` has its own timeouts."""
    if decision.run.closing is None and decision.run.state in {s.RUN_RUNNING, s.RUN_PAUSED}:
        decision.say(e.RunDeadlinePassed())


def adopted_by(decision: Decision, adopted: st.Adopted) -> None:
    """Another owner goes on: what ran when the one before died was interrupted, or is uncertain."""
    run = decision.run
    if run.state in s.RUN_ENDED:
        return
    decision.say(e.RunAdopted(owner=adopted.owner))
    for number in sorted(run.live):
        spec, task = run.shape.specs[number], run.tasks[number]
        if task.state == s.SERVING and spec.idempotent and not is_needed(run, number):
            decision.say(e.TaskSucceeded(task=spec.name, attempt=task.attempt))
        elif spec.idempotent:
            reason = because("owner_died")
            decision.say(e.TaskInterrupted(task=spec.name, attempt=task.attempt, reason=reason))
        else:
            reason = because("owner_died.uncertain")
            decision.say(e.TaskUncertain(task=spec.name, attempt=task.attempt, reason=reason))
    for number, task in enumerate(run.tasks):
        if is_deferred(task):
            decision.say(e.TaskTakenUp(task=run.shape.specs[number].name))
    finish_answered(decision)
    finish_sent_back(decision)
    run.find_ready()
