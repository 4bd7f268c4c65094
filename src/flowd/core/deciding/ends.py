"""How tasks end: what the report of an attempt makes of its task, and the ends of those that had none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.deciding.decision import Decision
from flowd.core.deciding.rounds import round_over
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.spec import TaskSpec
from flowd.core.task_state import TaskState


def attempt_ended(decision: Decision, report: st.AttemptEnded) -> None:
    """An attempt has ended: its task has too, or waits for the next try."""
    run = decision.run
    number = run.shape.index[report.task]
    task = run.tasks[number]
    if task.state not in s.LIVE or task.attempt != report.attempt:
        return
    failed = isinstance(report.outcome, st.Failed | st.TimedOut)
    if failed and report.again is not None and run.state in {s.RUN_RUNNING, s.RUN_PAUSED}:
        decision.say(_once_more(task, report, report.again.delay, decision.now))
    elif isinstance(report.outcome, st.RoundOver):
        round_over(decision, report)
    else:
        decision.say(_END[type(report.outcome)](run, run.shape.specs[number], task, report))


def _once_more(task: TaskState, report: st.AttemptEnded, delay: timedelta, now: datetime) -> e.TaskRetryScheduled:
    outcome = report.outcome
    assert isinstance(outcome, st.Failed | st.TimedOut)
    return e.TaskRetryScheduled(
        task=report.task,
        attempt=task.attempt,
        error=outcome.error,
        delay=delay,
        retry_at=now + delay,  # from the end as it is recorded, so that the journal shows the whole wait
        restart=task.service is not None,
        metrics=outcome.metrics,
        ending=outcome.ending,
    )


def _success(_run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.Succeeded)
    if outcome.partial is not None:
        return e.TaskPartial(task=spec.name, reason=outcome.partial, result=outcome.result, outputs=outcome.outputs)
    return e.TaskSucceeded(
        task=spec.name,
        attempt=task.attempt,
        result=outcome.result,
        outputs=outcome.outputs,
        metrics=outcome.metrics,
        parts=outcome.parts,
        warnings=outcome.warnings,
        ending=outcome.ending,
    )


def _failure(_run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.Failed | st.TimedOut)
    allowed = spec.retry.attempts if spec.retry else 1
    timed_out = isinstance(outcome, st.TimedOut)
    kind = e.TaskTimedOut if timed_out else e.TaskFailed
    error = f"{outcome.error.type}: {outcome.error.message}"
    why = because("timed_out" if timed_out else "failed", tries=task.tries, allowed=allowed, error=error)
    if task.service is not None:
        why = because("failed.service", restarts=task.service.restarts, error=error)
    return kind(
        task=spec.name,
        attempt=task.attempt,
        error=outcome.error,
        reason=outcome.reason or why,
        metrics=outcome.metrics,
        ending=outcome.ending,
        allowed=report.allowed,
    )


def _stopped(run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.Stopped)
    if outcome.cause == "deadline":
        error = e.Error(type="DeadlinePassed", message="the run's deadline passed")
        return e.TaskTimedOut(
            task=spec.name,
            attempt=task.attempt,
            error=error,
            reason=because("deadline.task"),
            ending=outcome.ending,
        )
    if outcome.cause == "stood_back":
        reason = because("stood_back")
        return e.TaskInterrupted(task=spec.name, attempt=task.attempt, reason=reason, ending=outcome.ending)
    if not spec.idempotent:
        reason = because("interrupted.uncertain" if outcome.cause == "interrupted" else "cancelled.uncertain")
        return e.TaskUncertain(task=spec.name, attempt=task.attempt, reason=reason, ending=outcome.ending)
    if outcome.cause == "interrupted":
        reason = because("interrupted.task")
        return e.TaskInterrupted(task=spec.name, attempt=task.attempt, reason=reason, ending=outcome.ending)
    why = because("fail_fast.item") if outcome.cause == "fail_fast" else run.cancelling
    return e.TaskCancelled(task=spec.name, attempt=task.attempt, reason=why, ending=outcome.ending)


def _left_running(_run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.LeftRunning)
    return e.TaskAbandoned(
        task=spec.name,
        attempt=task.attempt,
        reason=because("abandoned", message=outcome.message),
        allowed=report.allowed,
    )


def _never_began(_run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.NeverBegan)
    reason = because("never_began", message=outcome.message)
    return e.TaskInterrupted(task=spec.name, attempt=task.attempt, reason=reason)


def _deferred(_run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.WaitsForPeople)
    return e.TaskDeferred(
        task=spec.name,
        attempt=task.attempt,
        child=outcome.child,
        reason=because("child_waits", child=outcome.child),
        commands=outcome.commands,
    )


_END: dict[type, Callable[[RunState, TaskSpec, TaskState, st.AttemptEnded], e.AnyEvent]] = {
    st.Succeeded: _success,
    st.Failed: _failure,
    st.TimedOut: _failure,
    st.Stopped: _stopped,
    st.LeftRunning: _left_running,
    st.NeverBegan: _never_began,
    st.WaitsForPeople: _deferred,
}


def child_moved(decision: Decision, moved: st.ChildMoved) -> None:
    """What a task was deferred for has been answered, or its run goes on."""
    if is_deferred(decision.run.task(moved.task)):
        decision.say(e.TaskTakenUp(task=moved.task))


def is_deferred(task: TaskState) -> bool:
    """Whether a task waits for a person's answer in the run that it is."""
    return task.state == s.WAITING and task.child is not None and bool(task.child.commands)


def found_fresh(decision: Decision, found: st.FoundFresh) -> None:
    """A task need not run: its checkpoint holds."""
    if decision.run.task(found.task).state != s.PENDING:
        return
    decision.say(
        e.TaskFresh(
            task=found.task,
            source=found.source,
            result=found.result,
            outputs=found.outputs,
            metrics=found.metrics,
            parts=found.parts,
            warnings=found.warnings,
            reason=found.reason,
        )
    )


def could_not_begin(decision: Decision, report: st.CouldNotBegin) -> None:
    """A task failed before an attempt of it began."""
    task = decision.run.task(report.task)
    if task.state in s.STARTABLE or task.state == s.EXPANDED:
        reason = because("could_not_begin", error=report.error.message)
        decision.say(
            e.TaskFailed(
                task=report.task, attempt=task.attempt, error=report.error, reason=reason, allowed=report.allowed
            )
        )


def when_false(decision: Decision, found: st.WhenFalse) -> None:
    """A task's `when` does not hold."""
    if decision.run.task(found.task).state in s.STARTABLE:
        decision.say(e.TaskSkipped(task=found.task, reason=found.reason))
