"""Why things are as they are: every reason that flowd gives, as one table.

House rules of this room. A reason is made here and nowhere else, by `because`. Its code, the key
up to the dot, is stable: programs compare it; sentences may be worded anew. `scripts/events`
draws the page of reference from this table. What to type next names RUN, TASK, FILE and VERDICT
(succeeded, failed or rerun) for a person to fill in; empty: nothing has to be done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from flowd.core.events import Reason


class Why(NamedTuple):
    """What is said, with `{facts}` to fill in, and the command that goes on from there."""

    sentence: str
    next: str = ""


_AGAIN: Final = "flowd retry RUN"
_GO_ON: Final = "flowd resume RUN"
_ANSWER: Final = "flowd resolve RUN TASK --as VERDICT"
_APPROVE: Final = "flowd approve RUN TASK"
_LOGS: Final = "flowd logs RUN TASK"
_RUN: Final = "flowd run FILE"
_SHOW: Final = "flowd show RUN"

OF_FRESHNESS: Final[Mapping[str, Why]] = {
    "approval.plan": Why("a person is asked first"),
    "fresh": Why("nothing changed since {run}", "flowd run FILE --force-task TASK"),
    "fresh.within": Why("none of its own tasks has to run", "flowd run FILE --force-task TASK"),
    "only": Why("only {tasks} was asked for; this is from {run}", "flowd run FILE TASK"),
    "gate_failed.recorded": Why("its gate does not hold any more: {gates}"),
    "gate_failed.before": Why("its gate failed in {run}"),
    "forced": Why("a person asked for it"),
    "not_cached": Why("it always runs"),
    "not_cached.off": Why("its cache is off"),
    "no_checkpoint": Why("it has not succeeded before"),
    "output_missing": Why("{path} is not there any more"),
    "output_changed": Why("{path} is not as the task left it", "flowd touch FILE TASK"),
    "expired": Why("it is older than {fresh_for}"),
    "source": Why("it reads from outside, and a scheduled run looks again"),
    "unknown": Why("it cannot be told: {error}"),
    "action_changed": Why("its `{part}` {change}"),
    "code_changed": Why("{subject} {change}", "flowd touch FILE TASK"),
    "input_changed": Why("{subject} {change}"),
    "upstream_changed": Why("what {subject} gives {change}"),
    "with_changed": Why("its `{part}` {change}"),
    "env_changed": Why("its `{part}` {change}"),
    "params_changed": Why("the parameter {subject} {change}"),
    "changed": Why("its `{part}` {change}"),
    "upstream_may_change": Why("{need} comes first, and may change", _RUN),
    "items": Why("each of its items is looked at when its turn comes", _RUN),
    "finally": Why("it runs once all tasks have ended, however they do"),
    "rule_open": Why("it runs as {needs} end (trigger_rule: {rule})", _RUN),
    "upstream_open": Why("it runs unless {need} is skipped", _RUN),
    "when_open": Why("it runs if `when: {expression}` holds then", _RUN),
    "pipeline": Why("its own tasks are looked at when its turn comes", _RUN),
    "tasks_stale": Why("{stale} of its {total} tasks have to run: {task}, since {why}", _RUN),
    "large_result": Why("it depends on a large result, read when its turn comes", _RUN),
}
"""Why a task runs or does not: `change` is `changed`, `is new` or `is gone`."""

OF_TASKS: Final[Mapping[str, Why]] = {
    "failed.service": Why("restarted {restarts} times, and no more: {error}", _LOGS),
    "failed": Why("failed {tries} of {allowed} attempts: {error}", _AGAIN),
    "gate_failed": Why("{gates}", _AGAIN),
    "approval": Why("it waits for an answer: {message}", _APPROVE),
    "approval_lapsed": Why("what was shown has changed since ({path}), so it waits for an answer again", _APPROVE),
    "approval_lapsed.message": Why("what was asked has changed since, so it waits for an answer again", _APPROVE),
    "approved": Why("approved by {by}"),
    "rejected": Why("rejected by {by}", _AGAIN),
    "rejected.said": Why("rejected by {by}: {comment}", _AGAIN),
    "rejected.back": Why("rejected by {by}, back to {back_to}: {comment}", _SHOW),
    "approval_timed_out": Why("nobody answered within {timeout}", _AGAIN),
    "repeat": Why("`until: {until}` does not hold after round {round} ({why}); the next begins at {at}", _LOGS),
    "repeat_exhausted": Why("`until: {until}` did not hold in {max} rounds: {why}", _AGAIN),
    "repeat_timed_out": Why("`until: {until}` did not hold within {timeout}, after {rounds} rounds{why}", _AGAIN),
    "timed_out": Why("timed out in {tries} of {allowed} attempts: {error}", _AGAIN),
    "deadline.task": Why("it still ran when the run's deadline passed", _AGAIN),
    "could_not_begin": Why("it could not be begun: {error}", _AGAIN),
    "items_failed": Why("{failed} of {count} items failed: {names}", "flowd retry RUN --failed-items"),
    "partial": Why("{failed} of {count} items failed: {names}", "flowd retry RUN --failed-items"),
    "fail_fast.item": Why("another item failed, and the task says fail_fast", "flowd retry RUN --failed-items"),
    "cancelled.items": Why("its task ended before it began", "flowd retry RUN --failed-items"),
    "upstream_failed": Why("it needs {need}, which did not end well", _AGAIN),
    "upstream_skipped": Why("{need} was skipped", _SHOW),
    "no_failure": Why("none of its needs failed, and its trigger_rule is any_failed", _SHOW),
    "when_false": Why("`when: {expression}` is false{values}", _SHOW),
    "cancelled.upstream": Why("{need} was cancelled", _AGAIN),
    "abandoned": Why("it could not be stopped: {message}", _LOGS),
    "stood_back": Why("it stands back while that of a newer run takes its place", _SHOW),
    "interrupted.task": Why("flowd stopped while it ran", _GO_ON),
    "interrupted.uncertain": Why("it was interrupted after it had begun, and it is not idempotent", _ANSWER),
    "cancelled.uncertain": Why("it was cancelled after it had begun, and it is not idempotent", _ANSWER),
    "child_waits": Why("its run {child} waits for a person"),
    "child_partial": Why("its run {child} is partial: {tasks}", _SHOW),
    "never_began": Why("it was not begun: {message}", _GO_ON),
    "owner_died": Why("the process that ran it died", _GO_ON),
    "owner_died.uncertain": Why("the process that ran it died after it had begun, and it is not idempotent", _ANSWER),
    "resolved": Why("resolved as {verdict}", _SHOW),
    "resolved.by": Why("resolved as {verdict} by {by}", _SHOW),
    "retried": Why("a person asked for it again"),
    "retried.by": Why("a person asked for it again: {by}"),
}
"""Why a task ended as it did, or what became of it."""

OF_RUNS: Final[Mapping[str, Why]] = {
    "task_failed": Why("{tasks} did not end well", _AGAIN),
    "partial.run": Why("{tasks} ended well in part", "flowd retry RUN --failed-items"),
    "cancelled": Why("the run was cancelled", _AGAIN),
    "cancelled.said": Why("{said}", _AGAIN),
    "cancelled.before": Why("{tasks} had been cancelled", _AGAIN),
    "deadline": Why("the run's deadline passed", _AGAIN),
    "fail_fast": Why("{task} did not end well, and fail_fast ends the run then", _AGAIN),
    "interrupted": Why("flowd was stopped", _GO_ON),
    "paused": Why("it was paused", _GO_ON),
    "paused.by": Why("it was paused by {by}", _GO_ON),
    "paused.failures": Why("{most} attempts have failed, so nothing more starts (stop_after_failures)", _GO_ON),
}
"""Why a run ended or stands as it does."""

OF_WAITS: Final[Mapping[str, Why]] = {
    "limit_full": Why("it waits for {limit}, which {holders}", "flowd limits"),
    "limit_full.turn": Why("it waits for its turn at {limit}, behind {holders}", "flowd limits"),
    "run_full": Why("max_concurrency of its run is reached: {holders}", _SHOW),
    "rate": Why("{limit} allows its next start at {until}", "flowd limits"),
    "path_busy": Why("{path} is being written by {holders}", _SHOW),
    "needs": Why("it needs {needs} first", _SHOW),
    "retrying": Why("{tries} attempts failed; the next may begin at {at}", _LOGS),
    "until": Why("it waits until {at}", _SHOW),
    "until.duration": Why("it waits for {duration}, once its turn has come", _RUN),
    "until.moment": Why("it waits until {at} ({timezone})", _RUN),
    "running": Why("it runs now", _LOGS),
    "serving.needed": Why("it serves until the last task below it has ended", "flowd stop RUN TASK"),
    "serving.run": Why("it serves until it is stopped, or its lifetime is over", "flowd stop RUN TASK"),
    "done": Why("it did what it declares", _SHOW),
    "workers_busy": Why("as many tasks run as flowd runs at once", "flowd run FILE --max-concurrency N"),
}
"""What a task that has not ended waits for; told while it does, and never recorded."""

REASONS: Final[Mapping[str, Why]] = {**OF_FRESHNESS, **OF_TASKS, **OF_RUNS, **OF_WAITS}


def because(key: str, **facts: Any) -> Reason:
    """The reason `key` of the table, with its facts filled in; KeyError for one that is not there."""
    return Reason(key.partition(".")[0], REASONS[key].sentence.format(**facts))
