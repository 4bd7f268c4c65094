"""A run's state as the documents that people and programs read: pure, and never the other way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from flowd.core import states as s
from flowd.core.events import Artifact, Error, Reason
from flowd.core.fanout import item_name
from flowd.core.items import fan_of, name_of, owner
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.spec import Approve, Param, TaskSpec
from flowd.core.task_state import ApprovalState, AttemptState, ServiceState, TaskState

WAITING = "waiting"
INTERRUPTED = "interrupted"

EXIT_CODES = {"succeeded": 0, "failed": 1, "partial": 1, "cancelled": 1, WAITING: 3, "paused": 130, INTERRUPTED: 130}

_CODE_ORDER = (5, 4, 6, 2, 130, 3, 1, 0)

_FOR_PEOPLE = frozenset({s.UNCERTAIN, s.WAITING})


def run_status(run: RunState, *, owned: bool) -> str:
    """The run's state as shown: an unowned unfinished run is interrupted, waiting or paused."""
    if run.state in s.RUN_ENDED:
        return run.state
    if run.state == s.RUN_PAUSED and run.reason is not None and run.reason.code == INTERRUPTED and not owned:
        return INTERRUPTED
    if not run.live and any(task.state in _FOR_PEOPLE for task in run.tasks) and not _could_go_on(run):
        return WAITING
    if run.state == s.RUN_PAUSED and run.reason is not None and run.reason.code != INTERRUPTED:
        return s.RUN_PAUSED
    return s.RUN_RUNNING if owned else INTERRUPTED


def _could_go_on(run: RunState) -> bool:
    return any(task.state == s.SLEEPING for task in run.tasks) or any(map(run.could_start, range(len(run.tasks))))


def cut_off(spec: TaskSpec) -> Reason:
    """What the next owner of a run will say of a task that is on record as running, though nobody runs it."""
    return because("owner_died" if spec.idempotent else "owner_died.uncertain")


def answer_scope(approval: ApprovalState) -> dict[str, Any]:
    """`approval.comment .by .at .FIELD` of expressions; the result where the answer is all of the task."""
    at = moment(approval.answered_at)
    return {"comment": approval.comment, "by": approval.by, "at": at, **approval.values}


def approval_document(spec: Approve | None, approval: ApprovalState | None) -> dict[str, Any] | None:
    """A question to a person, and the answer, as JSON; None where nobody was asked."""
    if spec is None or approval is None:
        return None
    return {
        "state": approval.state,
        "message": approval.message,
        "owners": list(spec.by),
        "form": {name: field_document(param) for name, param in spec.form.items()},
        "show": [artifact_document(artifact) for artifact in approval.show],
        "requested": moment(approval.requested_at),
        "expires": moment(approval.expires_at),
        "then": spec.then,
        "by": approval.by or None,
        "at": moment(approval.answered_at),
        "comment": approval.comment or None,
        "values": approval.values,
    }


def field_document(param: Param) -> dict[str, Any]:
    """A field of a form as JSON."""
    document: dict[str, Any] = msgspec.to_builtins(param)
    return {"type": param.type, "default": param.default, **document}


def exit_code(status: str) -> int:
    """What `run`, `resume` and `retry` end with for a run of this status."""
    return EXIT_CODES.get(status, 130)


def worst_code(codes: Iterable[int]) -> int:
    """Which of several exit codes speaks for all: the first that applies; 0 where there is none."""
    return min(codes, key=_CODE_ORDER.index, default=0)


def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC, or None."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def run_document(
    run: RunState, *, owned: bool, state_dir: str | None = None, log_of: Any = None, load: Any = None
) -> dict[str, Any]:
    """The document of `run --json` and `show --json`.

    Of a run that nobody owns, a task on record as running has the reason `owner_died`.
    `log_of(task, attempt)` names an attempt's log file; `load(stored)` gives a result that is not
    inline as JSON where it can.
    """
    status = run_status(run, owned=owned)
    ended = run.ended_at
    duration = (ended - run.started_at).total_seconds() if ended and run.started_at else None
    tasks = {
        spec.name: task_document(spec.name, task, asks=spec.approve, log_of=log_of, load=load)
        for spec, task in run.own()
    }
    for number, fan in run.fans.items():
        name = run.shape.specs[number].name
        tasks[name]["items"] = {
            (key := fan.key(place)): task_document(
                item_name(name, key), run.tasks[fan.base + place], log_of=log_of, load=load
            )
            for place in range(fan.count)
        }
    for number in run.live if not owned else ():
        document = tasks[run.shape.specs[owner(run, number)].name]
        if (of := fan_of(run, number)) is not None:
            document = document["items"][of.key(number - of.base)]
        document["reason"] = reason_document(cut_off(run.shape.specs[number]))
    document = {
        "run": run.id,
        "pipeline": run.spec.name,
        "state": status,
        "exit_code": exit_code(status),
        "reason": reason_document(run.reason),
        "params": run.params,
        "trigger": run.trigger,
        "started": moment(run.started_at),
        "ended": moment(ended),
        "duration_s": duration,
        "counts": counts(run),
        "warnings": warnings(run),
        "error": first_error(run),
        "tasks": tasks,
    }
    if state_dir is not None:
        document["state_dir"] = state_dir
    return document


def counts(run: RunState) -> dict[str, int]:
    """How many tasks stand in each state."""
    return dict(Counter(shown_state(task) for _, task in run.own()))


_SHOWN = {s.EXPANDED: s.RUNNING, s.SLEEPING: s.WAITING}


def shown_state(task: TaskState) -> str:
    """The state of a task as it is shown: one whose items are on their way is running, a timer waits."""
    if task.state == s.RETRYING and task.between_rounds:
        return s.WAITING
    return _SHOWN.get(task.state, task.state)


def warnings(run: RunState) -> list[str]:
    """What was warned of, each under its task's name."""
    return [
        f"{name_of(run, number)}: {warning}"
        for number, task in enumerate(run.tasks)
        for warning in (*task.warnings, *_allowed(task))
    ]


def _allowed(task: TaskState) -> tuple[str, ...]:
    if not task.allowed:
        return ()
    what = f"{task.error.type}: {task.error.message}" if task.error else task.reason.sentence if task.reason else ""
    return (f"{task.state.replace('_', ' ')}, as it may (allow_failure): {what}",)


def first_error(run: RunState) -> dict[str, Any] | None:
    """The error of the first task, in written order, that broke; with that task's name."""
    for spec, task in run.own():
        if task.state in s.BROKEN and not task.allowed and task.error is not None:
            return {"task": spec.name, **error_document(task.error)}
    return None


def task_document(
    name: str, task: TaskState, *, asks: Approve | None = None, log_of: Any = None, load: Any = None
) -> dict[str, Any]:
    """One task as it stands in the document of its run; `asks` is what it asks a person."""
    attempts = task.attempts or []
    return {
        "state": shown_state(task),
        "attempts": task.attempt,
        "reason": reason_document(task.reason),
        "started": moment(attempts[0].started_at if attempts else task.tried_at),
        "ended": moment(task.ended_at),
        "result": _result(task, load),
        "metrics": task.metrics,
        "outputs": [artifact_document(artifact) for artifact in task.outputs],
        "error": None if task.error is None else error_document(task.error),
        "allowed": task.allowed,
        "approval": approval_document(asks, task.approval),
        "url": None if task.service is None or task.state != s.SERVING else task.service.url or None,
        "service": _service_document(task.service),
        "child": None if task.child is None else task.child.run,
        "source": task.source,
        "log": log_of(name, task.attempt) if log_of and task.attempt else None,
        "items": {},
        "attempt_list": [_attempt_document(attempt) for attempt in attempts],
    }


def _service_document(service: ServiceState | None) -> dict[str, Any] | None:
    """Where a service serves, or served last."""
    if service is None:
        return None
    place = {"url": service.url or None, "port": service.port or None, "pid": service.pid}
    return {**place, "since": moment(service.since), "restarts": service.restarts}


def _result(task: TaskState, load: Any) -> Any:
    stored = task.result
    if stored is None:
        return None
    if isinstance(stored.inline, msgspec.Raw):
        return msgspec.json.decode(stored.inline)
    if load is not None:
        return load(stored)
    return {"codec": stored.codec, "size": stored.size, "digest": stored.digest}


def _attempt_document(attempt: AttemptState) -> dict[str, Any]:
    error = attempt.error
    return {
        "n": attempt.n,
        **({"round": attempt.round} if attempt.round else {}),
        "started": moment(attempt.started_at),
        "ended": moment(attempt.ended_at),
        "waited_s": None if attempt.waited is None else attempt.waited.total_seconds(),
        "exit_code": _exit_code(attempt),
        "error": None if error is None else error_document(error),
        "ending": None if attempt.ending is None else msgspec.to_builtins(attempt.ending),
    }


def _exit_code(attempt: AttemptState) -> int | None:
    if attempt.error is not None and attempt.error.exit_code is not None:
        return attempt.error.exit_code
    return attempt.ending.exit_code if attempt.ending is not None else None


def reason_document(reason: Reason | None) -> dict[str, str] | None:
    """A reason as JSON."""
    return None if reason is None else {"code": reason.code, "sentence": reason.sentence}


def error_document(error: Error) -> dict[str, Any]:
    """An error as JSON; what is not known is left out, but for type and message."""
    document: dict[str, Any] = {"type": error.type, "message": error.message}
    for name in ("where", "exit_code", "signal", "traceback"):
        value = getattr(error, name)
        if value is not None:
            document[name] = value
    return document


def artifact_document(artifact: Artifact) -> dict[str, Any]:
    """An output as JSON."""
    document: dict[str, Any] = {"path": artifact.path, "size": artifact.size, "digest": artifact.digest}
    if artifact.unchanged:
        document["unchanged"] = True
    return document
