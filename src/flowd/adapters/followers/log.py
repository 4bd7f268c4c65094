"""A run as log lines: each durable event, and each line that a task logs, rendered by structlog.

The host's logging is not touched: the renderers are called directly, and each sink writes by
itself. The name of a line about an event is the event's own name, which is stable.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from flowd.adapters import disk
from flowd.core import events as e
from flowd.core.printable import printable
from flowd.ports.follower import Signal

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "exception": 40, "critical": 50}

Lines = Sequence[tuple[str, str]]
"""Rendered lines, each with the task that it is about (empty: the run)."""

_WARNINGS: Final = (
    e.TaskDeferred,
    e.RunCancelRequested,
    e.RunPaused,
    e.TaskRetryScheduled,
    e.TaskInterrupted,
    e.TaskUncertain,
    e.TaskApprovalRequested,
    e.TaskUpstreamFailed,
    e.TaskCancelled,
)
_ERRORS: Final = (e.RunDeadlinePassed, e.TaskFailed, e.TaskTimedOut, e.TaskRejected, e.TaskAbandoned)
_RUN_IN_PATH: Final = re.compile(r"\{\{\s*run\.id\s*\}\}")
_TASK_IN_PATH: Final = re.compile(r"\{\{\s*task\s*\}\}")
_PLAIN: Final = frozenset({str, int, float, bool, dict})
_QUOTED: Final = re.compile(r"""[ \t=\r\n"']""")
_TRACES: Final = frozenset({"exception", "stack"})
"""Fields that keep their lines, and stand below the others."""
_NAMED: Final = 100
"""Tasks of a run's order that a line for people names."""
_QUIET: Final = frozenset({"event", "task", "parts", "spec", "definition", "owner"})  # not said, or in another way

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


class Sink(msgspec.Struct, frozen=True, kw_only=True):
    """One place where lines go; `name` is what it is called where it fails.

    `form` is `json` or `console`; lines below `level` are left out; without `events` only what
    tasks log themselves is written. With `threads`, of which there is one, they are written there: a
    disk that stands still must not hold the loop.
    """

    write: Callable[[Lines], None]
    name: str = "a sink"
    form: str = "json"
    level: str = "info"
    events: bool = True
    colour: bool = False
    threads: disk.FileThreads | None = None


def append_to(path: str, *, private: bool = False) -> Callable[[Lines], None]:
    """A writer that appends to a file; `{{ task }}` in `path` makes a file for each task, and `run` for the run.

    A `private` file is made for its owner alone.
    """
    one = _TASK_IN_PATH.search(path) is None

    def write(lines: Lines) -> None:
        by_path: dict[str, list[str]] = {}
        for task, line in lines:
            by_path.setdefault(path if one else _TASK_IN_PATH.sub(task or "run", path), []).append(line)
        for name, some in by_path.items():
            text = "".join(f"{line}\n" for line in some)
            disk.append(Path(name), text.encode("utf-8", "backslashreplace"), private=private)

    return write


def run_in_path(path: str, run: str) -> str:
    """A path of a pipeline's log, with the run that `{{ run.id }}` stands for."""
    return _RUN_IN_PATH.sub(lambda _match: run, path)


_Target = tuple[Sink, Callable[[dict[str, Any]], str], int]
"""A sink with its renderer and the least level that it takes."""


class LogFollower:
    """Writes one run's lines to `sinks`; `order` are the run's tasks in the order of the work.

    A sink that fails is left out from then on, and `report` is told so; the others go on.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        order: Sequence[str] = (),
        report: Callable[[str], object] | None = None,
    ) -> None:
        self._sinks = [(sink, renderer(sink), LEVELS.get(sink.level, 20)) for sink in sinks]
        self._order = list(order)
        self._report = report or _warn
        self._started: dict[str, datetime] = {}
        self._run_started: datetime | None = None
        self._stamped: tuple[datetime | None, str] = (None, "")

    async def record(self, envelopes: Sequence[e.Envelope]) -> None:
        """Write durable events down, in order."""
        facts = [self._facts(envelope) for envelope in envelopes]
        for target, sink, lines in self._due(facts, of_events=True):
            with self._dropping(target):
                if sink.threads is None:
                    sink.write(lines)
                else:
                    await sink.threads.run(sink.write, lines)

    def signal(self, signal: Signal) -> None:
        """Write what a task logs, at once, or have it written."""
        if signal.kind != "log":
            return
        said = dict(signal.fields)
        level = str(said.pop("level", "info"))
        place = {"run": signal.run, "task": signal.task, "attempt": signal.attempt}
        head = {"timestamp": moment(signal.at), "level": level, "event": str(said.pop("event", ""))}
        facts = [head | place | {k: v for k, v in said.items() if k not in place}]
        for target, sink, lines in self._due(facts, of_events=False):
            with self._dropping(target):
                if sink.threads is None:
                    sink.write(lines)
                else:
                    loop = asyncio.get_running_loop()
                    sink.threads.begin(sink.write, lines).add_done_callback(partial(self._written, loop, target))

    def _due(self, facts: Sequence[dict[str, Any]], *, of_events: bool) -> Iterator[tuple[_Target, Sink, Lines]]:
        """Who has to write something of `facts`, and what."""
        for target in list(self._sinks):
            sink, render, least = target
            if of_events and not sink.events:
                continue
            lines = [
                (fields.get("task", ""), render(fields)) for fields in facts if LEVELS.get(fields["level"], 20) >= least
            ]
            if lines:
                yield target, sink, lines

    def _written(self, loop: asyncio.AbstractEventLoop, target: _Target, done: Future[None]) -> None:
        """In the thread: a task's lines are written, or why not."""
        error = done.exception()
        if error is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._drop, target, error)

    @contextmanager
    def _dropping(self, target: _Target) -> Iterator[None]:
        """Whatever keeps one sink from writing keeps no other from it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # it is said, and the others go on
            self._drop(target, error)

    def _drop(self, target: _Target, error: BaseException) -> None:
        if target in self._sinks:
            self._sinks.remove(target)
            self._report(f"log lines go to {target[0].name} no more: {type(error).__name__}: {error}")

    def _facts(self, envelope: e.Envelope) -> dict[str, Any]:
        event = envelope.event
        said = _said_of(type(event))
        fields: dict[str, Any] = {
            "timestamp": self._stamp(envelope.at),
            "level": said.level,
            "event": said.name,
            "run": envelope.run,
        }
        task = getattr(event, "task", None)
        if task is not None:
            fields["task"] = task
        for name in said.fields:
            value = getattr(event, name)
            if value or type(value) is timedelta:  # what says nothing is left out
                _put(fields, name, value)
        since = self._since(event, task, envelope.at)
        if since is not None:
            fields["duration_s"] = round((envelope.at - since).total_seconds(), 6)
        if isinstance(event, e.RunStarted):
            chosen = set(event.tasks)
            fields["order"] = [name for name in self._order if not chosen or name in chosen]
        elif isinstance(event, e.RunFinished) and event.state == "failed":
            fields["level"] = "error"
        elif getattr(event, "allowed", False):
            fields["level"] = "warning"
        return fields

    def _stamp(self, at: datetime) -> str:
        """The text of a moment; many events in a row share theirs."""
        if at != self._stamped[0]:
            self._stamped = (at, moment(at))
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
        elif kind in {e.RunStarted, e.RunAdopted, e.RunReopened}:
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
    elif isinstance(value, e.Reason):
        fields["reason"], fields["code"] = value.sentence, value.code
    elif isinstance(value, e.Error):
        fields |= _of_error(value)
    elif isinstance(value, e.Ending):
        fields |= _of_ending(value)
    elif isinstance(value, e.Stored):
        if isinstance(value.inline, msgspec.Raw) and len(bytes(value.inline)) <= 1000:
            fields["result"] = msgspec.json.decode(value.inline)
    elif isinstance(value, tuple) and isinstance(value[0], e.Artifact):
        fields[name] = [artifact.path for artifact in value]
    elif name == "delay":
        fields["delay_s"] = value.total_seconds()
    elif isinstance(value, datetime):
        fields[name] = moment(value)
    else:
        fields[name] = msgspec.to_builtins(value, enc_hook=str)


def _of_error(error: e.Error) -> dict[str, Any]:
    said = {"error": f"{error.type}: {error.message}", "where": error.where, "exit_code": error.exit_code}
    return {name: value for name, value in said.items() if value is not None}


def _of_ending(ending: e.Ending) -> dict[str, Any]:
    """What is worth a line's space: nothing of a process that ended well, and not its last lines."""
    told: dict[str, Any] = msgspec.to_builtins(ending)
    return {} if ending.exit_code == 0 else {name: value for name, value in told.items() if name != "tail"}


def _warn(text: str) -> None:
    """To whatever logging the host has set up; most runs never have such a warning."""
    import logging

    logging.getLogger("flowd").warning(text)


def moment(at: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond. From the encoder's text, since `isoformat` takes three times as long."""
    text = _encode(at).decode()
    return f"{text[1:24]}Z" if at.microsecond else f"{text[1:20]}.000Z"


# --- rendering -------------------------------------------------------------------------------------


def renderer(sink: Sink) -> Callable[[dict[str, Any]], str]:
    """What makes a line of the fields of one, in a sink's form; `timestamp`, `level` and `event` are among them."""
    render: Any
    if sink.form == "json":
        render = _structlog().processors.JSONRenderer(serializer=_to_json)
        return lambda fields: str(render(None, "", fields))
    if not sink.colour:
        return lambda fields: _plain(_for_people(fields))
    render = _structlog().dev.ConsoleRenderer(pad_event_to=0, sort_keys=False, repr_native_str=False)
    return lambda fields: str(render(None, "", _for_people(fields)))


def _plain(fields: dict[str, Any]) -> str:
    """The layout of structlog's own renderer where there is no colour, in a quarter of its time."""
    head = f"{fields.pop('timestamp')} [{fields.pop('level'):<9}] {fields.pop('event')}"
    stack, trace = fields.pop("stack", None), fields.pop("exception", None)
    words = [f"{name}={_word(value)}" for name, value in fields.items()]
    line = " ".join([head, *words]).rstrip(" ")
    if stack is not None:
        line += f"\n{stack}" if trace is None else f"\n{stack}\n\n{'=' * 79}\n"
    return line if trace is None else f"{line}\n{trace}"


def _word(value: object) -> str:
    """A value in a line: a text that would not be read as one word is quoted."""
    return value if isinstance(value, str) and not _QUOTED.search(value) else repr(value)


def _for_people(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as they may stand in one line of a terminal; an exception keeps its lines."""
    safe = {name: printable(value) if isinstance(value, str) else value for name, value in fields.items()}
    if len(order := fields.get("order", ())) > _NAMED:
        safe["order"] = [*order[:_NAMED], f"… {len(order) - _NAMED} more"]
    for name in _TRACES & fields.keys():
        safe[name] = "\n".join(map(printable, str(fields[name]).split("\n")))
    return safe


def _to_json(fields: Mapping[str, Any], **_options: Any) -> str:
    return _encode(fields).decode()


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
