"""What happens to a run from outside, and how an attempt can end: closed sets of plain data.

An outcome that is none of these cannot be said; unknown means an error, never success.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from flowd.core.events import Artifact, Ending, Error, Reason, Stored
from flowd.core.spec import PipelineSpec

# --- how an attempt ended ----------------------------------------------------------------------


class Succeeded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The action did what it declared; everything is on disk but the record of it."""

    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    metrics: dict[str, float] = {}
    parts: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    ending: Ending | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The action raised, ended badly, or broke its own declaration."""

    error: Error
    metrics: dict[str, float] = {}
    ending: Ending | None = None


class TimedOut(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The attempt's `timeout` ended it."""

    error: Error
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


Outcome = Succeeded | Failed | TimedOut | Stopped | LeftRunning | NeverBegan

# --- stimuli -----------------------------------------------------------------------------------


class Again(msgspec.Struct, frozen=True):
    """The retry strategies' answer to a failure: once more, so long after it."""

    delay: timedelta


class AttemptEnded(msgspec.Struct, frozen=True, gc=False):
    """An attempt reports its end; `again` is None where no further attempt is allowed."""

    task: str
    attempt: int
    outcome: Outcome
    again: Again | None = None


class FoundFresh(msgspec.Struct, frozen=True, kw_only=True):
    """The newest checkpoint of a pending task still holds."""

    task: str
    source: str
    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    metrics: dict[str, float] = {}
    parts: dict[str, str] = {}
    reason: Reason | None = None


class CouldNotBegin(msgspec.Struct, frozen=True):
    """A pending task cannot be begun at all, such as an input that has vanished."""

    task: str
    error: Error


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


Stimulus = (
    AttemptEnded
    | FoundFresh
    | CouldNotBegin
    | Expanded
    | Gathered
    | CancelAsked
    | PauseAsked
    | ResumeAsked
    | DeadlineReached
    | Adopted
    | RetryAsked
    | Redefined
    | Resolved
)
