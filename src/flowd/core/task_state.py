"""What is known of one task of a run, and what each of its events leaves behind in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.reasons import because


class AttemptState(msgspec.Struct, gc=False):
    """One try of a task: when, how long after the failure before it, and how it ended."""

    n: int
    started_at: datetime
    waited: timedelta | None = None
    ended_at: datetime | None = None
    error: e.Error | None = None
    ending: e.Ending | None = None
    round: int = 0  # of a task that is repeated


class RoundsState(msgspec.Struct, gc=False):
    """How far a repeated task is: when its first round began, and how many have ended and left it open."""

    since: datetime
    ended: int = 0


class ApprovalState(msgspec.Struct, gc=False):
    """A question to a person, and what became of it.

    `state` is waiting, approved, rejected, timed_out (nobody answered in time, and that was no yes),
    or withdrawn where the task ended otherwise; `begun`: the action that it held has started.
    """

    requested_at: datetime
    message: str
    show: tuple[e.Artifact, ...] = ()
    expires_at: datetime | None = None
    state: str = "waiting"
    by: str = ""
    comment: str = ""
    answered_at: datetime | None = None
    values: dict[str, Any] = {}
    result: e.Stored | None = None
    begun: bool = False
    back_to: str = ""


class ChildState(msgspec.Struct, gc=False):
    """The run of another pipeline that a task is; `commands` are what it waits for a person to type."""

    run: str
    commands: tuple[str, ...] = ()


INTERRUPTED = "Interrupted"
"""The type of error of an attempt that flowd itself cut short: no failure of the task."""

_EMPTY: dict[str, Any] = {}
"""What tasks without metrics or a fingerprint have in common, never changed: two each would be 128 MB for a million."""


class ServiceState(msgspec.Struct, gc=False):
    """Where a service answers, or did; how often it was begun again since it had ended by itself while it served."""

    since: datetime
    url: str = ""
    port: int = 0
    pid: int = 0
    restarts: int = 0


class TaskState(msgspec.Struct, gc=False):
    """What is known of one task of the run."""

    state: str = s.PENDING
    attempt: int = 0  # the number of the newest attempt, every try included
    tries: int = 0  # attempts that count against the retry policy since it last began anew
    tried_at: datetime | None = None  # when the first of those began
    retry_at: datetime | None = None
    until: datetime | None = None  # when the time is over for which it waits
    waited: timedelta | None = None
    ended_at: datetime | None = None
    result: e.Stored | None = None
    outputs: tuple[e.Artifact, ...] = ()
    metrics: dict[str, float] = msgspec.field(default_factory=lambda: _EMPTY)
    parts: dict[str, str] = msgspec.field(default_factory=lambda: _EMPTY)
    error: e.Error | None = None
    reason: e.Reason | None = None
    source: str | None = None  # the run whose checkpoint was found fresh
    warnings: tuple[str, ...] = ()
    approval: ApprovalState | None = None
    sent_back: e.SentBack | None = None  # why it runs again, where a person has sent a task below back to it
    attempts: list[AttemptState] | None = None
    rounds: RoundsState | None = None
    items: e.Stored | None = None  # the list that it is carried out for
    child: ChildState | None = None
    service: ServiceState | None = None
    allowed: bool = False  # it failed, and its `allow_failure` says that this is well

    @property
    def between_rounds(self) -> bool:
        """Whether it waits for its next round, and not since an attempt failed."""
        return self.state == s.RETRYING and self.rounds is not None and self.error is None

    @property
    def ok(self) -> bool:
        """Whether what needs it may count on it: it ended well, or failed where that is allowed."""
        return self.allowed or self.state in s.MET


def _started(task: TaskState, event: e.TaskStarted, at: datetime) -> None:
    task.attempt = event.attempt
    if task.tries == 0:
        task.tried_at = at
    task.tries += 1
    task.retry_at = task.ended_at = None
    task.reason, task.parts = event.reason, event.parts or _EMPTY
    if task.attempts is None:
        task.attempts = []
    task.attempts.append(AttemptState(event.attempt, at, task.waited, round=event.round))
    if event.round and task.rounds is None:
        task.rounds = RoundsState(at)
    if task.approval is not None:
        task.approval.begun = True
    task.waited = None
    if event.child:
        task.child = ChildState(event.child)


def _serving(task: TaskState, event: e.TaskServing, at: datetime) -> None:
    restarts = task.service.restarts if task.service is not None else 0
    task.service = ServiceState(at, event.url, event.port, event.pid, restarts)
    task.error = None


def end_attempt(task: TaskState, event: e.Event, at: datetime, error: e.Error | None = None) -> None:
    """The current attempt, if there is one, has ended."""
    if task.attempts and (last := task.attempts[-1]).ended_at is None:
        last.ended_at, last.error = at, error
        last.ending = getattr(event, "ending", None)


def _succeeded(task: TaskState, event: e.TaskSucceeded, at: datetime) -> None:
    end_attempt(task, event, at)
    task.ended_at = at
    task.result, task.outputs, task.metrics = event.result, event.outputs, event.metrics or _EMPTY
    task.parts, task.warnings = event.parts or _EMPTY, event.warnings
    task.error = None


def _fresh(task: TaskState, event: e.TaskFresh, at: datetime) -> None:
    task.ended_at, task.error = at, None
    task.result, task.outputs, task.metrics = event.result, event.outputs, event.metrics or _EMPTY
    task.parts, task.reason, task.source = event.parts, event.reason, event.source
    task.warnings = event.warnings


def _retry_scheduled(task: TaskState, event: e.TaskRetryScheduled, at: datetime) -> None:
    end_attempt(task, event, at, event.error)
    if event.restart and task.service is not None:
        task.service.restarts += 1
        task.tries = 0  # to come up it has all its tries again
    task.error, task.metrics = event.error, event.metrics or _EMPTY
    task.retry_at, task.waited = event.retry_at, event.delay


def _round_ended(task: TaskState, event: e.TaskRoundEnded, at: datetime) -> None:
    end_attempt(task, event, at)
    task.rounds = task.rounds or RoundsState(task.tried_at or at)
    task.rounds.ended = event.round
    task.tries, task.error, task.metrics = 0, None, event.metrics or _EMPTY  # the next round has all its tries
    task.retry_at, task.waited, task.reason = event.next_at, event.delay, event.reason


def _broken(task: TaskState, event: e.TaskFailed | e.TaskTimedOut, at: datetime) -> None:
    end_attempt(task, event, at, event.error)
    task.ended_at, task.retry_at = at, None
    task.error, task.reason, task.metrics = event.error, event.reason, event.metrics or _EMPTY
    _close_question(task)
    task.allowed = event.allowed


def _abandoned(task: TaskState, event: e.TaskAbandoned, at: datetime) -> None:
    _ended(task, event, at)
    task.allowed = event.allowed


def _ended(task: TaskState, event: e.TaskAbandoned | e.TaskSkipped | e.TaskCancelled, at: datetime) -> None:
    end_attempt(task, event, at)
    task.ended_at, task.retry_at = at, None
    task.reason = event.reason
    _close_question(task)


def _interrupted(task: TaskState, event: e.TaskInterrupted | e.TaskUncertain | e.TaskDeferred, at: datetime) -> None:
    end_attempt(task, event, at, e.Error(type=INTERRUPTED, message=event.reason.sentence))
    task.reason = event.reason
    task.tries -= 1  # flowd's doing, not the task's: it uses up nothing


def _deferred(task: TaskState, event: e.TaskDeferred, at: datetime) -> None:
    _interrupted(task, event, at)
    task.child = ChildState(event.child, event.commands)


def _taken_up(task: TaskState, _event: e.TaskTakenUp, _at: datetime) -> None:
    task.reason = None
    if task.child is not None:
        task.child = ChildState(task.child.run)


def _upstream_failed(task: TaskState, event: e.TaskUpstreamFailed, at: datetime) -> None:
    task.ended_at, task.retry_at = at, None
    task.reason = because("upstream_failed", need=event.cause)
    _close_question(task)


def _close_question(task: TaskState) -> None:
    """Nobody is asked any more."""
    if task.approval is not None and task.approval.state == "waiting":
        timed_out = task.reason is not None and task.reason.code == "approval_timed_out"
        task.approval.state = "timed_out" if timed_out else "withdrawn"


def _approval_requested(task: TaskState, event: e.TaskApprovalRequested, at: datetime) -> None:
    task.approval = ApprovalState(at, event.message, event.show, event.expires_at)
    task.reason = event.reason


def _approved(task: TaskState, event: e.TaskApproved, _at: datetime) -> None:
    _answer(task, event, "approved")
    assert task.approval is not None
    task.approval.values, task.approval.result = event.values, event.result
    task.reason = because("approved", by=event.by or "a person")


def _rejected(task: TaskState, event: e.TaskRejected, at: datetime) -> None:
    _answer(task, event, "rejected")
    if task.approval is not None:
        task.approval.back_to = event.back_to
    task.ended_at, task.reason, task.allowed = at, event.reason, event.allowed
    task.error = e.Error(type="Rejected", message=event.reason.sentence if event.reason else "it was rejected")


def _answer(task: TaskState, event: e.TaskApproved | e.TaskRejected, state: str) -> None:
    asked = task.approval
    assert asked is not None
    asked.state, asked.by, asked.comment, asked.answered_at = state, event.by, event.comment, event.answered_at


def _timer_started(task: TaskState, event: e.TaskTimerStarted, at: datetime) -> None:
    task.tried_at, task.until, task.reason = at, event.until, event.reason


def _resolved(task: TaskState, event: e.TaskResolved, at: datetime) -> None:
    task.reason = because("resolved.by" if event.by else "resolved", verdict=event.verdict, by=event.by)
    if event.verdict == "rerun":
        task.tries = 0
        return
    task.ended_at = at
    task.error = None
    if event.verdict == "failed":
        task.allowed = event.allowed
        task.error = e.Error(type="Resolved", message=f"{event.by or 'a person'} said that it failed")
    else:
        task.result, task.outputs, task.parts = event.result, event.outputs, event.parts


def reset(task: TaskState, event: e.TaskReset | e.TaskReopened) -> None:
    """A person asked for the task again: nothing of how it ended stands."""
    task.tries, task.tried_at, task.ended_at, task.error, task.source = 0, None, None, None, None
    task.result, task.outputs, task.metrics, task.parts, task.warnings = None, (), _EMPTY, _EMPTY, ()
    task.waited = task.until = task.retry_at = task.rounds = None
    if isinstance(event, e.TaskReset):  # items that run again were answered for with their list
        task.approval = None
    task.sent_back, task.allowed = event.sent_back if isinstance(event, e.TaskReset) else None, False
    task.reason = because("retried.by" if event.by else "retried", by=event.by)


def _reset(task: TaskState, event: e.TaskReset, _at: datetime) -> None:
    reset(task, event)


def _failed(task: TaskState, event: e.TaskFailed, at: datetime) -> None:
    _broken(task, event, at)
    task.outputs = event.outputs


EFFECTS: dict[type[e.Event], Callable[[TaskState, Any, datetime], None]] = {
    e.TaskStarted: _started,
    e.TaskServing: _serving,
    e.TaskSucceeded: _succeeded,
    e.TaskFresh: _fresh,
    e.TaskRetryScheduled: _retry_scheduled,
    e.TaskRoundEnded: _round_ended,
    e.TaskFailed: _failed,
    e.TaskTimedOut: _broken,
    e.TaskAbandoned: _abandoned,
    e.TaskInterrupted: _interrupted,
    e.TaskUncertain: _interrupted,
    e.TaskResolved: _resolved,
    e.TaskApprovalRequested: _approval_requested,
    e.TaskApproved: _approved,
    e.TaskRejected: _rejected,
    e.TaskTimerStarted: _timer_started,
    e.TaskDeferred: _deferred,
    e.TaskTakenUp: _taken_up,
    e.TaskSkipped: _ended,
    e.TaskUpstreamFailed: _upstream_failed,
    e.TaskCancelled: _ended,
    e.TaskReset: _reset,
}
