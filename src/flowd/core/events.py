"""What has happened to a run, as frozen past-tense facts: the vocabulary of all of flowd.

House rules of this room. An event carries no time and no sequence number: the stream puts it
into an `Envelope`, once. Events are made only in `decide`. A field is never renamed or given
another meaning: a journal of any released version folds for ever; a new field has a default.
The event's name in a journal or on the wire is its class name in snake case.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from flowd.core.facts import Artifact, Ending, Error, Reason, SentBack, Stored
from flowd.core.run_events import (  # noqa: F401  # this room is the door to both
    RUN_EVENTS,
    Event,
    RunAdopted,
    RunCancelRequested,
    RunClosing,
    RunDeadlinePassed,
    RunFinished,
    RunPaused,
    RunRedefined,
    RunReopened,
    RunStarted,
)


class TaskEvent(Event, frozen=True, kw_only=True):
    """The base of events about one task."""

    task: str


class TaskStarted(TaskEvent, frozen=True, kw_only=True):
    """Attempt `attempt` (from 1, every try) began, not fresh for `reason`; `parts` where a person may resolve it.

    `round` (from 1) is that of a task which is repeated; `child` is the run of another pipeline that the attempt is.
    """

    attempt: int
    round: int = 0
    executor: str = ""
    reason: Reason | None = None
    parts: dict[str, str] = {}
    child: str = ""


class TaskSucceeded(TaskEvent, frozen=True, kw_only=True):
    """The attempt did all it declared (0: a person's answer was all of the task); this record is its checkpoint.

    `parts` is the fingerprint it was made with, part by part, so that a later run can say which part changed.
    """

    attempt: int
    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    metrics: dict[str, float] = {}
    parts: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    ending: Ending | None = None


class TaskServing(TaskEvent, frozen=True, kw_only=True):
    """The attempt, a service, has passed its probe: it answers at `url` (empty: no port), its process is `pid`."""

    attempt: int
    url: str = ""
    port: int = 0
    pid: int = 0


class TaskFresh(TaskEvent, frozen=True, kw_only=True):
    """The task's newest checkpoint (of run `source`) still holds; it was not run again."""

    source: str
    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    metrics: dict[str, float] = {}
    parts: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    reason: Reason | None = None


class TaskRetryScheduled(TaskEvent, frozen=True, kw_only=True):
    """The attempt failed and the next may begin at `retry_at`, `delay` after the failure.

    `restart`: it is that of a service, which has served before.
    """

    attempt: int
    error: Error
    delay: timedelta
    retry_at: datetime
    restart: bool = False
    metrics: dict[str, float] = {}
    ending: Ending | None = None


class TaskRoundEnded(TaskEvent, frozen=True, kw_only=True):
    """A round of a repeated task did what it declared, and its `until` does not hold: the next begins at `next_at`.

    `result` is left out where it is large, `exit_code` where there is none.
    """

    attempt: int
    round: int
    delay: timedelta
    next_at: datetime
    result: Stored | None = None
    exit_code: int | None = None
    metrics: dict[str, float] = {}
    ending: Ending | None = None
    reason: Reason | None = None


class TaskFailed(TaskEvent, frozen=True, kw_only=True):
    """The attempt failed and no other follows; `attempt` 0: it could not be begun, or too few of its items ended well.

    Where its `allow_failure` says so it is `allowed`: ok for what needs it, and for the run. `outputs` is the
    list of the items that failed.
    """

    attempt: int
    error: Error
    reason: Reason | None = None
    metrics: dict[str, float] = {}
    ending: Ending | None = None
    outputs: tuple[Artifact, ...] = ()
    allowed: bool = False


class TaskTimedOut(TaskEvent, frozen=True, kw_only=True):
    """The attempt was ended by its `timeout` or by the run's `deadline`; `allowed` as of a failure."""

    attempt: int
    error: Error
    reason: Reason | None = None
    metrics: dict[str, float] = {}
    ending: Ending | None = None
    allowed: bool = False


class TaskAbandoned(TaskEvent, frozen=True, kw_only=True):
    """The attempt could not be stopped and goes on by itself; its limits are still held."""

    attempt: int
    reason: Reason
    allowed: bool = False


class TaskInterrupted(TaskEvent, frozen=True, kw_only=True):
    """The attempt was cut short by flowd's own end; it counts against no retry policy."""

    attempt: int
    reason: Reason
    ending: Ending | None = None


class TaskUncertain(TaskEvent, frozen=True, kw_only=True):
    """A non-idempotent attempt began and its end is unknown; a person must resolve it."""

    attempt: int
    reason: Reason
    ending: Ending | None = None


class TaskResolved(TaskEvent, frozen=True, kw_only=True):
    """A person, or the task's `reconcile`, said what became of it: succeeded, failed or rerun."""

    verdict: str
    by: str = ""
    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    parts: dict[str, str] = {}
    allowed: bool = False


class TaskApprovalRequested(TaskEvent, frozen=True, kw_only=True):
    """The task waits until `expires_at` for a person's answer to `message` about the files `show` as they are here."""

    message: str
    show: tuple[Artifact, ...] = ()
    expires_at: datetime | None = None
    reason: Reason | None = None


class TaskApproved(TaskEvent, frozen=True, kw_only=True):
    """A person said yes, and filled in `values`: its action may start, or `task_succeeded` with this `result` follows.

    `by` is `timeout` where nobody answered in time and `then: approve` spoke.
    """

    by: str
    answered_at: datetime
    comment: str = ""
    values: dict[str, Any] = {}
    result: Stored | None = None


class TaskRejected(TaskEvent, frozen=True, kw_only=True):
    """A person said no: the task has failed; what lies between and `back_to`, if given, is reset by what follows.

    `allowed` as of a failure.
    """

    by: str
    answered_at: datetime
    comment: str = ""
    back_to: str = ""
    reason: Reason | None = None
    allowed: bool = False


class TaskTimerStarted(TaskEvent, frozen=True, kw_only=True):
    """The task waits until a moment, and has succeeded then; nothing of it is held meanwhile."""

    until: datetime
    reason: Reason | None = None


class TaskDeferred(TaskEvent, frozen=True, kw_only=True):
    """The run that the attempt is, `child`, cannot go on without a person; `commands` are what to type there."""

    attempt: int
    child: str
    reason: Reason
    commands: tuple[str, ...] = ()


class TaskTakenUp(TaskEvent, frozen=True, kw_only=True):
    """A task that was deferred is looked at again: somebody may have answered meanwhile."""


class TaskSkipped(TaskEvent, frozen=True, kw_only=True):
    """The task was not run, on purpose."""

    reason: Reason


class TaskUpstreamFailed(TaskEvent, frozen=True, kw_only=True):
    """A task that this one needs did not end well; `cause` is the need."""

    cause: str


class TaskCancelled(TaskEvent, frozen=True, kw_only=True):
    """The task was stopped, or will not start, because the run was cancelled."""

    attempt: int = 0
    reason: Reason | None = None
    ending: Ending | None = None


class TaskExpanded(TaskEvent, frozen=True, kw_only=True):
    """It is known which items the task is carried out for: `count` tasks of their own, called `task[key]`.

    `result` holds the items themselves (none for a matrix, whose cells the specification has). Without
    `keys` an item's key is its place in the list.
    """

    count: int
    keys: tuple[str, ...] = ()
    result: Stored | None = None


class TaskPartial(TaskEvent, frozen=True, kw_only=True):
    """Not all, but enough of the task's items ended well; `result` has null for the others, `outputs` their list."""

    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    reason: Reason | None = None


class TaskReopened(TaskEvent, frozen=True, kw_only=True):
    """A person asked for items of the task again: those with these keys, or all that did not end well."""

    items: tuple[str, ...] = ()
    by: str = ""


class TaskReset(TaskEvent, frozen=True, kw_only=True):
    """A person asked for the task again, perhaps by rejecting one below: it is pending, its attempts count anew."""

    by: str = ""
    sent_back: SentBack | None = None


TASK_EVENTS = (
    TaskStarted
    | TaskServing
    | TaskSucceeded
    | TaskFresh
    | TaskRetryScheduled
    | TaskRoundEnded
    | TaskFailed
    | TaskTimedOut
    | TaskAbandoned
    | TaskInterrupted
    | TaskUncertain
    | TaskResolved
    | TaskApprovalRequested
    | TaskApproved
    | TaskRejected
    | TaskTimerStarted
    | TaskDeferred
    | TaskTakenUp
    | TaskSkipped
    | TaskUpstreamFailed
    | TaskCancelled
    | TaskExpanded
    | TaskPartial
    | TaskReopened
    | TaskReset
)
AnyEvent = RUN_EVENTS | TASK_EVENTS


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An event with its place in its run: `seq` from 1 without gaps, `at` aware and UTC."""

    run: str
    seq: int
    at: datetime
    event: AnyEvent
