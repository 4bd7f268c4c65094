"""`flowd runs`, `show`, `events`, `list`: what is and was. Nothing here writes, locks or repairs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec

from flowd.adapters.journal.file import FileJournal
from flowd.cli.finding import Found, found_run, look, place_of
from flowd.cli.logs import logs
from flowd.cli.options import JSON, RUN, STATE_DIR
from flowd.cli.screen import error_text, inline_result
from flowd.cli.state_dir import find_state_dir
from flowd.cli.streams import say, say_document, style_of, tell
from flowd.cli.wording import (
    age_text,
    duration_text,
    items_text,
    note,
    params_text,
    service_text,
    size_text,
    tasks_text,
)
from flowd.core import states as s
from flowd.core.codec import public
from flowd.core.errors import FlowdError
from flowd.core.events import Ending, Envelope, Reason
from flowd.core.fanout import Fan
from flowd.core.items import name_of
from flowd.core.run import RunState
from flowd.core.task_state import TaskState
from flowd.core.views import cut_off, shown_state
from flowd.wiring.reading import reading

__all__ = ["events", "list_", "logs", "runs", "show"]

PERIOD = 0.2
"""Seconds between two looks at a journal that is followed."""

_LISTED = ("run", "pipeline", "state", "exit_code", "started", "ended", "duration_s", "counts", "trigger")


# --- runs ------------------------------------------------------------------------------------------------


@click.command()
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="So many at most (20; with --json all).")
@STATE_DIR
@JSON
def runs(limit: int | None, state_dir: str | None, *, as_json: bool) -> int:
    """List runs, the newest first."""
    with reading(place_of(state_dir)) as journal:
        known = journal.runs()
        most = limit or (len(known) if as_json else 20)
        rows = anyio.run(_rows, journal, known[:most])
    if as_json:
        say_document({"runs": rows, "state_dir": str(journal.state_dir)})
        return 0
    if not rows:
        say(f"no runs in {journal.state_dir}")
        return 0
    table = [_row_text(row) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        say("   ".join([*cells, row[5]]).rstrip())
    if len(known) > len(rows):
        say(f"and {len(known) - len(rows)} more (--limit N)")
    return 0


async def _rows(journal: FileJournal, ids: list[str]) -> list[dict[str, Any]]:
    rows = []
    for run in ids:
        try:
            document = (await look(journal, run)).document()
        except FlowdError as error:  # one damaged run hides no other
            rows.append({"run": run, "state": "damaged", "error": str(error)})
            continue
        rows.append({name: document[name] for name in _LISTED})
    return rows


def _row_text(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return row["run"], "", row["state"], "", "", row["error"]
    started = _parsed(row["started"])
    when = age_text((datetime.now(UTC) - started).total_seconds()) if started else ""
    took = duration_text(row["duration_s"]) if row["duration_s"] is not None else ""
    counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in row["counts"].items())
    return row["run"], row["pipeline"], row["state"], when, took, counts


def _parsed(moment: str | None) -> datetime | None:
    return None if moment is None else datetime.fromisoformat(moment)


# --- show ------------------------------------------------------------------------------------------------


@click.command()
@RUN
@click.option("--resolved", is_flag=True, help="Its specification instead, with defaults and parameters filled in.")
@STATE_DIR
@JSON
def show(run: str | None, state_dir: str | None, *, resolved: bool, as_json: bool) -> int:
    """Show a run (the newest, where RUN is left out): its tasks, attempts, errors and outputs."""
    with reading(place_of(state_dir)) as journal:
        found = anyio.run(look, journal, found_run(journal, run))
    if resolved:
        _show_resolved(found, as_json=as_json)
        return 0
    if as_json:
        say_document(found.document())
        return 0
    style = style_of("stdout")
    for line in show_lines(found):
        say(style.text(line))
    return 0


def _show_resolved(found: Found, *, as_json: bool) -> None:
    """The specification as JSON, or in the form of a pipeline file."""
    from flowd.core.resolved import resolved_document

    document = resolved_document(found.state)
    document |= {"folder": found.definition.folder, "source": found.definition.source}
    if as_json:
        say_document(document)
        return
    import yaml

    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    style = style_of("stdout")
    for line in text.splitlines():
        say(style.text(line))


def show_lines(found: Found) -> list[str]:
    """A run, task by task."""
    run = found.state
    lines = [f"{run.spec.name}  {tasks_text(run.declared)}  run {run.id}"]
    head = found.status
    if run.started_at is not None:
        head += f", started {run.started_at:%Y-%m-%d %H:%M:%S} UTC"
        if run.ended_at is not None:
            head += f", took {duration_text((run.ended_at - run.started_at).total_seconds())}"
    died = found.died
    held = f", held by {found.owner}" if found.owner else f", its owner is dead: {died}" if died else ""
    lines.append(head + held)
    if run.params:
        lines.append(params_text(run.params))
    if run.reason is not None:
        lines.append(f"{run.reason.sentence} [{run.reason.code}]")
    for number, (spec, task) in enumerate(run.own()):
        cut = cut_off(spec) if task.state in s.LIVE and found.owner is None else None
        lines += ["", *_task_lines(spec.name, task, cut)]
        if number in run.fans:
            lines += _item_lines(run, run.fans[number])
    return lines + (["", f"next: flowd resume {run.id}"] if died else [])


MOST_ITEMS = 20
MOST_ROUNDS = 10


def _item_lines(run: RunState, fan: Fan) -> list[str]:
    """How the items of a task stand, and those of them that did not end well."""
    states = Counter(run.tasks[number].state for number in fan.numbers())
    counted = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items())
    lines = [f"  {items_text(fan.count)}" + (f": {counted}" if counted else "")]
    wrong = [number for number in fan.numbers() if run.tasks[number].state in s.BAD | {s.UNCERTAIN, s.RETRYING}]
    for number in wrong[:MOST_ITEMS]:
        lines += [f"  {line}" for line in _task_lines(name_of(run, number), run.tasks[number])]
    if len(wrong) > MOST_ITEMS:
        lines.append(f"  and {len(wrong) - MOST_ITEMS} more; flowd show {run.id} --json lists all")
    return lines


def _task_lines(name: str, task: TaskState, cut: Reason | None = None) -> list[str]:
    """A task; `cut` says that nobody runs it, though that it is running was the last that was recorded."""
    allowed = ", which is allowed" if task.allowed else ""
    lines = [f"{name}  {'was ' if cut is not None else ''}{shown_state(task).replace('_', ' ')}{allowed}"]
    reason = cut or task.reason
    if reason is not None and task.state != s.SUCCEEDED:
        lines.append(f"  {reason.sentence} [{reason.code}]")
    lines += approval_lines(task)
    if task.service is not None:
        lines.append(f"  {service_text(task, serving=cut is None and task.state == s.SERVING)}")
    attempts = task.attempts or []
    if task.rounds is not None and len(attempts) > MOST_ROUNDS:
        lines.append(f"  {len(attempts) - MOST_ROUNDS} attempts came before")
        attempts = attempts[-MOST_ROUNDS:]
    for attempt in attempts:
        turn = f", round {attempt.round}" if attempt.round else ""
        waited = f", after a wait of {duration_text(attempt.waited.total_seconds())}" if attempt.waited else ""
        end = attempt.ended_at
        took = f"took {duration_text((end - attempt.started_at).total_seconds())}" if end else "has not ended"
        failed = f"  {error_text(attempt.error)}" if attempt.error else ""
        place = f" ({attempt.error.where})" if attempt.error and attempt.error.where else ""
        lines.append(f"  attempt {attempt.n}{turn}  {attempt.started_at:%H:%M:%S}, {took}{waited}{failed}{place}")
        if attempt.ending is not None:
            lines.append(f"    {ending_text(attempt.ending)}")
    lines += [f"  {artifact.path}  {size_text(artifact.size)}  {artifact.digest[:12]}" for artifact in task.outputs]
    told = note(task.metrics, inline_result(task.result)) if task.items is None else ""
    if told:
        lines.append(f"  {told}")
    return [*lines, *(f"  warning: {warning}" for warning in task.warnings)]


def approval_lines(task: TaskState) -> list[str]:
    """What a person was asked, and the answer."""
    asked = task.approval
    if asked is None:
        return []
    lines = [f"  asked {asked.requested_at:%Y-%m-%d %H:%M:%S} UTC: {asked.message}"]
    lines += [f"    showing {one.path}  {size_text(one.size)}  {one.digest[:12]}" for one in asked.show]
    if asked.state == "waiting" and asked.expires_at is not None:
        lines.append(f"    until {asked.expires_at:%Y-%m-%d %H:%M:%S} UTC")
    if asked.answered_at is not None:
        said = f": {asked.comment}" if asked.comment else ""
        by = f" by {asked.by}" if asked.by else ""
        lines.append(f"  {asked.state}{by} {asked.answered_at:%Y-%m-%d %H:%M:%S} UTC{said}")
        lines += [f"    {name} = {value}" for name, value in asked.values.items()]
    return lines


def ending_text(ending: Ending) -> str:
    """How an attempt ended: its process, what that used, and what stopped it."""
    words = []
    if ending.exit_code is not None:
        words.append(f"exit code {ending.exit_code}")
    if ending.signal is not None:
        words.append(f"killed by {ending.signal}, sent by {(ending.sender or 'unknown').replace('_', ' ')}")
    if ending.stopped_by is not None:
        words.append(f"stopped by {ending.stopped_by} in {duration_text(ending.stop_s or 0.0)}, nothing of it left")
    if ending.cpu_s is not None:
        words.append(f"cpu {duration_text(ending.cpu_s)}")
    if ending.peak_rss is not None:
        words.append(f"peak {size_text(ending.peak_rss)}")
    if ending.leftovers:
        words.append(f"{ending.leftovers} left behind and ended")
    return ", ".join(words)


# --- events ----------------------------------------------------------------------------------------------


@click.command()
@RUN
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@STATE_DIR
@JSON
def events(run: str | None, state_dir: str | None, *, follow: bool, as_json: bool) -> int:
    """Print what happened in a run (the newest, where RUN is left out), event by event."""
    style = style_of("stdout")

    async def print_all(journal: FileJournal, name: str) -> None:
        async for envelope in _each_event(journal, name, follow=follow):
            if as_json:
                say_document(msgspec.Raw(public(envelope)))
            else:
                say(style.text(event_text(envelope)))
            if follow:
                sys.stdout.flush()

    with reading(place_of(state_dir)) as journal:
        anyio.run(print_all, journal, found_run(journal, run))
    return 0


async def _each_event(journal: FileJournal, run: str, *, follow: bool) -> AsyncIterator[Envelope]:
    seen = 0
    while True:
        owned = journal.is_owned(run) is not None
        async for envelope in journal.read(run, seen):
            seen = envelope.seq
            yield envelope
        if not follow or not owned:
            return  # the last look came after the last owner had gone
        await anyio.sleep(PERIOD)


def event_text(envelope: Envelope) -> str:
    """An event in one line for people."""
    fields = msgspec.json.decode(public(envelope))
    for name in ("seq", "at", "run", "parts", "owner", "spec"):
        fields.pop(name, None)
    words = [f"{envelope.seq:>5}", f"{envelope.at:%Y-%m-%dT%H:%M:%S}.{envelope.at.microsecond // 1000:03d}Z"]
    words += [fields.pop("event"), fields.pop("task", "")]
    for name, value in fields.items():
        if name == "error":
            words.append(f"error={value['type']}: {value['message'].splitlines()[0] if value['message'] else ''}")
        elif name == "reason" and isinstance(value, dict):
            words.append(f"[{value['code']}] {value['sentence']}")
        elif name in {"added", "removed"}:
            words.append(f"{name}={','.join(value)}")
        elif name == "outputs":
            words.append("outputs=" + ",".join(output["path"] for output in value))
        elif isinstance(value, str | int | float):
            words.append(f"{name}={value}")
    return "  ".join(word for word in words if word)


# --- list ------------------------------------------------------------------------------------------------


@click.command(name="list")
@STATE_DIR
@JSON
def list_(state_dir: str | None, *, as_json: bool) -> int:
    """List the pipelines found here and below, with their state directories; nothing is imported or run."""
    from flowd.authoring.loading import discover

    rows = [row for found in discover(Path.cwd()) for row in _listed(found, state_dir)]
    if as_json:
        say_document({"pipelines": rows})
        return 0
    width = max((len(row["file"]) for row in rows), default=0)
    for row in rows:
        say(f"{row['file']:<{width}}   {_listed_text(row)}")
    if not rows:
        tell("no pipelines here; a pipeline is a pipeline.yaml, or a Python file with a Pipeline in it")
    return 0


def _listed(found: Path, state_dir: str | None) -> list[dict[str, Any]]:
    """A row for each pipeline of a file, which is named as `flowd run` takes it."""
    from flowd.authoring.naming import named_in

    try:
        pipelines = named_in(found)
    except FlowdError as error:
        return [{"file": str(found), "error": str(error).splitlines()[0]}]
    rows = []
    for one in pipelines:
        file = f"{found}:{one.variable}" if len(pipelines) > 1 else str(found)
        place = find_state_dir(state_dir, Path(one.folder or found.parent).absolute(), os.environ)
        rows.append({"file": file, "pipeline": one.name, "tasks": one.tasks, "state_dir": str(place)})
    return rows


def _listed_text(row: dict[str, Any]) -> str:
    if "error" in row:
        return str(row["error"])
    name = row["pipeline"] or "named when it is imported"
    tasks = tasks_text(row["tasks"]) if row["tasks"] is not None else "tasks told when it is imported"
    return f"{name}, {tasks}, state in {row['state_dir']}"
