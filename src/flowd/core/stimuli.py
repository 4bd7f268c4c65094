"""What happens to a run from outside, and how an attempt can end: closed sets of plain data.

An outcome that is none of these cannot be said; unknown means an error, never success.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from flowd.core.events import Artifact, Ending, Error, Reason, Stored
from flowd.core.spec import PipelineSpec

# --- how an attempt ended ----------------------------------------------------------------------


class Succeeded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The action did what it declared; everything is on disk but the record of it. `partial`: not for all, and why."""

    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    metrics: dict[str, float] = {}
    parts: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    partial: Reason | None = None
    ending: Ending | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The action raised, ended badly, or broke its own declaration; a `reason` says it better than the error."""

    error: Error
    metrics: dict[str, float] = {}
    ending: Ending | None = None
    reason: Reason | None = None


class TimedOut(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The attempt's `timeout` ended it, or the time of its `repeat` is over, as `reason` says."""

    error: Error
    metrics: dict[str, float] = {}
    ending: Ending | None = None
    reason: Reason | None = None


class RoundOver(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The action did what it declared, and another round has to follow; `why` is what `until` was judged by."""

    why: str
    result: Stored | None = None
    exit_code: int | None = None
    metrics: dict[str, float] = {}
    ending: Ending | None = None


class Stopped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """flowd ended it for another cause: `cancelled`, `deadline` or `interrupted`."""

    cause: str
    ending: Ending | None = None


class LeftRunning(msgspec.Struct, frozen=True, kw_only=True):
    """It could not be stopped and goes on by itself."""

    message: str


class NeverBegan(msgspec.Struct, frozen=True, kw_only=True):
    """The action was not begun, and no fault of the task's: it may start again in any case."""

    message: str


class WaitsForPeople(msgspec.Struct, frozen=True, kw_only=True):
    """The run that it is, `child`, cannot go on without a person, who has to type one of `commands`."""

    child: str
    commands: tuple[str, ...] = ()


Outcome = WaitsForPeople | Succeeded | Failed | TimedOut | RoundOver | Stopped | LeftRunning | NeverBegan

# --- stimuli -----------------------------------------------------------------------------------


class Again(msgspec.Struct, frozen=True):
    """The retry strategies' answer to a failure: once more, so long after it."""

    delay: timedelta


class AttemptEnded(msgspec.Struct, frozen=True, gc=False):
    """An attempt reports its end; `again` is None where no further attempt is allowed.

    `allowed`: it is a failure, and the task's `allow_failure` says that this is well.
    """

    task: str
    attempt: int
    outcome: Outcome
    again: Again | None = None
    allowed: bool = False


class Serves(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt of a service has passed its probe: it answers at `url`, its process is `pid`."""

    task: str
    attempt: int
    url: str = ""
    port: int = 0
    pid: int = 0


class HandedOver(msgspec.Struct, frozen=True):
    """A service that stood back for that of another run has nothing more to do: the other serves."""

    task: str


class FoundFresh(msgspec.Struct, frozen=True, kw_only=True):
    """The newest checkpoint of a pending task still holds."""

    task: str
    source: str
    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    metrics: dict[str, float] = {}
    parts: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    reason: Reason | None = None


class CouldNotBegin(msgspec.Struct, frozen=True):
    """A pending task cannot be begun at all, such as an input that has vanished."""

    task: str
    error: Error
    allowed: bool = False


class WhenFalse(msgspec.Struct, frozen=True):
    """A task that might start has a `when` that does not hold; `reason` is what it was judged by."""

    task: str
    reason: Reason


class Expanded(msgspec.Struct, frozen=True):
    """The items that a pending task is carried out for are known, and kept; `keys` empty: their places."""

    task: str
    count: int
    keys: tuple[str, ...] = ()
    items: Stored | None = None


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What the items of a task have left is gathered: the list of their results, and `failed` in words."""

    task: str
    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    failed: str = ""


class TimerStarted(msgspec.Struct, frozen=True):
    """The turn of a task has come that waits until a moment."""

    task: str


class TimerFired(msgspec.Struct, frozen=True):
    """The time is over for which a task waits."""

    task: str


class RepeatTimedOut(msgspec.Struct, frozen=True, kw_only=True):
    """No further round of a task may begin: the time of its `repeat` is over."""

    task: str
    error: Error
    reason: Reason
    allowed: bool = False


class ChildMoved(msgspec.Struct, frozen=True):
    """The run for which a task was deferred has ended, or goes on."""

    task: str


class CancelAsked(msgspec.Struct, frozen=True):
    """Someone wants the run to stop."""

    reason: str = ""
    by: str = ""


class PauseAsked(msgspec.Struct, frozen=True):
    """Nothing new may start."""

    reason: str = ""
    by: str = ""


class ResumeAsked(msgspec.Struct, frozen=True):
    """The owner of a paused run wants it to go on; what still runs goes on running."""

    owner: str = ""


class DeadlineReached(msgspec.Struct, frozen=True):
    """The run's deadline has elapsed."""


class Adopted(msgspec.Struct, frozen=True):
    """A new owner took the run over: none of the recorded attempts is alive."""

    owner: str


class RetryAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A person wants tasks again: those named, else all that did not end well; or of these the `failed_items` alone."""

    tasks: tuple[str, ...] = ()
    downstream: bool = False
    by: str = ""
    failed_items: bool = False


class Redefined(msgspec.Struct, frozen=True, kw_only=True):
    """A person wants the run to go on as its pipeline is written now, and perhaps some of its tasks `again`.

    `spec` is the digest of `definition`; `params` are the run's, as the definition takes them.
    """

    definition: PipelineSpec
    spec: str
    params: dict[str, Any] = {}
    by: str = ""
    again: RetryAsked | None = None


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A person, or the task's `reconcile`, says what became of it: succeeded, failed or rerun."""

    task: str
    verdict: str
    by: str = ""
    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    parts: dict[str, str] = {}


class ApprovalAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A person has to be asked `message`, and shown these files.

    `lapsed` names what differs (a path, or `MESSAGE`) where an earlier question, or the answer to
    it, stands no more.
    """

    task: str
    message: str
    show: tuple[Artifact, ...] = ()
    lapsed: str = ""


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """A person says yes; `result` is what the answer gives where it is all of the task."""

    task: str
    by: str
    answered_at: datetime
    comment: str = ""
    values: dict[str, Any] = {}
    result: Stored | None = None


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A person says no; `back_to` names the task above from which on it is done again."""

    task: str
    by: str
    answered_at: datetime
    comment: str = ""
    back_to: str = ""


class ApprovalExpired(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody has answered in time; `yes` is the answer where the task says `then: approve`."""

    task: str
    yes: Approved | None = None


Stimulus = (
    AttemptEnded
    | Serves
    | HandedOver
    | FoundFresh
    | CouldNotBegin
    | Expanded
    | Gathered
    | WhenFalse
    | TimerStarted
    | TimerFired
    | RepeatTimedOut
    | ChildMoved
    | CancelAsked
    | PauseAsked
    | ResumeAsked
    | DeadlineReached
    | Adopted
    | RetryAsked
    | Redefined
    | Resolved
    | ApprovalAsked
    | Approved
    | Rejected
    | ApprovalExpired
)
