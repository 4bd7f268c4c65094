"""What has happened to a run as a whole; what happened to its tasks is in `events`, with the rules for both."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from flowd.core.facts import Reason
from flowd.core.spec import PipelineSpec


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="event", tag=_snake):
    """The base of all events."""


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
