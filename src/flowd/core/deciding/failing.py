"""What failures make of the whole run: `fail_fast` ends it at the first, `stop_after_failures` pauses it after some."""

from __future__ import annotations

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.deciding.decision import Decision
from flowd.core.items import fan_of
from flowd.core.run import RunState
from flowd.core.task_state import INTERRUPTED

FAIL_FAST = "fail_fast"
TOO_MANY = "failures"

_TRIED = (e.TaskFailed, e.TaskTimedOut, e.TaskRetryScheduled)


def stop_at_failures(decision: Decision) -> bool:
    """Stop the run where a failure of this decision is one too many; whether it is stopped."""
    run = decision.run
    if not run.spec.fail_fast and run.spec.stop_after_failures is None:
        return False
    if run.state not in {s.RUN_RUNNING, s.RUN_PAUSED} or run.closing is not None:
        return False
    if run.spec.fail_fast:
        for event in decision.events:
            if isinstance(event, e.TaskEvent) and (task := run.task(event.task)).state in s.BROKEN:
                if task.allowed or _is_borne(run, event):
                    continue
                decision.say(e.RunCancelRequested(reason=event.task, cause=FAIL_FAST))
                return True
    most = run.spec.stop_after_failures
    if most is None or run.state != s.RUN_RUNNING or not any(isinstance(event, _TRIED) for event in decision.events):
        return False
    if failures(run) < most:
        return False
    decision.say(e.RunPaused(reason=TOO_MANY))
    return True


def _is_borne(run: RunState, event: e.TaskEvent) -> bool:
    """Whether it is an item of a task that does without some of its items, or may fail."""
    fan = fan_of(run, run.shape.index[event.task])
    if fan is None:
        return False
    foreach = fan.template.foreach
    return fan.template.allow_failure is True or (foreach is not None and foreach.min_success < 1)


def failures(run: RunState) -> int:
    """How many attempts have failed since the run began, or since it was last gone on with.

    Retried ones count, those of a task whose failure is allowed do not.
    """
    since = run.entered_at
    return sum(
        attempt.error is not None and attempt.error.type != INTERRUPTED
        for task in run.tasks
        if not task.allowed
        for attempt in task.attempts or ()
        if attempt.ended_at is not None and (since is None or attempt.ended_at >= since)
    )
