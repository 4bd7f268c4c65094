"""What has happened to a run, as frozen past-tense facts: the vocabulary of all of flowd.

House rules of this room. An event carries no time and no sequence number: the stream puts it
into an `Envelope`, once. Events are made only in `decide`. A field is never renamed or given
another meaning: a journal of any released version folds for ever; a new field has a default.
The event's name in a journal or on the wire is its class name in snake case.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import msgspec

from flowd.core.facts import Artifact, Ending, Error, Reason, SentBack, Stored
from flowd.core.spec import PipelineSpec


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="event", tag=_snake):
    """The base of all events."""


class TaskEvent(Event, frozen=True, kw_only=True):
    """The base of events about one task."""

    task: str


# --- a run -----------------------------------------------------------------------------------


class RunStarted(Event, frozen=True, kw_only=True):
    """A run began. `spec` is the digest of the run's `spec.json`, written and synced before.

    `tasks` are the selected ones (none: all); with `force` no checkpoint counts, and none of
    `force_tasks` does. `owner` is the process that began it.
    """

    pipeline: str
    spec: str
    params: dict[str, Any] = {}
    trigger: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "hand"})
    tasks: tuple[str, ...] = ()
    force: bool = False
    force_tasks: tuple[str, ...] = ()
    owner: str = ""


class RunAdopted(Event, frozen=True, kw_only=True):
    """Another owner went on with the run after its owner died, or after a pause."""

    owner: str


class RunCancelRequested(Event, frozen=True, kw_only=True):
    """A person or the host program asked for the run to stop; with `cause` `fail_fast`, the task `reason` failed."""

    reason: str = ""
    by: str = ""
    cause: str = ""


class RunDeadlinePassed(Event, frozen=True, kw_only=True):
    """The run's `deadline` elapsed: what still ran is ended as timed out."""


class RunPaused(Event, frozen=True, kw_only=True):
    """Nothing new starts until the run is resumed.

    `reason` is `interrupted` for a stop signal, `failures` where `stop_after_failures` attempts have failed.
    """

    reason: str = ""
    by: str = ""


class RunClosing(Event, frozen=True, kw_only=True):
    """All tasks have ended, the run as `state` says, and what stands under `finally` is run now; `failed` did so."""

    state: str
    reason: Reason | None = None
    failed: tuple[str, ...] = ()


class RunFinished(Event, frozen=True, kw_only=True):
    """The run ended: succeeded, partial, failed or cancelled."""

    state: str
    reason: Reason | None = None


class RunReopened(Event, frozen=True, kw_only=True):
    """A person asked for tasks of a finished run again (`retry`)."""

    by: str = ""


class RunRedefined(Event, frozen=True, kw_only=True):
    """A person let the run go on with its pipeline as it is written now; `spec` is the digest of `definition`.

    What was known of a task stays known under its name; `added` and `removed` name the others.
    `tasks` are the selected ones (none: all), `params` the run's parameters from now on.
    """

    spec: str
    definition: PipelineSpec
    params: dict[str, Any] = {}
    tasks: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    by: str = ""


# --- a task ----------------------------------------------------------------------------------


class TaskStarted(TaskEvent, frozen=True, kw_only=True):
    """Attempt `attempt` (from 1, every try) began, not fresh for `reason`; `parts` where a person may resolve it.

    `child` is the run of another pipeline that the attempt is.
    """

    attempt: int
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
    """The attempt failed and the next may begin at `retry_at`, `delay` after the failure."""

    attempt: int
    error: Error
    delay: timedelta
    retry_at: datetime
    metrics: dict[str, float] = {}
    ending: Ending | None = None


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


RUN_EVENTS = (
    RunStarted
    | RunAdopted
    | RunCancelRequested
    | RunDeadlinePassed
    | RunPaused
    | RunClosing
    | RunFinished
    | RunReopened
    | RunRedefined
)
TASK_EVENTS = (
    TaskStarted
    | TaskSucceeded
    | TaskFresh
    | TaskRetryScheduled
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
