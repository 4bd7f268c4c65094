"""The states of a run and of a task, and every legal transition between them.

House rules of this room. All that is known about transitions stands here, as tables from which
`scripts/states` draws and a test visits every pair; no other module compares a state
with an event. A state is a plain string: it is what a journal, a JSON document and a person read.
An event that its state does not list is refused by `IllegalTransition`, and nothing happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowd.core import events as e

# --- tasks -----------------------------------------------------------------------------------

PENDING: Final = "pending"
RUNNING: Final = "running"
SERVING: Final = "serving"  # a service: what needs it may start, and it goes on
EXPANDED: Final = "expanded"  # its items are on their way; it is shown as running
RETRYING: Final = "retrying"
WAITING: Final = "waiting"
SLEEPING: Final = "sleeping"  # until a moment; documents call it waiting, too
UNCERTAIN: Final = "uncertain"
SUCCEEDED: Final = "succeeded"
PARTIAL: Final = "partial"
FRESH: Final = "fresh"
SKIPPED: Final = "skipped"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"
UPSTREAM_FAILED: Final = "upstream_failed"
CANCELLED: Final = "cancelled"
ABANDONED: Final = "abandoned"

TASK_STATES: Final = (
    PENDING,
    RUNNING,
    SERVING,
    EXPANDED,
    RETRYING,
    WAITING,
    SLEEPING,
    UNCERTAIN,
    SUCCEEDED,
    PARTIAL,
    FRESH,
    SKIPPED,
    FAILED,
    TIMED_OUT,
    UPSTREAM_FAILED,
    CANCELLED,
    ABANDONED,
)

OK: Final = frozenset({SUCCEEDED, PARTIAL, FRESH})
"""States in which a task has ended well."""

MET: Final = OK | {SERVING}
"""States in which a need counts as met."""

LIVE: Final = frozenset({RUNNING, SERVING})
"""States in which an attempt goes on."""

BAD: Final = frozenset({FAILED, TIMED_OUT, UPSTREAM_FAILED, CANCELLED, ABANDONED})
"""States in which a need can no longer be met."""

BROKEN: Final = frozenset({FAILED, TIMED_OUT, ABANDONED})
"""States that make the whole run failed."""

ENDED: Final = OK | BAD | {SKIPPED}
"""States that only a person's request leaves."""

_RESET = dict.fromkeys(sorted(ENDED), PENDING) | {WAITING: PENDING, SLEEPING: PENDING}

TASK_TRANSITIONS: Final[Mapping[type[e.Event], Mapping[str, str]]] = {
    e.TaskStarted: {PENDING: RUNNING, RETRYING: RUNNING},
    e.TaskTimerStarted: {PENDING: SLEEPING},
    e.TaskSucceeded: {
        RUNNING: SUCCEEDED,
        EXPANDED: SUCCEEDED,
        PENDING: SUCCEEDED,
        SLEEPING: SUCCEEDED,
        SERVING: SUCCEEDED,
    },  # the last: an answer is all of it
    e.TaskServing: {RUNNING: SERVING},
    e.TaskFresh: {PENDING: FRESH, EXPANDED: FRESH},
    e.TaskRetryScheduled: {RUNNING: RETRYING, SERVING: RETRYING},
    e.TaskRoundEnded: {RUNNING: RETRYING},  # nothing has failed; documents call it waiting
    e.TaskFailed: dict.fromkeys((RUNNING, SERVING, PENDING, RETRYING, WAITING, EXPANDED), FAILED),
    e.TaskTimedOut: dict.fromkeys((RUNNING, SERVING, PENDING, RETRYING), TIMED_OUT),
    e.TaskAbandoned: {RUNNING: ABANDONED, SERVING: ABANDONED},
    e.TaskInterrupted: {RUNNING: PENDING, SERVING: PENDING},
    e.TaskUncertain: {RUNNING: UNCERTAIN, SERVING: UNCERTAIN},
    e.TaskResolved: {UNCERTAIN: ""},  # to where the verdict says: RESOLUTIONS
    e.TaskExpanded: {PENDING: EXPANDED},
    e.TaskPartial: {EXPANDED: PARTIAL, RUNNING: PARTIAL},
    e.TaskReopened: dict.fromkeys(sorted(ENDED), EXPANDED),
    e.TaskApprovalRequested: {PENDING: WAITING, WAITING: WAITING},
    e.TaskApproved: {WAITING: PENDING},
    e.TaskRejected: {WAITING: FAILED},
    e.TaskDeferred: {RUNNING: WAITING},
    e.TaskTakenUp: {WAITING: PENDING},
    e.TaskSkipped: {PENDING: SKIPPED, RETRYING: SKIPPED, WAITING: SKIPPED, SLEEPING: SKIPPED},
    e.TaskUpstreamFailed: {
        PENDING: UPSTREAM_FAILED,
        RETRYING: UPSTREAM_FAILED,
        WAITING: UPSTREAM_FAILED,
        SLEEPING: UPSTREAM_FAILED,
    },
    e.TaskCancelled: dict.fromkeys((PENDING, RUNNING, SERVING, RETRYING, WAITING, SLEEPING, EXPANDED), CANCELLED),
    e.TaskReset: _RESET,
}

STARTABLE: Final = frozenset(TASK_TRANSITIONS[e.TaskStarted])
"""States in which a task waits for its next attempt."""

IDLE: Final = STARTABLE | {WAITING, SLEEPING}
"""States of a task of which nothing goes on: it can be called off at once."""

RESOLUTIONS: Final[Mapping[str, str]] = {"succeeded": SUCCEEDED, "failed": FAILED, "rerun": PENDING}
"""A person's verdict on an uncertain task, and the state it leads to."""

# --- runs ------------------------------------------------------------------------------------

RUN_NEW: Final = "new"
RUN_RUNNING: Final = "running"
RUN_CANCELLING: Final = "cancelling"
RUN_PAUSED: Final = "paused"
RUN_SUCCEEDED: Final = "succeeded"
RUN_PARTIAL: Final = "partial"
RUN_FAILED: Final = "failed"
RUN_CANCELLED: Final = "cancelled"

RUN_STATES: Final = (
    RUN_NEW,
    RUN_RUNNING,
    RUN_CANCELLING,
    RUN_PAUSED,
    RUN_SUCCEEDED,
    RUN_PARTIAL,
    RUN_FAILED,
    RUN_CANCELLED,
)
RUN_ENDED: Final = frozenset({RUN_SUCCEEDED, RUN_PARTIAL, RUN_FAILED, RUN_CANCELLED})

RUN_TRANSITIONS: Final[Mapping[type[e.Event], Mapping[str, str]]] = {
    e.RunStarted: {RUN_NEW: RUN_RUNNING},
    e.RunAdopted: {RUN_RUNNING: RUN_RUNNING, RUN_PAUSED: RUN_RUNNING, RUN_CANCELLING: RUN_CANCELLING},
    e.RunPaused: {RUN_RUNNING: RUN_PAUSED},
    e.RunCancelRequested: {RUN_RUNNING: RUN_CANCELLING, RUN_PAUSED: RUN_CANCELLING},
    e.RunDeadlinePassed: {RUN_RUNNING: RUN_CANCELLING, RUN_PAUSED: RUN_CANCELLING},
    e.RunClosing: {RUN_RUNNING: RUN_RUNNING, RUN_CANCELLING: RUN_RUNNING},
    e.RunFinished: {RUN_RUNNING: "", RUN_CANCELLING: ""},  # to the state it names
    e.RunReopened: dict.fromkeys(sorted(RUN_ENDED), RUN_RUNNING),
    e.RunRedefined: {RUN_RUNNING: RUN_RUNNING},
}
