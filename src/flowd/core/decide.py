"""What follows when something happens to a run: the one birthplace of its events.

House rules of this room. Every function here is pure but for the run it is given: it applies
each event as it decides it, so that the next decision sees it, and returns them in order. The
caller stamps and journals them with the same `now`. A report of an attempt that is not the
task's current one yields nothing. An unknown stimulus is a defect and raises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.again import asked_for, to_reset
from flowd.core.reasons import because
from flowd.core.run import RunState, TaskState
from flowd.core.spec import PipelineSpec, TaskSpec, task_map


class _Decision:
    """Collects events, each applied before the next is thought of."""

    __slots__ = ("events", "now", "run")

    def __init__(self, run: RunState, now: datetime) -> None:
        self.run = run
        self.now = now
        self.events: list[e.AnyEvent] = []

    def say(self, event: e.AnyEvent) -> None:
        self.run.apply(event, self.now)
        self.events.append(event)


def begin(run: RunState, event: e.RunStarted, now: datetime) -> list[e.AnyEvent]:
    """The first events of a run."""
    decision = _Decision(run, now)
    decision.say(event)
    settle(decision)
    return decision.events


def start(
    run: RunState,
    task: str,
    now: datetime,
    reason: e.Reason | None = None,
    parts: Mapping[str, str] | None = None,
) -> e.TaskStarted:
    """Start the next attempt of a task that is ready; its number counts every try."""
    number = run.shape.index[task]
    event = e.TaskStarted(
        task=task,
        attempt=run.tasks[number].attempt + 1,
        executor=run.shape.specs[number].executor,
        reason=reason,
        parts={} if run.shape.specs[number].idempotent else dict(parts or {}),
    )
    run.apply(event, now)
    return event


def decide(run: RunState, stimulus: st.Stimulus, now: datetime) -> list[e.AnyEvent]:
    """All events that follow from `stimulus`, already applied to `run`."""
    decision = _Decision(run, now)
    _HANDLERS[type(stimulus)](decision, stimulus)
    settle(decision)
    return decision.events


def settle(decision: _Decision) -> None:
    """What follows from the state alone, to a fixed point; settling twice says nothing new."""
    run = decision.run
    while run.unmet:
        number = run.unmet.popleft()
        name = run.shape.specs[number].name
        state = run.tasks[number].state
        if state not in s.BAD and state != s.SKIPPED:
            continue
        for successor in run.shape.successors[number]:
            if run.tasks[successor].state not in s.STARTABLE:
                continue
            below = run.shape.specs[successor].name
            if state == s.CANCELLED:
                decision.say(e.TaskCancelled(task=below, reason=because("cancelled.upstream", need=name)))
            elif state == s.SKIPPED:
                decision.say(e.TaskSkipped(task=below, reason=because("upstream_skipped", need=name)))
            else:
                decision.say(e.TaskUpstreamFailed(task=below, cause=name))
    if run.state == s.RUN_CANCELLING:
        for number, task in enumerate(run.tasks):
            if task.state in s.STARTABLE:
                decision.say(e.TaskCancelled(task=run.shape.specs[number].name, reason=run.cancelling))
    if run.state in {s.RUN_RUNNING, s.RUN_CANCELLING} and run.unended == 0:
        decision.say(_finish(run))


def _finish(run: RunState) -> e.RunFinished:
    if run.state == s.RUN_CANCELLING and run.cancelling is not None:
        if run.cancelling.code == "deadline":
            return e.RunFinished(state=s.RUN_FAILED, reason=run.cancelling)
        return e.RunFinished(state=s.RUN_CANCELLED, reason=run.cancelling)
    if broken := _named(run, s.BROKEN) or _named(run, {s.UPSTREAM_FAILED}):
        return e.RunFinished(state=s.RUN_FAILED, reason=because("task_failed", tasks=broken))
    if cancelled := _named(run, {s.CANCELLED}):  # before, and it was not asked for again
        return e.RunFinished(state=s.RUN_CANCELLED, reason=because("cancelled.before", tasks=cancelled))
    return e.RunFinished(state=s.RUN_SUCCEEDED)


def _named(run: RunState, states: Collection[str]) -> str:
    names = [run.shape.specs[n].name for n, task in enumerate(run.tasks) if task.state in states]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# --- one handler for each stimulus -----------------------------------------------------------------


def _attempt_ended(decision: _Decision, report: st.AttemptEnded) -> None:
    run = decision.run
    number = run.shape.index[report.task]
    task = run.tasks[number]
    if task.state != s.RUNNING or task.attempt != report.attempt:
        return
    failed = isinstance(report.outcome, st.Failed | st.TimedOut)
    if failed and report.again is not None and run.state in {s.RUN_RUNNING, s.RUN_PAUSED}:
        decision.say(_once_more(task, report, report.again.delay, decision.now))
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
        metrics=outcome.metrics,
        ending=outcome.ending,
    )


def _success(_run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.Succeeded)
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
    return kind(
        task=spec.name,
        attempt=task.attempt,
        error=outcome.error,
        reason=because("timed_out" if timed_out else "failed", tries=task.tries, allowed=allowed, error=error),
        metrics=outcome.metrics,
        ending=outcome.ending,
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
    if not spec.idempotent:
        reason = because("interrupted.uncertain" if outcome.cause == "interrupted" else "cancelled.uncertain")
        return e.TaskUncertain(task=spec.name, attempt=task.attempt, reason=reason, ending=outcome.ending)
    if outcome.cause == "interrupted":
        reason = because("interrupted.task")
        return e.TaskInterrupted(task=spec.name, attempt=task.attempt, reason=reason, ending=outcome.ending)
    return e.TaskCancelled(task=spec.name, attempt=task.attempt, reason=run.cancelling, ending=outcome.ending)


def _left_running(_run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.LeftRunning)
    return e.TaskAbandoned(
        task=spec.name,
        attempt=task.attempt,
        reason=because("abandoned", message=outcome.message),
    )


def _never_began(_run: RunState, spec: TaskSpec, task: TaskState, report: st.AttemptEnded) -> e.AnyEvent:
    outcome = report.outcome
    assert isinstance(outcome, st.NeverBegan)
    reason = because("never_began", message=outcome.message)
    return e.TaskInterrupted(task=spec.name, attempt=task.attempt, reason=reason)


_END: dict[type, Callable[[RunState, TaskSpec, TaskState, st.AttemptEnded], e.AnyEvent]] = {
    st.Succeeded: _success,
    st.Failed: _failure,
    st.TimedOut: _failure,
    st.Stopped: _stopped,
    st.LeftRunning: _left_running,
    st.NeverBegan: _never_began,
}


def _found_fresh(decision: _Decision, found: st.FoundFresh) -> None:
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
            reason=found.reason,
        )
    )


def _could_not_begin(decision: _Decision, report: st.CouldNotBegin) -> None:
    task = decision.run.task(report.task)
    if task.state in s.STARTABLE:
        reason = because("could_not_begin", error=report.error.message)
        decision.say(e.TaskFailed(task=report.task, attempt=task.attempt, error=report.error, reason=reason))


def _cancel_asked(decision: _Decision, asked: st.CancelAsked) -> None:
    if decision.run.state in {s.RUN_RUNNING, s.RUN_PAUSED}:
        decision.say(e.RunCancelRequested(reason=asked.reason, by=asked.by))


def _pause_asked(decision: _Decision, asked: st.PauseAsked) -> None:
    if decision.run.state == s.RUN_RUNNING:
        decision.say(e.RunPaused(reason=asked.reason))


def _resume_asked(decision: _Decision, asked: st.ResumeAsked) -> None:
    if decision.run.state == s.RUN_PAUSED:
        decision.say(e.RunAdopted(owner=asked.owner))
        decision.run.find_ready()


def _deadline_reached(decision: _Decision, _reached: st.DeadlineReached) -> None:
    if decision.run.state in {s.RUN_RUNNING, s.RUN_PAUSED}:
        decision.say(e.RunDeadlinePassed())


def _adopted(decision: _Decision, adopted: st.Adopted) -> None:
    run = decision.run
    if run.state in s.RUN_ENDED:
        return
    decision.say(e.RunAdopted(owner=adopted.owner))
    for number in sorted(run.live):
        spec, task = run.shape.specs[number], run.tasks[number]
        if spec.idempotent:
            reason = because("owner_died")
            decision.say(e.TaskInterrupted(task=spec.name, attempt=task.attempt, reason=reason))
        else:
            reason = because("owner_died.uncertain")
            decision.say(e.TaskUncertain(task=spec.name, attempt=task.attempt, reason=reason))
    run.find_ready()


def _retry_asked(decision: _Decision, asked: st.RetryAsked) -> None:
    run = decision.run
    chosen, again = asked_for(run, asked), to_reset(run, asked)
    uncertain = sorted(n for n in chosen if run.tasks[n].state == s.UNCERTAIN)  # to name one is to answer for it
    for number in uncertain:
        decision.say(e.TaskResolved(task=run.shape.specs[number].name, verdict="rerun", by=asked.by))
    if not again:
        return
    if run.state in s.RUN_ENDED:
        decision.say(e.RunReopened(by=asked.by))
    _reset(decision, again, asked.by)


def _reset(decision: _Decision, again: Collection[int], by: str) -> None:
    """What lies below first: cut off anywhere, no task waits for ever behind one that is done."""
    run = decision.run
    for number in (number for number in reversed(run.shape.order()) if number in again):
        decision.say(e.TaskReset(task=run.shape.specs[number].name, by=by))
    run.find_ready()


def _redefined(decision: _Decision, asked: st.Redefined) -> None:
    run = decision.run
    if run.live or run.state not in {s.RUN_RUNNING, *s.RUN_ENDED}:
        return
    if run.state in s.RUN_ENDED:
        decision.say(e.RunReopened(by=asked.by))
    before, tasks = run.shape.index, still_chosen(run, asked.definition)
    now = tasks or tuple(task.name for task in asked.definition.tasks)
    decision.say(
        e.RunRedefined(
            spec=asked.spec,
            definition=asked.definition,
            params=asked.params,
            tasks=tasks,
            added=tuple(name for name in now if name not in before),
            removed=tuple(name for name in before if name not in now),
            by=asked.by,
        )
    )
    again = set[int]()  # their needs have gone, or were gone through anew: nothing bad is above them any more
    for number in run.shape.order():
        needs = run.shape.needs[number]
        if run.tasks[number].state == s.UPSTREAM_FAILED and not any(
            run.tasks[need].state in s.BAD and need not in again for need in needs
        ):
            again.add(number)
    _reset(decision, again, asked.by)
    if asked.again is not None:
        _retry_asked(decision, asked.again)


def still_chosen(run: RunState, definition: PipelineSpec) -> tuple[str, ...]:
    """The tasks of a run that goes on with another definition; none: all, as before.

    Of a run of some tasks, those that are still there, and whatever they need that has not ended well.
    """
    if len(run.shape) == len(run.spec.tasks):
        return ()
    known, chosen = task_map(definition), set[str]()
    queue = [name for name in run.shape.index if name in known]
    while queue:
        name = queue.pop()
        if name not in chosen:
            chosen.add(name)
            if name not in run.shape.index or run.task(name).state not in s.OK:
                queue += known[name].needs
    return tuple(name for name in known if name in chosen)


def _resolved(decision: _Decision, answer: st.Resolved) -> None:
    if decision.run.task(answer.task).state == s.UNCERTAIN:
        decision.say(
            e.TaskResolved(
                task=answer.task,
                verdict=answer.verdict,
                by=answer.by,
                result=answer.result,
                outputs=answer.outputs,
                parts=answer.parts,
            )
        )


_HANDLERS: dict[type, Callable[[_Decision, Any], None]] = {
    st.AttemptEnded: _attempt_ended,
    st.FoundFresh: _found_fresh,
    st.CouldNotBegin: _could_not_begin,
    st.CancelAsked: _cancel_asked,
    st.PauseAsked: _pause_asked,
    st.ResumeAsked: _resume_asked,
    st.DeadlineReached: _deadline_reached,
    st.Adopted: _adopted,
    st.RetryAsked: _retry_asked,
    st.Redefined: _redefined,
    st.Resolved: _resolved,
}
