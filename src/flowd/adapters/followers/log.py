"""A run as log lines: each durable event, and each line that a task logs, rendered by structlog.

The host's logging is not touched: the renderers are called directly, and each sink writes by
itself. The name of a line about an event is the event's own name, which is stable.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from flowd.core import events as e
from flowd.core.printable import printable
from flowd.ports.follower import Signal

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "exception": 40, "critical": 50}

Lines = Sequence[tuple[str, str]]
"""Rendered lines, each with the task that it is about (empty: the run)."""

_WARNINGS: Final = (
    e.RunCancelRequested,
    e.RunPaused,
    e.TaskRetryScheduled,
    e.TaskInterrupted,
    e.TaskUncertain,
    e.TaskUpstreamFailed,
    e.TaskCancelled,
)
_ERRORS: Final = (e.RunDeadlinePassed, e.TaskFailed, e.TaskTimedOut, e.TaskAbandoned)
_TASK_IN_PATH: Final = re.compile(r"\{\{\s*task\s*\}\}")
_PLAIN: Final = frozenset({str, int, float, bool, dict})
_QUIET: Final = frozenset({"event", "task", "parts", "spec", "owner"})  # for programs, or said in another way


class Sink(msgspec.Struct, frozen=True, kw_only=True):
    """One place where lines go.

    `form` is `json` or `console`; lines below `level` are left out; without `events` only what
    tasks log themselves is written.
    """

    write: Callable[[Lines], None]
    form: str = "json"
    level: str = "info"
    events: bool = True
    colour: bool = False


def append_to(path: str, *, private: bool = False) -> Callable[[Lines], None]:
    """A writer that appends to a file; `{{ task }}` in `path` makes a file for each task, and `run` for the run.

    A `private` file is made for its owner alone.
    """
    mode = 0o600 if private else 0o666

    def write(lines: Lines) -> None:
        by_path: dict[str, list[str]] = {}
        for task, line in lines:
            by_path.setdefault(_TASK_IN_PATH.sub(task or "run", path), []).append(line)
        for name, some in by_path.items():
            place = Path(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
            with open(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(f"{line}\n" for line in some))

    return write


class LogFollower:
    """Writes one run's lines to `sinks`; `order` are the run's tasks in the order of the work."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        order: Sequence[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sinks = [(sink, _renderer(sink), LEVELS.get(sink.level, 20)) for sink in sinks]
        self._order = list(order)
        self._now = now
        self._started: dict[str, datetime] = {}
        self._run_started: datetime | None = None
        self._stamped: tuple[datetime | None, str] = (None, "")

    async def record(self, envelopes: Sequence[e.Envelope]) -> None:
        """Write durable events down, in order."""
        facts = [(self._level(envelope.event), self._facts(envelope)) for envelope in envelopes]
        self._write([(level, fields) for level, fields in facts], of_events=True)

    def signal(self, signal: Signal) -> None:
        """Write what a task logs, at once."""
        if signal.kind != "log":
            return
        said = dict(signal.fields)
        level = str(said.pop("level", "info"))
        place = {"run": signal.run, "task": signal.task, "attempt": signal.attempt}
        head = {"timestamp": _moment(self._now()), "level": level, "event": str(said.pop("event", ""))}
        self._write([(level, head | place | {k: v for k, v in said.items() if k not in place})], of_events=False)

    def _write(self, facts: Sequence[tuple[str, dict[str, Any]]], *, of_events: bool) -> None:
        for sink, render, least in self._sinks:
            if of_events and not sink.events:
                continue
            lines = [
                (str(fields.get("task", "")), render(dict(fields)))
                for level, fields in facts
                if LEVELS.get(level, 20) >= least
            ]
            if lines:
                sink.write(lines)

    @staticmethod
    def _level(event: e.Event) -> str:
        failed = isinstance(event, e.RunFinished) and event.state == "failed"
        return "error" if failed else _said_of(type(event)).level

    def _facts(self, envelope: e.Envelope) -> dict[str, Any]:
        event = envelope.event
        said = _said_of(type(event))
        fields: dict[str, Any] = {
            "timestamp": self._stamp(envelope.at),
            "level": self._level(event),
            "event": said.name,
            "run": envelope.run,
        }
        task = getattr(event, "task", None)
        if task is not None:
            fields["task"] = task
        for name in said.fields:
            value = getattr(event, name)
            if value or isinstance(value, timedelta):  # what says nothing is left out
                _put(fields, name, value)
        since = self._since(event, task, envelope.at)
        if since is not None:
            fields["duration_s"] = round((envelope.at - since).total_seconds(), 6)
        if isinstance(event, e.RunStarted):
            chosen = set(event.tasks)
            fields["order"] = [name for name in self._order if not chosen or name in chosen]
        return fields

    def _stamp(self, at: datetime) -> str:
        """The text of a moment; many events in a row share theirs."""
        if at != self._stamped[0]:
            self._stamped = (at, _moment(at))
        return self._stamped[1]

    def _since(self, event: e.Event, task: str | None, at: datetime) -> datetime | None:
        """When what this event ends had begun."""
        kind = type(event)
        if kind is e.TaskStarted:
            self._started[str(task)] = at
        elif task is not None:
            return self._started.pop(task, None)
        elif kind is e.RunFinished:
            return self._run_started
        elif kind in {e.RunStarted, e.RunAdopted}:
            self._run_started = at
        return None


class _Said(msgspec.Struct, frozen=True):
    """What a line about one kind of event always says: its level and name, and which fields follow."""

    level: str
    name: str
    fields: tuple[str, ...]


@cache
def _said_of(kind: type[e.Event]) -> _Said:
    level = "error" if kind in _ERRORS else "warning" if kind in _WARNINGS else "info"
    fields = tuple(name for name in kind.__struct_fields__ if name not in _QUIET)
    return _Said(level, str(kind.__struct_config__.tag), fields)


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    """Add one of an event's own fields as people search for it."""
    if type(value) in _PLAIN:
        fields[name] = value
    elif isinstance(value, e.Error):
        fields |= _of_error(value)
    elif isinstance(value, e.Ending):
        fields |= _of_ending(value)
    elif isinstance(value, e.Reason):
        fields["reason"], fields["code"] = value.sentence, value.code
    elif isinstance(value, e.Stored):
        if isinstance(value.inline, msgspec.Raw) and len(bytes(value.inline)) <= 1000:
            fields["result"] = msgspec.json.decode(value.inline)
    elif name == "outputs":
        fields["outputs"] = [artifact.path for artifact in value]
    elif name == "delay":
        fields["delay_s"] = value.total_seconds()
    elif isinstance(value, datetime):
        fields[name] = _moment(value)
    else:
        fields[name] = list(value) if isinstance(value, tuple) else value


def _of_error(error: e.Error) -> dict[str, Any]:
    said = {"error": f"{error.type}: {error.message}", "where": error.where, "exit_code": error.exit_code}
    return {name: value for name, value in said.items() if value is not None}


def _of_ending(ending: e.Ending) -> dict[str, Any]:
    """What is worth a line's space: nothing of a process that ended well, and not its last lines."""
    told: dict[str, Any] = msgspec.to_builtins(ending)
    return {} if ending.exit_code == 0 else {name: value for name, value in told.items() if name != "tail"}


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- rendering -------------------------------------------------------------------------------------


def _renderer(sink: Sink) -> Callable[[dict[str, Any]], str]:
    structlog = _structlog()
    render: Any
    if sink.form == "json":
        render = structlog.processors.JSONRenderer(serializer=_to_json)
    else:
        render = structlog.dev.ConsoleRenderer(
            colors=sink.colour, pad_event_to=0, sort_keys=False, repr_native_str=False
        )
    if sink.form == "json":
        return lambda fields: str(render(None, str(fields["level"]), fields))
    return lambda fields: str(render(None, str(fields["level"]), _for_people(fields)))


def _for_people(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as they may stand in one line of a terminal; an exception keeps its lines."""
    safe = {name: printable(value) if isinstance(value, str) else value for name, value in fields.items()}
    if isinstance(fields.get("exception"), str):
        safe["exception"] = "\n".join(map(printable, fields["exception"].split("\n")))
    return safe


def _to_json(fields: Mapping[str, Any], **_options: Any) -> str:
    return msgspec.json.encode(fields, enc_hook=str).decode()


def _structlog() -> ModuleType:
    """structlog, imported when a run is first logged.

    It would import rich for coloured tracebacks, which no line here holds: left out, every start
    is some 30 ms quicker.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return importlib.import_module("structlog")
    sys.modules["rich"] = None  # type: ignore[assignment]  # how an import is made to find nothing
    try:
        return importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]
